"""Run a folder's making again and say whether the same came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foster.artefacts import artefact_kind, stated_input
from foster.engine import Engine
from foster.manifest import MANIFEST_NAME, read_manifest, versions
from foster.reproduction.compare import Difference, compare
from foster.reproduction.making import Inputs, StatedInput, Statement, remake
from foster.wording import many

PLACE = ("device", "hardware", "threads", "processes")
"""What a manifest says of where a folder was made."""


@dataclass(frozen=True)
class Reproduction:
    """What came of making a folder again.

    Attributes:
        folder: the folder.
        kind: what it is.
        files: how many files were compared, the manifest apart.
        differences: the files that differ.
        inputs: what it was made from this time and not before, in words.
        then: versions and place of the first making, as far as the manifest says.
        now: the same of the second.
        seconds: what it took.
    """

    folder: Path
    kind: str
    files: int
    differences: list[Difference]
    inputs: list[str]
    then: Mapping[str, Any]
    now: Mapping[str, Any]
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether all files are equal to the byte."""
        return not self.differences

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """Versions and place where they differ: then, and now."""
        return {name: (value, self.now.get(name)) for name, value in self.then.items() if value != self.now.get(name)}

    def as_dict(self) -> dict[str, Any]:
        """Return all of it in plain data."""
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "equal": self.equal,
            "files": self.files,
            "differences": [one.as_dict() for one in self.differences],
            "inputs": self.inputs,
            "changed": {name: {"then": then, "now": now} for name, (then, now) in self.changed.items()},
            "seconds": self.seconds,
        }

    def as_text(self) -> str:
        """Return what there is to say to people."""
        lines = [f"{self.folder}: made again in {self.seconds:.1f} s, "]
        beside = f"{many(self.files, 'file')} beside {MANIFEST_NAME}"
        if self.equal:
            lines[0] += f"all {beside} are equal to the byte (times and the version of foster aside)"
        else:
            lines[0] += f"{len(self.differences)} of {beside} differ"
            lines += [f"  {one.file}: {one.what}" for one in self.differences]
        lines += self.inputs
        lines += [f"{name}: {now} now, {then} then" for name, (then, now) in self.changed.items()]
        if not self.equal and not self.changed and not self.inputs:
            unsaid = [name for name in PLACE if name in self.now and name not in self.then]
            lines.append(
                f"versions are the same; the folder does not state: {', '.join(unsaid)}"
                if unsaid
                else "versions, device, threads and inputs are the same"
            )
        return "\n".join(lines)


def reproduce(
    folder: str | Path,
    *,
    data_path: str | Path | None = None,
    teacher_path: str | Path | None = None,
    source_paths: tuple[str, ...] = (),
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Reproduction:
    """Make a folder again in a temporary place, with the options and the seed that it states, and compare.

    On one machine, with the versions, the device and the number of threads that the manifest names, all files are equal
    to the byte. Nothing is written but the temporary folder, which is removed, and what is cached.

    Args:
        folder: a data set, a teacher, distilled sequences, a coreset or a model.
        data_path: the data set from which it was made; of a model of sequences, the one that validated it.
        teacher_path: the teacher from which sequences were made.
        source_paths: the source files of a data set, or the folder of sequences that a model was trained on.
        engine: device.
        say: called with what is to be said before the work: that an input is another one than then.

    Raises:
        InputError: a damaged folder or one of another kind, one that does not say how it was made, an input that is
            missing, is not needed, or is of other data.
    """
    begun, folder, engine = time.perf_counter(), Path(folder), engine or Engine()
    kind, before = artefact_kind(folder), read_manifest(folder)
    inputs = Inputs(
        None if data_path is None else Path(data_path),
        None if teacher_path is None else Path(teacher_path),
        tuple(source_paths),
    )
    statement = Statement.read(folder)
    others = _other_inputs(statement.inputs, inputs)
    for line in others if say else ():
        say(line)  # type: ignore[misc]
    with TemporaryDirectory(prefix="foster-reproduce-") as name:
        after = remake(folder, Path(name) / "again", inputs, engine)
        differences = compare(before, after)
    now = _made_by(Statement.of({**versions(), **engine.about}, "this run"))
    files = len(before.files.keys() | after.files.keys())
    return Reproduction(folder, kind, files, differences, others, _made_by(statement), now, time.perf_counter() - begun)


def _made_by(statement: Statement) -> dict[str, Any]:
    """Return versions and place, as far as they are stated."""
    place = {name: getattr(statement, name) for name in PLACE}
    stated = {name: value for name, value in place.items() if value is not None}
    return {"foster": statement.foster, "torch": statement.torch, **statement.versions, **stated}


def _other_inputs(stated: list[StatedInput], inputs: Inputs) -> list[str]:
    """Return a line for each input that is not the one that a manifest names, though of its kind."""
    sequences = inputs.sources[0] if inputs.sources else None
    given: dict[str, str | Path | None] = {
        "dataset": inputs.data, "teacher": inputs.teacher, "distilled": sequences, "coreset": sequences
    }  # fmt: skip
    lines = []
    for one in stated:
        place = given.get(one.kind)
        found = None if place is None else stated_input(place)
        if found is not None and found["kind"] == one.kind and found["sha256"] != one.sha256:
            lines.append(f"{place}: its files differ from those of the {one.kind} that was read then")
    return lines
