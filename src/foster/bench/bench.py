"""Every method on one log, on equal terms: the runs, each made once and kept, and their results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import torch

from foster.bench.estimate import check_bytes
from foster.bench.folder import BenchFolder
from foster.bench.making import Maker
from foster.bench.plan import BenchArguments, Plan, Say, plan_of
from foster.bench.results import PLOT_NAME, write_results
from foster.bench.rows import Run
from foster.bench.summary import summarise
from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.report.plots import plot_results


def run_bench(
    data: Dataset,
    out: str | Path,
    *,
    engine: Engine | None = None,
    say: Say = lambda line: None,
    **asked: Unpack[BenchArguments],
) -> dict[str, Any]:
    """Compare methods on one log; a benchmark that was cut off goes on where it was.

    Args:
        data: the log.
        out: folder of artefacts, finished runs and, in the end, ``results.md``, ``results.json``, ``results.csv`` and,
            with matplotlib, ``results.png``. A ``seedS/teacher`` that ``pretrain`` made with the same options may be
            there already.
        engine: device; several processes divide the runs.
        say: called with one line a finished run.
        **asked: what is compared, see ``BenchArguments``.

    Returns:
        ``{"about": {...}, "rows": {name: row}}``, see ``summarise``; in every process. ``about["failed"]`` says of runs
        that could not be made why, by ``seedS/NAME``; a row of which every run failed is not there.

    Raises:
        InputError: a folder of another benchmark or of something else, what is there was made with other options, or
            bytes that are too few for a row; see ``plan_of`` for more.
    """
    engine = engine or Engine()
    plan = plan_of(data, **asked, say=say if engine.is_main else lambda line: None)
    folder = BenchFolder(Path(out), plan)
    if plan.in_bytes:
        folder.claim(engine.alone(), dry_run=True)
        check_bytes(plan, folder, engine.alone())  # in every process, before one of them can begin
    folder.claim(engine)
    make_all(plan, folder, engine, say)
    records, failed = folder.records()
    rows = summarise(records, folder.ranks, plan.options.reference, plan.data.held_out("test").users)
    about = _about(plan, failed, engine)
    if engine.is_main:
        plot_results(folder.out / PLOT_NAME, rows, _title(plan))
        write_results(folder.out, rows, about, records)  # and the manifest of all that
    return {"about": about, "rows": rows}


def make_all(plan: Plan, folder: BenchFolder, engine: Engine, say: Say) -> None:
    """Make the runs that are missing.

    Args:
        plan: of the benchmark.
        folder: of its runs.
        engine: under several processes each makes its share of the runs, alone.
        say: called with one line a finished run.

    Raises:
        InputError: what is there was made with other options.
    """
    folder.missing()  # asks whether what is there is of these options
    maker = Maker(plan, folder, engine.alone(), say)
    # What shares a folder is for one process; teachers come first, since the others need them.
    shares: dict[tuple[str, int], list[Run]] = {}
    for run in plan.runs():
        shares.setdefault((run.artefact, run.seed), []).append(run)
    for first in (True, False):
        part = [share for share in shares.values() if (share[0].variant.method == "full") == first]
        for share in part[engine.rank :: engine.world]:
            for run in share:
                maker.make(run)
        engine.wait()


def _title(plan: Plan) -> str:
    """Return the title of the plot."""
    info, seeds = plan.data.info, ", ".join(map(str, plan.seeds))
    split = f" ({info.split_name})" if info.cut_times else ""
    return f"{info.name}, test{split}, seed{'s' if len(plan.seeds) > 1 else ''} {seeds}"


def _about(plan: Plan, failed: dict[str, str], engine: Engine) -> dict[str, Any]:
    """Return what one has to know of a benchmark to read its table."""
    data, new = plan.data, plan.new
    return {
        "data": data.info.name,
        "new_items": len(new.ids) if new else 0,
        "new_item_users": len(new.targets) if new else 0,
        "users": data.n_users,
        "items": data.n_items,
        "interactions": data.n_interactions,
        "split": data.info.split_name,
        "parts": data.parts().as_dict(),
        "data_fingerprint": data.info.fingerprint,
        "seeds": list(plan.seeds),
        "reference": plan.options.reference,
        "failed": failed,
        "device": str(engine.device),
        "threads": torch.get_num_threads(),
        **plan.recipe.as_dict(),
    }
