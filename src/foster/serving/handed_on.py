"""Condensed sequences as items and texts, for programs that are not foster: JSON lines, or a Hugging Face data set.

Soft labels stay behind: they are scores of a teacher's map, which other programs do not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from foster.artefacts import CARD_NAME, CONFIG_NAME, marked, write_json
from foster.condensed.sequences import Condensed
from foster.json_text import to_json
from foster.models.recommender import NOT_STATED
from foster.wording import many

SEQUENCES, PROMPTS = "sequences", "prompts"
HEAD = "A user took these items, oldest first:"
ASKED = "The next item is:"
_PROMPT: dict[str, Any] = {"sequence": pl.Int64, "step": pl.Int64, "prompt": pl.String, "completion": pl.String}
_SEQUENCE: dict[str, Any] = {
    "sequence": pl.Int64,
    "item_ids": pl.List(pl.String),
    "texts": pl.List(pl.String),
    "probabilities": pl.List(pl.Float32),
}


def hard_sequences(condensed: Condensed) -> Iterator[dict[str, Any]]:
    """Yield each sequence with the most probable item of each step.

    Each has ``sequence`` (its number, from 0), ``item_ids``, ``texts``, and ``probabilities``, those of these items in
    their steps: 1 where a step is one item.
    """
    catalogue = condensed.catalogue
    items, best = condensed.likeliest(), condensed.weights.amax(-1)
    for number, valid in enumerate(condensed.valid):
        row = items[number][valid].tolist()
        yield {
            "sequence": number,
            "item_ids": [catalogue.ids[item] for item in row],
            "texts": [catalogue.texts[item] for item in row],
            "probabilities": best[number][valid].tolist(),
        }


def prompts(condensed: Condensed) -> Iterator[dict[str, Any]]:
    """Yield a prompt for each step of the hard sequences but the first: the texts before it, and its own to complete.

    Each has ``sequence``, ``step`` (from 1), ``prompt`` and ``completion``.
    """
    for row in hard_sequences(condensed):
        texts = [" ".join(text.split()) for text in row["texts"]]
        for step in range(1, len(texts)):
            lines = [HEAD, *(f"{place}. {text}" for place, text in enumerate(texts[:step], start=1)), ASKED]
            yield {
                "sequence": row["sequence"],
                "step": step,
                "prompt": "\n".join(lines),
                "completion": f" {texts[step]}",
            }


def write_jsonl(condensed: Condensed, folder: Path) -> dict[str, int]:
    """Write ``sequences.jsonl``, ``prompts.jsonl``, ``config.json`` and a card into an existing folder.

    Returns:
        The number of lines of each.
    """
    counts = {}
    for name, rows in ((SEQUENCES, hard_sequences(condensed)), (PROMPTS, prompts(condensed))):
        counts[name] = 0
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(to_json(row) + "\n")
                counts[name] += 1
    _write_about(condensed, folder, "")
    return counts


def write_hf(condensed: Condensed, folder: Path) -> dict[str, int]:
    """Write what ``datasets.load_dataset(folder)`` reads: Parquet files in ``data`` and a card that names them.

    Its configurations are ``sequences`` (the default) and ``prompts``.

    Returns:
        The number of rows of each.
    """
    (folder / "data").mkdir()
    counts = {}
    for name, rows, schema in (
        (SEQUENCES, hard_sequences(condensed), _SEQUENCE),
        (PROMPTS, prompts(condensed), _PROMPT),
    ):
        frame = pl.DataFrame(list(rows), schema)
        frame.write_parquet(folder / "data" / f"{name}.parquet")
        counts[name] = frame.height
    header = "---\nlicense: other\ntags:\n- recommender-systems\n- dataset-distillation\nconfigs:\n"
    for name in counts:
        header += f"- config_name: {name}\n  data_files:\n  - split: train\n    path: data/{name}.parquet\n"
        header += "  default: true\n" if name == SEQUENCES else ""
    header += "---\n\n"
    _write_about(condensed, folder, header)
    return counts


def _write_about(condensed: Condensed, folder: Path, header: str) -> None:
    """Write ``config.json``, by which foster knows the folder as its own, and the card."""
    content: dict[str, Any] = {**marked("handed-on"), "made_by": condensed.method, "sequences": len(condensed)}
    content |= {name: condensed.info[name] for name in ("data_fingerprint", "from_real_data") if name in condensed.info}
    write_json(folder / CONFIG_NAME, content)
    soft = "" if condensed.items.shape[2] == 1 else "; a step is a mixture of items, of which the most probable is here"
    more = "" if condensed.adapter is None else "the soft labels" if condensed.labelled else "the map of items"
    missing = f"- not here: {more}, which the folder of foster has\n" if more else ""
    text = (
        f"# {many(len(condensed), f'{condensed.kind} sequence')} ({condensed.method})\n\n"
        f"- `{SEQUENCES}`: item ids and texts of each sequence, oldest first{soft}\n"
        f"- `{PROMPTS}`: one prompt for each step but the first, with its completion\n"
        f"{missing}"
        f"- data fingerprint: {condensed.info.get('data_fingerprint', NOT_STATED)}\n"
        f"- what came from real data: {condensed.info.get('from_real_data', NOT_STATED)}\n"
        f"- licence: {condensed.info.get('licence', NOT_STATED)}\n"
    )
    (folder / CARD_NAME).write_text(header + text, encoding="utf-8")
