"""``foster train``: train on sequences or a log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from foster.cli.arguments import TRAINING, LabelEncoder, Out, Overwrite
from foster.cli.flags import verb
from foster.cli.folders import free, kind_to_train_on, read_data
from foster.cli.output import report_fit, say, warn
from foster.cli.processes import running
from foster.cli.values import CommonOptions, Values
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.training.options import FINISH, TrainOptions


@verb(
    *TRAINING,
    examples=(
        "foster train distilled --out model",
        "foster train distilled --finish data --steps 500 --out model",
        "foster train data --backbone gru4rec --steps 2000 --out model",
    ),
    default_where=" for a data set; else what is stored with the sequences",
    divided=True,
)
def train(
    source: Annotated[
        Path, typer.Argument(help="distilled, coreset or data set folder, or its name on the Hugging Face hub")
    ],
    out: Out,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="data set whose validation items judge a training on sequences; hard labels, or --patience: they also "
            "stop it and choose the weights"
        ),
    ] = None,
    finish: Annotated[
        Path | None,
        typer.Option(
            help="data set that the sequences were made from, on which the model goes on after 500 steps on them; "
            "options of model and recipe then count there (--steps: by default a quarter of those of a training on it)"
        ),
    ] = None,
    label_encoder: LabelEncoder = None,
    overwrite: Overwrite = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Train a recommender on distilled sequences, a coreset or a log, or on sequences first and then on their log."""
    from foster.condensed.collapse import one_ranking
    from foster.condensed.labels import frozen_part, student_recipe, tunes_last
    from foster.condensed.sequences import Condensed
    from foster.data.dataset import Dataset
    from foster.evaluation.evaluate import is_of
    from foster.finishing import STUDENT_STEPS, check_own_log, shape_on_log
    from foster.finishing import finish as finish_on
    from foster.hub import folder_of
    from foster.manifest import identity
    from foster.runs import train as run
    from foster.runs import training_record
    from foster.training.loop import on_log
    from foster.unfinished import unfinished
    from foster.wording import many

    source = folder_of(source, "dataset")
    place = free(out, overwrite, source, validation or finish)
    kind = kind_to_train_on(source)
    if validation and finish:
        raise InputError("--validation: the data set of --finish validates; leave one of the two out")
    if kind == "dataset":
        if validation or label_encoder or finish:
            flag = "--validation" if validation else "--label-encoder" if label_encoder else "--finish"
            raise InputError(f"{flag}: is for sequences; {source} is a data set, which has validation items of its own")
        data: Dataset | Condensed = (whole := Dataset.read(source))
        encoder, model = values.of(EncoderOptions), values.of(ModelOptions)
        recipe = on_log(values.of(TrainOptions), whole)
    elif finish:
        data = Condensed.read(source, encoder_path=label_encoder)
        encoder, model = values.of(EncoderOptions, data.encoder), values.of(ModelOptions, shape_on_log(data))
        recipe = values.of(TrainOptions)
    else:
        sees = "a step sees all sequences, in few bytes an eighth of their labels"
        values.refuse({"batch_size": f"is for logs: {sees}; leave it out"})
        if validation is None:
            reason = "is for validation; add --validation DATA, or leave it out"
            values.refuse(dict.fromkeys(("eval_every", "eval_users", "patience"), reason))
        data = Condensed.read(source, encoder_path=label_encoder)
        encoder = values.of(EncoderOptions, data.encoder)
        model = values.of(ModelOptions, data.model)
        recipe = values.of(TrainOptions, student_recipe(data, encoder, model))
    common = values.of(CommonOptions)
    judges, log = read_data(validation) if validation else None, read_data(finish) if finish else None
    if log and isinstance(data, Condensed):
        check_own_log(data, log)
        recipe = on_log(recipe, log, FINISH)
    of_this_data = is_of(data.info.get("data_fingerprint"), judges) if judges and isinstance(data, Condensed) else None
    start = time.perf_counter()
    with running(common.device) as engine:
        if of_this_data is False and engine.is_main:
            say(f"--validation {validation}: is other data than that which {source} was made from")
        if isinstance(data, Condensed) and log is None and tunes_last(data, model) and engine.is_main:
            first_steps = frozen_part(data, encoder, model)[1].total_steps
            say(f"{many(first_steps, 'step')} with a frozen language model come first, then it is tuned for --steps")
        if isinstance(data, Condensed) and log is None and data.windows and engine.is_main:
            read = max(end - start for start, end in data.windows)
            if model.max_length > max(read, data.model.max_length):
                say(
                    f"--max-length {model.max_length}: labels follow at most {many(read, 'item')}; of places behind "
                    "these the model learns nothing"
                )
        if log and engine.is_main:
            say(f"{many(STUDENT_STEPS, 'step')} on the sequences come first, then {recipe.total_steps:,} on the log")
        command = {
            "verb": "train", "source": identity(source), "validation": judges and judges.info.fingerprint,
            "seed": common.seed, "encoder": encoder.model_dump(), "model": model.model_dump(),
            "train": recipe.model_dump(), **({} if log is None else {"finish": log.info.fingerprint}),
        }  # fmt: skip
        with unfinished(place, command, engine, overwrite=overwrite, say=say) as part:
            more: dict[str, Any] = {"encoder": encoder, "model": model, "train": recipe, "seed": common.seed}
            if log and isinstance(data, Condensed):
                recommender, fit = finish_on(data, log, engine=engine, part=part, **more)
            else:
                recommender, fit = run(data, engine=engine, validation=judges, part=part, **more)
            if not engine.is_main:
                return
            seconds = time.perf_counter() - start
            first = {} if log is None else {"arguments": {"student_steps": STUDENT_STEPS}}
            with place.fill({**engine.about, **first}) as folder:
                recommender.write_to(folder, training_record(recipe, common.seed, fit))
        judge = (judges or log) if isinstance(data, Condensed) else data
        if judge is not None:
            warn(out, one_ranking(recommender, judge))
        validated: dict[str, Any] = {"validation_of_this_data": of_this_data} if judges else {}
        if log:
            validated["student_steps"] = STUDENT_STEPS
        report_fit(recommender, out, fit, seconds, as_json, validated)
