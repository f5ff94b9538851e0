"""Exact kernels pass, inexact ones are named, and what they make different is not believed."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.basis import certify_on_basis
from harness.bench.proof.certificate import certify
from harness.bench.proof.exactness import find_inexact
from harness.bench.proof.programs import Program, draw_integers, named

SHAPES = {"x": (2, 3, 7, 6), "w": (4, 3, 3, 3)}


def convolving(t: Tensors) -> Tensor:
    """Convolve by whichever kernel torch chooses."""
    return F.conv2d(t["x"], t["w"], padding=1)


def unfolding(t: Tensors) -> Tensor:
    """Multiply the unfolded map by the kernel."""
    columns = F.unfold(t["x"], 3, padding=1)
    return (t["w"].flatten(1) @ columns).view(len(columns), -1, *t["x"].shape[2:])


def by_fourier_transform(source: Tensor, weight: Tensor, bias: None, *numbers: Any) -> Tensor:
    """Convolve in the frequency domain: right on real numbers, off by a rounding on integers."""
    reach, groups = numbers[1][0], numbers[5]
    padded = F.pad(source, (reach,) * 4).unflatten(1, (groups, -1))
    height, width = padded.shape[3:]
    waves = torch.fft.rfft2(weight.unflatten(0, (groups, -1)), (height, width)).conj_physical()
    spectrum = (torch.fft.rfft2(padded)[:, :, None] * waves).sum(3).flatten(1, 2)
    found: Tensor = torch.fft.irfft2(spectrum, (height, width))
    return found[..., : height - weight.shape[2] + 1, : width - weight.shape[3] + 1]


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    """Let float32 reach the kernels that oneDNN stands before."""
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


@contextlib.contextmanager
def kernel(name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let another kernel compute one of torch's operations on the CPU."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.impl(name, function, "CPU")
    try:
        yield
    finally:
        library._destroy()


def inexact(
    program: Program, inputs: Tensors, cotangents: Tensors | None = None, dtype: torch.dtype = torch.float64
) -> str | None:
    """Look for an inexact contraction; the inputs are left as they are."""
    copies = {name: tensor.to(dtype, copy=True) for name, tensor in inputs.items()}
    return find_inexact(program, copies, cotangents)


def everywhere(program: Program, inputs: Tensors) -> list[str | None]:
    """Look at the values and at the gradients."""
    outputs = named(program(inputs))
    cotangents = draw_integers({name: tuple(out.shape) for name, out in outputs.items()}, 9, 1)
    return [inexact(program, inputs), inexact(program, inputs, cotangents)]


def some_convolution(seed: int) -> tuple[Program, Tensors]:
    """Draw a convolution of one, two or three axes with every parameter that there is."""
    draw = random.Random(seed)
    axes, groups, transposed = draw.choice([1, 2, 3]), draw.choice([1, 2, 3]), draw.random() < 0.5
    taps, stride, padding, dilation = (
        [draw.choice(numbers) for _ in range(axes)] for numbers in ((1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 2))
    )
    inside, outside = groups * draw.choice([1, 2]), groups * draw.choice([1, 3])
    weight = (inside, outside // groups, *taps) if transposed else (outside, inside // groups, *taps)
    shapes = {"x": (2, inside, *(draw.choice([5, 6, 7]) for _ in range(axes))), "w": weight}
    if draw.random() < 0.5:
        shapes["b"] = (outside,)
    more = [draw.randrange(max(pair)) * transposed for pair in zip(stride, dilation, strict=True)]

    def program(t: Tensors) -> Tensor:
        return torch.convolution(
            t["x"], t["w"], t.get("b"), stride, padding, dilation, transposed, more, groups
        )

    return program, draw_integers(shapes, 9, seed)


@pytest.mark.parametrize("seed", range(40))
def test_every_convolution_is_repeated_in_integers(seed: int) -> None:
    """Stride, padding, dilation, groups, transposition and bias: float64 and the integers agree."""
    program, inputs = some_convolution(seed)
    assert everywhere(program, inputs) == [None, None]


@pytest.mark.parametrize("seed", range(8))
def test_a_convolution_that_is_off_at_one_place_is_named(seed: int) -> None:
    """One element that is one too large is found, in values and in each gradient."""
    program, inputs = some_convolution(seed)
    right = named(program(inputs))["output"]

    def off(*args: Any) -> Tensor:
        wrong = right.clone()
        wrong.view(-1)[-1] += 1
        return wrong

    with kernel("convolution", off):
        said = inexact(program, inputs)
    place = [size - 1 for size in right.shape]
    assert said is not None
    assert said.startswith("aten.convolution by the backend ")
    last = float(right.flatten()[-1])
    assert said.endswith(f"in float64 on the cpu gives {last + 1} at {place} where integers give {last}")


SPREAD = {"x": (2, 4, 8, 4), "m": (4, 4), "v": (4,)}
CONTRACTIONS: dict[str, Program] = {
    "mm": lambda t: t["m"] @ t["m"],
    "bmm": lambda t: t["x"][0] @ t["x"][1].mT,
    "mv": lambda t: t["m"] @ t["v"],
    "dot": lambda t: t["v"] @ t["v"],
    "addmm": lambda t: torch.addmm(t["m"], t["m"], t["m"], beta=3, alpha=-2),
    "baddbmm": lambda t: torch.baddbmm(t["x"][0], t["x"][0], t["m"].expand(4, 4, 4), beta=2, alpha=5),
    "addmv": lambda t: torch.addmv(t["v"], t["m"], t["v"]),
    "sum": lambda t: t["x"].sum((1, 2), keepdim=True),
    "mean": lambda t: t["x"].mean((2, 3)),
    "avg_pool2d": lambda t: F.avg_pool2d(t["x"], 2, 2),
    "_adaptive_avg_pool2d": lambda t: F.adaptive_avg_pool2d(t["x"], (4, 2)),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_every_contraction_is_repeated_in_integers(name: str) -> None:
    """Products of matrices with factors, sums, means and pools over powers of two."""
    inputs = draw_integers(SPREAD, 99, 0)
    assert everywhere(CONTRACTIONS[name], inputs) == [None, None]


@pytest.mark.parametrize("name", [name for name in CONTRACTIONS if name not in ("sum", "mean")])
def test_every_contraction_that_is_off_is_named(name: str) -> None:
    """A kernel that gives an element one too large is named, whichever operation it computes."""
    inputs = draw_integers(SPREAD, 99, 0)
    right = named(CONTRACTIONS[name](inputs))["output"]

    def off(*args: Any, **kwargs: Any) -> Tensor:
        wrong = right.clone()
        wrong.view(-1)[0] += 1
        return wrong

    with kernel(name, off):
        said = inexact(CONTRACTIONS[name], inputs)
    assert said is not None
    assert said.startswith(f"aten.{name} in float64 on the cpu gives ")


POOLS = [
    (kernel_size, stride, padding, ceil_mode, with_padding)
    for kernel_size, stride, padding in [(2, 2, 0), (2, 1, 1), (4, 2, 2), (4, 3, 1)]
    for ceil_mode in (False, True)
    for with_padding in (False, True)
]


@pytest.mark.parametrize("pool", POOLS)
def test_pools_divide_by_what_lies_inside(pool: tuple[Any, ...]) -> None:
    """Windows at the border count the padding or not, and the last one may leave even that."""
    # Multiples of 144, so that any number of elements up to four by four divides the sums.
    inputs = {"x": 144 * draw_integers({"x": (2, 3, 7, 6)}, 9, 0)["x"]}

    def pooling(t: Tensors) -> Tensor:
        return F.avg_pool2d(t["x"], *pool)

    assert inexact(pooling, inputs) is None
    shape = tuple(pooling(inputs).shape)
    assert inexact(pooling, inputs, {"output": 144 * draw_integers({"y": shape}, 9, 1)["y"]}) is None


def test_numbers_that_are_no_integers_are_not_repeated() -> None:
    """Halves are integers in units of a half; thirds, and what leaves 64 bits, end in a sentence."""
    inputs = draw_integers({"m": (4, 4)}, 9, 0)
    assert inexact(lambda t: (t["m"] / 4) @ (t["m"] * 0.5), inputs) is None
    assert inexact(lambda t: (t["m"] / 3) @ t["m"], inputs) == (
        "aten.mm in float64 on the cpu is given numbers that are no integers over a small power of two"
    )
    assert inexact(lambda t: (t["m"] * 2**40) @ (t["m"] * 2**40), inputs) == (
        "aten.mm in float64 on the cpu is given integers whose products leave 64 bits"
    )


def test_an_operation_from_outside_torch_is_not_believed() -> None:
    """Of a kernel that torch does not know nobody can say that it is exact."""
    name = "sameop_test_exactness::winograd"
    operation: Any = torch.library.custom_op(name, unfolding_of, mutates_args=())
    inputs = draw_integers(SHAPES, 9, 0)
    assert inexact(lambda t: operation(t["x"], t["w"]), inputs) == (
        "sameop_test_exactness.winograd is none of torch's operations, so integers cannot repeat it"
    )


def unfolding_of(x: Tensor, w: Tensor) -> Tensor:
    """Convolve, as an operation of its own."""
    return unfolding({"x": x, "w": w})


def test_a_program_with_an_inexact_kernel_is_not_refuted() -> None:
    """Convolution by Fourier transform is off by a rounding: the identity is refused, and says why."""
    assert certify(convolving, unfolding, SHAPES, seed=3).verdict == "holds"
    with kernel("convolution", by_fourier_transform):
        outcome = certify(convolving, unfolding, SHAPES, seed=3)
        complete = certify_on_basis(convolving, unfolding, SHAPES, seed=3)
    assert (outcome.verdict, outcome.difference) == ("refused", None)
    assert (complete.verdict, complete.difference) == ("refused", None)
    for reason in (outcome.reason, complete.reason):
        assert reason is not None
        assert reason.startswith(
            "On the left side the kernels are not exact on integers: aten.convolution by the backend "
        )
        assert reason.endswith(".")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_wrong_program_with_exact_kernels_is_refuted(side: str) -> None:
    """Kernels that are exact leave a difference as it is, in values and in gradients."""

    def shifted(t: Tensors) -> Tensor:
        return F.conv2d(t["x"].roll(1, 3), t["w"], padding=1)

    sides = (shifted, unfolding) if side == "left" else (unfolding, shifted)
    assert certify(*sides, SHAPES, seed=3).verdict == "refuted"
    assert certify_on_basis(*sides, SHAPES, seed=3).verdict == "refuted"
    detached = certify(convolving, lambda t: convolving(t).detach(), SHAPES, seed=3)
    assert detached.difference is not None
    assert detached.difference.result == "gradient of x"


def test_a_difference_among_arbitrary_functions_is_believed_too() -> None:
    """Where a softmax is taken as an arbitrary function, contractions are repeated all the same."""

    def attending(t: Tensors) -> Tensor:
        return (t["m"] @ t["m"].T).softmax(-1) @ t["m"]

    def attending_across(t: Tensors) -> Tensor:
        return (t["m"] @ t["m"].T).softmax(0) @ t["m"]

    shapes = {"m": (3, 3)}
    assert certify(attending, attending, shapes, seed=0).verdict == "holds"
    assert certify(attending, attending_across, shapes, seed=0).verdict == "refuted"


LARGE = {"x": (16, 16, 16, 16), "w": (16, 16, 3, 3)}


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="NNPACK is not part of this torch")
def test_nnpack_is_found_out() -> None:
    """Its Winograd kernel, which float32 reaches without oneDNN, is not exact; float64 never reaches it."""
    inputs = draw_integers(LARGE, 40, 0)
    with without_onednn():
        said = inexact(convolving, inputs, dtype=torch.float32)
        assert said is not None
        assert said.startswith("aten.convolution by the backend NnpackSpatial in float32 on the cpu gives ")
        assert inexact(convolving, inputs) is None
        outcome = certify(convolving, unfolding, {name: (2, *shape[1:]) for name, shape in LARGE.items()}, 0)
    assert outcome.verdict == "holds"
    assert [evidence.backends for evidence in outcome.evidence] == [("Slow2d",), ("Slow2d",)]


def test_narrow_formats_are_found_out() -> None:
    """bfloat16 holds integers to 256 only: a product that leaves them is named with its dtype."""
    inputs = draw_integers({"a": (8, 64), "b": (64, 8)}, 9, 0)

    def narrow(t: Tensors) -> Tensor:
        return (t["a"].bfloat16() @ t["b"].bfloat16()).double()

    said = inexact(narrow, inputs)
    assert said is not None
    assert said.startswith("aten.mm in bfloat16 on the cpu gives ")
