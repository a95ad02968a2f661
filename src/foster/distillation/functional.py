"""Models as functions of their parameters, for distillers that differentiate through training.

Fused attention has no second derivative: such distillers work inside ``second_order()``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from foster.errors import InputError
from foster.models.item_tower import TunedFeatures
from foster.models.recommender import TextRecommender

T = TypeVar("T")
Parameters = dict[str, Tensor]


def second_order() -> AbstractContextManager[None]:
    """Use the attention kernel that can be differentiated twice."""
    return sdpa_kernel(SDPBackend.MATH)


class _Caller(nn.Module):
    """Gives ``functional_call`` a forward that calls any function of a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(self.model, *arguments)


def call_with(model: TextRecommender, parameters: Parameters, function: Callable[..., T], *arguments: Any) -> T:
    """Return ``function(model, *arguments)`` with other parameters in place of the model's own.

    Args:
        model: the recommender; it stays as it is.
        parameters: by the names of ``trained_state``; gradients flow to them.
        function: of a model, such as a loss.
        arguments: what else it takes.
    """
    named = {f"model.{name}": value for name, value in parameters.items()}
    return torch.func.functional_call(_Caller(model), named, (function, *arguments))


def gradients(loss: Tensor, parameters: Parameters, create_graph: bool = False) -> Parameters:
    """Return the gradient of a loss in each parameter; zero where the loss does not depend on it."""
    found = torch.autograd.grad(
        loss, list(parameters.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(parameters, found, strict=True))


def detached(parameters: Parameters) -> Parameters:
    """Return leaves with the same values that want gradients."""
    return {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}


def require_frozen(model: TextRecommender, method: str, items: int, steps: int = 1) -> None:
    """Refuse what a method cannot work with: a tuned language model, many graphs of which it would keep.

    Args:
        model: the teacher.
        method: name, for the error.
        items: items that one step encodes with gradients.
        steps: steps whose graphs are alive together.

    Raises:
        InputError: the language model is tuned; the error says what it would take.
    """
    features = model.tower.features
    if isinstance(features, TunedFeatures):
        size = steps * features.encoder.graph_bytes(items) / 2**30
        raise InputError(
            f"{method}: works on frozen item vectors only; the graphs of a tuned language model ({items} items, "
            f"{steps} steps) would take about {size:,.0f} GiB. Train the teacher with --finetune frozen, or use FOSTER"
        )
