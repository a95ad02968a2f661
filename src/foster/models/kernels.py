"""What makes training small models fast on a CPU: random numbers by the byte, few shapes, one softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LEVELS = 256  # a byte's values: on a CPU a rate is a multiple of 1 / 256
BUCKET = 256  # rows of a matrix in half precision are a multiple of it


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al., JMLR 2014).

    On a CPU eight values share one 64-bit number, which takes a fifth of the time of ``nn.Dropout``; there the rate is
    rounded to the next of 256 levels, and what stays is scaled for that rate.

    Args:
        rate: share of the values that become zero in training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` of any shape, in training with values dropped out."""
        if not self.training or not self.rate:
            return x
        if not x.is_cpu:
            return F.dropout(x, self.rate)
        dropped = round(self.rate * LEVELS)
        keep = random_bytes(x.numel()).view(x.shape).ge(dropped)
        return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


def random_bytes(n: int) -> Tensor:
    """Draw ``n`` bytes, uint8 ``[n]``, from torch's default generator."""
    words = torch.empty(-(-n // 8), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)[:n]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return causal attention ``[batch, heads, length, d / heads]``; no fused kernel of a CPU has dropout."""
    if not halved_on_cpu(query):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    # At lengths of some ten items a CPU's fused kernel takes several times as long in half precision.
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=True)


def self_attention(qkv: nn.Linear, x: Tensor, batch: int, length: int, heads: int, ends: Tensor | None) -> Tensor:
    """Return causal self-attention of steps, or of the last step of each sequence only.

    Args:
        qkv: the map from a step to its query, key and value.
        x: the steps ``[batch * length, d]``, and rows behind them that do not count.
        batch: number of sequences, padded on the right.
        length: of each.
        heads: attention heads.
        ends: int64 ``[batch]``, the place of each sequence's last step among ``batch * length``; None for all steps.

    Returns:
        ``[batch * length, d]`` or ``[batch, d]``, with rows behind as ``padded_rows`` says.
    """
    steps, dim = batch * length, x.shape[1]
    if ends is None:
        query, key, value = qkv(x)[:steps].view(batch, length, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        return padded_rows(attend(query, key, value).transpose(1, 2).reshape(steps, dim))
    weight, bias = qkv.weight, qkv.bias
    query = F.linear(padded_rows(x[ends]), weight[:dim], bias[:dim])[:batch].view(batch, heads, 1, dim // heads)
    key, value = F.linear(x, weight[dim:], bias[dim:])[:steps].view(batch, length, 2, heads, -1).permute(2, 0, 3, 1, 4)
    start = length * torch.arange(batch, device=x.device)
    seen = torch.arange(length, device=x.device) <= (ends - start)[:, None]
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
    return padded_rows(mixed.reshape(batch, dim))


def halved_on_cpu(x: Tensor) -> bool:
    """Whether the products of ``x`` are computed in half precision on a CPU."""
    return x.is_cpu and torch.is_autocast_enabled("cpu")


def missing_rows(n: int, x: Tensor) -> int:
    """Return how many rows ``n`` of them lack to a multiple of 256, where the products of ``x`` are halved on a CPU.

    There a kernel is made for every new shape, which takes longer than the product and stays in memory.
    """
    return -n % BUCKET if halved_on_cpu(x) else 0


def padded_rows(x: Tensor) -> Tensor:
    """Return ``x`` ``[n, d]`` with as many zero rows behind it as ``missing_rows`` says."""
    missing = missing_rows(len(x), x)
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def widened(x: Tensor) -> Tensor:
    """Return half-precision numbers in float32, since sums and differences follow, and others as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class _LogSumExp(torch.autograd.Function):
    """Keeps the probabilities for the gradient, which torch's own computes again from the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32), copy=True)
        wide[rows, columns] = -torch.inf
        largest = wide.amax(1, keepdim=True).clamp(min=torch.finfo(wide.dtype).min)
        total = wide.sub_(largest).exp_().sum(1, keepdim=True)
        ctx.save_for_backward(wide.div_(total.clamp(min=torch.finfo(wide.dtype).tiny)).to(scores.dtype))
        return (largest + total.log()).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (probabilities,) = ctx.saved_tensors
        return probabilities * gradient[:, None].to(probabilities.dtype), None, None


def logsumexp_without(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``log sum_j exp(scores[i, j])`` over all but some entries, ``[n]``, in float32 at least.

    It can be differentiated once.

    Args:
        scores: ``[n, m]``.
        rows: of the entries that do not count.
        columns: of these.
    """
    out: Tensor = _LogSumExp.apply(scores, rows, columns)
    return out
