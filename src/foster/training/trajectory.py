"""The trajectory: checkpoints of training on real data, one safetensors file each, read when they are asked for."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from foster.artefacts import TRAJECTORY_NAME, Shapes, load_tensors, not_finite, save_tensors, tensor_shapes
from foster.errors import Diverged, InputError
from foster.manifest import verify
from foster.models.recommender import OF_IDS, WEIGHTS_NAME, WHITENING, TextRecommender
from foster.storage import file_sha256
from foster.unfinished import State

FOLDER_NAME = TRAJECTORY_NAME
STEP = re.compile(rf"{FOLDER_NAME}/step_\d{{6,}}\.safetensors")


def checkpoint_steps(steps: int, count: int) -> list[int]:
    """Return when to record: step 0 and doublings early, even spacing later; ``count`` checkpoints about."""
    count = min(count, max(2 * steps, 2))  # with so many, all steps are there
    even = {round(steps * i / max(count // 2, 1)) for i in range(max(count // 2, 1) + 1)}
    first = steps / max(count // 2, 1)
    early = {0, *(round(first / 2**i) for i in range(1, count - count // 2))}
    return sorted(even | early)


class Checkpoints(Protocol):
    """Recorded states of a model in training."""

    def __len__(self) -> int: ...

    def step(self, which: int) -> int:
        """Return the optimiser step of a checkpoint."""
        ...

    def state(self, which: int) -> dict[str, Tensor]:
        """Return the parameters of a checkpoint, as ``trained_state`` names them."""
        ...


class Recording:
    """Checkpoints of a training that are kept in memory: those that a ``Recorder`` writes and a ``Trajectory`` reads.

    Args:
        due: when to record.
        half: keep float16, half the size; weights are widened when they are asked for.
    """

    def __init__(self, due: list[int], half: bool = True) -> None:
        self._due, self._half = set(due), half
        self._states: dict[int, dict[str, Tensor]] = {}

    def __call__(self, step: int, model: TextRecommender) -> None:
        """Record the model after ``step`` optimiser steps, if it is due.

        Raises:
            Diverged: weights are not finite, or not in half precision.
        """
        if step in self._due:
            state = _recorded(step, model, self._half)
            self._states[step] = {name: tensor.cpu() for name, tensor in state.items()}

    def __len__(self) -> int:
        return len(self._states)

    def step(self, which: int) -> int:
        """Return the optimiser step of a checkpoint."""
        return list(self._states)[which]

    def state(self, which: int) -> dict[str, Tensor]:
        """Return the parameters of a checkpoint, float32 on the CPU."""
        return {name: tensor.to(torch.float32) for name, tensor in self._states[self.step(which)].items()}


class _WithoutIds:
    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def __len__(self) -> int:
        return len(self._checkpoints)

    def step(self, which: int) -> int:
        return self._checkpoints.step(which)

    def state(self, which: int) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self._checkpoints.state(which).items() if name not in OF_IDS}


def without_ids(checkpoints: Checkpoints) -> Checkpoints:
    """Return checkpoints without the vectors that items have of their own."""
    return _WithoutIds(checkpoints)


def _recorded(step: int, model: TextRecommender, half: bool) -> dict[str, Tensor]:
    """Return what is recorded of a model after ``step`` optimiser steps.

    Raises:
        Diverged: weights are not finite, or not in half precision.
    """
    state = model.trained_state()
    if half:
        state = {name: tensor.half() for name, tensor in state.items()}
    if name := not_finite(state):
        kind = " in half precision" if half else ""
        raise Diverged(f"training diverged: {name} is not finite{kind} at step {step}; lower --lr")
    return state


class Recorder:
    """Writes the trained parameters at chosen steps.

    Args:
        folder: where ``trajectory/`` is made.
        steps: when to record.
        half: store float16, half the size; weights are widened on reading.
    """

    def __init__(self, folder: Path, steps: list[int], half: bool = True) -> None:
        self.folder: Path = folder / FOLDER_NAME
        self.folder.mkdir(exist_ok=True)
        self.written: dict[str, str] = {}
        self.steps: set[int] = set(steps)
        self.half = half

    def __call__(self, step: int, model: TextRecommender) -> None:
        """Record the model after ``step`` optimiser steps, if it is due.

        Raises:
            Diverged: weights are not finite, or not in half precision.
        """
        if step in self.steps:
            state = _recorded(step, model, self.half)
            path = self.folder / f"step_{step:06d}.safetensors"
            save_tensors(path, state)
            self.written[path.name] = file_sha256(path)

    def state(self) -> State:
        """Return the SHA-256 of every checkpoint by the name of its file."""
        return self.written

    def load_state(self, state: State) -> None:
        """Go on from a state.

        Raises:
            InputError: a checkpoint is not there as it was written.
        """
        self.written = dict(state)
        self._check()

    def move_to(self, folder: Path) -> None:
        """Put the trajectory into another folder of the same file system or of another; the files here stay.

        Raises:
            InputError: as ``load_state``.
        """
        self._check()
        (folder / FOLDER_NAME).mkdir()
        for name in self.written:
            try:
                os.link(self.folder / name, folder / FOLDER_NAME / name)
            except OSError:
                shutil.copy(self.folder / name, folder / FOLDER_NAME / name)

    def _check(self) -> None:
        for name, sha256 in self.written.items():
            path = self.folder / name
            if not path.is_file() or file_sha256(path) != sha256:
                raise InputError(f"{path}: is missing or was changed; remove {self.folder.parent} and begin anew")


class Trajectory:
    """The recorded checkpoints of a teacher folder.

    Args:
        folder: of the teacher.

    Raises:
        InputError: the folder has none, or is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self._manifest = verify(folder, later=FOLDER_NAME)
        names = sorted(name for name in self._manifest.files if STEP.fullmatch(name))
        self.files: list[Path] = [Path(folder) / name for name in names]
        if not self.files:
            raise InputError(f"{folder}: has no trajectory; make a teacher with 'foster pretrain'")
        weights = tensor_shapes(Path(folder) / WEIGHTS_NAME)
        self._wanted = {name: tensor for name, tensor in weights.items() if not name.startswith(WHITENING)}

    def __len__(self) -> int:
        return len(self.files)

    def step(self, which: int) -> int:
        """Return the optimiser step of a checkpoint."""
        return int(self.files[which].stem.removeprefix("step_"))

    def state(self, which: int) -> dict[str, Tensor]:
        """Read one checkpoint, float32 on the CPU.

        Raises:
            InputError: it is damaged, or the teacher has been replaced by another.
        """
        path = self.files[which]
        name = f"{FOLDER_NAME}/{path.name}"
        self._manifest.check(name)
        state = load_tensors(path, self._wrong)
        self._manifest.check(name)  # the teacher may have been replaced just now
        return {name: tensor.to(torch.float32) for name, tensor in state.items()}

    def _wrong(self, shapes: Shapes) -> str | None:
        """Return what is wrong with the tensors of a checkpoint, which are those of the teacher's model; or None."""
        for name in sorted(shapes.keys() ^ self._wanted.keys()):
            return f"tensor {name} is {'unknown' if name in shapes else 'missing'}"
        for name, (kind, shape) in shapes.items():
            whole, wanted = self._wanted[name]
            if kind not in {"F16", "F32", "BF16", whole} or shape != wanted:
                return f"tensor {name} is {kind} {list(shape)} instead of {whole} {list(wanted)}"
        return None
