"""``foster similar``: the items most like another. A verb of its own, since it takes an item and no history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.cli.flags import verb
from foster.cli.recommend import Candidates, Encoder, Exclude, K, choice, read_as_texts, show_items
from foster.cli.values import CommonOptions, Values


@verb(
    examples=(
        "foster similar model i17",
        "foster similar model 'ground coffee, dark roast' -k 5",
    ),
)
def similar(
    model: Annotated[Path, typer.Argument(help="model or teacher folder, or its name on the Hugging Face hub")],
    item: Annotated[str, typer.Argument(help="item id, or the text of an item that the catalogue lacks")],
    k: K = 10,
    exclude: Exclude = None,
    candidates: Candidates = None,
    encoder: Encoder = None,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Find the items most like another, by the cosine of item vectors."""
    from foster.engine import Engine
    from foster.models.recommender import TextRecommender

    device = Engine(values.of(CommonOptions).device).device
    recommender = TextRecommender.from_pretrained(model, encoder_path=encoder, device=device)
    (found,) = recommender.similar([item], k, **choice(recommender, exclude, candidates))
    by_text = bool(read_as_texts(recommender, [item]))
    show_items(recommender, "similar", "cosine", found, {"read_as_text": by_text}, as_json)
