"""A model as two ONNX graphs and a table, to be served with onnxruntime and numpy alone (extra ``onnx``).

Made by the exporter of torch that is built on ``torch.export`` (``dynamo=True``, with onnxscript), its default since
torch 2.9. The older one, which traces, gives the same numbers in a twentieth of the time, but torch announces its end.
What was made is run by onnxruntime at other sizes than it was made at, before it is written.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foster.artefacts import CARD_NAME, CONFIG_NAME, marked, write_json
from foster.data.catalogue import MEAN_POPULARITY
from foster.errors import InputError
from foster.json_text import to_json
from foster.models.item_tower import FrozenFeatures, ItemTower, Whitening
from foster.models.moe import MoEAdapter
from foster.models.recommender import NOT_STATED, TextRecommender
from foster.text.cache import embed_texts
from foster.text.encoder import pooling_here
from foster.text.words import word_vectors

ITEMS_ONNX, SEQUENCE_ONNX = "items.onnx", "sequence.onnx"
TABLE_NAME, TEXTS_NAME = "items.npy", "items.jsonl"
CLOSE = 1e-4  # how far from torch's numbers onnxruntime's may be, in units of the largest
OPSET = 20
POOLED = {"mean": "mean token vector", "cls": "vector of the first token", "last": "vector of the last token"}
TRIED = 4  # items and histories of the example that is exported


def require_onnx() -> None:
    """Raise InputError where a package of the extra is missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"--to onnx: needs {', '.join(missing)}; pip install 'foster[onnx]'")


class ItemSide(nn.Module):
    """From what is known of items to their vectors: whitening, adapter, and vectors of the items' own.

    Args:
        tower: the item tower.
        whitening: of its features.
    """

    own: Tensor

    def __init__(self, tower: ItemTower, whitening: Whitening) -> None:
        super().__init__()
        self.adapter: nn.Linear | MoEAdapter = tower.adapter
        self.whitening: Whitening = whitening
        if tower.ids is not None:
            # Behind them a row of zeros, which is that of items that have nothing of their own.
            own = tower.ids.detach() * tower.seen[:, None]
            self.register_buffer("own", torch.cat([own, own.new_zeros(1, own.shape[1])]))

    def forward(
        self, text: Tensor, words: Tensor | None = None, popularity: Tensor | None = None, item: Tensor | None = None
    ) -> Tensor:
        """Return item vectors ``[n, d]``; see ``item_inputs``."""
        features = self.whitening(text if words is None else torch.cat([text, words], dim=1))
        if popularity is not None:
            features = torch.cat([features, popularity], dim=1)
        out: Tensor = self.adapter(features)
        if item is not None:
            last = self.own.shape[0] - 1
            out = out + self.own[torch.where((item < 0) | (item > last), last, item)]
        return out


class SequenceSide(nn.Module):
    """From the item vectors of histories to their states, scaled such that inner products are scores.

    Args:
        model: the recommender.
    """

    def __init__(self, model: TextRecommender) -> None:
        super().__init__()
        self.backbone: nn.Module = model.backbone
        self.scale: float = math.sqrt(model.options.dim)

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return the states ``[batch, d]`` of histories.

        Args:
            vectors: ``[batch, length, d]`` item vectors, oldest first, anything behind the end of a shorter history.
            lengths: int64 ``[batch]``.
        """
        states = self.backbone(vectors)
        last = (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])
        return states.gather(1, last)[:, 0] / self.scale


@torch.no_grad()
def item_inputs(model: TextRecommender, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what ``items.onnx`` takes for items outside the catalogue.

    Args:
        model: whose language model is frozen.
        texts: n texts.

    Returns:
        By name: ``text`` ``[n, width]``, the pooled vectors of the language model, not normalised; where the encoder's
        options have ``words``, ``words`` ``[n, words]`` of ``foster.text.words.word_vectors``; where popularity counts,
        ``popularity`` ``[n, 1]``, that of an average item; where items have vectors of their own, ``item`` ``[n]``, -1.

    Raises:
        InputError: the encoder is not to be found, or the language model is tuned.
    """
    _check_frozen(model)
    out = {"text": embed_texts(texts, model.encoder, progress=False).numpy()}
    if model.encoder.words:
        out["words"] = word_vectors(texts, model.encoder.words).numpy()
    if model.catalogue.popularity is not None:
        out["popularity"] = np.full((len(texts), 1), MEAN_POPULARITY, dtype=np.float32)
    if model.tower.ids is not None:
        out["item"] = np.full(len(texts), -1, dtype=np.int64)
    return out


def _check_frozen(model: TextRecommender) -> None:
    if not isinstance(model.tower.features, FrozenFeatures):
        raise InputError(
            f"--to onnx: the model's language model was tuned ({model.options.finetune}), so that vectors of new items "
            "come from it alone; add them with add_items, and export again"
        )


def write_onnx(model: TextRecommender, folder: Path, name: str = "model") -> dict[str, Any]:
    """Write graphs, item table, item texts and a card into an existing folder.

    Args:
        model: the recommender. If its language model is tuned, ``items.onnx`` is left out: no vectors of a public
            encoder give its item vectors.
        folder: where.
        name: of the model, for the card.

    Returns:
        What was made: ``deviation``, the largest one of onnxruntime's numbers from torch's, in units of the largest
        number; ``files``.

    Raises:
        InputError: a package is missing, or onnxruntime's numbers are other ones.
    """
    require_onnx()
    model.eval()
    table = model.item_table().cpu()
    with _on_cpu(model):
        deviations = {SEQUENCE_ONNX: _sequence(model, folder / SEQUENCE_ONNX)}
        if isinstance(model.tower.features, FrozenFeatures):
            deviations[ITEMS_ONNX] = _items(model, folder / ITEMS_ONNX)
    np.save(folder / TABLE_NAME, np.ascontiguousarray(table.numpy()), allow_pickle=False)
    with (folder / TEXTS_NAME).open("w", encoding="utf-8") as file:
        for item_id, text in zip(model.catalogue.ids, model.catalogue.texts, strict=True):
            file.write(to_json({"item_id": item_id, "text": text}) + "\n")
    files = [*sorted(deviations), TABLE_NAME, TEXTS_NAME]
    content = {
        **marked("onnx"),
        "model": model.options.model_dump(),
        "encoder": model.encoder.model_dump(),
        "items": model.n_items,
        "max_length": model.options.max_length,
        **model.origin,
    }
    write_json(folder / CONFIG_NAME, content)
    (folder / CARD_NAME).write_text(_card(model, name, ITEMS_ONNX in deviations), encoding="utf-8")
    return {"deviation": max(deviations.values()), "files": files}


def _sequence(model: TextRecommender, path: Path) -> float:
    """Export the sequence side and return how far it is from torch's."""
    side, width = SequenceSide(model).eval(), model.options.dim
    longest = model.options.max_length

    def example(batch: int, length: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, length + 1, (batch,), generator=generator)
        lengths[0] = length
        return {"vectors": torch.randn(batch, length, width, generator=generator), "lengths": lengths}

    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=longest)
    given = example(TRIED - 1, min(5, longest), 0)
    shapes = {"vectors": {0: batch, 1: length}, "lengths": {0: batch}}
    _export(side, given, "states", shapes, path)
    sizes = ((1, 1), (1, longest), (7, max(1, longest // 2)))
    tried = [example(*size, seed=row + 1) for row, size in enumerate(sizes)]
    with torch.no_grad():
        return _deviation(path, [(one, side(**one)) for one in tried])


def _items(model: TextRecommender, path: Path) -> float:
    """Export the item side and return how far it is from torch's."""
    side, width = ItemSide(model.tower, model.whitening).eval(), len(model.whitening.mean) - model.encoder.words

    def example(n: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        scale = model.whitening.mean.abs().mean().item() + 1e-3
        out = {"text": torch.randn(n, width, generator=generator) * scale}
        if model.encoder.words:
            out["words"] = torch.randn(n, model.encoder.words, generator=generator) / math.sqrt(model.encoder.words)
        if model.catalogue.popularity is not None:
            out["popularity"] = torch.randn(n, 1, generator=generator)
        if model.tower.ids is not None:
            out["item"] = torch.randint(-1, model.n_items, (n,), generator=generator)
        return out

    given, batch = example(TRIED - 1, 0), torch.export.Dim("items")
    _export(side, given, "vectors", {name: {0: batch} for name in given}, path)
    tried = [example(n, seed) for seed, n in enumerate((1, 9), start=1)]
    with torch.no_grad():
        return _deviation(path, [(one, side(**one)) for one in tried])


def _export(side: nn.Module, given: dict[str, Tensor], out: str, shapes: dict[str, Any], path: Path) -> None:
    """Write a graph without what tells of this machine: the exporter notes where in the source each node came from."""
    import onnx

    with _quiet():
        program = torch.onnx.export(
            side,
            kwargs=given,
            input_names=list(given),
            output_names=[out],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for part in (proto, proto.graph, *proto.functions, *proto.graph.node, *proto.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    for part in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del part.metadata_props[:]
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _deviation(path: Path, tried: list[tuple[dict[str, Tensor], Tensor]]) -> float:
    """Return how far onnxruntime's numbers are from torch's, in units of the largest.

    Raises:
        InputError: too far.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for given, wanted in tried:
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        worst = max(worst, float(np.abs(found - wanted.numpy()).max() / max(wanted.abs().max().item(), 1e-12)))
    if not worst <= CLOSE:
        raise InputError(f"{path.name}: onnxruntime gives other numbers than torch (by {worst:.1e}); nothing was saved")
    return worst


@contextmanager
def _on_cpu(model: TextRecommender) -> Iterator[None]:
    """Have the parts that are exported on the CPU in the block."""
    device = model.device
    parts = (model.backbone, model.tower, model.whitening)
    try:
        for part in parts:
            part.to("cpu")
        yield
    finally:
        for part in parts:
            part.to(device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling of packages that it could have used, and what torch will change some day."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _card(model: TextRecommender, name: str, with_items: bool) -> str:
    encoder, options = model.encoder, model.options
    pooled = POOLED.get(pooling_here(encoder) or "", "token vectors pooled as the folder says")
    words = f", and `words` ({encoder.words} numbers of its words)" if encoder.words else ""
    more = "; `popularity` (0 for a new item)" if model.catalogue.popularity is not None else ""
    more += "; `item` (its number, -1 for a new item)" if model.tower.ids is not None else ""
    items = (
        f"- `{ITEMS_ONNX}`: from a text to an item vector. Takes `text` (the {pooled} of {encoder.encoder}, frozen, "
        f"not normalised){words}{more}; `foster.serving.onnx_export.item_inputs` makes them\n"
        if with_items
        else f"- no `{ITEMS_ONNX}`: the language model was tuned ({options.finetune}), add items with foster\n"
    )
    return (
        f"# {name} in ONNX\n\n"
        f"A text-based sequential recommender ({options.backbone}, width {options.dim}) for onnxruntime and numpy.\n\n"
        f"- `{TABLE_NAME}`: float32 [{model.n_items}, {options.dim}], item vectors\n"
        f"- `{TEXTS_NAME}`: ids and texts of the items, in the order of the table\n"
        f"- `{SEQUENCE_ONNX}`: `vectors` [batch, length, {options.dim}] of histories, oldest first, at most "
        f"{options.max_length} long, and `lengths` [batch], to `states` [batch, {options.dim}]; scores are "
        "`states @ items.T`\n"
        f"{items}"
        f"- data fingerprint: {model.origin.get('data_fingerprint', NOT_STATED)}\n"
        f"- what came from real data: {model.origin.get('from_real_data', NOT_STATED)}\n"
    )
