"""Marks beside the memory of a program: a number for every element of every storage.

The marks mirror the *storage* of a tensor, so that views and in-place edits need no bookkeeping of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from harness.bench.proof.refusal import RefusedError, key_of


@dataclass
class _Marked:
    storage: StorageWeakRef
    dtype: torch.dtype
    marks: Tensor


class Memory:
    """The marks of all storages that were written; ``blank`` marks what was not.

    A weak reference keeps the identity of a storage from being used again, so no later tensor can be taken
    for a freed one; the memory of both is free.
    """

    def __init__(self, blank: float) -> None:
        self._blank = blank
        self._storages: dict[int, _Marked] = {}

    def knows(self, tensor: Tensor) -> bool:
        """Tell whether anything of the storage of a tensor is marked."""
        return key_of(tensor) in self._storages

    def read(self, tensor: Tensor) -> Tensor:
        """Return the marks of a tensor, as float64 in its own layout, where they fit."""
        marked = self._storages[key_of(tensor)]
        if marked.dtype != tensor.dtype:
            raise RefusedError(f"memory is written as {marked.dtype} and read as {tensor.dtype}")
        if marked.marks.numel() != _length(tensor):
            raise RefusedError("memory changes its size")
        return marked.marks.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def write(self, tensor: Tensor, marks: Tensor) -> None:
        """Mark the elements of a tensor."""
        if not self.knows(tensor):
            self._forget_freed()
            flat = torch.full((_length(tensor),), self._blank, dtype=torch.float64, device=tensor.device)
            reference = StorageWeakRef(tensor.untyped_storage())
            self._storages[key_of(tensor)] = _Marked(reference, tensor.dtype, flat)
        # A copy of the marks first, for they may be a view of the place where they go.
        self.read(tensor).copy_(marks.clone())

    def _forget_freed(self) -> None:
        for key in [key for key, marked in self._storages.items() if marked.storage.expired()]:
            del self._storages[key]


def _length(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()
