"""``foster pretrain``: train the teacher."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from foster.cli.arguments import TEACHER, Data, DryRun, OutOrNone, Overwrite
from foster.cli.flags import verb
from foster.cli.folders import free, place_or_here, read_data
from foster.cli.output import report_estimate, report_fit, say, warn
from foster.cli.processes import running
from foster.cli.values import CommonOptions, Values
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.training.options import PrivacyOptions, TeacherOptions, TrainOptions


@verb(
    *TEACHER,
    PrivacyOptions,
    examples=(
        "foster pretrain data --out teacher",
        "foster pretrain data --out tuned --start-from teacher --finetune top:1",
        "foster pretrain data --out teacher --epsilon 8",
    ),
    divided=True,
)
def pretrain(
    data: Data,
    out: OutOrNone = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="teacher of this data to start from, with its encoder and shape, in order to tune its language model "
            "(--finetune); by default for a tenth of the steps that a training on this data has, at 5e-4"
        ),
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Train on the full log and record the trajectory: teacher and full-data baseline."""
    from foster.condensed.collapse import one_ranking
    from foster.data.check import unknown_texts
    from foster.runs import pretrain as run
    from foster.text.readability import read_texts
    from foster.training.teachers import teacher_options, validation_of

    if out is not None:
        free(out, overwrite, data, start_from)
    out = place_or_here(out, dry_run)
    common, privacy = values.of(CommonOptions), values.of(PrivacyOptions)
    if privacy.epsilon is None and privacy.delta != PrivacyOptions().delta:
        values.refuse({"delta": "belongs to --epsilon; add that, or leave it out"})
    elif privacy.epsilon is not None:
        reason = "a private training looks at no validation user; leave it out, or leave out --epsilon"
        values.refuse(dict.fromkeys(("eval_every", "eval_users"), reason))
        if dry_run:
            raise InputError("--dry-run: is not there for --epsilon; leave one of the two out")
    encoder, shape = teacher_options(start_from) if start_from else (None, None)
    recipe: dict[str, Any] = {
        "encoder": values.of(EncoderOptions, encoder),
        "model": values.of(ModelOptions, shape),
        "train": values.of(TrainOptions),
        "teacher": values.of(TeacherOptions),
        "start_from": start_from,
        "seed": common.seed,
    }
    began = time.perf_counter()
    with running(common.device) as engine:
        if dry_run:
            from foster.estimation.jobs import estimate_pretrain

            report_estimate(estimate_pretrain(read_data(data), out, **recipe, engine=engine), as_json)
            return
        log = read_data(data)
        if engine.is_main:
            warn(data, unknown_texts(read_texts(log.texts, recipe["encoder"]), log.n_items))
        recommender, fit = run(log, out, **recipe, privacy=privacy, engine=engine, overwrite=overwrite, say=say)
        if not engine.is_main:
            return
        warn(out, one_ranking(recommender, log))
        before = validation_of(start_from, recipe["train"].eval_users) if start_from else None
        if before is not None and fit.best_ndcg is not None and fit.best_ndcg <= before:
            say(
                f"{out}: validation NDCG@10 {fit.best_ndcg:.4f} is no better than {before:.4f} of {start_from}; leave "
                "the language model frozen, or try another --lr or --steps"
            )
        report_fit(recommender, out, fit, time.perf_counter() - began, as_json)
