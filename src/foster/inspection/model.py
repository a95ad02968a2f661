"""Models and teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from foster.artefacts import CONFIG_NAME, folder_bytes, load_tensors, read_config
from foster.data.catalogue import Catalogue
from foster.errors import InputError
from foster.inspection.curves import curves
from foster.inspection.files import bytes_by_part
from foster.inspection.inspect import Look
from foster.inspection.page import ItemText, Paragraph, Section, Summary, Table
from foster.inspection.projection import Projection, map_figure
from foster.inspection.wording import clean, folder_name, number, place_name, plain, private_rows, size
from foster.manifest import read_whole
from foster.models.options import ModelOptions
from foster.models.recommender import ITEM_TABLE_NAME, NOT_STATED, WEIGHTS_NAME, StoredModel, differing, stored_shape
from foster.text.options import EncoderOptions
from foster.wording import many

COMPARED = 8  # items whose neighbours are shown
NEIGHBOURS = 3
PARTS = {
    "backbone": "sequence model",
    "tower": "map from texts to items",
    "whitening": "whitening of the vectors of texts",
}


def look_at(folder: Path, look: Look) -> ModelFolder:
    """Open a model or teacher folder.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """
    return ModelFolder(folder, look)


class ModelFolder:
    """A model or teacher folder; nothing of it is trained or asked, so that no encoder is needed.

    Args:
        folder: what ``TextRecommender.save_pretrained`` or ``pretrain`` wrote.
        look: nothing of it is used.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """

    def __init__(self, folder: Path, look: Look) -> None:
        if look.data is not None:
            raise InputError(
                f"--data: is for distilled sequences and coresets; 'foster evaluate {folder} DATA' says more"
            )
        self.folder = folder
        self.config: dict[str, Any]
        self.catalogue: Catalogue
        self.config, self.catalogue = read_whole(
            folder, lambda: (read_config(folder, ("model", "teacher")), Catalogue.read(folder))
        )
        where = str(folder / CONFIG_NAME)
        stated = StoredModel.of(self.config, where)
        self.options: ModelOptions = stored_shape(stated.model, where)
        self.encoder: EncoderOptions = EncoderOptions.stored(stated.encoder, where)

    @property
    def fit(self) -> dict[str, Any]:
        """What the training said at its end."""
        fit = self.config.get("fit")
        return fit if isinstance(fit, dict) else {}

    def summary(self) -> Summary:
        """Return what it is."""
        config, fit, kind = self.config, self.fit, str(self.config["kind"])
        training = config.get("training")
        best = fit.get("best_ndcg")
        facts: list[tuple[str, str | ItemText]] = [
            ("sequence model", f"{self.options.backbone}, width {self.options.dim}"),
            ("items", f"{len(self.catalogue):,}"),
            ("steps of training", plain(fit.get("steps"))),
            ("best validation", f"NDCG@10 {number(best)} at step {plain(fit.get('best_step'))}" if best else "none"),
            ("arithmetic", plain(fit.get("precision", "not stated"))),
            ("encoder", place_name(str(self.encoder))),
            ("model", plain(self.options.model_dump())),
            ("training", plain(training) if training else NOT_STATED),
            ("seed", plain(config.get("seed"))),
            ("bytes", size(folder_bytes(self.folder))),
            ("from real data", clean(str(config.get("from_real_data", NOT_STATED)), 1000)),
            *private_rows(config.get("privacy"), self.folder),
            ("split of the data", clean(str(config.get("data_split", "leave-one-out")))),
            ("data fingerprint", clean(str(config.get("data_fingerprint", NOT_STATED)))),
        ]
        what = "A teacher: a recommender of the full log, and its trajectory" if kind == "teacher" else "A recommender"
        return Summary(
            kind,
            folder_name(self.folder),
            f"{what}; it scores {many(len(self.catalogue), 'item')} by their texts after a history.",
            facts,
            bytes_by_part(self.folder, WEIGHTS_NAME, PARTS),
            content={"bytes": folder_bytes(self.folder), "fit": fit},
        )

    def sections(self) -> list[Section]:
        """Return the training, the map of what was learned, and neighbours of some items.

        Raises:
            InputError: the item vectors are missing or damaged.
        """
        path = self.folder / ITEM_TABLE_NAME
        wanted = {"vectors": ("F32", (len(self.catalogue), self.options.dim))}
        vectors = load_tensors(path, lambda shapes: differing(shapes, wanted))["vectors"]
        history = self.fit.get("history")
        about = (
            "What the validations found; the weights of the best one are kept. The loss is that of one batch, the last "
            "before the validation, and goes up and down with what is in it."
        )
        sections = curves(history if isinstance(history, list) else [], "Training", about)
        figure, ends = map_figure(
            Projection.of(vectors), self.catalogue.texts, "The item vectors that the model learned"
        )
        sections.append(Section("map", "Map of the catalogue", [figure, ends]))
        about = "Items, evenly spaced in the catalogue, and those whose vectors are nearest by the cosine."
        sections.append(Section("neighbours", "Similar items", [Paragraph(about), self._neighbours(vectors)]))
        return sections

    def _neighbours(self, vectors: Tensor) -> Table:
        n = len(vectors)
        unit = F.normalize(vectors.float(), dim=1)
        some = np.unique(np.linspace(0, n - 1, min(n, COMPARED)).astype(int))
        similar = unit[some] @ unit.T
        similar[range(len(some)), some] = -2
        best, which = similar.topk(min(NEIGHBOURS, n - 1))
        texts = self.catalogue.texts
        rows = [
            (ItemText(texts[item], 80), ItemText(texts[other], 80), f"{cosine:.2f}")
            for item, others, cosines in zip(some.tolist(), which.tolist(), best.tolist(), strict=True)
            for other, cosine in zip(others, cosines, strict=True)
        ]
        return Table("Nearest items", ("item", "similar item", "cosine"), rows, texts=(1,))
