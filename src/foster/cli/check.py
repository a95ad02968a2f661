"""``foster check``: what a data set is like."""

from __future__ import annotations

from foster.cli.arguments import Data
from foster.cli.flags import verb
from foster.cli.folders import read_data
from foster.cli.output import show
from foster.cli.values import Values
from foster.text.options import EncoderOptions


@verb(
    EncoderOptions,
    examples=(
        "foster check data",
        "foster check data --encoder intfloat/e5-small-v2 --json",
    ),
)
def check(data: Data, *, values: Values, as_json: bool) -> None:
    """Show counts, text coverage, sample histories, problems of a data set, and what an encoder can read of it."""
    from foster.data.check import check as check_dataset
    from foster.text.readability import read_texts

    options = values.of(EncoderOptions)
    if options.pooling != "auto":
        values.refuse({"pooling": "says nothing about what an encoder reads; leave it out"})
    dataset = read_data(data)
    report = check_dataset(dataset, read_texts(dataset.texts, options))
    show(report.as_dict(), as_json, report.as_text())
