"""The command line: parse, call, print. Flags are the fields of the options classes, which a YAML file can hold too."""

from __future__ import annotations

import copy
import errno
import inspect
import io
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import Field, TypeAdapter, ValidationError
from typer.core import TyperCommand
from typer.models import ArgumentInfo

from foster.data.core import K_CORE
from foster.data.split import LEAVE_ONE_OUT
from foster.distillation.options import OPTIONS
from foster.errors import InputError, did_you_mean
from foster.models.options import ModelOptions
from foster.options import Options
from foster.report.options import BenchOptions
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions, affordable
from foster.tuning.options import TuneOptions
from foster.version import __version__

if TYPE_CHECKING:
    from foster.artefacts import Place
    from foster.data.dataset import Dataset
    from foster.engine import Engine
    from foster.report.estimate import Estimate

app = typer.Typer(
    name="foster",
    help="Condense an interaction log with item texts into a handful of synthetic sequences. Several processes of one "
    "machine: torchrun --nproc_per_node N -m foster VERB ..., for pretrain, distill, train, tune, evaluate and bench.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

T = TypeVar("T", bound=Options)
SHOWN = 100  # characters of a text that are printed


class Once(TyperCommand):
    """A command of which a flag that holds one value can be given once only; the usual one takes the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, after a look at what stands there twice."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in order:
            repeated = order.count(parameter) > 1 and parameter.param_type_name == "option"
            if repeated and not parameter.multiple:
                raise InputError(f"{parameter.opts[0]} is given twice; give it once")
        return super().parse_args(ctx, args)


class CommonOptions(Options):
    """What every verb takes."""

    seed: int = Field(0, ge=0, le=2**53, description="of everything that is drawn")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps, ...")


class Values:
    """Merged options of one call: defaults, then the ``--config`` file, then flags.

    Args:
        groups: option classes of the verb.
        own: options of the verb alone.
        file: the ``--config`` file.
        flags: values of both by name, None for what was not given.
    """

    def __init__(
        self,
        groups: tuple[type[Options], ...],
        own: Mapping[str, inspect.Parameter],
        file: Path | None,
        flags: Mapping[str, Any],
    ) -> None:
        known = {name for group in groups for name in group.model_fields} | own.keys()
        config = _read_yaml(file, "--config", "steps: 500") if file else {}
        config = {key.replace("-", "_"): value for key, value in config.items()}
        for key in config:
            if key not in known:
                hint = did_you_mean(key, known) or f"; known are {', '.join(sorted(known))}"
                raise InputError(f"{file}: unknown option '{key}'{hint}")
        # A flag that can be repeated is an empty list where it was not given.
        given = {key: value for key, value in flags.items() if value is not None and value != []}
        own_values = {key: given[key] if key in given else _own_value(own[key], config, file) for key in own}
        self.own = {key: _at_home(value) for key, value in own_values.items()}
        self._given = {key: value for key, value in {**config, **given}.items() if key not in own}
        # An error names the file only for what the file says.
        self._sources = dict.fromkeys(config, str(file)) | dict.fromkeys(given, "command line")

    def of(self, group: type[T], defaults: Options | None = None) -> T:
        """Return one group's options; ``defaults`` stand in for what the user did not set."""
        base = defaults.model_dump() if defaults is not None else {}
        chosen = {name: self._given[name] for name in group.model_fields if name in self._given}
        return group.parse({**base, **chosen}, self._sources)

    def only(self, group: type[T], name: str) -> T:
        """Return one of several groups of which one counts; what belongs to another one is an error."""
        for key in self._given:
            if key not in group.model_fields and key not in CommonOptions.model_fields:
                own = ", ".join(sorted(group.model_fields))
                raise InputError(f"{self._sources[key]}: option '{key}' is none of {name}'s; these are {own}")
        return self.of(group)

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Raise InputError if the user set one of the options, each with the reason why it has no meaning here."""
        for key, reason in reasons.items():
            if key in self._given:
                raise InputError(f"{self._sources[key]}: option '{key}': {reason}")


def _read_yaml(path: Path, flag: str, example: str) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice, of which the usual loader takes the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            merge = "tag:yaml.org,2002:merge"  # what is merged is meant to be overridden
            keys = [str(self.construct_object(k, deep=True)) for k, _ in node.value if k.tag != merge]  # type: ignore[no-untyped-call]
            for key in keys:
                if [other.replace("-", "_") for other in keys].count(key.replace("-", "_")) > 1:
                    raise InputError(f"{flag} {path}: '{key}' stands there twice; leave one")
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise InputError(f"{flag} {path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{flag} {path}: is no valid YAML ({str(error).splitlines()[0]})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{flag} {path}: must hold names and values, as in '{example}'")
    return {str(key): value for key, value in content.items()}


def verb(
    *groups: type[Options], default_where: str = "", divided: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose flags are its own options and the fields of the option groups.

    The function gets ``values`` (the merged options) and ``as_json`` besides its own arguments and options.

    Args:
        groups: the option groups.
        default_where: where the groups' defaults hold, if not everywhere; for the help.
        divided: whether several processes divide the work; else several are an error.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        classes: tuple[type[Options], ...] = (*groups, CommonOptions)
        arguments: list[inspect.Parameter] = []
        own: dict[str, inspect.Parameter] = {}
        for p in inspect.signature(function, eval_str=True).parameters.values():
            if p.name in ("values", "as_json"):
                continue
            if isinstance(get_args(p.annotation)[1], ArgumentInfo):
                arguments.append(p.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            else:
                own[p.name] = p
        flags = {name: _own_flag(p) for name, p in own.items()}
        for key, owners in _owners(classes).items():
            kind = _flag_type(owners[0].model_fields[key].annotation)
            flag = f"--{key.replace('_', '-')}"
            # Given a name, typer makes no negation of its own.
            names = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
            where = "" if owners[0] is CommonOptions else default_where
            option = typer.Option(names, help=_flag_help(key, owners, classes, where), show_default=False)
            flags[key] = inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )
        extra = [
            inspect.Parameter(
                "config", inspect.Parameter.KEYWORD_ONLY, default=None,
                annotation=Annotated[Path | None, typer.Option(help="YAML file of options; flags go before it")],
            ),
            inspect.Parameter(
                "as_json", inspect.Parameter.KEYWORD_ONLY, default=False,
                annotation=Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")],
            ),
        ]  # fmt: skip

        def command(**given: Any) -> None:
            if not divided:
                _check_alone(function.__name__)
            as_json, file = given.pop("as_json"), given.pop("config")
            named = {p.name: given.pop(p.name) for p in arguments}
            values = Values(classes, own, file, given)
            values.of(CommonOptions)  # a wrong seed is an error of every verb
            function(**named, **values.own, values=values, as_json=as_json)

        command.__signature__ = inspect.Signature([*arguments, *flags.values(), *extra])  # type: ignore[attr-defined]
        command.__doc__ = function.__doc__
        command.__name__ = function.__name__
        app.command(function.__name__.rstrip("_"), cls=Once)(command)  # inspect_: the module inspect is needed here
        return function

    return register


def _check_alone(verb: str) -> None:
    """Raise InputError if a launcher started several processes, each of which would do and write the same."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return  # without a look at torch, which takes its time
    from foster.engine import started_processes

    raise InputError(f"{verb}: works in one process, but {started_processes()} were started; start it without torchrun")


def _flag_type(annotation: Any) -> Any:
    """Return the type that typer reads a field's flag as: names and choices are text until the options parse them."""
    kinds = get_args(annotation)
    kind = next(kind for kind in kinds if kind is not NoneType) if NoneType in kinds else annotation
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return str if get_origin(kind) in (Literal, tuple) else kind


def _own_value(parameter: inspect.Parameter, config: Mapping[str, Any], file: Path | None) -> Any:
    """Return what a file or else the default says of an option that belongs to a verb alone."""
    name = parameter.name
    kind, option = get_args(parameter.annotation)
    if name in config:
        value = config[name]
        if kind in (list[str], list[str] | None) and isinstance(value, str):
            value = [value]
        if name == "time_column" and isinstance(value, list):
            value = ",".join(map(str, value))
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"].replace("Input should be", "must be")
            raise InputError(f"{file}: option '{name}': {message} (got {config[name]!r})") from error
    if parameter.default is inspect.Parameter.empty:
        raise InputError(f"--{name.replace('_', '-')} is missing: {option.help}")
    return parameter.default


def _at_home(value: Any) -> Any:
    """Return a path with the user's folder in place of ``~``, which shells put in on a command line only."""
    try:
        return value.expanduser() if isinstance(value, Path) and value.parts[:1] == ("~",) else value
    except RuntimeError as error:
        raise InputError(f"{value}: this user has no home; give the path without ~") from error


def _own_flag(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the flag of an option that belongs to a verb alone: None if it is not given, since a file may give it."""
    kind, option = get_args(parameter.annotation)
    option, default = copy.copy(option), parameter.default
    if default is inspect.Parameter.empty:
        option.help = f"{option.help} (required)"
    elif default is not None and default is not False:
        option.help = f"{option.help} (default {default})"
    option.show_default = False
    return parameter.replace(
        kind=inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _owners(classes: tuple[type[Options], ...]) -> dict[str, list[type[Options]]]:
    """Return the option groups that have each option; several do where a verb has several methods."""
    owners: dict[str, list[type[Options]]] = {}
    for group in classes:
        for key in group.model_fields:
            owners.setdefault(key, []).append(group)
    return owners


def _flag_help(key: str, owners: list[type[Options]], classes: tuple[type[Options], ...], where: str) -> str:
    """Describe an option as its first group does, and say which methods have it and where its default holds."""
    default_of = {group: group.model_fields[key].default for group in owners}
    text, default = str(owners[0].model_fields[key].description), default_of[owners[0]]
    methods = {group: str(group.method) for group in classes if hasattr(group, "method")}
    own = [name for group, name in methods.items() if group in owners]
    if own and len(own) < len(methods):
        text = f"{', '.join(own)}: {text}"
    defaults = [] if default is None else [f"default {_shown(default)}{where}"]
    defaults += [f"{methods[group]} {_shown(other)}" for group, other in default_of.items() if other != default]
    return f"{text} ({'; '.join(defaults)})" if defaults else text


def _shown(default: Any) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)


def _say(text: str) -> None:
    """Print progress for people; stdout stays free for results."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _print(result: dict[str, Any], as_json: bool, text: str) -> None:
    stdout_takes_all = (sys.stdout.encoding or "").lower().startswith("utf")
    # Flushed here, so that a full disk or a reader that is gone is an error of the verb.
    print(json.dumps(result, ensure_ascii=not stdout_takes_all) if as_json else text, flush=True)  # noqa: T201


MODEL = (EncoderOptions, ModelOptions)
TRAINING = (*MODEL, TrainOptions)
TEACHER = (*TRAINING, TeacherOptions)

Out = Annotated[Path, typer.Option("--out", help="folder to make")]
OutOrNone = Annotated[Path | None, typer.Option("--out", help="folder to make (required without --dry-run)")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="say from a short trial what it takes: time, memory, disk; and write nothing")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the folder if it exists")]
Data = Annotated[Path, typer.Argument(help="folder that 'foster prepare' made")]


@verb()
def prepare(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="log and item table: CSV, TSV, Parquet, JSON lines (.gz), a folder, an address; or 'grocery'"
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="folder to make (required without --dry-run)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what is understood, and write nothing")] = False,
    items: Annotated[Path | None, typer.Option(help="item table, where SOURCES do not show which one it is")] = None,
    user_column: Annotated[str | None, typer.Option(help="column of user ids (default: by its usual name)")] = None,
    item_column: Annotated[str | None, typer.Option(help="column of item ids")] = None,
    time_column: Annotated[
        str | None, typer.Option(help="column of times, or a date and a time of day, as in date,time")
    ] = None,
    time_format: Annotated[str | None, typer.Option(help="how times are written, as in '%d.%m.%Y %H:%M'")] = None,
    input_order: Annotated[
        bool, typer.Option("--input-order", help="the rows are in time order, whatever looks like a time")
    ] = False,
    text: Annotated[
        list[str] | None,
        typer.Option(help="text columns, as in title,brand; a field of objects as in details.Brand; can be repeated"),
    ] = None,
    template: Annotated[str | None, typer.Option(help="as in '{title} by {brand}'")] = None,
    k_core: Annotated[int, typer.Option(help="keep users and items with so many interactions; 0: all")] = K_CORE,
    drop_textless: Annotated[bool, typer.Option("--drop-textless", help="drop items without text")] = False,
    popularity: Annotated[
        bool, typer.Option("--popularity", help="let models read how popular an item is, beside its text")
    ] = False,
    split: Annotated[
        str, typer.Option(help="leave-one-out; time:Q, test is after that quantile of times; or time:Q1:Q2")
    ] = LEAVE_ONE_OUT,
    targets: Annotated[
        str | None, typer.Option(help="of users in a test by time: last, random or successive (default last)")
    ] = None,
    overwrite: Overwrite = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Make a data set folder from a log and item texts."""
    from foster.data.dataset import Dataset
    from foster.data.grocery import grocery

    if out is None and not dry_run:
        raise InputError("--out is missing: folder to make; or say --dry-run, to see what is understood")
    place = None
    if out is not None and not dry_run:
        place = _free(out, overwrite, items, *(source for source in sources if source != "grocery"))
    if sources == ["grocery"]:
        given = {
            "--items": items, "--user-column": user_column, "--item-column": item_column, "--time-column": time_column,
            "--time-format": time_format, "--input-order": input_order, "--text": text, "--template": template,
            "--k-core": k_core != K_CORE, "--drop-textless": drop_textless, "--popularity": popularity,
        }  # fmt: skip
        if asked := [flag for flag, value in given.items() if value]:
            raise InputError(
                f"grocery: these data come with the package and are made in one way; leave out {', '.join(asked)} "
                "(a folder of that name: write ./grocery)"
            )
        data = grocery() if split == LEAVE_ONE_OUT and targets is None else grocery().with_split(split, targets)
    else:
        data = Dataset.prepare(
            sources, items, user_column=user_column, item_column=item_column, time_column=time_column,
            time_format=time_format, input_order=input_order,
            text=[name.strip() for part in text or () for name in part.split(",") if name.strip()], template=template,
            k_core=k_core, drop_textless=drop_textless, popularity=popularity, split=split, targets=targets,
        )  # fmt: skip
    if place is not None:
        with place.fill() as folder:
            data.write_to(folder)
    parts = data.parts()
    said = [] if data.info.split == LEAVE_ONE_OUT else [f"{data.info.split_name}: {parts.as_text()}"]
    said.append("nothing was written" if place is None else f"written to {out}")
    _print(
        {
            "out": None if dry_run else str(out),
            **data.info.model_dump(mode="json"),
            "parts": parts.as_dict(),
            "first_history": data.first_history(),
        },
        as_json,
        "\n".join([*data.understood(), *said]),
    )


@verb(EncoderOptions)
def check(data: Data, *, values: Values, as_json: bool) -> None:
    """Show counts, text coverage, sample histories, problems of a data set, and what an encoder can read of it."""
    from foster.data.check import check as check_dataset
    from foster.text.readability import read_texts

    values.refuse({"pooling": "says nothing about what an encoder reads; leave it out"})
    dataset = _read_data(data)
    report = check_dataset(dataset, read_texts(dataset.texts, values.of(EncoderOptions)))
    _print(report.as_dict(), as_json, report.as_text())


@verb(*TEACHER, divided=True)
def pretrain(
    data: Data,
    out: OutOrNone = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Train on the full log and record the trajectory: teacher and full-data baseline."""
    from foster.runs import pretrain as run

    if out is not None:
        _free(out, overwrite, data)
    out = _place(out, dry_run)
    common = values.of(CommonOptions)
    recipe: dict[str, Any] = {
        "encoder": values.of(EncoderOptions),
        "model": values.of(ModelOptions),
        "train": values.of(TrainOptions),
        "teacher": values.of(TeacherOptions),
        "seed": common.seed,
    }
    start = time.perf_counter()
    with _running(common.device) as engine:
        if dry_run:
            from foster.report.estimate import estimate_pretrain

            _report_estimate(estimate_pretrain(_read_data(data), out, **recipe, engine=engine), as_json)
            return
        recommender, fit = run(_read_data(data), out, **recipe, engine=engine, overwrite=overwrite)
        if not engine.is_main:
            return
        _report_fit(recommender, out, fit, time.perf_counter() - start, as_json)


@verb(*OPTIONS.values(), divided=True)
def distill(
    data: Data,
    teacher: Annotated[Path, typer.Option(help="folder that 'foster pretrain' made of the same data")],
    out: OutOrNone = None,
    method: Annotated[str, typer.Option(help="foster, or a baseline: dm, dc, mtt, farzi, td3")] = "foster",
    encoder: Annotated[str | None, typer.Option(help="another place of the teacher's encoder")] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Condense a log into synthetic sequences. Flags that a method does not have are an error."""
    from foster.distillation.distill import distill as run
    from foster.distillation.distill import write_distilled

    if method not in OPTIONS:
        raise InputError(f"--method {method}: unknown{did_you_mean(method, OPTIONS)}; known: {', '.join(OPTIONS)}")
    options, common = values.only(OPTIONS[method], method), values.of(CommonOptions)
    place = None if out is None else _free(out, overwrite, data, teacher)
    out = _place(out, dry_run)
    start = time.perf_counter()
    with _running(common.device) as engine:
        more: dict[str, Any] = {"seed": common.seed, "engine": engine, "encoder": encoder}
        if dry_run or place is None:
            from foster.report.estimate import estimate_distill

            _report_estimate(estimate_distill(_read_data(data), teacher, out, options, **more), as_json)
            return
        distilled, log = run(_read_data(data), teacher, options, **more)
        if not engine.is_main:
            return
        with place.fill() as folder:
            write_distilled(distilled, log, folder)
        _report_condensed(distilled, out, time.perf_counter() - start, as_json)


@verb(*MODEL, default_where="; with a teacher: its")
def select(
    method: Annotated[str, typer.Argument(help="random, random-length, stratified, herding, kcenter, ...")],
    data: Data,
    out: Out,
    sequences: Annotated[int, typer.Option(help="M, histories to choose")] = 20,
    teacher: Annotated[
        Path | None, typer.Option(help="folder that 'foster pretrain' made, for methods that need it")
    ] = None,
    overwrite: Overwrite = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Choose real histories as a coreset."""
    from foster.coresets.select import select as choose
    from foster.engine import Engine
    from foster.runs import teacher_options

    place = _free(out, overwrite, data, teacher)
    common = values.of(CommonOptions)
    made_with = teacher_options(teacher) if teacher else (None, None)
    start = time.perf_counter()
    coreset = choose(
        method,
        _read_data(data),
        sequences,
        teacher=teacher,
        seed=common.seed,
        encoder=values.of(EncoderOptions, made_with[0]),
        model=values.of(ModelOptions, made_with[1]),
        engine=Engine(common.device),
    )
    with place.fill() as folder:
        coreset.write_to(folder)
    _report_condensed(coreset, out, time.perf_counter() - start, as_json)


@verb(*TRAINING, default_where=" for a data set; else what is stored with the sequences", divided=True)
def train(
    source: Annotated[Path, typer.Argument(help="distilled, coreset or data set folder")],
    out: Out,
    validation: Annotated[
        Path | None,
        typer.Option(help="data set whose validation items stop training on sequences and choose the weights"),
    ] = None,
    label_encoder: Annotated[
        str | None, typer.Option(help="another place of the encoder that the sequences were made with")
    ] = None,
    overwrite: Overwrite = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Train a recommender on distilled sequences, a coreset or a log."""
    from foster.artefacts import artefact_kind
    from foster.condensed.sequences import Condensed
    from foster.data.dataset import Dataset
    from foster.evaluation.evaluate import is_of
    from foster.runs import train as run
    from foster.runs import training_record

    place = _free(out, overwrite, source, validation)
    kind = artefact_kind(source)
    if kind not in ("dataset", "distilled", "coreset"):
        raise InputError(f"{source}: holds a {kind}; give a folder that foster distill, select or prepare made")
    if kind == "dataset":
        if validation or label_encoder:
            flag = "--validation" if validation else "--label-encoder"
            raise InputError(f"{flag}: is for sequences; {source} is a data set, which has validation items of its own")
        data: Dataset | Condensed = Dataset.read(source)
        encoder, model, recipe = values.of(EncoderOptions), values.of(ModelOptions), values.of(TrainOptions)
    else:
        values.refuse({"batch_size": "a step sees all sequences, or an eighth of their labels; leave it out"})
        if validation is None:
            reason = "is for validation; add --validation DATA, or leave it out"
            values.refuse(dict.fromkeys(("eval_every", "eval_users", "patience"), reason))
        data = Condensed.read(source, encoder=label_encoder)
        encoder = values.of(EncoderOptions, data.encoder)
        model = values.of(ModelOptions, data.model)
        recipe = values.of(TrainOptions, affordable(data.recipe, model.finetune))
    common = values.of(CommonOptions)
    judges = _read_data(validation) if validation else None
    of_this_data = is_of(data.info.get("data_fingerprint"), judges) if judges and isinstance(data, Condensed) else None
    start = time.perf_counter()
    with _running(common.device) as engine:
        if of_this_data is False and engine.is_main:
            _say(f"--validation {validation}: is other data than that which {source} was made from")
        recommender, fit = run(
            data,
            encoder=encoder,
            model=model,
            train=recipe,
            seed=common.seed,
            engine=engine,
            validation=judges,
        )
        if not engine.is_main:
            return
        seconds = time.perf_counter() - start
        with place.fill() as folder:
            recommender.write_to(folder, training_record(recipe, common.seed, fit))
        more = {"validation_of_this_data": of_this_data} if judges else {}
        _report_fit(recommender, out, fit, seconds, as_json, more)


@verb(TuneOptions, *TRAINING, default_where=" for a data set; else what is stored with the sequences", divided=True)
def tune(
    source: Annotated[Path, typer.Argument(help="distilled, coreset or data set folder, on which trials train")],
    out: Annotated[Path, typer.Option("--out", help="folder of the study; one that is there goes on where it was")],
    validation: Annotated[
        Path | None, typer.Option(help="data set whose validation items judge the trials (required for sequences)")
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help="YAML of what is searched: 'lr: {low: 0.001, high: 0.01, log: true}', 'dim: [64, 128]'; by default "
            "backbone, dim, layers, heads, max_length, dropout, lr and weight_decay, those given as flags left out"
        ),
    ] = None,
    label_encoder: Annotated[
        str | None, typer.Option(help="another place of the encoder that the sequences were made with")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="begin anew if the study exists")] = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Search for options of model and recipe, with trials on sequences or on a log. Flags that are given are fixed."""
    from foster.artefacts import artefact_kind
    from foster.condensed.sequences import Condensed
    from foster.data.dataset import Dataset
    from foster.evaluation.evaluate import is_of
    from foster.tuning.folder import place_of
    from foster.tuning.results import BEST, markdown
    from foster.tuning.search import require_optuna
    from foster.tuning.tune import search

    require_optuna()
    inputs = (source, validation)
    place_of(out, overwrite, inputs)
    kind = artefact_kind(source)
    if kind not in ("dataset", "distilled", "coreset"):
        raise InputError(f"{source}: holds a {kind}; give a folder that foster distill, select or prepare made")
    if kind == "dataset" and label_encoder:
        raise InputError(f"--label-encoder: is for sequences; {source} is a data set")
    if kind != "dataset" and validation is None:
        raise InputError("--validation is missing: the data set whose validation items judge the trials")
    searched = _read_yaml(space, "--space", "dim: [64, 128]") if space else None
    data = Dataset.read(source) if kind == "dataset" else Condensed.read(source, encoder=label_encoder)
    judges = _read_data(validation) if validation else None
    encoder = values.of(EncoderOptions, data.encoder if isinstance(data, Condensed) else None)
    common, start = values.of(CommonOptions), time.perf_counter()
    with _running(common.device) as engine:
        if isinstance(data, Condensed) and judges and is_of(data.info.get("data_fingerprint"), judges) is False:
            _say(f"--validation {validation}: is other data than that which {source} was made from")
        tuned = search(
            data,
            out,
            validation=judges,
            space=searched,
            where=str(space or "options"),
            encoder=encoder,
            model=values.of(ModelOptions),
            train=values.of(TrainOptions),
            options=values.of(TuneOptions),
            seed=common.seed,
            engine=engine,
            overwrite=overwrite,
            inputs=inputs,
            say=_say,
        )
        if not engine.is_main:
            return
        seconds = time.perf_counter() - start
        result = {"out": str(out), "seconds": seconds, "stopped": tuned.stopped is not None, **tuned.results}
        told = f"Options to train with: {out / BEST}" if tuned.results["config"] else "No trial is finished yet."
        _print(result, as_json, f"{markdown(tuned.results)}\n\n{told}")
        if tuned.stopped is not None:
            _say(f"stopped; what is done is in {out}, and the same command goes on from there")
    if isinstance(tuned.stopped, KeyboardInterrupt):
        raise typer.Exit(128 + signal.SIGINT)
    if tuned.stopped is not None:
        raise tuned.stopped


@verb(divided=True)
def evaluate(
    model: Annotated[Path, typer.Argument(help="model or teacher folder")],
    data: Data,
    split: Annotated[str, typer.Option(help="validation or test")] = "test",
    keep_history: Annotated[bool, typer.Option("--keep-history", help="rank the items of the history too")] = False,
    ranks: Annotated[Path | None, typer.Option(help="Parquet file for the rank of every target")] = None,
    encoder: Annotated[str | None, typer.Option(help="another place of the model's encoder")] = None,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Rank every held-out item among the whole catalogue: Recall, NDCG, MRR at 5, 10, 20, 50."""
    from foster.evaluation.evaluate import check_ranks_file
    from foster.evaluation.evaluate import evaluate as run
    from foster.models.recommender import TextRecommender

    if split not in ("validation", "test"):
        raise InputError(f"--split {split}: give validation or test")
    if ranks is not None:
        check_ranks_file(ranks)
    with _running(values.of(CommonOptions).device) as engine:
        recommender = TextRecommender.from_pretrained(model, encoder=encoder, device=engine.device)
        result = run(recommender, _read_data(data), split, mask_history=not keep_history, engine=engine)  # type: ignore[arg-type]
        if not engine.is_main:
            return
        if ranks is not None:
            result.save_ranks(ranks)
        if result.trained_on_this_data is False:
            _say(f"{model}: was trained on other data than {data}, by their fingerprints")
        masked = "history masked" if result.history_masked else "history ranked too"
        rows = [f"{name:<12}{value:.4f}" for name, value in result.metrics.items()]
        counts = f"{len(result.ranks)} targets of {result.n_users} users"
        _print(
            result.as_dict(), as_json,
            "\n".join([f"{split} ({result.data_split}), {counts}, {result.n_items} items, {masked}", *rows]),
        )  # fmt: skip


@verb()
def recommend(
    model: Annotated[Path, typer.Argument(help="model or teacher folder")],
    history: Annotated[list[str], typer.Option(help="item id or text; once for each item, oldest first")],
    k: Annotated[int, typer.Option("-k", "--k", help="list length")] = 10,
    encoder: Annotated[str | None, typer.Option(help="another place of the model's encoder")] = None,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Recommend items for one history."""
    from foster.data.texts import shortened
    from foster.engine import Engine
    from foster.models.recommender import TextRecommender

    device = Engine(values.of(CommonOptions).device).device
    recommender = TextRecommender.from_pretrained(model, encoder=encoder, device=device)
    catalogue = recommender.catalogue
    found = [
        {"item_id": item_id, "score": score, "text": catalogue.texts[catalogue.index[item_id]]}
        for item_id, score in recommender.recommend([history], k)[0]
    ]
    texts = [entry for entry in history if entry not in catalogue.index]
    for entry in texts:
        _say(f"'{shortened(entry, SHOWN)}' is no item id of the catalogue and was read as a text")
    if len(found) < k:
        _say(f"{len(found)} items instead of {k}: the history holds the rest of the catalogue's {len(catalogue)}")
    _print(
        {"recommendations": found, "read_as_texts": texts}, as_json,
        "\n".join(f"{x['score']:8.3f}  {x['item_id']}  {shortened(str(x['text']), SHOWN)}" for x in found),
    )  # fmt: skip


@verb()
def demo(
    out: Annotated[Path | None, typer.Option("--out", help="keep the artefacts in this folder")] = None,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Run the main job on grocery data that a package carries: random 20, FOSTER 20 and the full log."""
    from foster.engine import Engine
    from foster.report.demo import run_demo

    if out is not None:
        _free(out, False)
    common = values.of(CommonOptions)
    result = run_demo(out, seed=common.seed, engine=Engine(common.device), say=_say)
    _print(result.as_dict(), as_json, result.table())


@verb()
def inspect_(
    folder: Annotated[Path, typer.Argument(help="folder of a data set, teacher, model, sequences or a benchmark")],
    html: Annotated[Path | None, typer.Option("--html", help="file to make: one page that loads nothing")] = None,
    data: Annotated[
        Path | None, typer.Option(help="log of the sequences, to compare their popularity and categories with")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="another place of the encoder that it was made with")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the page if it exists")] = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Show what a folder is and holds: in the terminal, or as a page with its sequences, a map, labels and curves."""
    from foster.engine import Engine
    from foster.inspection.html import check_page, page, write_page
    from foster.inspection.inspect import Look, look_at

    if html is not None:
        check_page(html, overwrite, (folder, data))
    log = None if data is None else _read_data(data)
    found = look_at(folder, Look(log, encoder, Engine(values.of(CommonOptions).device).device))
    summary = found.summary()
    result, text = summary.as_dict(), summary.as_text()
    if html is not None:
        size = write_page(html, page(found), overwrite)
        result |= {"html": str(html), "html_bytes": size}
        text = f"{html}: {size:,} bytes; {summary.sentence}"
    _print(result, as_json, text)


@verb(BenchOptions, *TEACHER, divided=True)
def bench(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="folder of runs and results; a benchmark goes on where it was (required without --dry-run)"
        ),
    ] = None,
    variants: Annotated[
        Path | None, typer.Option(help="YAML of more rows: 'no-reset: {method: foster, reset_every: 0}'")
    ] = None,
    students: Annotated[
        Path | None, typer.Option(help="YAML of other models to train on all of it: 'gru4rec: {backbone: gru4rec}'")
    ] = None,
    dry_run: DryRun = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Compare methods on a log: quality, intervals, seconds, memory, bytes, break-even."""
    from foster.report.bench import run_bench
    from foster.report.results import markdown
    from foster.report.rows import Recipe

    common, example = values.of(CommonOptions), "no-reset: {method: foster, reset_every: 0}"
    recipe = Recipe(
        values.of(EncoderOptions),
        values.of(ModelOptions),
        values.of(TrainOptions),
        values.of(TeacherOptions),
    )
    extra = _read_yaml(variants, "--variants", example) if variants else {}
    others = _read_yaml(students, "--students", "gru4rec: {backbone: gru4rec}") if students else {}
    asked: dict[str, Any] = {
        "recipe": recipe,
        "options": values.of(BenchOptions),
        "extra": extra,
        "source": str(variants),
        "students": others,
        "students_source": str(students),
        "seed": common.seed,
    }
    out = _place(out, dry_run)
    with _running(common.device) as engine:
        if dry_run:
            from foster.report.estimate_bench import estimate_bench

            _report_estimate(estimate_bench(_read_data(data), out, **asked, engine=engine), as_json)
            return
        result = run_bench(_read_data(data), out, **asked, engine=engine, say=_say)
        if not engine.is_main:
            return
        rows, about = result["rows"], result["about"]
        _print(result, as_json, markdown(rows, about))
    if failed := about["failed"]:
        name, error = next(iter(failed.items()))
        raise InputError(f"{out}: {len(failed)} runs failed and are in no row, {name} first: {error}")


@verb()
def doctor(*, values: Values, as_json: bool) -> None:
    """Show versions, devices and what is missing."""
    from foster.report.doctor import examine

    result = examine(values.of(CommonOptions).device)
    rows = [f"{key:<24}{value}" for key, value in result.items() if key != "missing"]
    rows += [f"missing: {line}" for line in result["missing"]] or ["nothing is missing"]
    _print(result, as_json, "\n".join(rows))


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="show the version", is_eager=True)] = False,
) -> None:
    if version:
        print(__version__)  # noqa: T201
        raise typer.Exit


def _read_data(folder: Path) -> Dataset:
    from foster.artefacts import artefact_kind
    from foster.data.dataset import Dataset

    if (kind := artefact_kind(folder)) != "dataset":
        raise InputError(f"{folder}: holds a {kind}, but a dataset is needed; make one with 'foster prepare'")
    return Dataset.read(folder)


@contextmanager
def _running(device: str) -> Iterator[Engine]:
    """Give the engine, say how many processes take part, and let none leave before all have done their part."""
    from foster.engine import Engine, LaunchWarning, launch_fault

    if (fault := launch_fault()) is not None:
        _say(f"warning: {fault}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LaunchWarning)
        engine = Engine(device)
    if engine.world > 1 and engine.is_main:
        _say(f"{engine.world} processes take part, on {engine.device.type}")
    yield engine
    engine.close()


def _free(out: Path, overwrite: bool, *inputs: str | Path | None) -> Place:
    """Return the place of what a verb makes, to be filled when its work is done."""
    from foster.artefacts import check_free

    return check_free(out, overwrite, inputs)


def _place(out: Path | None, dry_run: bool) -> Path:
    """Return where a verb writes; without ``--out``, a dry run looks at the current folder."""
    if out is None and not dry_run:
        raise InputError("--out is missing: folder to make; or say --dry-run, to see what it takes")
    return out or Path()


def _report_estimate(estimate: Estimate, as_json: bool) -> None:
    _print(estimate.as_dict(), as_json, estimate.as_text())


def _report_fit(
    model: Any, out: Path, fit: Any, seconds: float, as_json: bool, more: Mapping[str, Any] | None = None
) -> None:
    result = {
        "out": str(out),
        "seconds": seconds,
        "steps": fit.steps,
        "best_step": fit.best_step,
        "validation_ndcg@10": fit.best_ndcg,
        "data_split": model.origin.get("data_split", LEAVE_ONE_OUT),
        **(more or {}),
    }
    score = "" if fit.best_ndcg is None else f", validation NDCG@10 {fit.best_ndcg:.4f} at step {fit.best_step}"
    _print(result, as_json, f"{out}: {fit.steps} steps in {seconds:.1f} s{score}{_shown_split(model.origin)}")


def _report_condensed(data: Any, out: Path, seconds: float, as_json: bool) -> None:
    from foster.artefacts import KEPT_STEP
    from foster.condensed.folder import stored_bytes

    size = stored_bytes(out)
    result = {
        "out": str(out),
        "seconds": seconds,
        "sequences": len(data),
        "bytes": size,
        "from_real_data": data.info["from_real_data"],
        "data_split": data.info.get("data_split", LEAVE_ONE_OUT),
    }
    state = ""
    if (kept := data.info.get(KEPT_STEP)) is not None:
        result[KEPT_STEP] = kept
        state = f", of step {kept}" if kept else ", the starting point"
    text = f"{out}: {len(data)} sequences{state} in {seconds:.1f} s, {size:,} bytes without item texts"
    text += _shown_split(data.info)
    _print(result, as_json, text)


def _shown_split(origin: Mapping[str, Any]) -> str:
    return f"; data split {origin['data_split']}" if "data_split" in origin else ""


def _stop(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Run the command line; exit 0, 2 for bad input with one line on stderr, 143 when told to stop, or 1."""
    # What schedulers, containers and `timeout` send: by itself it would end Python without any cleaning up.
    signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of few characters shows the others' codes
    try:
        app()
    except InputError as error:
        _say(f"foster: {error}")
        sys.exit(2)
    except Exception as error:
        if (line := _of_machine(error)) is None:
            raise  # a fault of ours: whoever mends it needs all of it
        _say(f"foster: {line}")
        sys.exit(2)


def _of_machine(error: Exception) -> str | None:
    """Return one line for an error that the machine or a library has and not the program; None for any other."""
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return "there is not enough memory; --dry-run says what it takes: lower --dim, --batch-size or --candidates"
    if isinstance(error, RecursionError):
        return "something that is read is nested too deeply"
    if isinstance(error, OSError):
        fixes = {
            errno.ENOSPC: "make room, or write elsewhere (--out; FOSTER_CACHE for what can be computed again)",
            errno.EDQUOT: "make room, or write elsewhere (--out; FOSTER_CACHE for what can be computed again)",
            errno.EACCES: "see who may read and write there",
            errno.EROFS: "write elsewhere (--out; FOSTER_CACHE for what can be computed again)",
            errno.EMFILE: "allow more open files (ulimit -n)",
            errno.ENAMETOOLONG: "give a shorter name",
        }
        if error.errno == errno.ENOENT and error.filename is None:
            return "the current folder is gone; change to another one"
        where = "" if error.filename is None else f"{error.filename}: "
        fix = fixes.get(error.errno or 0)
        return f"{where}{error.strerror or text}" + (f"; {fix}" if fix else "")
    if type(error).__module__.split(".")[0] in ("polars", "safetensors", "safetensors_rust"):
        return f"a file cannot be read or written ({text})"
    return None
