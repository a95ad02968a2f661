"""``foster tune``: search for options."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from foster.cli.arguments import TRAINING, LabelEncoder
from foster.cli.flags import verb
from foster.cli.folders import kind_to_train_on, read_data
from foster.cli.output import say, show
from foster.cli.processes import helped, is_helper, running, shared_threads
from foster.cli.values import CommonOptions, Values, read_yaml
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.training.options import TrainOptions
from foster.tuning.options import TuneOptions


@verb(
    TuneOptions,
    *TRAINING,
    examples=(
        "foster tune distilled --validation data --out study",
        "foster tune distilled --validation data --finish --retrain 3 --jobs 2 --out study",
        "foster tune data --trials 50 --lr 0.001 --out study",
    ),
    default_where=" for a data set; else what is stored with the sequences",
    divided=True,
)
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
    label_encoder: LabelEncoder = None,
    jobs: Annotated[
        int,
        typer.Option(min=1, help="processes of this machine that make trials at once, each with its share of cores"),
    ] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="begin anew if the study exists")] = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Search for options of model and recipe, with trials on sequences or on a log. Flags that are given are fixed."""
    from foster.condensed.sequences import Condensed
    from foster.data.dataset import Dataset
    from foster.evaluation.evaluate import is_of
    from foster.tuning.folder import place_of
    from foster.tuning.results import BEST, markdown
    from foster.tuning.search import require_optuna
    from foster.tuning.tune import search

    require_optuna()
    note: Callable[[str], None] = say
    if is_helper():  # of a command whose folder is there by now, and which has said what there was to say
        jobs, overwrite, note = 1, False, lambda line: None
    inputs = (source, validation)
    place_of(out, overwrite, inputs)
    kind = kind_to_train_on(source)
    if kind == "dataset" and label_encoder:
        raise InputError(f"--label-encoder: is for sequences; {source} is a data set")
    if kind != "dataset" and validation is None:
        raise InputError("--validation is missing: the data set whose validation items judge the trials")
    searched = read_yaml(space, "--space", "dim: [64, 128]") if space else None
    data = Dataset.read(source) if kind == "dataset" else Condensed.read(source, encoder_path=label_encoder)
    judges = read_data(validation) if validation else None
    encoder = values.of(EncoderOptions, data.encoder if isinstance(data, Condensed) else None)
    common, start = values.of(CommonOptions), time.perf_counter()
    with running(common.device) as engine:
        if jobs > 1 and engine.world > 1:
            raise InputError(f"--jobs {jobs}: torchrun started {engine.world} processes already; leave one out")
        beside = helped(jobs - 1, shared_threads(jobs)) if jobs > 1 else None
        if isinstance(data, Condensed) and judges and is_of(data.info.get("data_fingerprint"), judges) is False:
            note(f"--validation {validation}: is other data than that which {source} was made from")
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
            beside=beside,
            say=say,
            note=note,
        )
        if not engine.is_main:
            return
        seconds = time.perf_counter() - start
        result = {"out": str(out), "seconds": seconds, "stopped": tuned.stopped is not None, **tuned.results}
        told = f"Options to train with: {out / BEST}" if tuned.results["config"] else "No trial is finished yet."
        show(result, as_json, f"{markdown(tuned.results)}\n\n{told}")
        if tuned.stopped is not None:
            say(f"stopped; what is done is in {out}, and the same command goes on from there")
    if isinstance(tuned.stopped, KeyboardInterrupt):
        raise typer.Exit(128 + signal.SIGINT)
    if tuned.stopped is not None:
        raise tuned.stopped
