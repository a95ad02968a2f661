"""The audit of condensed sequences: what is in them word for word, who can be told to be in the log, and from what."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foster.artefacts import CARD_NAME, CONFIG_NAME, config_field, marked, new_folder, read_config, write_json
from foster.audit.membership import RATES, attack_results, likelihood_ratios, random_halves
from foster.audit.options import AuditOptions
from foster.audit.pieces import LONGEST, NEAR, WINDOW, describe, references, visible_sequences
from foster.audit.shadows import BESIDE, FEWEST, RUNS, Recipe, askable, of_users, shadow_of, surfaces
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.errors import InputError
from foster.evaluation.evaluate import is_of
from foster.models.options import ModelOptions
from foster.models.recommender import NOT_STATED, stored_shape
from foster.training.options import TrainOptions
from foster.wording import many, percent

RESULTS_NAME = "results.json"
SHOWN = (2, 3, 4, 6, 8, 10, 16)  # lengths of runs in the table


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        about: what was looked at, and how.
        tables: what a folder holds and from what each part derives.
        pieces: ``describe`` of the sequences, and of sequences that were copied from nobody.
        held_out: with shadows, the share of members and of others whose history shares a run of n items with the
            sequences: ``[{"n", "members", "others"}]``.
        membership: with shadows, ``attack_results`` by surface.
    """

    about: dict[str, Any]
    tables: dict[str, str]
    pieces: dict[str, dict[str, Any]]
    held_out: list[dict[str, float]] | None
    membership: dict[str, dict[str, Any]] | None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {"paragraph": self.paragraph(), **vars(self)}

    def paragraph(self) -> str:
        """Say in the words of a card that the sequences are not anonymous, and how much so."""
        found, walks = self.pieces["sequences"], self.pieces["transitions"]
        four, base = (next(row for row in part["runs"] if row["n"] == 4) for part in (found, walks))
        last = found["runs"][-1]
        text = [
            f"These {self.about['sequences']} sequences are not anonymous. Their longest run that stands in a user's "
            f"history has {found['longest_run']} items{' or more' if found['longest_run'] == LONGEST else ''}. "
            f"Of their runs of 4 items {percent(four['found'])} stand in a history and {percent(four['one_user'])} in "
            f"that of one user only; of walks along the log's transitions, copied from nobody, "
            f"{percent(base['found'])} and {percent(base['one_user'])}. {last['users_alone']:,.0f} of "
            f"{many(found['users'], 'user')} have a run of 2 to {LONGEST} items in them that no other user has."
        ]
        if self.membership is None:
            text.append("Who can be told to be in the log was not tried (--shadows 0).")
        else:
            own, coreset = self._found()
            text.append(
                f"With {self.about['shadows']} shadows of half of the users, a likelihood-ratio attack tells members "
                f"from others with an area under the curve, and a share of members found at 0.1 % false positives, of: "
                f"{own}. {coreset}Stronger attacks, and teachers trained for longer, find more."
            )
        return " ".join(text)

    def _found(self) -> tuple[str, str]:
        """Return what was found by surface: of the folder, and a sentence on the coreset beside it, if there is one."""
        own: list[str] = []
        coreset: list[str] = []
        for name, row in (self.membership or {}).items():
            part = own if name == (plain := name.removeprefix(BESIDE)) else coreset
            part.append(f"{plain} {row['auc']:.2f} and {percent(row['tpr@0.001'])}")
        beside = f"As many random histories, for comparison, have: {'; '.join(coreset)}. " if coreset else ""
        return "; ".join(own), beside

    def markdown(self) -> str:
        """Return tables and the paragraph."""
        about = self.about
        lines = [
            f"# What {many(about['sequences'], 'sequence')} ({about['method']}) reveal of "
            f"{many(about['users'], 'user')}\n",
            self.paragraph(),
            "\n## Pieces of histories\n",
            "Runs of n consecutive items of the sequences (the most probable item of each step), and how many users' "
            "training histories they stand in. Popularity and transitions: as many steps drawn from the log item by "
            "item, or each item as it follows the one before; means of several draws.\n",
            "| n | in a history | in one user's only | 2 to 4 | 5 or more "
            "| popularity: in a history | one user's | transitions: in a history | one user's |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        columns = zip(*(self.pieces[name]["runs"] for name in ("sequences", "popularity", "transitions")), strict=True)
        for row, popular, walk in columns:
            if row["n"] in SHOWN:
                shares = [row[name] for name in ("found", "one_user", "2_to_4_users", "5_or_more")]
                others = [part[name] for part in (popular, walk) for name in ("found", "one_user")]
                lines.append(f"| {row['n']} | {' | '.join(map(percent, [*shares, *others]))} |")
        lines.append(
            f"\nOf windows of {WINDOW} steps, order aside, some user has {100 * NEAR:.0f} % of the items: "
            + "; ".join(
                f"{name} {percent(part['near'])} (one user only {percent(part['near_one'])})"
                for name, part in self.pieces.items()
            )
            + "."
        )
        if self.held_out is not None:
            lines += [
                "\nShares of users whose history has a run of n items of the sequences, in the shadows: of members, "
                "and of users who had no part in them.\n",
                "| n | members | held-out users |",
                "|---|---|---|",
            ]
            for line in self.held_out:
                if line["n"] in SHOWN:
                    lines.append(f"| {line['n']:.0f} | {percent(line['members'])} | {percent(line['others'])} |")
        if self.membership is not None:
            lines += [
                "\n## Who is in the log\n",
                f"{about['shadows']} shadows: teachers of {about['shadow_steps']} steps at most, each of a random half "
                f"of the users, sequences, coresets and students made from them; each shadow is attacked with all "
                f"others (LiRA). 0.5 is a guess. Intervals of 95 %. In a shadow each member's piece is about twice as "
                "likely to be in the sequences as in the folder itself, which has twice the users.\n",
                "| what is attacked | area under the curve | true positives at 0.1 % | at 1 % false positives |",
                "|---|---|---|---|",
            ]
            for name, row in self.membership.items():
                low, high = row["auc_interval"]
                cells = [f"{row['auc']:.3f} ({low:.3f} to {high:.3f})"]
                for rate in RATES:
                    low, high = row[f"tpr@{rate:g}_interval"]
                    cells.append(f"{percent(row[f'tpr@{rate:g}'])} ({percent(low)} to {percent(high)})")
                lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["\n## What derives from what\n", "| part | from |", "|---|---|"]
        lines += [f"| {name} | {what} |" for name, what in self.tables.items()]
        return "\n".join(lines) + "\n"

    def save(self, out: str | Path, overwrite: bool = False) -> Path:
        """Make the folder ``out``; see ``write_to``.

        Raises:
            InputError: ``out`` exists or cannot be written to.
        """
        with new_folder(out, overwrite) as folder:
            self.write_to(folder)
        return Path(out)

    def write_to(self, folder: Path) -> None:
        """Write ``config.json``, ``results.json`` and a card into an existing folder."""
        write_json(folder / CONFIG_NAME, {**marked("audit"), "info": self.about})
        write_json(folder / RESULTS_NAME, self.as_dict())
        (folder / CARD_NAME).write_text(self.markdown(), encoding="utf-8")


def audit(
    sequences: Condensed,
    data: Dataset,
    *,
    teacher_path: str | Path | None = None,
    options: AuditOptions | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Audit:
    """Measure what sequences reveal of the users of the log that they were made from.

    Args:
        sequences: distilled, or a coreset.
        data: the log.
        teacher_path: the folder of their teacher, whose recipe shadow teachers follow; by default that of ``pretrain``.
        options: number and size of the shadows.
        seed: of everything that is drawn.
        engine: device.
        say: told what is being done.

    Raises:
        InputError: other data or items, too few shadows or users, or sequences that shadows cannot be made like.
    """
    options, engine = options or AuditOptions(), engine or Engine()
    if sequences.catalogue.ids != data.item_ids:
        raise InputError(f"audit: the sequences have other items than {data.info.name}; give the log of their making")
    if is_of(sequences.info.get("data_fingerprint"), data) is False:
        raise InputError(f"audit: the sequences were made from other data than {data.info.name}, by their fingerprints")
    if 0 < options.shadows < FEWEST:
        raise InputError(f"--shadows {options.shadows}: give {FEWEST} or more, or 0 to look at pieces alone")
    recipe = Recipe.of(sequences, options, _teachers(teacher_path), data, seed, engine) if options.shadows else None
    users = askable(data)
    visible, histories = visible_sequences(sequences), data.histories("train", users)
    about = {
        "data_fingerprint": data.info.fingerprint,
        "method": sequences.method,
        "sequences": len(sequences),
        "users": len(users),
        "seed": seed,
        **options.model_dump(),
    }
    pieces = {"sequences": describe(visible, histories), **references(visible, histories, seed)}
    held_out, membership = None, None
    if recipe is not None:
        counted = recipe.options is None or "sequences" in recipe.options.model_fields_set
        if counted and len(users) < 2 * len(sequences):
            raise InputError(f"audit: {len(users)} users are too few for shadows of half of them; give --shadows 0")
        held_out, membership = _attacks(data, recipe, options.shadows, say or (lambda _: None))
    return Audit(about, derived(sequences), pieces, held_out, membership)


def _attacks(
    data: Dataset, recipe: Recipe, shadows: int, say: Callable[[str], None]
) -> tuple[list[dict[str, float]], dict[str, dict[str, Any]]]:
    members = random_halves(len(askable(data)), shadows, recipe.seed)
    of_users(data, np.zeros(0, dtype=np.int64))  # refuses what cannot be halved before any training
    scores: dict[str, list[np.ndarray]] = {}
    for number, row in enumerate(members):
        start = time.perf_counter()
        with shadow_of(data, row, recipe, number) as shadow:
            for name, values in surfaces(shadow).items():
                scores.setdefault(name, []).append(values)
        say(f"shadow {number + 1} of {shadows}: {time.perf_counter() - start:.0f} s")
    return attacked({name: np.array(values) for name, values in scores.items()}, members, recipe.seed)


def attacked(
    scores: dict[str, np.ndarray], members: np.ndarray, seed: int
) -> tuple[list[dict[str, float]], dict[str, dict[str, Any]]]:
    """Return ``Audit.held_out`` and ``Audit.membership`` of scores ``[K, U]`` by surface."""
    runs = scores.pop(RUNS)
    held_out = [
        {"n": n, "members": float((runs >= n)[members].mean()), "others": float((runs >= n)[~members].mean())}
        for n in range(2, LONGEST + 1)
    ]
    found = {name: attack_results(likelihood_ratios(values, members), members, seed) for name, values in scores.items()}
    return held_out, found


def derived(sequences: Condensed) -> dict[str, str]:
    """Return from what each part of a folder derives, as its card says, part by part."""
    parts = {"all of it": str(sequences.info.get("from_real_data", NOT_STATED))}
    parts["items, weights"] = "histories of users" if sequences.kind == "coreset" else "see above"
    if sequences.codes is not None:
        parts["codes"] = "the teacher's states after the sequences: its weights, which all training users shaped"
        if sequences.draws is not None:
            private = sequences.info.get("privacy") is not None
            log = "the log that the teacher generated" if private else "the training part"
            parts["draws"] = f"how often items are in {log}"
    if sequences.labeller is not None:
        parts["labeller"] = "the teacher's sequence model: weights, which all training users shaped"
    if sequences.adapter is not None:
        parts["adapter"] = "the teacher's map of items: weights, which all training users shaped"
        if sequences.updates is not None:
            parts["updates"] = "the teacher's language model: weights, which all training users shaped"
    texts = "ids and texts of the item table; no user's"
    if sequences.catalogue.popularity is not None:
        texts += "; and how often items are in the training part"
    return parts | {"catalogue": texts}


def _teachers(teacher_path: str | Path | None) -> tuple[ModelOptions, TrainOptions] | None:
    """Return the shape of a teacher, and how it was trained."""
    if teacher_path is None:
        return None
    config, where = read_config(teacher_path, "teacher"), str(Path(teacher_path) / CONFIG_NAME)
    recipe = TrainOptions.stored(config_field(config, "training", where), where)
    return stored_shape(config_field(config, "model", where), where), recipe
