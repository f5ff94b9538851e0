"""Smooth functions: softmax and layer norm, exponentials, roots and the reciprocal.

Of these the formulas know the following laws. Softmax and layer norm commute with permutations of a row;
softmax leaves out minus infinity and is one where a row has one element. Division is a product with the
reciprocal; tanh, erf and the reciprocal are odd; exp is one at zero. Derivatives are torch's own formulas
of the result where it has such.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.bench.proof.formula import Formula, Function, One, second_is_data, table

# The slope of erf at zero, by which torch multiplies in its derivative.
_ERF_SLOPE = 2 / math.sqrt(math.pi)


def _softmax(k: Any, x: Any, axis: int, *_: Any) -> Any:
    return k.share(x, axis, empty=False)


def _safe_softmax(k: Any, x: Any, axis: int, *_: Any) -> Any:
    return k.share(x, axis, empty=True)


def _softmax_backward(k: Any, grad: Any, result: Any, axis: int, *_: Any) -> Any:
    return (grad - (grad * result).sum([axis], keepdim=True)) * result


def _layer_norm(k: Any, x: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    axes = tuple(range(-len(shape), 0))
    k.keep(Eps(eps))
    normal = k.member(f"layer norm {eps}", x, axes)
    scaled = normal if weight is None else normal * weight
    return (
        scaled if bias is None else scaled + bias,
        k.whole("mean", x, axes, keepdim=True),
        k.whole(f"one by the deviation {eps}", x, axes, keepdim=True),
    )


@dataclass(frozen=True)
class Eps:
    """What a norm adds to a variance."""

    eps: float


def _layer_norm_backward(
    k: Any, grad: Any, x: Any, shape: Sequence[int], mean: Any, rstd: Any, weight: Any, bias: Any, wanted: Any
) -> Any:
    axes = tuple(range(-len(shape), 0))
    eps = k.recall(rstd).eps
    normal = k.member(f"layer norm {eps}", x, axes)
    by_normal = grad if weight is None else grad * weight
    size = math.prod(shape)
    along = (by_normal * normal).sum(axes, keepdim=True) * normal
    share = k.whole(f"one by the deviation and the size {eps}", x, axes, keepdim=True)
    by_x = (by_normal * size - by_normal.sum(axes, keepdim=True) - along) * share
    rest = tuple(range(len(x.shape) - len(shape)))
    by_weight, by_bias = ((tensor.sum(rest) if rest else tensor) for tensor in (grad * normal, grad))
    found = (by_x, by_weight, by_bias)
    return tuple(part if want else None for part, want in zip(found, wanted, strict=True))


def _exponential(k: Any, x: Any) -> Any:
    return k.value("exp", x, zero=1)


def _sigmoid(k: Any, x: Any) -> Any:
    return k.value("sigmoid", x)


def _sigmoid_backward(k: Any, grad: Any, result: Any) -> Any:
    return grad * (1 - result) * result


def _tanh(k: Any, x: Any) -> Any:
    return k.value("tanh", x, zero=0, odd=True)


def _tanh_backward(k: Any, grad: Any, result: Any) -> Any:
    return grad * (1 - result * result)


def _silu(k: Any, x: Any) -> Any:
    return x * k.value("sigmoid", x)


def _silu_backward(k: Any, grad: Any, x: Any) -> Any:
    gate = k.value("sigmoid", x)
    return grad * (gate + x * gate * (1 - gate))


def _error_function(k: Any, x: Any) -> Any:
    return k.value("erf", x, zero=0, odd=True)


def _times_erf_slope(k: Any, x: Any, slope: float) -> Any:
    return x * k.symbol("2/√π", x)


def _gelu(k: Any, x: Any, approximate: str = "none") -> Any:
    return k.value(f"gelu {approximate}", x, zero=0)


def _gelu_backward(k: Any, grad: Any, x: Any, approximate: str = "none") -> Any:
    return grad * k.value(f"slope of gelu {approximate}", x)


def _root(k: Any, x: Any) -> Any:
    return k.value("sqrt", x, zero=0)


def _reciprocal_root(k: Any, x: Any) -> Any:
    return k.value("rsqrt", x)


def _reciprocal(k: Any, x: Any) -> Any:
    return k.value("reciprocal", x, odd=True)


def _divided(k: Any, a: Any, b: Any) -> Any:
    return a * 1 if isinstance(k.recall(b), One) else a * k.value("reciprocal", b, odd=True)


def _is_erf_slope(k: Any, args: Sequence[Any]) -> bool:
    return bool(k.is_data(args[0])) and isinstance(args[1], float) and args[1] == _ERF_SLOPE


SMOOTH = table(
    {
        "_softmax": Function("softmax", _softmax, in_rows=True),
        "_safe_softmax": Function("softmax", _safe_softmax, in_rows=True),
        "native_layer_norm": Function("layer norm", _layer_norm, in_rows=True),
        "native_layer_norm_backward": Function(
            "layer norm", _layer_norm_backward, second_is_data, in_rows=True
        ),
        "exp exp_": Function("exp", _exponential),
        "sigmoid sigmoid_": Function("sigmoid", _sigmoid),
        "tanh tanh_": Function("tanh", _tanh),
        "silu silu_": Function("sigmoid", _silu),
        "silu_backward": Function("sigmoid", _silu_backward, second_is_data),
        "erf erf_": Function("erf", _error_function),
        "mul": Function("erf", _times_erf_slope, _is_erf_slope),
        "gelu": Function("gelu", _gelu),
        "gelu_backward": Function("gelu", _gelu_backward, second_is_data),
        "sqrt": Function("sqrt", _root),
        "rsqrt": Function("rsqrt", _reciprocal_root),
        "reciprocal": Function("reciprocal", _reciprocal),
        "div div_": Function("reciprocal", _divided, second_is_data),
    }
)

# Backward passes that are polynomials of the gradient and the result: torch computes them itself.
POLYNOMIALS: Mapping[str, Formula] = {
    "aten._softmax_backward_data": _softmax_backward,
    "aten.sigmoid_backward": _sigmoid_backward,
    "aten.tanh_backward": _tanh_backward,
}
