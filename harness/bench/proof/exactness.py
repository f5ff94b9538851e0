"""Whether the kernels that ran were exact: every contraction again, in 64-bit integers.

Winograd and Fourier kernels, NNPACK and reductions in TF32 or bfloat16 are not exact on integers, so a true
identity looks refuted on them (never a false one equal, where the other side is exact). A difference is
therefore believed only after the contractions of both sides were computed a second time, on the very
integers that showed it, by elementary operations that cannot round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten

from harness.bench.inputs import Tensors
from harness.bench.proof.contractions import CONTRACTIONS, InexpressibleError, Ran
from harness.bench.proof.programs import Point, Program
from harness.bench.proof.refusal import RefusedError


def find_inexact(program: Program, inputs: Tensors, cotangents: Tensors | None = None) -> str | None:
    """Run a program on integers and return what the first contraction that is off did, or None.

    With cotangents, one for every output by name, the program is differentiated as well.
    """
    watch = Watch()
    Point(inputs, cotangents).evaluate(program, watch)
    return watch.inexact


def demand_exact(watch: Watch) -> None:
    """Refuse to believe a difference that inexact kernels may have made."""
    if watch.inexact is not None:
        raise RefusedError(f"the kernels are not exact on integers: {watch.inexact}")


class Watch(TorchDispatchMode):
    """Computes every contraction that runs inside it a second time, and keeps what is wrong with the first.

    It goes inside the mode in which a function is taken as arbitrary, where it sees the program alone.
    inexact: a sentence without its full stop, or None.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates only part of itself
        self.inexact: str | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with _disable_current_modes():
            # What goes in may be written over by what comes out.
            given = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in args]
        result = func(*args, **(kwargs or {}))
        if self.inexact is None:
            with _disable_current_modes():
                self.inexact = _fault(func, given, kwargs or {}, result)
        return result


def _fault(func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> str | None:
    name = str(func.overloadpacket)
    if not name.startswith("aten."):
        return _fault_of_stranger(name, result)
    contraction = CONTRACTIONS.get(name)
    if contraction is None or not args[0].is_floating_point() or not args[0].numel():
        return None
    what = f"{name}{_kernel(name, args)}"
    try:
        expected = contraction(Ran(args, kwargs, result))
    except InexpressibleError as error:
        return f"{what} {error}"
    found = [result] if isinstance(result, Tensor) else result
    for tensor, exact in zip(found, expected, strict=True):
        if exact is not None:
            wrong = tensor.detach().cpu().double() != exact
            if bool(wrong.any()):
                place = tuple(wrong.nonzero()[0].tolist())
                return (
                    f"{what} gives {float(tensor[place])!r} at {list(place)} "
                    f"where integers give {float(exact[place])!r}"
                )
    return None


def _fault_of_stranger(name: str, result: Any) -> str | None:
    """Find fault with an operation from outside torch, of which nothing is known."""
    computes = any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in tree_flatten(result)[0])
    return f"{name} is none of torch's operations, so integers cannot repeat it" if computes else None


def _kernel(name: str, args: Sequence[Any]) -> str:
    """Tell which kernel computes: its backend where torch chooses one, dtype and device."""
    where = f"in {str(args[0].dtype).removeprefix('torch.')} on the {args[0].device.type}"
    if name == "aten.convolution":
        return f" by the backend {torch._C._select_conv_backend(*args).name} {where}"
    if name == "aten.convolution_backward":
        sizes = [args[2].shape[1] * args[9] if args[7] else args[2].shape[0]]
        backend = torch._C._select_conv_backend(args[1], args[2], None, *args[4:10], sizes)
        return f" by the backend {backend.name} {where}"
    return f" {where}"
