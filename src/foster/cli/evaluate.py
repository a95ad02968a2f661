"""``foster evaluate``: rank held-out items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.cli.arguments import Data
from foster.cli.flags import verb
from foster.cli.folders import read_data
from foster.cli.output import say, show, warn
from foster.cli.processes import running
from foster.cli.values import CommonOptions, Values
from foster.errors import InputError
from foster.wording import many


@verb(
    examples=(
        "foster evaluate model data",
        "foster evaluate teacher data --split validation --ranks ranks.parquet",
    ),
    divided=True,
)
def evaluate(
    model: Annotated[Path, typer.Argument(help="model or teacher folder, or its name on the Hugging Face hub")],
    data: Data,
    split: Annotated[str, typer.Option(help="validation or test")] = "test",
    keep_history: Annotated[bool, typer.Option("--keep-history", help="rank the items of the history too")] = False,
    lists: Annotated[
        bool, typer.Option("--lists", help="coverage, novelty, diversity and popularity of the lists, too")
    ] = False,
    ranks: Annotated[Path | None, typer.Option(help="Parquet file for the rank of every target")] = None,
    encoder: Annotated[str | None, typer.Option(help="another place of the model's encoder")] = None,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Rank every held-out item among the whole catalogue: Recall, NDCG, MRR at 5, 10, 20, 50."""
    from foster.condensed.collapse import one_ranking
    from foster.evaluation.evaluate import check_ranks_file
    from foster.evaluation.evaluate import evaluate as run
    from foster.models.recommender import TextRecommender

    if split not in ("validation", "test"):
        raise InputError(f"--split {split}: give validation or test")
    if ranks is not None:
        check_ranks_file(ranks)
    with running(values.of(CommonOptions).device) as engine:
        recommender = TextRecommender.from_pretrained(model, encoder_path=encoder, device=engine.device)
        log = read_data(data)
        result = run(recommender, log, split, mask_history=not keep_history, lists=lists, engine=engine)  # type: ignore[arg-type]
        if not engine.is_main:
            return
        if ranks is not None:
            result.save_ranks(ranks)
        if result.trained_on_this_data is False:
            say(f"{model}: was trained on other data than {data}, by their fingerprints")
        warn(model, one_ranking(recommender, log))
        masked = "history masked" if result.history_masked else "history ranked too"
        numbers = result.metrics | (result.lists or {})
        width = max(12, *(len(name) + 2 for name in numbers))
        rows = [f"{name:<{width}}{value:.4f}" for name, value in numbers.items()]
        counts = f"{many(len(result.ranks), 'target')} of {many(result.n_users, 'user')}"
        show(
            result.as_dict(), as_json,
            "\n".join([f"{split} ({result.data_split}), {counts}, {many(result.n_items, 'item')}, {masked}", *rows]),
        )  # fmt: skip
