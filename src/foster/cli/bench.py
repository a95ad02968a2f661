"""``foster bench``: compare methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foster.bench.options import BenchOptions
from foster.cli.arguments import TEACHER, Data, DryRun
from foster.cli.flags import verb
from foster.cli.folders import place_or_here, read_data
from foster.cli.output import report_estimate, say, show
from foster.cli.processes import running
from foster.cli.values import CommonOptions, Values, read_yaml
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from foster.wording import many


@verb(
    BenchOptions,
    *TEACHER,
    examples=(
        "foster bench data --out bench",
        "foster bench data --methods foster,dm,herding --seeds 3 --out bench",
        "foster bench data --dry-run",
    ),
    divided=True,
)
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
    from foster.bench.bench import run_bench
    from foster.bench.rows import Recipe
    from foster.report.tables import markdown

    common, example = values.of(CommonOptions), "no-reset: {method: foster, reset_every: 0}"
    recipe = Recipe(
        values.of(EncoderOptions),
        values.of(ModelOptions),
        values.of(TrainOptions),
        values.of(TeacherOptions),
    )
    extra = read_yaml(variants, "--variants", example) if variants else {}
    others = read_yaml(students, "--students", "gru4rec: {backbone: gru4rec}") if students else {}
    asked: dict[str, Any] = {
        "recipe": recipe,
        "options": values.of(BenchOptions),
        "extra": extra,
        "source": str(variants),
        "students": others,
        "students_source": str(students),
        "seed": common.seed,
    }
    out = place_or_here(out, dry_run)
    with running(common.device) as engine:
        if dry_run:
            from foster.bench.estimate import estimate_bench

            report_estimate(estimate_bench(read_data(data), out, **asked, engine=engine), as_json)
            return
        result = run_bench(read_data(data), out, **asked, engine=engine, say=say)
        if not engine.is_main:
            return
        rows, about = result["rows"], result["about"]
        show(result, as_json, markdown(rows, about))
    if failed := about["failed"]:
        name, error = next(iter(failed.items()))
        raise InputError(f"{out}: {many(len(failed), 'run')} failed, {name} first, and no row tells of it: {error}")
