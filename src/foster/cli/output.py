"""What verbs print: results on stdout, words for people on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foster.data.defaults import LEAVE_ONE_OUT
from foster.errors import InputError
from foster.json_text import to_json
from foster.progress import is_quiet
from foster.wording import many

if TYPE_CHECKING:
    from foster.estimation.estimate import Estimate

SHOWN = 100  # characters of a text that are printed


def say(text: str) -> None:
    """Print a note for people, unless they asked for none; stdout stays free for results."""
    if not is_quiet():
        complain(text)


def complain(text: str) -> None:
    """Print an error."""
    # In one piece: a launcher starts processes without buffers, and the ends of their lines would come apart from them.
    print(f"{text}\n", end="", file=sys.stderr, flush=True)  # noqa: T201


def show(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print what a verb found: for people, or as one JSON object.

    Raises:
        InputError: JSON is asked for, and a number is not finite; or standard output cannot be written to.
    """
    stdout_takes_all = (sys.stdout.encoding or "").lower().startswith("utf")
    # Flushed here, so that a full disk or a reader that is gone is an error of the verb.
    try:
        shown = to_json(result, ascii_only=not stdout_takes_all) if as_json else text
    except ValueError as error:
        raise InputError(f"--json: a number of the result is not finite ({error}); see it without --json") from error
    try:
        print(shown, flush=True)  # noqa: T201
    except BrokenPipeError:
        raise
    except OSError as error:
        made = f"{result['out']} is made, but " if "out" in result else ""
        raise InputError(f"{made}standard output takes no result ({error.strerror}); send it elsewhere") from error


def warn(out: Path, fault: str | None) -> None:
    """Say what is wrong with something that was made, or nothing for None."""
    if fault is not None:
        say(f"warning: {out}: {fault}")


def report_estimate(estimate: Estimate, as_json: bool) -> None:
    """Print what a dry run found."""
    show(estimate.as_dict(), as_json, estimate.as_text())


def report_fit(
    model: Any, out: Path, fit: Any, seconds: float, as_json: bool, more: Mapping[str, Any] | None = None
) -> None:
    """Print how a training ended."""
    result = {
        "out": str(out),
        "seconds": seconds,
        "steps": fit.steps,
        "best_step": fit.best_step,
        "validation_ndcg@10": fit.best_ndcg,
        "data_split": model.origin.get("data_split", LEAVE_ONE_OUT),
        **({} if model.privacy is None else {"privacy": model.privacy.model_dump()}),
        **(more or {}),
    }
    score = "" if fit.best_ndcg is None else f", validation NDCG@10 {fit.best_ndcg:.4f} at step {fit.best_step}"
    spent = "" if model.privacy is None else f", {model.privacy.budget}"
    show(
        result,
        as_json,
        f"{out}: {many(fit.steps, 'step')} in {seconds:.1f} s{score}{spent}{_shown_split(model.origin)}",
    )


def report_condensed(
    data: Any,
    out: Path,
    seconds: float,
    as_json: bool,
    log_bytes: int | None = None,
    log: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print what synthetic sequences or a coreset hold.

    Args:
        data: the sequences.
        out: their folder.
        seconds: of their making.
        as_json: print a JSON object.
        log_bytes: size of the log, where ``--bytes`` would make less than what is larger than it.
        log: what was logged, among it the forms that validation users chose between.
    """
    from foster.artefacts import KEPT_STEP
    from foster.condensed.folder import stored_bytes
    from foster.distillation.budget import judged_forms

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
    text = f"{out}: {many(len(data), 'sequence')}{state} in {seconds:.1f} s, {size:,} bytes without item texts"
    text += _shown_split(data.info)
    if forms := judged_forms(log):
        result["forms"] = dict(forms)
        (form, ndcg), *others = forms
        beside = ", ".join(f"{other} {less:.4f}" for other, less in others)
        text += f"; {form}, whose short student has validation NDCG@10 {ndcg:.4f} ({beside})"
    if data.labeller is not None:
        result["labeller"] = True
        text += "; labels are made by a sequence model that is in it"
    if log_bytes is not None and size > log_bytes:
        beside = f"which has {log_bytes:,} bytes without item texts"
        say(f"{out}: is larger than the log, {beside}; --bytes N makes one of N at most")
    show(result, as_json, text)


def _shown_split(origin: Mapping[str, Any]) -> str:
    return f"; data split {origin['data_split']}" if "data_split" in origin else ""
