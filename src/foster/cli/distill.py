"""``foster distill``: condense a log."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from foster.cli.arguments import Data, DryRun, OutOrNone, Overwrite
from foster.cli.flags import VERBS, verb
from foster.cli.folders import free, place_or_here, read_data
from foster.cli.output import report_condensed, report_estimate, say, warn
from foster.cli.processes import running
from foster.cli.values import CommonOptions, Values
from foster.distillation.options import OPTIONS, DistillOptions


@verb(
    *OPTIONS.values(),
    examples=(
        "foster distill data --teacher teacher --out distilled",
        "foster distill data --teacher teacher --bytes 100000 --out distilled",
        "foster distill data --teacher teacher --targets next --bytes 100000 --out sequences",
    ),
    divided=True,
)
def distill(
    data: Data,
    teacher: Annotated[Path, typer.Option(help="folder that 'foster pretrain' made of the same data")],
    out: OutOrNone = None,
    method: Annotated[
        str, typer.Option(help="foster, or a baseline: dm, dc, mtt, farzi, td3", autocompletion=lambda: list(OPTIONS))
    ] = "foster",
    encoder: Annotated[str | None, typer.Option(help="another place of the teacher's encoder")] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Condense a log into synthetic sequences. Flags that a method does not have are an error."""
    from foster.artefacts import read_config
    from foster.condensed.collapse import collapse_of
    from foster.data.dataset import INTERACTIONS_NAME
    from foster.distillation.distill import distill as run
    from foster.distillation.distill import write_distilled
    from foster.manifest import identity
    from foster.unfinished import unfinished

    VERBS["distill"].method(method)  # an unknown one is an error
    options = values.only(OPTIONS[method], method)
    common = values.of(CommonOptions)
    place = None if out is None else free(out, overwrite, data, teacher)
    out = place_or_here(out, dry_run)
    start = time.perf_counter()
    with running(common.device) as engine:
        more: dict[str, Any] = {"seed": common.seed, "engine": engine, "encoder_path": encoder}
        if dry_run or place is None:
            from foster.estimation.jobs import estimate_distill

            report_estimate(estimate_distill(read_data(data), teacher, out, options, **more), as_json)
            return
        if read_config(teacher, "teacher").get("privacy") is not None:  # a hash of the log would tell it from any other
            place = replace(place, inputs=tuple(one for one in place.inputs if one["kind"] != "dataset"))
        whole, given = read_data(data), {"given": sorted(options.model_fields_set)}
        sizeable = isinstance(options, DistillOptions) and options.bytes is None
        log_bytes = (data / INTERACTIONS_NAME).stat().st_size if sizeable else None
        command = {
            "verb": "distill", "method": method, "data": whole.info.fingerprint, "teacher": identity(teacher),
            "encoder": encoder, "seed": common.seed, "options": options.model_dump(),
            **given,
        }  # fmt: skip
        with unfinished(place, command, engine, overwrite=overwrite, say=say) as part:
            distilled, log = run(whole, teacher, options, **more, part=part)
            if not engine.is_main:
                return
            with place.fill({"arguments": given, **engine.about}) as folder:
                write_distilled(distilled, log, folder)
        warn(out, collapse_of(distilled))
        report_condensed(distilled, out, time.perf_counter() - start, as_json, log_bytes, log)
