"""Soft labels: the teacher's predictions after each step, as codes over its item vectors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foster.condensed.codes import WHOLE_BITS, rounded_for_scores
from foster.condensed.contexts import Windows, mixtures, window_items
from foster.condensed.packed_labeller import OF_KIND, OFFSET, SCALE, labeller_of
from foster.condensed.score_matching import covariance
from foster.condensed.sequences import Condensed
from foster.errors import InputError
from foster.models.item_tower import (
    IDS,
    FrozenFeatures,
    ItemMap,
    TunedFeatures,
    item_map_features,
    item_map_width,
    mapped,
)
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.encoder import same_encoder
from foster.text.options import EncoderOptions
from foster.text.tuning import updates_rank
from foster.training.options import (
    GENERATED,
    HARD_LABELS,
    MANY,
    STUDENT,
    TUNED_RATE,
    WARM,
    WRITTEN,
    WRITTEN_DROPOUT,
    WRITTEN_FIXED,
    WRITTEN_PASSES,
    WRITTEN_WARM,
    TrainOptions,
    affordable,
)

SAMPLED_RATE = 5e-3  # most of the learning rate of students whose loss needs a sample of the items
TUNED_STEPS = 25  # most steps of students that tune their language model last, see ``tunes_last``


@torch.no_grad()
def with_soft_labels(
    sequences: Condensed,
    teacher: TextRecommender,
    windows: Windows,
    generator: torch.Generator | None = None,
    counts: Tensor | None = None,
    *,
    bits: int = 4,
    adapter_bits: int = WHOLE_BITS,
) -> Condensed:
    """Label every step with the teacher's predictions, and set the recipe of students that learn from such labels.

    The teacher's adapter is stored, from which item vectors follow; where the encoder was tuned by low-rank updates,
    these, too. Where whole layers were tuned, a model of public texts has to take the teacher's place (see
    ``public_teacher``). Students learn by ``ScoreMatching``.

    Args:
        sequences: without labels.
        teacher: the model whose predictions are labels.
        windows: first step and end of each window that gets labels of its own, see ``label_windows``.
        generator: of the draw of one item for each step of each window among its k stored ones; None for the mixtures
            of the steps.
        counts: ``[V]``, how often items are in the log; draws follow them, plus one. None for uniform draws.
        bits: of each number of a label: 1, 2 or 4.
        adapter_bits: of each weight of the adapter: 1 or 2, for one that was rounded so, or 16.

    Raises:
        ValueError: a teacher of which whole layers were tuned.
    """
    items, weights = sequences.items.to(teacher.device), sequences.weights.to(teacher.device)
    table, draws = teacher.item_table(), None
    adapter, updates = teacher.tower.item_map(), teacher.tower.updates
    if adapter is None:
        raise ValueError("no map of public texts gives this teacher's items; label with its public_teacher")
    if generator is None:
        mixed = mixtures(table[items], weights)
        contexts = [mixed[:, start:end] for start, end in windows]
    else:
        # Of similar items, those that users take more often make contexts that are more like theirs.
        chances = torch.ones(sequences.items.shape) if counts is None else counts.float()[sequences.items] + 1
        steps = torch.cat([torch.arange(start, end) for start, end in windows])
        flat = torch.multinomial(chances[:, steps].flatten(0, 1), 1, generator=generator)
        draws = flat.view(len(items), len(steps))
        contexts = [table[drawn] for drawn in window_items(items, draws.to(items.device), windows)]
    unit = torch.eye(teacher.options.dim, device=table.device)
    codes = torch.cat([teacher.scores(teacher.backbone(context), unit) for context in contexts], dim=1)
    if bits < 4:
        known = table[: teacher.n_known]
        codes = rounded_for_scores(codes.flatten(0, 1), bits, covariance(known, known)).view_as(codes)
    if adapter_bits < WHOLE_BITS:
        adapter, scale = _of_usual_length(adapter, table)
        codes = codes / scale
        what = "states and map of items of a model that does what the teacher does (codes, adapter)"
    else:
        own = "" if IDS not in adapter else " and what items have of their own"
        tuned, also = (", low-rank updates of its language model", ", updates") if updates else ("", "")
        what = f"the teacher's states{tuned} and adapter{own} (codes, adapter{also})"
    log = "the log" if teacher.privacy is None else "the generated log"
    drawn = "" if counts is None else f"; their contexts hold items as often as {log} does (draws)"
    return _labelled(
        sequences,
        what,
        drawn,
        codes=codes.cpu(),
        adapter={name: weights.cpu() for name, weights in adapter.items()},
        updates=None if updates is None else {name: part.cpu() for name, part in updates.items()},
        windows=windows,
        draws=draws,
        label_bits=bits,
        adapter_bits=adapter_bits,
    )


@torch.no_grad()
def with_labeller(
    sequences: Condensed, teacher: TextRecommender, windows: Windows, *, bits: int, adapter_bits: int
) -> Condensed:
    """Give sequences what makes the labels of every step, and set the recipe of students that learn from these.

    That is the sequence model of a compact teacher, which may be of another kind than students by default;
    ``labeller.with_codes`` makes the labels.

    Args:
        sequences: without labels, of a ``model`` that reads no more items than a window has.
        teacher: the compact teacher: map and sequence model were rounded.
        windows: first step and end of each window that is labelled.
        bits: of each number of a label, as ``with_soft_labels`` would store them.
        adapter_bits: of each weight of the map, 1 or 2.
    """
    adapter, scale = _compact_map(teacher)
    kind = {name: getattr(teacher.options, name) for name in OF_KIND}
    shape = sequences.model.model_copy(update=kind)
    labeller = {SCALE: scale.reshape(1).cpu(), **labeller_of(teacher.backbone, shape)}
    if (linear := teacher.tower.linear) is not None:
        labeller[OFFSET] = linear.bias.detach().cpu()
    what = (
        "sequence model and map of items of a model that does what the teacher does (labeller, adapter), which make "
        "them"
    )
    return _labelled(
        sequences,
        what,
        labeller=labeller,
        labeller_model=shape,
        adapter=adapter,
        windows=windows,
        label_bits=bits,
        adapter_bits=adapter_bits,
    )


def _labelled(sequences: Condensed, what: str, more: str = "", **fields: Any) -> Condensed:
    """Return sequences with labels and the recipe of students that learn from them.

    Args:
        sequences: without labels.
        what: the labels come from, for the card.
        more: for the card.
        fields: of the labels.
    """
    labels = f"{what}, with which students of such an adapter start{more}"
    return replace(
        sequences,
        # Soft labels leave little to over-fit: on validation students do best without dropout.
        model=sequences.model.model_copy(update={"dropout": 0.0}),
        recipe=STUDENT,
        info={**sequences.info, "from_real_data": f"{sequences.info['from_real_data']}; soft labels: {labels}"},
        **fields,
    )


def with_item_map(sequences: Condensed, adapter: ItemMap, adapter_bits: int) -> Condensed:
    """Give histories that a teacher wrote its compact map of items, and set the recipe of students that start with it.

    Args:
        sequences: the histories.
        adapter: the map, see ``compact_item_map``.
        adapter_bits: of each weight of the map, 1 or 2.
    """
    derived = sequences.info["from_real_data"]
    recipe = WRITTEN if "weight" in adapter else WRITTEN_FIXED  # a linear one moves, see start_from_labels
    steps = min(recipe.total_steps, math.ceil(WRITTEN_PASSES * len(sequences) / MANY))
    return replace(
        sequences,
        adapter=adapter,
        adapter_bits=adapter_bits,
        model=sequences.model.model_copy(update={"dropout": WRITTEN_DROPOUT}),
        recipe=recipe.model_copy(update={"steps": steps, "warmup": min(recipe.warmup, steps // WRITTEN_WARM)}),
        info={**sequences.info, "from_real_data": f"{derived}; its map of items (adapter), with which students start"},
    )


@torch.no_grad()
def compact_item_map(teacher: TextRecommender) -> ItemMap:
    """Return the rounded map of a compact teacher as ``with_item_map`` takes it, on the CPU."""
    return _compact_map(teacher)[0]


def _compact_map(teacher: TextRecommender) -> tuple[ItemMap, Tensor]:
    """Return the map of a compact teacher on the CPU, and what it was scaled with."""
    adapter = teacher.tower.item_map()
    assert adapter is not None  # a compact teacher has one
    adapter, scale = _of_usual_length(adapter, teacher.item_table())
    return {name: weights.cpu() for name, weights in adapter.items()}, scale


def _of_usual_length(adapter: ItemMap, table: Tensor) -> tuple[ItemMap, Tensor]:
    """Return a map that makes item vectors as long as usual, and what it was scaled with.

    Training in few bits makes them long, and students then learn to read them slowly.

    Args:
        adapter: the map.
        table: ``[V, d]`` the vectors that it makes.
    """
    scale = math.sqrt(2 * table.shape[1]) / table.norm(dim=1).mean().clamp(min=torch.finfo(table.dtype).tiny)
    return {n: scale * w if n in ("weight", "base", "up") else w for n, w in adapter.items()}, scale


@torch.no_grad()
def start_from_labels(sequences: Condensed, model: TextRecommender) -> bool:
    """Give a student the item map that is stored, if its features and its adapter are alike.

    Soft labels say how items relate through this map in any case; a student that starts with it learns the rest. One
    with low-rank updates takes over those of the labels, if there are any of that rank. One that tunes its language
    model on labels of public features starts with their teacher's items, too, and goes on from there.

    Returns:
        Whether its item vectors are best left as they are: those of experts, which are no linear map, and of low-rank
        updates. Moving them takes eight times the time and is no better (benchmarks/research.md, 48).
    """
    assert sequences.adapter is not None  # the sequences have soft labels, or a map alone
    features, updates = model.tower.features, sequences.updates
    if not _refer_to(sequences, model.encoder):
        return False
    if isinstance(features, TunedFeatures):
        if updates is None:
            model.tower.load_item_map(sequences.adapter, model.catalogue.known)
            return False
        if model.options.finetune != f"lora:{updates_rank(updates)}":
            return False
    elif updates is not None:
        return False
    if model.options.ids and IDS not in sequences.adapter and sequences.labelled:
        raise InputError(
            "--ids: these sequences and their labels come from a teacher without vectors of items' own; leave it "
            "out, or distil from a teacher with --ids"
        )
    if not model.tower.load_item_map(sequences.adapter, model.catalogue.known):
        return False
    if isinstance(features, TunedFeatures) and updates is not None:
        features.encoder.load_updates(updates)
    return model.tower.linear is None


def student_recipe(
    sequences: Condensed, encoder: EncoderOptions, model: ModelOptions, recipe: TrainOptions | None = None
) -> TrainOptions:
    """Return the recipe of students on some encoder and of some shape.

    Students that move their items by the labels, on a sample of items, take small steps: with the rate of those that
    take over the labels' map, wide or deep ones come to nothing (benchmarks/research.md, 74). Of students that tune
    their language model last it is the recipe of that part.

    Args:
        sequences: what they train on.
        encoder: of the students.
        model: of the students.
        recipe: of students that take over the map; by default the stored one.

    Raises:
        InputError: an encoder is not to be found.
    """
    given = recipe is not None
    recipe = affordable(recipe or sequences.recipe, model.finetune)
    if tunes_last(sequences, model):
        steps = min(recipe.total_steps, TUNED_STEPS)
        rate = min(recipe.lr, TUNED_RATE)
        return recipe.model_copy(update={"steps": steps, "lr": rate, "warmup": steps // WARM})
    if not sequences.labelled:
        if given or sequences.adapter is None or _starts_from_map(sequences, encoder, model):
            return recipe
        # Without the map they learn as those of histories alone do, which takes four times as long.
        alone = GENERATED if len(sequences) > MANY else HARD_LABELS
        steps = min(alone.total_steps, 4 * recipe.total_steps)
        return recipe.model_copy(
            update={"steps": steps, "lr": alone.lr, "warmup": min(alone.warmup, steps // WRITTEN_WARM)}
        )
    if _in_closed_form(sequences, encoder, model):
        return recipe
    return recipe.model_copy(
        update={"lr": min(recipe.lr, SAMPLED_RATE), "warmup": max(recipe.warmup, recipe.total_steps // WARM)}
    )


def tunes_last(sequences: Condensed, model: ModelOptions) -> bool:
    """Whether a student learns with its language model frozen first, and tunes that afterwards.

    All do but those that take over the updates of a teacher. Sequences say nothing that a language model could learn
    before the rest fits, and steps without it are cheap. Also, what is tuned beside random weights
    bends features that were good (linear probing, then fine-tuning: Kumar et al., ICLR 2022, arXiv 2202.10054).
    """
    return model.finetune != "frozen" and not _takes_over_updates(sequences, model)


def _takes_over_updates(sequences: Condensed, model: ModelOptions) -> bool:
    """Whether a student has the low-rank updates and the map of its labels, see ``start_from_labels``."""
    if sequences.adapter is None or sequences.updates is None:
        return False
    same_width = model.dim == item_map_width(sequences.adapter)
    same_rank = model.finetune == f"lora:{updates_rank(sequences.updates)}"
    return _same_kind(sequences.adapter, model) and same_width and same_rank


def _same_kind(labels: ItemMap, model: ModelOptions) -> bool:
    """Whether a student's items can come from the map of its labels, what items have of their own included."""
    return ("weight" in labels) == (model.adapter == "linear") and (IDS not in labels or model.ids)


def frozen_part(
    sequences: Condensed, encoder: EncoderOptions, model: ModelOptions
) -> tuple[ModelOptions, TrainOptions]:
    """Return shape and recipe of a student before it tunes its language model: half of the stored steps.

    The other half is worth less than what one seed differs from another by (benchmarks/research.md, 81).

    Args:
        sequences: what it trains on.
        encoder: of the student.
        model: its shape, see ``tunes_last``.
    """
    frozen = model.model_copy(update={"finetune": "frozen"})
    recipe = student_recipe(sequences, encoder, frozen)
    return frozen, recipe.model_copy(update={"steps": max(recipe.total_steps // 2, 1)})


def _in_closed_form(sequences: Condensed, encoder: EncoderOptions, model: ModelOptions) -> bool:
    """Whether the loss of such students needs no sample of items."""
    assert sequences.adapter is not None  # the sequences have soft labels
    if model.finetune != "frozen":  # one that takes over low-rank updates and experts leaves its items as they are
        return model.adapter == "moe" and _takes_over_updates(sequences, model)
    if sequences.updates is not None:
        return model.adapter == "linear"
    return _starts_from_map(sequences, encoder, model)


def _starts_from_map(sequences: Condensed, encoder: EncoderOptions, model: ModelOptions) -> bool:
    """Whether a student with a frozen language model starts with the stored map, see ``start_from_labels``."""
    assert sequences.adapter is not None  # see above
    return _same_kind(sequences.adapter, model) and _refer_to(sequences, encoder)


def label_keys(sequences: Condensed, model: TextRecommender) -> Tensor:
    """Return ``[V, r]`` on the model's device: a label ``y`` scores item v as ``<y, label_keys[v]>``."""
    assert sequences.adapter is not None  # the sequences have soft labels
    encoder = model.encoder if _refer_to(sequences, model.encoder) else sequences.encoder
    if sequences.updates is None:
        features = model.public_features(encoder)
    else:
        features = model.updated_features(encoder, sequences.updates)
    if (given := features.shape[1]) != (wanted := item_map_features(sequences.adapter)):
        raise InputError(
            f"{sequences.encoder.encoder}: gives {given} numbers a text, and the labels were made with {wanted}: it is "
            "another encoder, or reads other --words; name a copy of theirs by --label-encoder"
        )
    # Features are mapped to the width of the codes once; widening the codes would cost more at every step.
    return mapped(features, sequences.adapter)


def labels_fit(sequences: Condensed, model: TextRecommender) -> bool:
    """Whether a student can come to score all items as labels that refer to text features do.

    One on other features cannot, nor can a linear map of those features do what experts or items' own vectors do; a
    student that tunes its features may.
    """
    assert sequences.adapter is not None  # the sequences have soft labels
    if sequences.updates is not None or not isinstance(model.tower.features, FrozenFeatures):
        return True
    if IDS in sequences.adapter and model.tower.ids is None:
        return False
    of_a_linear_map = "weight" in sequences.adapter and IDS not in sequences.adapter
    return (of_a_linear_map or model.tower.linear is None) and _refer_to(sequences, model.encoder)


def _refer_to(sequences: Condensed, encoder: EncoderOptions) -> bool:
    try:
        return same_encoder(sequences.encoder, encoder)
    except InputError as error:
        raise InputError(
            f"{error}; soft labels refer to that encoder: name the place where it lies now by --label-encoder"
        ) from error
