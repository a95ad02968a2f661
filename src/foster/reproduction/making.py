"""Makes a folder again: reads from it how it was made, and calls what made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

from pydantic import ConfigDict, Field

from foster.artefacts import (
    CONFIG_NAME,
    METRICS_NAME,
    Count,
    Fingerprint,
    Stored,
    artefact_kind,
    kind_words,
    new_folder,
    read_config,
    read_metrics,
)
from foster.condensed.sequences import Condensed
from foster.coresets.select import NEED_TEACHER, select
from foster.data.dataset import Dataset
from foster.data.defaults import LEAVE_ONE_OUT
from foster.data.grocery import Granularity, grocery
from foster.data.reading import Reading
from foster.distillation.budget import judged_forms
from foster.distillation.distill import distill, write_distilled
from foster.distillation.options import OF_LABELS, OPTIONS
from foster.engine import Engine
from foster.errors import InputError
from foster.finishing import finish
from foster.manifest import MANIFEST_NAME, Manifest, read_manifest, verify
from foster.models.recommender import NOT_STATED, stored_shape
from foster.runs import pretrain, train, training_record
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from foster.training.teachers import teacher_options


@dataclass(frozen=True)
class Inputs:
    """Where that is found from which a folder was made; None and () for what it was made without.

    Attributes:
        data: the data set; of a model that was trained on sequences, the one that validated it.
        teacher: the teacher.
        sources: files of a data set, as ``prepare`` takes them, or the sequences that a model was trained on.
    """

    data: Path | None = None
    teacher: Path | None = None
    sources: tuple[str, ...] = ()


class Prepared(Stored):
    """How ``Dataset.prepare`` was called, sources aside."""

    user_column: str | None
    item_column: str | None
    time_column: str | None
    time_format: str | None
    input_order: bool
    text: list[str]
    template: str | None
    k_core: Count
    drop_textless: bool
    popularity: bool
    name: str
    items: bool
    split: str = LEAVE_ONE_OUT
    targets: str | None = None


class Embedded(Stored):
    """How the data of the demo were made."""

    granularity: Granularity
    split: str = LEAVE_ONE_OUT
    targets: str | None = None


class Asked(Stored):
    """Which options of a distillation were given, and not found out."""

    given: list[str]


class StatedInput(Stored):
    """What a folder was made from."""

    kind: str
    sha256: Fingerprint


class Statement(Stored):
    """What a manifest says of the making of its folder; earlier versions said less."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    foster: str
    torch: str
    versions: dict[str, str] = Field(default_factory=dict)
    device: str | None = None
    hardware: str | None = None
    threads: int | None = None
    processes: int | None = None
    data_fingerprint: Fingerprint | None = None
    arguments: dict[str, Any] | None = None
    inputs: list[StatedInput] = Field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Statement:
        """Read what the manifest of a folder says.

        Raises:
            InputError: a field is missing, or has a wrong value.
        """
        return cls.of(read_manifest(folder).about, folder / MANIFEST_NAME)


Kind = Literal["dataset", "teacher", "distilled", "coreset", "model"]


def remake(folder: str | Path, out: Path, inputs: Inputs, engine: Engine) -> Manifest:
    """Make a folder again.

    Args:
        folder: what ``prepare``, ``pretrain``, ``distill``, ``select`` or ``train`` made.
        out: folder to make, which is not there yet.
        inputs: what it was made from.
        engine: device.

    Returns:
        The manifest of what was made.

    Raises:
        InputError: a folder of another kind, one that does not say how it was made, an input that is missing, is not
            needed, or is of other data.
    """
    making = Making(Path(folder), out, inputs, engine)
    kinds: dict[str, Callable[[], None]] = {
        "dataset": making.dataset,
        "teacher": making.teacher,
        "distilled": making.distilled,
        "coreset": making.coreset,
        "model": making.model,
    }
    kind = artefact_kind(folder)
    if kind not in kinds:
        raise InputError(
            f"{folder}: holds {kind_words(kind)}; reproduce makes these again: {', '.join(map(kind_words, kinds))}"
        )
    kinds[kind]()
    return verify(out)


class Making:
    """One folder, and what it is made from.

    Args:
        folder: the folder.
        out: where it is made again.
        inputs: what it was made from.
        engine: device.
    """

    def __init__(self, folder: Path, out: Path, inputs: Inputs, engine: Engine) -> None:
        self.folder: Path = folder
        self.out: Path = out
        self.inputs: Inputs = inputs
        self.engine: Engine = engine
        self.where: str = str(folder / CONFIG_NAME)
        self.stated: Statement = Statement.read(folder)
        self.kinds: list[str] = [one.kind for one in self.stated.inputs]

    def dataset(self) -> None:
        """Make a data set again."""
        self._without("data", "teacher")
        before, arguments = Dataset.read(self.folder).info, self._arguments("prepare")
        if "granularity" in arguments:
            self._without("sources")
            own = Embedded.of(arguments, self.folder / MANIFEST_NAME)
            data, split, targets = grocery(own.granularity), own.split, own.targets
            data = data if split == LEAVE_ONE_OUT and targets is None else data.with_split(split, targets)
        else:
            call = Prepared.of(arguments, self.folder / MANIFEST_NAME).model_dump()
            if not before.sources:
                raise InputError(
                    f"{self.folder}: was made of data frames, which it does not hold; it cannot be made again"
                )
            sources: list[str] = list(self.inputs.sources) or self._missing("--source", ", ".join(before.sources))
            items = _items_of(sources, before.reading, self.folder) if call.pop("items") else None
            data = Dataset.prepare([one for one in sources if one != items], items, **call)
        # Where the files lie today says nothing of the data.
        data = replace(
            data, info=data.info.model_copy(update={"reading": _at_places(data.info.reading, before.reading)})
        )
        data.save(self.out)

    def teacher(self) -> None:
        """Train a teacher again."""
        started = "teacher" in self.kinds
        self._without("sources", *(() if started else ("teacher",)))
        config = self._config("teacher")
        if config.get("privacy") is not None:
            raise InputError(
                f"{self.folder}: was trained with --epsilon, whose noise is kept nowhere; it cannot be made again"
            )
        options = TeacherOptions.stored(self._arguments("pretrain"), str(self.folder / MANIFEST_NAME))
        pretrain(
            self._data(),
            self.out,
            encoder=self._encoder(config),
            model=stored_shape(config["model"], self.where),
            train=self._recipe(config),
            teacher=options,
            start_from=self._teacher() if started else None,
            seed=self._seed(config),
            engine=self.engine,
        )

    def distilled(self) -> None:
        """Distill again."""
        self._without("sources")
        config, data, teacher = self._config("distilled"), self._data(), self._teacher()
        info, method = config["info"], config["method"]
        if method not in OPTIONS or "options" not in info:
            raise self._silent("distill")
        options = dict(info["options"])
        if options.get("bytes") is not None:
            if "sequences" not in self._given():
                del options["sequences"]  # the budget gave their number
            if (self.folder / METRICS_NAME).is_file() and judged_forms(read_metrics(self.folder)):
                # Users chose: none of these was given.
                options = {name: value for name, value in options.items() if name not in (*OF_LABELS, "steps")}
        encoder = self._encoder(config).encoder
        made, log = distill(
            data,
            teacher,
            OPTIONS[method].parse(options, self.where, strict=True),
            seed=self._seed(info),
            engine=self.engine,
            encoder_path=None if encoder == teacher_options(teacher)[0].encoder else encoder,
        )
        with new_folder(self.out, about=self.engine.about) as folder:
            write_distilled(made, log, folder)

    def coreset(self) -> None:
        """Choose again."""
        self._without("sources")
        config = self._config("coreset")
        method = config["method"]
        if self.kinds and "teacher" not in self.kinds:
            self._without("teacher")
        needed = "teacher" in self.kinds or method in NEED_TEACHER
        made = select(
            method,
            self._data(),
            config["sequences"],
            teacher_path=self._teacher() if needed else self.inputs.teacher,
            seed=self._seed(config["info"]),
            encoder=self._encoder(config),
            model=stored_shape(config["model"], self.where),
            engine=self.engine,
        )
        with new_folder(self.out, about=self.engine.about) as folder:
            made.write_to(folder)

    def model(self) -> None:
        """Train again, on a log or on sequences."""
        self._without("teacher")
        config = self._config("model")
        on_log = "dataset" in self.kinds[:1] if self.kinds else not self.inputs.sources
        judged = (config.get("fit") or {}).get("best_ndcg") is not None
        validated = "dataset" in self.kinds[1:] if self.kinds else judged
        source: Dataset | Condensed
        if on_log:
            self._without("sources")
            source, validation = self._data(), None
        else:
            if len(self.inputs.sources) != 1:
                self._missing("--source", "the folder of sequences that the model was trained on")
            source = Condensed.read(self.inputs.sources[0])
            self._of_this_data(self.inputs.sources[0], source.info.get("data_fingerprint"))
            if not validated:
                self._without("data")
            validation = Dataset.read(self._place("data")) if validated else None
        recipe, seed = self._recipe(config), self._seed(config)
        more: dict[str, Any] = {
            "encoder": self._encoder(config), "model": stored_shape(config["model"], self.where), "train": recipe,
            "seed": seed, "engine": self.engine,
        }  # fmt: skip
        if self.stated.arguments is not None and isinstance(source, Condensed) and validation is not None:
            about = {**self.engine.about, "arguments": self.stated.arguments}
            made, fit = finish(source, validation, **more)  # no other model on sequences states arguments
        else:
            about = self.engine.about
            made, fit = train(source, validation=validation, **more)
        with new_folder(self.out, about=about) as folder:
            made.write_to(folder, training_record(recipe, seed, fit))

    def _config(self, kind: Kind) -> dict[str, Any]:
        config = read_config(self.folder, kind)
        if kind in ("teacher", "model") and config.get("training") is None:
            raise self._silent("pretrain" if kind == "teacher" else "train")
        return config

    def _encoder(self, config: dict[str, Any]) -> EncoderOptions:
        return EncoderOptions.stored(config["encoder"], self.where)

    def _recipe(self, config: dict[str, Any]) -> TrainOptions:
        return TrainOptions.stored(config["training"], self.where)

    def _seed(self, config: dict[str, Any]) -> int:
        if (seed := config.get("seed")) is None:
            raise InputError(f"{self.where}: states no seed, so that the folder cannot be made again")
        return int(seed)

    def _arguments(self, verb: str) -> dict[str, Any]:
        if self.stated.arguments is None:
            raise self._silent(verb)
        return self.stated.arguments

    def _given(self) -> list[str]:
        arguments = self.stated.arguments
        return [] if arguments is None else Asked.of(arguments, self.folder / MANIFEST_NAME).given

    def _silent(self, verb: str) -> InputError:
        return InputError(
            f"{self.folder}: does not say how it was made: an earlier version made it, or it was not saved by what "
            f"made it; make it anew with 'foster {verb}'"
        )

    def _data(self) -> Dataset:
        data = Dataset.read(place := self._place("data"))
        self._of_this_data(place, data.info.fingerprint)
        return data

    def _of_this_data(self, place: str | Path, fingerprint: str | None) -> None:
        stated = self.stated.data_fingerprint
        if stated == NOT_STATED:  # of a private teacher, which tells no log from others
            return
        if fingerprint != stated:
            raise InputError(f"{place}: is of other data than {self.folder} (fingerprint {fingerprint}, not {stated})")

    def _teacher(self) -> Path:
        return self._place("teacher")

    def _place(self, name: Literal["data", "teacher"]) -> Path:
        place: Path | None = getattr(self.inputs, name)
        return place or self._missing(f"--{name}", {"data": "the data set", "teacher": "the teacher"}[name])

    def _missing(self, flag: str, what: str) -> NoReturn:
        raise InputError(f"{flag} is missing: {what}, from which {self.folder} was made")

    def _without(self, *names: Literal["data", "teacher", "sources"]) -> None:
        """Raise InputError if an input is given that the folder was made without."""
        for name in names:
            if getattr(self.inputs, name):
                raise InputError(f"--{name.rstrip('s')}: {self.folder} was made without it; leave it out")


def _items_of(sources: list[str], reading: Reading | None, folder: Path) -> str:
    """Return that of the sources which was named as the item table."""
    name = Path(reading.items or "").name if reading is not None else ""
    found = [one for one in sources if Path(one).name == name]
    if len(found) != 1:
        raise InputError(f"--source: name the item table {name}, too, from which {folder} was made")
    return found[0]


def _at_places(reading: Reading | None, before: Reading | None) -> Reading | None:
    """Return what was understood of files, with the places that they had before; other names stay as they are."""
    if reading is None or before is None:
        return reading
    moved = {
        now: then
        for now, then in ((reading.log, before.log), (reading.items, before.items))
        if now is not None and then is not None and Path(now).name == Path(then).name
    }

    def put(text: str) -> str:
        for now, then in moved.items():
            text = text.replace(now, then)
        return text

    return reading.model_copy(
        update={
            "log": put(reading.log),
            "items": None if reading.items is None else put(reading.items),
            "remarks": tuple(map(put, reading.remarks)),
        }
    )
