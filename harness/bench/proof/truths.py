"""Truth values on real numbers: where arithmetic on them is not that of the numbers that stand for them.

A mask that is made of data holds numbers where functions are arbitrary. Their sum is that of numbers, but
torch takes the sum of two masks for their disjunction, and any number but zero for true.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from harness.bench.proof.refusal import RefusedError

_SUMS = frozenset(
    f"aten.{name}"
    for name in ("add", "add_", "addcmul", "addcmul_", "index_add", "scatter_add", "index_put", "index_put_")
)
_LOGIC = ("aten.logical_", "aten.bitwise_")


class Truths(TorchDispatchMode):
    """Refuses sums of truth values, and logic on numbers, in a program that runs on real numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func.overloadpacket)
        met = [leaf for leaf in tree_flatten((args, kwargs or {}))[0] if isinstance(leaf, Tensor)]
        if name.startswith(_LOGIC) and any(tensor.is_floating_point() for tensor in met):
            raise RefusedError(f"{name} takes numbers for truth values")
        result = func(*args, **(kwargs or {}))
        if name in _SUMS and isinstance(result, Tensor) and result.dtype == torch.bool:
            raise RefusedError(f"{name} adds truth values, which gives no number")
        return result
