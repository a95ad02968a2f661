"""What torch allocates: tracemalloc does not see it."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Counts the bytes of tensors, of whatever numbers, that operations make and do not only view.

    Attributes:
        largest: bytes of the largest one.
        peak: the most bytes of those that were alive together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.peak = self._alive = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        there = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() not in there:
                size = value.untyped_storage().nbytes()
                self.largest = max(self.largest, size)
                self._alive += size
                self.peak = max(self.peak, self._alive)
                weakref.finalize(value, self._free, size)
        return out

    def _free(self, size: int) -> None:
        self._alive -= size
