"""What tells the trials of a study from changed ones: of damage, SQLite itself sees the form of its pages alone.

Each trial that has ended carries the SHA-256 of what it says, and so does each training on the full log. The manifest
of the study lists these, since its tables were written last, so that none is lost and no other file is taken for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foster.artefacts import CONFIG_NAME
from foster.errors import InputError
from foster.json_text import json_sha256
from foster.manifest import read_manifest
from foster.storage import file_sha256

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, TrialState

SEAL = "sha256"  # of a trial, of a training on the full log, and of the study, which has that of its config.json
RETRAINED = "retrained "
"""What the names of notes of trainings on the full log begin with."""

GOES_ON = "the same command then goes on"
MACHINE = {
    sqlite3.SQLITE_FULL: f"there is no room left on its disk; make some, and {GOES_ON}",
    sqlite3.SQLITE_IOERR: f"its disk cannot be read or written, as one without room; see to it, and {GOES_ON}",
    sqlite3.SQLITE_NOMEM: f"there is not enough memory; make some, and {GOES_ON}",
    sqlite3.SQLITE_BUSY: f"another program holds it; end that, and {GOES_ON}",
    sqlite3.SQLITE_LOCKED: f"another program holds it; end that, and {GOES_ON}",
    **dict.fromkeys(
        (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
        f"cannot be written, in its folder; see who may write there, and {GOES_ON}",
    ),
}
"""What SQLite says of the machine, and not of the database: nothing is lost then, and nothing is to be begun anew."""


def seal_of(trial: FrozenTrial, state: TrialState, value: float | None) -> str:
    """Return the SHA-256 of what a trial says that ends so; notes of other programs do not count."""
    notes = {name: note for name, note in trial.user_attrs.items() if name != SEAL}
    parts = [sorted(part.items()) for part in (trial.params, trial.intermediate_values, notes)]
    return json_sha256([trial.number, state.name, value, *parts])


def sealed(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return notes with their SHA-256."""
    return {**notes, SEAL: json_sha256(sorted(notes.items()))}


def seals(study: Study) -> dict[str, str]:
    """Return the SHA-256 of all that has ended, by the trial's number or, of the full log, the name of its note.

    A training on the full log that failed is not among them: it may be made again.
    """
    ended = {str(trial.number): trial.user_attrs[SEAL] for trial in _ended(study)}
    notes = study.user_attrs.items()
    return ended | {name: note[SEAL] for name, note in notes if name.startswith(RETRAINED) and "error" not in note}


def bind(study: Study, out: Path) -> None:
    """Note whose database this is."""
    study.set_user_attr(SEAL, file_sha256(out / CONFIG_NAME))


def check_pages(path: Path) -> None:
    """Have SQLite look at a database.

    Raises:
        InputError: it is damaged, or none.
    """
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{path}: is a link or no file; put the file itself there")
    try:
        with closing(sqlite3.connect(path)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        if (fault := of_machine(error, path)) is not None:
            raise fault from error
        said = str(error)
    if said != "ok":
        raise damaged(path, str(said).splitlines()[-1])


def check(study: Study, out: Path, path: Path) -> None:
    """See that all that has ended is as it was written, and that nothing is missing.

    Args:
        study: of the folder.
        out: the folder.
        path: of the database, named in errors.

    Raises:
        InputError: it is not.
    """
    from optuna.trial import TrialState

    listed = read_manifest(out).about.get("trials", {})
    with reading(path):
        if study.user_attrs.get(SEAL) != file_sha256(out / CONFIG_NAME):
            raise ValueError("it is of another study")
        for trial in _ended(study):
            value = trial.value if trial.state == TrialState.COMPLETE else None
            # Optuna gives a pruned trial its last value on the way.
            last = None if trial.last_step is None else trial.intermediate_values[trial.last_step]
            if value is None and trial.value not in (None, last):
                raise ValueError(f"trial {trial.number}")
            if trial.user_attrs.get(SEAL) != seal_of(trial, trial.state, value):
                raise ValueError(f"trial {trial.number}")
        for name, notes in study.user_attrs.items():
            if name.startswith(RETRAINED) and notes != sealed({k: v for k, v in notes.items() if k != SEAL}):
                raise ValueError(name)
        there = seals(study)
        if (lost := next((name for name in listed if there.get(name) != listed[name]), None)) is not None:
            raise ValueError(f"trial {lost.removeprefix(RETRAINED)} is missing, or another one")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Take what optuna, SQLAlchemy and JSON raise of a database, all sorts of things, for damage.

    Args:
        path: of the database, named in errors.

    Raises:
        InputError: in place of these. An error of the machine is said to be one, or stays as it is, such as a current
            folder that is gone.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise of_machine(error, path) or damaged(path, " ".join(str(error).split())[:200]) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line what the machine has against a database that is in use.

    Args:
        path: of the database, named in errors.

    Raises:
        InputError: in place of an error of SQLite that is the machine's; others stay as they are.
    """
    try:
        yield
    except Exception as error:
        if (fault := of_machine(error, path)) is not None:
            raise fault from error
        raise


def of_machine(error: BaseException | None, path: Path) -> InputError | None:
    """Return what to say where an error came from SQLite and is the machine's; None for any other.

    Args:
        error: as raised; optuna and SQLAlchemy raise errors of their own from that of SQLite.
        path: of the database, named in the error.
    """
    while error is not None:
        code = getattr(error, "sqlite_errorcode", None)
        # The lowest byte is the kind, the others say more.
        if isinstance(error, sqlite3.Error) and code is not None and (what := MACHINE.get(code & 0xFF)) is not None:
            return InputError(f"{path}: {what}")
        error = error.__cause__
    return None


def damaged(path: Path, what: str) -> InputError:
    """Return the error of a database that cannot be gone on with."""
    return InputError(
        f"{path}: is damaged, or was changed ({what}); copy the study again, or begin anew with --overwrite"
    )


def _ended(study: Study) -> list[FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
