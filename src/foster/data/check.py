"""A look at a data set before work begins: counts, lengths, texts, times, and what may go wrong with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from foster.data.dataset import Dataset, Parts
from foster.data.faults import (
    UNIT_NAMES,
    YEAR,
    Fault,
    SharedWords,
    Times,
    ids_for_nothing,
    look_at_times,
    markup,
    mojibake,
    shared_words,
    words_for_nothing,
)
from foster.data.sources import INPUT_ORDER
from foster.data.texts import shortened
from foster.wording import many, percent

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
# Words and signs come near the number of tokens of English text, without a tokenizer.
TOKENISH = r"\w+|[^\w\s]"
SAMPLE_ITEMS = 10
SAMPLE_SHOWN = 120  # characters of a text in a sample, which shows all of it in JSON only
FUTURE = 0.1  # share of test targets before the last training event from which on it is a warning
_SHOWN = 60
# Shares from which on something that no catalogue is quite without is worth a warning.
_MANY_UNKNOWN, _MANY_SAME, _MANY_CUT = 0.01, 0.01, 0.1


@dataclass(frozen=True)
class Sample:
    """The end of one sequence in words.

    Attributes:
        user_id: whose it is.
        length: the length of the whole sequence.
        texts: the texts of its last items, oldest first.
    """

    user_id: str
    length: int
    texts: list[str]


@dataclass(frozen=True)
class Readability:
    """What an encoder's tokenizer makes of the item texts (see ``foster.text.readability``).

    Attributes:
        encoder: the encoder, as it was named.
        max_tokens: where it cuts texts, special tokens included.
        unknown_tokens: share of tokens that are its token for what it does not know.
        unreadable: items at least half of whose tokens are that one, signs and figures apart, or that have no token.
        unreadable_example: the first of their texts; "" without any.
        cut: items whose text is longer than ``max_tokens``.
        same_tokens: items whose tokens are those of another item with another text, so that both have one vector.
        same_tokens_example: the texts of the first two; none or two.
    """

    encoder: str
    max_tokens: int
    unknown_tokens: float
    unreadable: int
    unreadable_example: str
    cut: int
    same_tokens: int
    same_tokens_example: tuple[str, ...]


@dataclass(frozen=True)
class CheckReport:
    """What ``check`` found.

    Attributes:
        name: the name of the data set.
        users: the number of users.
        items: the number of items.
        interactions: the number of interactions.
        density: interactions by users times items.
        sequence_lengths: quantiles of the lengths of sequences; keys "0%" to "100%".
        text_lengths: quantiles of the lengths of item texts in words and signs, which is nearly tokens.
        text_coverage: for each text column the share of items that have it.
        shared_texts: items whose text another item has too.
        cold_items: items that the training part does not hold.
        cold_test_targets: test targets whose item is cold.
        split: how the data are split.
        parts: sizes of training, validation and test, by name.
        future_targets: test targets that are earlier than the last event of the training part, so that a model has seen
            later events of other users. None where the data have no times.
        future_share: their share of all test targets.
        time_ties: share of neighbours in a sequence with the same time, so that only the input orders them.
        repeats: share of interactions with an item that the user had before.
        duplicates: interactions with the user, item and time of another one.
        times: the unit of the times, and times that do not go with the others; None without a time column.
        words_for_nothing: texts and ids such as "nan" and "None".
        shared_words: words or years that most texts of a column begin or end with.
        markup: texts with HTML tags or entities.
        mojibake: texts that were read in a wrong encoding.
        reading: what an encoder reads of the texts; None if that was not looked at.
        samples: three sequences: short, middling and long.
        problems: what makes results meaningless.
        warnings: what to know or to mend.
    """

    name: str
    users: int
    items: int
    interactions: int
    density: float
    sequence_lengths: dict[str, int]
    text_lengths: dict[str, int]
    text_coverage: dict[str, float]
    shared_texts: int
    cold_items: int
    cold_test_targets: int
    split: str
    parts: dict[str, int]
    future_targets: int | None
    future_share: float | None
    time_ties: float
    repeats: float
    duplicates: int
    times: Times | None
    words_for_nothing: list[Fault]
    shared_words: list[SharedWords]
    markup: list[Fault]
    mojibake: list[Fault]
    reading: Readability | None
    samples: list[Sample]
    problems: list[str]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """Return the report as lines for people."""
        coverage = ", ".join(f"{column} {percent(share)}" for column, share in self.text_coverage.items())
        lines = [
            f"{self.name}: {many(self.users, 'user')}, {many(self.items, 'item')}, "
            f"{many(self.interactions, 'interaction')} "
            f"(density {100 * self.density:.3f} %)",
            f"lengths of sequences  {_quantile_line(self.sequence_lengths)}",
            f"words and signs       {_quantile_line(self.text_lengths)}",
            f"text columns          {coverage}",
            f"same text             {many(self.shared_texts, 'item')}",
            f"not in training       {many(self.cold_items, 'item')}; "
            f"{many(self.cold_test_targets, 'test target is', 'test targets are')} one of them",
            f"split                 {self.split}: {Parts(**self.parts).as_text()}",
            f"trained on the future {_future_line(self)}",
            f"times                 {_times_line(self.times)}",
            f"ties in time          {percent(self.time_ties)} of neighbours",
            f"repeats               {percent(self.repeats)} of interactions; {self.duplicates:,} at the same time, too",
            f"tokens                {_reading_line(self.reading)}",
        ]
        for sample in self.samples:
            lines += ["", f"user {sample.user_id}, {many(sample.length, 'item')}, the last {len(sample.texts)}:"]
            lines += [f"  {shortened(text, SAMPLE_SHOWN)}" for text in sample.texts]
        lines += ["", *(f"problem: {line}" for line in self.problems), *(f"warning: {line}" for line in self.warnings)]
        if not self.problems:
            beside = f", {many(len(self.warnings), 'warning')}" if self.warnings else ""
            lines.append(f"no problems{beside}")
        return "\n".join(lines)


def check(dataset: Dataset, reading: Readability | None = None) -> CheckReport:
    """Look a data set over; nothing is changed.

    Args:
        dataset: the data set.
        reading: what an encoder reads of its texts, for the report.
    """
    lengths = np.diff(dataset.offsets)
    texts = pl.Series(dataset.texts, dtype=pl.String)
    words = texts.str.count_matches(TOKENISH).to_numpy()
    cold = dataset.item_counts() == 0
    users = np.repeat(np.arange(dataset.n_users), lengths)
    same_user = users[1:] == users[:-1]
    pairs = int(same_user.sum())
    ties = int((same_user & (dataset.timestamps[1:] == dataset.timestamps[:-1])).sum())
    distinct = len(np.unique(users * dataset.n_items + dataset.sequence_items))
    future = _future_targets(dataset)
    columns = {field: dataset.items[field] for field in dataset.info.text_fields}
    uses = np.bincount(dataset.sequence_items, minlength=dataset.n_items)
    found = CheckReport(
        name=dataset.info.name,
        users=dataset.n_users,
        items=dataset.n_items,
        interactions=dataset.n_interactions,
        density=dataset.n_interactions / (dataset.n_users * dataset.n_items),
        sequence_lengths=_quantiles(lengths),
        text_lengths=_quantiles(words),
        text_coverage={
            field: 1 - dataset.items[field].null_count() / dataset.n_items for field in dataset.info.text_fields
        },
        shared_texts=int(texts.is_duplicated().sum()),
        cold_items=int(cold.sum()),
        cold_test_targets=int(cold[dataset.targets("test")].sum()),
        split=dataset.info.split_name,
        parts=dataset.parts().as_dict(),
        future_targets=future,
        future_share=None if future is None else future / len(dataset.partition.test),
        time_ties=ties / max(pairs, 1),
        repeats=1 - distinct / dataset.n_interactions,
        duplicates=_duplicates(dataset, users),
        times=None if dataset.info.time == INPUT_ORDER else look_at_times(dataset.timestamps),
        words_for_nothing=[
            *words_for_nothing(columns),
            *ids_for_nothing("user_id", pl.Series(dataset.user_ids, dtype=pl.String), lengths),
            *ids_for_nothing("item_id", dataset.items["item_id"], uses),
        ],
        shared_words=shared_words(columns),
        markup=markup(columns),
        mojibake=mojibake(columns),
        reading=reading,
        samples=_samples(dataset, lengths),
        problems=[],
        warnings=[],
    )
    found.problems.extend(_problems(found))
    found.warnings.extend(_warnings(found, dataset))
    return found


def _problems(found: CheckReport) -> list[str]:
    problems = []
    if found.items <= 20:
        problems.append(f"{many(found.items, 'item')}: Recall@20 is 1 for any ranking; more items are needed")
    if found.sequence_lengths["90%"] < 5:
        problems.append("nine of ten sequences are shorter than 5, which leaves little to train on; raise --k-core")
    if found.shared_texts > found.items / 2:
        problems.append(
            f"{found.shared_texts:,} of {found.items:,} items share their text with another one, so a "
            "text-based model cannot tell them apart; add columns by --text"
        )
    return problems


def _warnings(found: CheckReport, dataset: Dataset) -> list[str]:
    warnings = []
    if found.users < 100:
        warnings.append(f"{many(found.users, 'user')}: metrics will vary much between seeds")
    if dataset.info.k_core == 0:
        warnings.append("no k-core: users and items with few interactions are in")
    if dataset.info.time == INPUT_ORDER:
        warnings.append("no time column: the order of the input counts as time")
    if found.times is not None:
        warnings.extend(_time_warnings(found.times))
    if found.time_ties > 0.5:
        warnings.append(f"{percent(found.time_ties)} of neighbours share a time; their order is that of the input")
    if found.duplicates:
        warnings.append(
            f"{many(found.duplicates, 'interaction repeats', 'interactions repeat')} another one's user, item and "
            "time, and all count; if the log holds rows twice, leave the copies out"
        )
    if found.items / 20 < found.shared_texts <= found.items / 2:
        warnings.append(f"{found.shared_texts:,} of {found.items:,} items share their text with another one")
    for field, share in found.text_coverage.items():
        if share < 0.5:
            warnings.append(f"text column '{field}' is filled for {percent(share)} of the items")
    warnings.extend(_text_warnings(found))
    if found.reading is not None:
        warnings.extend(_reading_warnings(found.reading, found.items))
    elif found.text_lengths["90%"] > 64:
        warnings.append(
            f"one text in ten is longer than {found.text_lengths['90%']} words and signs, "
            "which encoders cut; choose fewer columns by --text"
        )
    if found.cold_test_targets > found.parts["test_targets"] / 10:
        warnings.append(f"{found.cold_test_targets:,} test targets are items that the training part does not hold")
    if found.future_share is not None and found.future_share > FUTURE:
        warnings.append(
            f"{found.future_targets:,} test targets ({percent(found.future_share)}) are earlier than the last event "
            "of the training part, so that models learn from what came after them; 'foster prepare --split time:0.9' "
            "makes a test that does not leak"
        )
    return warnings


def _future_targets(dataset: Dataset) -> int | None:
    """Return how many test targets are earlier than the last event of the training part."""
    if dataset.info.time == INPUT_ORDER:
        return None
    last = dataset.timestamps[dataset.in_training()].max()
    return int((dataset.timestamps[dataset.partition.test.positions] < last).sum())


def _future_line(found: CheckReport) -> str:
    if found.future_targets is None:
        return "not known without times"
    targets, share = many(found.future_targets, "test target"), percent(found.future_share or 0)
    return f"{targets} ({share}) {'has' if found.future_targets == 1 else 'have'} training events after them"


def _time_warnings(times: Times) -> list[str]:
    warnings = []
    if times.equal:
        warnings.append("all times are equal, so they order nothing; name another column by --time-column")
    for odd in times.odd:
        if odd.kind in UNIT_NAMES:
            warnings.append(
                f"{many(odd.count, 'time is', 'times are')} in {UNIT_NAMES[odd.kind]}, such as {odd.example:.0f}, and "
                f"others in {UNIT_NAMES[times.unit]}, so their order is wrong; bring them to one unit"
            )
        else:
            where = "before 1990" if odd.kind == "early" else "in the future"
            warnings.append(
                f"{many(odd.count, 'time lies', 'times lie')} {where}, such as {odd.example:.0f}, among times in "
                f"{UNIT_NAMES[times.unit]}; correct "
                "them, or leave these rows out"
            )
    return warnings


def _text_warnings(found: CheckReport) -> list[str]:
    warnings = []
    for fault in found.words_for_nothing:
        if fault.column in ("user_id", "item_id"):
            warnings.append(
                f"{fault.column} '{fault.example}' has {many(fault.count, 'interaction')}: a missing id, written as a "
                "word, makes one of many; leave these rows out"
            )
        else:
            warnings.append(
                f"text column '{fault.column}': {_items_hold(fault.count)} a word for nothing, as in "
                f"'{_short(fault.example)}', and models read it; leave the field empty in the source"
            )
    for shared in found.shared_words:
        column, share = f"text column '{shared.column}'", percent(shared.share)
        if shared.place == "all":
            warnings.append(
                f"{column} is '{_short(shared.words)}' for {share} of the items that have it, which tells none apart; "
                "choose other columns by --text"
            )
        elif shared.words == YEAR:
            warnings.append(
                f"{column}: {share} end with a year in brackets, as in '{_short(shared.example)}', which draws the "
                "vectors of one year together; take it off, or move it into a column of its own"
            )
        else:
            warnings.append(
                f"{column}: {share} {shared.place} with '{_short(shared.words)}', as in '{_short(shared.example)}', "
                "which draws their vectors together; take it off in the source"
            )
    for faults, what, fix in (
        (found.markup, "HTML tags or entities", "turn them into plain text"),
        (found.mojibake, "characters of a wrong encoding", "read the source as UTF-8"),
    ):
        warnings.extend(
            f"text column '{fault.column}': {_items_hold(fault.count)} {what}, as in '{_short(fault.example)}'; {fix}"
            for fault in faults
        )
    return warnings


def _items_hold(count: int) -> str:
    return many(count, "item holds", "items hold")


def unknown_texts(reading: Readability | None, items: int) -> str | None:
    """Return what an encoder cannot read of the texts of so many items, in one line; None if it reads enough."""
    if reading is None:
        return None
    if reading.unreadable:
        return (
            f"{reading.unreadable:,} of {items:,} texts are for the most part unknown to {reading.encoder}, such as "
            f"'{_short(reading.unreadable_example)}', and share vectors with others; choose an encoder of their "
            "language by --encoder"
        )
    if reading.unknown_tokens > _MANY_UNKNOWN:
        return (
            f"{percent(reading.unknown_tokens)} of the tokens are unknown to {reading.encoder}; choose an encoder of "
            "the texts' language by --encoder"
        )
    return None


def _reading_warnings(reading: Readability, items: int) -> list[str]:
    unknown = unknown_texts(reading, items)
    warnings = [] if unknown is None else [unknown]
    if reading.same_tokens > items * _MANY_SAME:
        one, other = reading.same_tokens_example
        warnings.append(
            f"{reading.same_tokens:,} of {items:,} items have another text than others but the same tokens, such as "
            f"{_apart(one, other)}, so {reading.encoder} gives them one vector; add columns by --text, raise "
            "--max-tokens, or choose another --encoder"
        )
    if reading.cut > items * _MANY_CUT:
        warnings.append(
            f"{reading.cut:,} of {items:,} texts are cut after {reading.max_tokens} tokens; raise --max-tokens, or "
            "choose fewer columns by --text"
        )
    return warnings


def _short(text: str) -> str:
    return shortened(text, _SHOWN)


def _apart(one: str, other: str) -> str:
    """Return two texts in quotes, from shortly before the first character in which they differ."""
    differ = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, differ - _SHOWN // 2)
    return " and ".join(f"'{'...' if start else ''}{_short(text[start:])}'" for text in (one, other))


def _times_line(times: Times | None) -> str:
    if times is None:
        return "none; the order of the input"
    if not times.unit:
        return "numbers in a unit of their own"
    return f"{times.first} to {times.last}, in {UNIT_NAMES[times.unit]}"


def _reading_line(reading: Readability | None) -> str:
    if reading is None:
        return "not looked at, as there is no tokenizer at hand; name an encoder on this machine by --encoder"
    return (
        f"{reading.encoder}: {percent(reading.unknown_tokens)} unknown; {reading.unreadable:,} texts mostly unknown, "
        f"{reading.cut:,} cut at {reading.max_tokens}, {reading.same_tokens:,} with the tokens of another text"
    )


def _duplicates(dataset: Dataset, users: np.ndarray) -> int:
    rows = pl.DataFrame({"user": users, "item": dataset.sequence_items, "time": dataset.timestamps})
    return rows.height - rows.n_unique()


def _quantiles(values: np.ndarray) -> dict[str, int]:
    found = np.quantile(values, QUANTILES, method="nearest")
    return {f"{share:.0%}": int(value) for share, value in zip(QUANTILES, found, strict=True)}


def _quantile_line(quantiles: dict[str, int]) -> str:
    return ", ".join(f"{share} {value:,}" for share, value in quantiles.items())


def _samples(dataset: Dataset, lengths: np.ndarray) -> list[Sample]:
    by_length = np.argsort(lengths, kind="stable")
    chosen = (int(by_length[int(share * (dataset.n_users - 1))]) for share in (0.1, 0.5, 0.9))
    return [
        Sample(
            dataset.user_ids[user],
            int(lengths[user]),
            [dataset.texts[item] for item in dataset.sequence(user)[-SAMPLE_ITEMS:]],
        )
        for user in dict.fromkeys(chosen)
    ]
