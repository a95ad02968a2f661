"""A budget in bytes: the form in which sequences are stored, and how many of them it pays for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from foster.condensed.codes import WHOLE_BITS
from foster.condensed.contexts import Windows, label_windows, tiles
from foster.condensed.folder import written_bytes
from foster.condensed.packed_labeller import LABELLERS
from foster.condensed.packed_map import in_words
from foster.condensed.sequences import Condensed
from foster.distillation.options import OF_LABELS, DistillOptions
from foster.errors import InputError
from foster.models.moe import RANK
from foster.models.options import ModelOptions
from foster.wording import many

STORED_ITEMS = 16  # items kept of each step: at tau 0.03 they hold nearly all of it
MAP_SHARE = 0.5  # of a budget that the map of items may take; the rest is for what is labelled
LABELLER_SHARE = 0.95  # of a budget that the map and what makes labels may take; the rest is for what it labels
TRIALS = 5  # of how many sequences fit
ENOUGH_LABELS = 6_000  # teach as much as a labeller's, whose bytes they take (benchmarks/research.md, 68)
ENOUGH_FOR_SMALL = 2_000  # teach as much as those of the smallest labeller (100)
MOST_LABELS = 12_000  # of stored sequences: more teach no more, and a student lets the labeller write its own (97)
SPARE = 64  # bytes for what is only known in the end, such as the step after which sequences were kept


@dataclass(frozen=True)
class Form:
    """How a folder stores sequences, and what of the teacher is beside them.

    Attributes:
        adapter_bits: of each weight of the map of items; fewer than 16 are those of one that is trained for it.
        label_bits: of each number of a label.
        stored_items: of each step. With several a window draws one of them for each of its steps.
        linear: whether the map of items is a linear one, whatever the teacher's.
        written: whether there are no labels, but histories that the teacher writes, of which students learn each step
            from those before it.
        labeller: whether a sequence model in a bit a weight, which makes the labels, is stored in their place.
        rank: of experts.
        small: whether that sequence model is the smallest one, whatever the teacher's.
    """

    adapter_bits: int = WHOLE_BITS
    label_bits: int = 4
    stored_items: int = STORED_ITEMS
    linear: bool = False
    written: bool = False
    labeller: bool = False
    rank: int = RANK
    small: bool = False

    @property
    def compact(self) -> bool:
        """Whether the map of items is trained for it, and each step is one item with one label."""
        return self.adapter_bits < WHOLE_BITS

    @property
    def of_map(self) -> str:
        """The map of items, and what is beside it, in words."""
        more = f", with a {'small ' if self.small else ''}sequence model that makes labels" if self.labeller else ""
        return in_words(self.linear, self.adapter_bits, self.rank) + more

    def windows(self, options: DistillOptions) -> Windows:
        """Return the windows with labels of their own."""
        if not self.compact:
            # Next-step targets are the steps themselves: a window has no labels of its own, and the whole says it all.
            return label_windows(options.length, options.window if options.targets == "soft" else 0)
        # A step is read once: with more labels for the same steps students learn less than from as many other steps.
        return tiles(self.length(options), _window(options))

    def length(self, options: DistillOptions) -> int:
        """Return the steps of a sequence: in few bytes as many whole windows as the length holds."""
        if not self.compact or self.written:
            return options.length
        return options.length - options.length % _window(options)


def _window(options: DistillOptions) -> int:
    """Return the steps of a short window, or those of a sequence where there are none."""
    return min(options.window or options.length, options.length)


ORDINARY = Form()
COMPACT = (Form(2, 2, 1), Form(2, 2, 1, linear=True), Form(1, 2, 1, linear=True))
"""From the largest to the smallest: a teacher's experts, and linear maps. Labels have two bits in all of them, since
twice as many of one bit teach less (benchmarks/research.md, 68)."""


LOW_RANK = 8  # of experts beside the smallest sequence model that makes labels
FEW_BYTES = 200_000  # more of them hold labels enough, and histories that take long to write

FORMS = {"soft": "soft labels", "written": "written histories"}
"""What validation users choose between, by ``targets``."""


def judged_forms(log: Iterable[Any]) -> list[tuple[str, float]]:
    """Return the forms that validation users chose between, in words, and what a student of each had, the best first.

    Args:
        log: what ``distill`` returned, or the lines of a folder's ``metrics.jsonl``; lines of other things are passed
            over.
    """
    rows = [row for row in log if isinstance(row, Mapping) and row.get("targets") in FORMS]
    found = [(FORMS[row["targets"]], row.get("student_ndcg@10")) for row in rows]
    return sorted([(form, ndcg) for form, ndcg in found if isinstance(ndcg, float)], key=lambda one: -one[1])


def may_be_written(options: DistillOptions, form: Form) -> bool:
    """Whether written histories may be beside the map of a form, in the place of labels.

    Beside a linear map they teach more than labels of as many bytes on most logs, beside experts on some
    (benchmarks/research.md, 93 and 94); less than a model that makes labels (96).
    """
    if options.targets == "written":
        return True
    few = options.bytes is not None and options.bytes <= FEW_BYTES and not form.labeller
    return few and form.compact and not (options.steps or options.model_fields_set.intersection(OF_LABELS))


def as_stored(options: DistillOptions, form: Form) -> DistillOptions:
    """Return options with ``bytes`` as a folder states them: where the teacher generates the sequences, they say so.

    It writes what a labeller labels, too, unless other steps are asked for: that compresses to two thirds of what
    pieces of real histories take (benchmarks/research.md, 96). In few bytes no steps are behind the last window.

    Args:
        options: as they were given.
        form: of the folder.
    """
    generated = {"start": "generated", "steps": 0}
    if form.written:
        return options.model_copy(update={"targets": "written", **generated})
    if options.targets == "next":
        return options.model_copy(update=generated)
    update: dict[str, Any] = {"length": form.length(options)}
    if form.labeller and not options.model_fields_set.intersection(("start", "anonymity")):
        update["start"] = "generated"
    return options.model_copy(update=update)


def check_sequences(sequences: int, users: int) -> None:
    """Refuse more sequences than users, where each is of a user.

    Raises:
        InputError: there are more.
    """
    if sequences > users:
        raise InputError(f"--sequences {sequences}: the log has {users} users to train on; give at most that")


def form_within(
    options: DistillOptions, sample: Callable[[Form, int], Condensed], teacher: ModelOptions, users: int
) -> tuple[Form, int]:
    """Return the form that a budget in bytes pays for, and how many sequences.

    That is the ordinary one if it can hold what was asked for; else one with a model that makes labels, if that fits
    where few labels would; else the largest map that leaves most of the budget to labels. There are as
    many sequences as fit beside it, or those that were asked for.

    Args:
        options: with ``bytes``.
        sample: makes so many sequences in a form, as they would be stored.
        teacher: its shape.
        users: of the log; the ordinary form has no more sequences.

    Raises:
        InputError: the budget is too small, or with ``sequences`` too large: the smallest or largest that works. Or
            there are more sequences than users, where each is of a user.
    """
    assert options.bytes is not None
    asked = options.sequences if "sequences" in options.model_fields_set else None
    forms, largest = _forms(options, teacher), _compact(teacher)[0]
    sizes = cache(lambda form: _sizes(form, sample))
    limit = users if options.start == "long" else options.bytes  # a sequence takes a byte or more
    if asked is not None and options.start == "long":
        check_sequences(asked, users)
    for form in forms:
        fixed, each = sizes(form)
        held = min((options.bytes - fixed) // each, limit)
        if form.labeller:
            as_labels, of_one = sizes(largest)
            stored = (options.bytes - as_labels) // of_one * _places(form, options)
            enough_labels = ENOUGH_FOR_SMALL if form.small else ENOUGH_LABELS
            pays = held >= 1 and fixed <= LABELLER_SHARE * options.bytes and stored < enough_labels
            most = min(asked or max(MOST_LABELS // _places(form, options), 1), limit)
            count = _filled(form, sample, options, fixed, held, most) if pays else 0
            if count >= (asked or 1):
                return form, count
            continue
        if form is ORDINARY:
            enough = held >= (asked or DistillOptions().sequences)
            held = min(held, max(users, DistillOptions().sequences))
            if asked is not None and enough:
                check_sequences(asked, users)
            if asked is not None and options.bytes > (most := fixed + asked * each):
                raise InputError(
                    f"--bytes {options.bytes}: {asked} sequences take {most} bytes at most; give at most that, or more "
                    "--sequences"
                )
        else:
            smallest = form.adapter_bits == COMPACT[-1].adapter_bits
            enough = held >= (asked or 1) and (smallest or asked is not None or fixed <= MAP_SHARE * options.bytes)
        if enough:
            return form, asked or held
    (fixed, each), least = sizes(forms[-1]), asked or 1
    more = "" if asked is None else ", or fewer --sequences"
    what = "1 history" if forms[-1].written else f"{many(least, 'sequence')} of {options.length} steps"
    raise InputError(
        f"--bytes {options.bytes}: the smallest map of items and {what} take {fixed + least * each} bytes; give at "
        f"least that{more}, or targets next, which needs no map"
    )


def _places(form: Form, options: DistillOptions) -> int:
    """Return how many labels a sequence has."""
    return sum(end - start for start, end in form.windows(options))


def _filled(
    form: Form,
    sample: Callable[[Form, int], Condensed],
    options: DistillOptions,
    fixed: int,
    held: int,
    most: int,
) -> int:
    """Return how many sequences fit, ``held`` or more, since their items are compressed; at most ``most``."""
    assert options.bytes is not None
    most = min(most, 4 * held)  # an item is four bytes at most
    if options.steps:  # nobody knows yet what they will hold
        return min(held, most)
    fits, fails, tried = min(held, most), most + 1, most
    for _ in range(TRIALS):  # each makes all of them anew
        if fails - fits <= 1:
            break
        size = written_bytes(sample(form, tried)) + SPARE
        fits, fails = (tried, fails) if size <= options.bytes else (fits, tried)
        each = (size - fixed) / tried
        tried = min(max(int((options.bytes - fixed) / each), fits + 1), fails - 1)
    return fits


def _forms(options: DistillOptions, teacher: ModelOptions) -> list[Form]:
    """Return the forms that options can have, from the largest to the smallest."""
    compact = _compact(teacher)
    if options.targets == "written":
        return [replace(form, written=True) for form in compact]
    # Where the bytes hold no label, they may hold a history.
    histories = [replace(compact[-1], written=True)] if may_be_written(options, compact[-1]) else []
    labelling = []
    if teacher.backbone in LABELLERS:
        labelling = [replace(compact[0], labeller=True, adapter_bits=bits) for bits in (2, 1)]
    small = replace(compact[0], labeller=True, adapter_bits=1, small=True)
    labelling += [small] if small.linear else [small, replace(small, rank=LOW_RANK)]
    return [ORDINARY, *labelling, *compact, *histories]


def _compact(teacher: ModelOptions) -> tuple[Form, ...]:
    """Return the forms of labels beside a compact map that a teacher can have."""
    return COMPACT[teacher.adapter == "linear" :]


def _sizes(form: Form, sample: Callable[[Form, int], Condensed]) -> tuple[int, int]:
    """Return the bytes that a form takes without sequences, and those that each of them adds."""
    one, three = (written_bytes(sample(form, count)) for count in (1, 3))
    # Numbers in the header grow by a digit now and then.
    each = -(-(three - one) // 2) + 1
    return one - each + SPARE, each
