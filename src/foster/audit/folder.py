"""The folder of an audit, read again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from foster.artefacts import CONFIG_NAME, Count, Fingerprint, Size, Stored, read_config, read_json
from foster.audit.audit import RESULTS_NAME, Audit
from foster.audit.pieces import LONGEST
from foster.errors import InputError
from foster.manifest import read_whole

Share = Annotated[float, Field(ge=0, le=1)]
Mean = Annotated[float, Field(ge=0)]
"""Of counts, which are whole in the sequences themselves."""
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]
Length = Annotated[int, Field(ge=2, le=LONGEST)]
LENGTHS = list(range(2, LONGEST + 1))


class StoredAbout(Stored):
    """What was looked at, and how."""

    data_fingerprint: Fingerprint
    method: str
    sequences: Size
    users: Size
    seed: Count
    shadows: Count
    shadow_steps: Size
    shadow_student_steps: Size


class StoredConfig(Stored):
    """``config.json``."""

    kind: Literal["audit"]
    foster: str
    info: StoredAbout


class StoredRuns(Stored):
    """Runs of n items."""

    n: Length
    runs: Mean
    found: Share
    one_user: Share
    few_users: Share = Field(alias="2_to_4_users")
    many_users: Share = Field(alias="5_or_more")
    users_with_run: Mean
    users_alone: Mean


class StoredPieces(Stored):
    """What ``describe`` returns."""

    users: Size
    steps: Size
    runs: list[StoredRuns]
    longest_run: Mean
    windows: Mean
    near: Share
    near_one: Share


class StoredHeldOut(Stored):
    """Shares of users that have a run of n items."""

    n: Length
    members: Share
    others: Share


class StoredAttack(Stored):
    """What ``attack_results`` returns."""

    auc: Share
    auc_interval: Interval
    few: Share = Field(alias="tpr@0.001")
    few_interval: Interval = Field(alias="tpr@0.001_interval")
    more: Share = Field(alias="tpr@0.01")
    more_interval: Interval = Field(alias="tpr@0.01_interval")
    targets: Size
    users: Size


class StoredTables(Stored):
    """What ``Audit.pieces`` holds."""

    sequences: StoredPieces
    popularity: StoredPieces
    transitions: StoredPieces


class StoredAudit(Stored):
    """``results.json``."""

    paragraph: str
    about: StoredAbout
    tables: Annotated[dict[str, str], Field(min_length=1)]
    pieces: StoredTables
    held_out: list[StoredHeldOut] | None
    membership: Annotated[dict[str, StoredAttack], Field(min_length=1)] | None


def read_audit(folder: str | Path) -> Audit:
    """Read what ``foster audit`` wrote.

    Raises:
        InputError: no folder of an audit, or a damaged one, whose files say different things perhaps.
    """
    return read_whole(folder, lambda: _read(Path(folder)))


def _read(folder: Path) -> Audit:
    config, path = read_config(folder, "audit"), folder / RESULTS_NAME
    StoredConfig.of(config, folder / CONFIG_NAME)
    content = read_json(path)
    stated = StoredAudit.of(content, path)
    pieces, held_out = stated.pieces, stated.held_out
    rows: list[Sequence[StoredRuns | StoredHeldOut]] = [
        pieces.sequences.runs, pieces.popularity.runs, pieces.transitions.runs
    ]  # fmt: skip
    if held_out is not None:
        rows.append(held_out)
    if any([row.n for row in table] != LENGTHS for table in rows):
        raise InputError(f"{path}: a table has not one row for each n of {LENGTHS[0]} to {LONGEST}; make it again")
    if (held_out is None) != (stated.membership is None) or (held_out is None) != (stated.about.shadows == 0):
        raise InputError(f"{path}: has results of shadows without shadows, or none of them; make it again")
    found = Audit(**{name: value for name, value in content.items() if name != "paragraph"})
    if config["info"] != found.about:
        raise InputError(f"{path}: does not fit {CONFIG_NAME}; make it again")
    return found
