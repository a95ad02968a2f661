"""``foster select``: choose a coreset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from foster.cli.arguments import MODEL, Data, Out, Overwrite
from foster.cli.flags import verb
from foster.cli.folders import free, read_data
from foster.cli.output import report_condensed
from foster.cli.values import CommonOptions, Values
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions


@verb(
    *MODEL,
    examples=(
        "foster select random data --out coreset",
        "foster select herding data --sequences 50 --teacher teacher --out coreset",
    ),
    default_where="; with a teacher: its",
)
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
    from foster.training.teachers import teacher_options

    place = free(out, overwrite, data, teacher)
    common = values.of(CommonOptions)
    made_with = teacher_options(teacher) if teacher else (None, None)
    start, engine = time.perf_counter(), Engine(common.device)
    coreset = choose(
        method,
        read_data(data),
        sequences,
        teacher_path=teacher,
        seed=common.seed,
        encoder=values.of(EncoderOptions, made_with[0]),
        model=values.of(ModelOptions, made_with[1]),
        engine=engine,
    )
    with place.fill(engine.about) as folder:
        coreset.write_to(folder)
    report_condensed(coreset, out, time.perf_counter() - start, as_json)
