"""``foster recommend``: a list for one history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.cli.flags import verb
from foster.cli.output import SHOWN, say, show
from foster.cli.values import CommonOptions, Values


@verb()
def recommend(
    model: Annotated[Path, typer.Argument(help="model or teacher folder")],
    history: Annotated[list[str], typer.Option(help="item id or text; once for each item, oldest first")],
    k: Annotated[int, typer.Option("-k", "--k", help="list length")] = 10,
    encoder: Annotated[str | None, typer.Option(help="another place of the model's encoder")] = None,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Recommend items for one history."""
    from foster.data.texts import shortened
    from foster.engine import Engine
    from foster.models.recommender import TextRecommender

    device = Engine(values.of(CommonOptions).device).device
    recommender = TextRecommender.from_pretrained(model, encoder=encoder, device=device)
    catalogue = recommender.catalogue
    found = [
        {"item_id": item_id, "score": score, "text": catalogue.texts[catalogue.index[item_id]]}
        for item_id, score in recommender.recommend([history], k)[0]
    ]
    texts = [entry for entry in history if entry not in catalogue.index]
    for entry in texts:
        say(f"'{shortened(entry, SHOWN)}' is no item id of the catalogue and was read as a text")
    if len(found) < k:
        say(f"{len(found)} items instead of {k}: the history holds the rest of the catalogue's {len(catalogue)}")
    show(
        {"recommendations": found, "read_as_texts": texts}, as_json,
        "\n".join(f"{x['score']:8.3f}  {x['item_id']}  {shortened(str(x['text']), SHOWN)}" for x in found),
    )  # fmt: skip
