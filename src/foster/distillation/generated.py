"""Sequences that the teacher generates: synthetic histories, drawn item by item from its predictions."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from foster.condensed.folder import written_bytes
from foster.condensed.labels import with_item_map
from foster.condensed.sequences import Condensed, one_hot_steps
from foster.data.histories import Histories
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.errors import InputError
from foster.evaluation.ranks import users_at_once
from foster.models.recommender import TextRecommender
from foster.models.writing import drawn, write_histories
from foster.training.options import GENERATED, MANY
from foster.unfinished import State
from foster.wording import many

SPARE = 16  # bytes for digits of numbers in config.json
ENOUGH = 10_000  # written histories, or ten for each user where that is more: more are not made, whatever the budget


class Generated:
    """A distiller whose sequences are histories that the teacher generates; they are not moved.

    Their lengths are those of random training histories, and their first items come as often as they are in the log.
    All else are draws of the teacher (``generated_histories``). A private teacher has generated that log, too: then all
    are of one length. In a form of written histories they have the map of items of a compact teacher with them.

    Args:
        setting: log, teacher, the form of the folder, and random streams.
        options: FOSTER's, with ``start`` "generated" and ``targets`` "next".
    """

    def __init__(self, setting: Setting, options: DistillOptions) -> None:
        self.setting: Setting = setting
        self.options: DistillOptions = options

    def step(self, step: int) -> NoReturn:
        """There are no steps; see ``DistillOptions``."""
        raise NotImplementedError(f"generated sequences are not moved, which step {step} would do")

    def state(self) -> State:
        """Return nothing: the draws of the setting are all that there is."""
        return {}

    def load_state(self, state: State) -> None:
        """Go on from a state."""

    def export(self) -> Condensed:
        """Return the sequences, the same at every call.

        With ``bytes`` they are as many as these pay for, or those that are asked for if they do. Without a map there
        are no more of them than the log has histories.

        Raises:
            InputError: the bytes are too few, or with ``sequences`` too many: the smallest or largest that work.
        """
        setting, options = self.setting, self.options
        if options.bytes is not None:
            return self._within(options.bytes)
        return _wrapped(setting, _generated(setting, options, self._lengths(options.sequences)))

    def _lengths(self, count: int) -> np.ndarray:
        setting = self.setting
        return lengths_like(setting.data.histories("train"), count, self.options.length, setting.seed)

    def _within(self, most: int) -> Condensed:
        setting, options = self.setting, self.options

        def made(count: int) -> Condensed:
            return _wrapped(setting, [histories[row] for row in order if row < count])

        def size(count: int) -> int:
            return _stored_size(made(count))

        def ordered() -> list[int]:
            # What ends alike stands together, which xz finds.
            return sorted(range(len(histories)), key=lambda row: histories[row][::-1].tolist())

        if "sequences" in options.model_fields_set:
            histories = _generated(setting, options, self._lengths(count := options.sequences))
            order = ordered()
            if most > (taken := size(count)):
                raise InputError(
                    f"--bytes {most}: {many(count, 'sequence')} take {taken} bytes at most; give at most that, or more "
                    "--sequences"
                )
            if most < taken:
                raise InputError(
                    f"--bytes {most}: {many(count, 'sequence')} take {taken} bytes; give at least that, or fewer "
                    "--sequences"
                )
            return made(count)
        if most < (least := _stored_size(one := written_sample(setting, 1))):
            raise InputError(f"--bytes {most}: 1 sequence takes {least} bytes; give at least that")
        # Each takes a byte or more. Alone, they stand for the log's; beside a map more teach more, up to a point.
        users = len(setting.data.histories("train"))
        limit = min(most, max(10 * users, ENOUGH) if setting.form.written else users)
        room = most - least + int(one.valid.sum())
        while True:
            lengths = self._lengths(min(room, limit))
            lengths = lengths[: max(int((lengths.cumsum() <= room).sum()), 1)]
            histories = _generated(setting, options, lengths)
            order = ordered()
            fits, fails = 1, len(histories) + 1
            while fails - fits > 1:
                middle = (fits + fails) // 2
                fits, fails = (middle, fails) if size(middle) <= most else (fits, middle)
            if fits < len(histories) or fits == limit:
                return made(fits)
            room *= 2  # mostly an item takes more than a byte, but those of a few popular ones do not


def written_sample(setting: Setting, count: int) -> Condensed:
    """Return so many histories of items that nobody drew, as the form of the setting stores them."""
    lengths = lengths_like(setting.data.histories("train"), count, setting.options.length, setting.seed)
    return _wrapped(setting, [np.arange(length) for length in lengths])


def lengths_like(histories: Histories, count: int, length: int, seed: int) -> np.ndarray:
    """Draw lengths of histories with more than one item, at most ``length`` each; fewer draws begin alike.

    Args:
        histories: of the log.
        count: how many lengths.
        length: the longest.
        seed: of the draw.

    Returns:
        int64 ``[count]``, each at least 2.
    """
    usable = np.minimum(histories.lengths[histories.lengths > 1], length)
    usable = usable if len(usable) else np.array([2])
    return usable[np.random.default_rng(seed).integers(len(usable), size=count)]


@torch.no_grad()
def generated_histories(
    teacher: TextRecommender,
    lengths: np.ndarray,
    counts: Tensor,
    temperature: float,
    generator: torch.Generator,
    *,
    progress: bool = False,
) -> list[np.ndarray]:
    """Let a model write histories: a first item by popularity, each other one by what the model expects next.

    See ``write_histories``.

    Args:
        teacher: the model.
        lengths: int64 ``[n]``, items of each history; at most as many as there are items.
        counts: ``[V]``, how often items are in the log; only these V items, the first ones, are drawn.
        temperature: what scores are divided by.
        generator: of the draws, on the CPU.
        progress: show a bar on stderr, or a line a minute where that is no terminal.

    Returns:
        Item numbers of each history.
    """
    table = teacher.item_table()[: len(counts)]
    lengths = np.minimum(lengths, len(counts))

    def scores(before: np.ndarray) -> Tensor:
        return teacher.scores(teacher.last_states(list(before), table), table)

    return write_histories(
        scores,
        drawn(counts[None].double(), len(lengths), generator)[0],
        lengths,
        temperature,
        generator,
        rows_at_once=users_at_once(len(table), table.device),
        what="the teacher writes" if progress else None,
    )


def generated_pieces(setting: Setting, options: DistillOptions, part: int) -> Tensor:
    """Return histories of ``part`` items that the teacher generates, one after another, int64 ``[M, L]``.

    No item comes twice in one, so that those of few items are shorter.
    """
    part = min(part, setting.best.n_known)
    lengths = np.full(-(-options.sequences * options.length // part), part)
    items = np.concatenate(_generated(setting, options, lengths))[: options.sequences * options.length]
    return torch.from_numpy(items).view(options.sequences, options.length).to(setting.engine.device)


def _generated(setting: Setting, options: DistillOptions, lengths: np.ndarray) -> list[np.ndarray]:
    counts = torch.from_numpy(setting.data.item_counts()[: setting.best.n_known])
    generator = torch.Generator().manual_seed(setting.seed)
    writer = setting.original or setting.best
    temperature = options.generation_temperature
    return generated_histories(writer, lengths, counts, temperature, generator, progress=setting.shown)


def _stored_size(sequences: Condensed) -> int:
    """Return the most bytes that sequences take whose options have a number of bytes as long as any that is likely."""
    options = {**sequences.info["options"], "bytes": 10**9}
    return written_bytes(replace(sequences, info={**sequences.info, "options": options})) + SPARE


def _wrapped(setting: Setting, histories: list[np.ndarray]) -> Condensed:
    """Return histories as distilled sequences with the recipe of their students, and with a map if the form has one."""
    log = "the log" if setting.privacy is None else "a log that the teacher drew"
    derived = (
        f"the lengths of the sequences and how often an item begins one follow {log}; all else was drawn from the "
        "predictions of the teacher, which learned from all training histories"
    )
    if not setting.form.written:
        derived += ", and nothing of its weights is here"
    made = setting.condensed(*one_hot_steps(histories, setting.options.length), derived)
    if setting.form.written:
        made = with_item_map(made, setting.item_map, setting.form.adapter_bits)
    elif len(histories) > MANY:  # as many as a step of training sees at once are learned by heart, as real ones are
        made = replace(made, recipe=GENERATED)
    steps = min(made.recipe.total_steps, setting.options.student_steps)
    options = {**made.info["options"], "sequences": len(histories)}  # with bytes, what these pay for
    info = {**made.info, "options": options}
    return replace(made, recipe=made.recipe.model_copy(update={"steps": steps}), info=info)
