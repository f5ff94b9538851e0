"""Agreement: right implementations pass in every dtype, and no wrong or cheating one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.agreement import Judge, describe_inputs, prepare, restore, save
from harness.bench.pages import Implementation, Scope
from harness.paper.record import Agreement
from harness.tests.specimens import DIMS, attending, implementation, mixing, polynomial, transcendental

Function = Callable[..., Any]


@pytest.fixture(scope="module")
def judges() -> dict[tuple[str, str], Judge]:
    """Prepare the judges of both specimens in three dtypes, once."""
    scopes = {"polynomial": polynomial(), "transcendental": transcendental()}
    return {
        (name, dtype): prepare(scope, DIMS, dtype, "cpu")
        for name, scope in scopes.items()
        for dtype in ("float64", "float32", "bfloat16")
    }


def convolving(x: Tensor, weight: Tensor) -> Tensor:
    """Mix by a 1×1 convolution."""
    return F.conv2d(x, weight[:, :, None, None])


def multiplied_out(x: Tensor, weight: Tensor) -> Tensor:
    """Take the softmax by hand."""
    powers = (convolving(x, weight) - convolving(x, weight).amax(1, keepdim=True)).exp()
    return powers * x / powers.sum(1, keepdim=True)


RIGHT = {"polynomial": [mixing, convolving], "transcendental": [attending, multiplied_out]}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", RIGHT)
def test_a_right_implementation_agrees(judges: dict[tuple[str, str], Judge], kind: str, dtype: str) -> None:
    """Another order of summation is no disagreement, whatever the dtype."""
    for function in RIGHT[kind]:
        found = judges[kind, dtype].judge(implementation(function))
        assert (found.agrees, found.reason) == (True, None)
        assert found.level == ("exact on integers" if kind == "polynomial" else "L0")


@pytest.mark.parametrize(
    ("kind", "dtype", "checks"),
    [
        ("polynomial", "float64", [("integers", "float64"), ("floats", "float64")]),
        (
            "polynomial",
            "float32",
            [("integers", "float32"), ("wide integers", "float32"), ("floats", "float32")],
        ),
        ("polynomial", "bfloat16", [("integers", "float64"), ("floats", "bfloat16")]),
        ("transcendental", "float64", [("floats", "float64")]),
        ("transcendental", "float32", [("floats", "float64"), ("floats", "float32")]),
        ("transcendental", "bfloat16", [("floats", "float64"), ("floats", "bfloat16")]),
    ],
)
def test_the_evidence_names_every_check(
    judges: dict[tuple[str, str], Judge], kind: str, dtype: str, checks: list[tuple[str, str]]
) -> None:
    """Exactness is checked where float32 allows it, and float64 decides where rounding hides too much."""
    evidence = judges[kind, dtype].judge(implementation(RIGHT[kind][1])).evidence["checks"]
    assert [(entry["kind"], entry["dtype"]) for entry in evidence] == checks
    results = ["output", "gradient of x", "gradient of weight", "output without gradients"]
    assert all(entry["results"] == results for entry in evidence)
    assert all(entry["largest_share_of_limit"] <= 1 for entry in evidence)


def rounded_like_tf32(x: Tensor, weight: Tensor) -> Tensor:
    """Mix activations that were rounded to the eleven bits of TF32, as its matrix units do."""
    scale = 2.0 ** (torch.frexp(x.detach()).exponent - 11)
    return mixing(x + ((x / scale).round() * scale - x).detach(), weight)


def test_a_coarser_format_inside_float32_is_seen() -> None:
    """The integers that stay exact at large sums fit into TF32; wider ones show that it was used."""
    wide = DIMS.replace(C=32, H=40, W=40)
    judge = prepare(polynomial(), wide, "float32", "cpu")
    integers = next(check for check in judge.checks if check.kind == "integers")
    assert integers.magnitude < 2**11
    assert judge.judge(implementation(mixing, dtypes=("float32",))).agrees
    found = judge.judge(implementation(rounded_like_tf32, dtypes=("float32",)))
    assert not found.agrees
    assert found.reason is not None
    assert found.reason.endswith("the limit 0 (wide integers, float32)")


class WrongGradient(torch.autograd.Function):
    """A right value with a gradient that is wrong at one place."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        """Copy."""
        return value.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Turn the sign of one element."""
        changed = gradients[0].clone()
        changed[-1, -1, -1, -1] *= -1
        return changed


def lost_sign(x: Tensor, weight: Tensor) -> Tensor:
    """Mix, with a wrong gradient."""
    apply: Any = WrongGradient.apply
    result: Tensor = apply(mixing(x, weight))
    return result


def through_numpy(x: Tensor, weight: Tensor) -> Tensor:
    """Compute outside torch."""
    return torch.from_numpy(mixing(x.detach(), weight.detach()).numpy())


def through_a_list(x: Tensor, weight: Tensor) -> Tensor:
    """Compute on what a list held."""
    return mixing(torch.tensor(x.tolist(), dtype=x.dtype), weight)


def one_pixel(x: Tensor, weight: Tensor) -> Tensor:
    """Be wrong at one pixel of the border."""
    factor = torch.ones_like(x)
    factor[1, 3, 0, 2] = 1.001
    return mixing(x, weight) * factor


def negative(x: Tensor, weight: Tensor) -> Tensor:
    """Be wrong where the input is negative."""
    return mixing(torch.where(x < 0, 0.999 * x, x), weight)


def branching(x: Tensor, weight: Tensor) -> Tensor:
    """Be wrong for one half of all inputs of either kind."""
    return mixing(x, weight) if x[0, 0, 0, 0] > 0 or x.shape[0] == 1 else 2 * mixing(x, weight)


def edited(x: Tensor, weight: Tensor) -> Tensor:
    """Use an input as scratch memory."""
    result = mixing(x, weight)
    x.mul_(2)
    return result


def edited_unseen(x: Tensor, weight: Tensor) -> Tensor:
    """Edit an input behind autograd's back."""
    result = mixing(x, weight)
    weight.detach().zero_()
    return result


def aliasing(x: Tensor, weight: Tensor) -> Tensor:
    """Write the result over the input."""
    return x.copy_(mixing(x, weight))


def kept() -> Function:
    """Return the first result forever."""
    results: list[Tensor] = []

    def function(x: Tensor, weight: Tensor) -> Tensor:
        results.append(mixing(x, weight))
        return results[0].to(x.dtype)

    return function


def kept_by_identity() -> Function:
    """Compute once for every input tensor."""
    results: dict[int, tuple[Tensor, Tensor]] = {}

    def function(x: Tensor, weight: Tensor) -> Tensor:
        if x.data_ptr() not in results:
            results[x.data_ptr()] = (x, mixing(x, weight))
        return results[x.data_ptr()][1]

    return function


def narrowed(x: Tensor, weight: Tensor) -> Tensor:
    """Compute in float32 whatever was asked for."""
    return mixing(x.float(), weight.float()).to(x.dtype)


def nudged(x: Tensor, weight: Tensor) -> Tensor:
    """Change one weight by a millionth of itself."""
    factor = torch.ones_like(weight)
    factor[2, 1] = 1 + 1e-6
    return mixing(x, weight * factor)


WRONG: dict[str, tuple[Function, str]] = {
    "numpy": (through_numpy, "the implementation gives no gradient of x"),
    "a list": (through_a_list, "gradient of x"),
    "no gradient": (torch.no_grad()(mixing), "the implementation gives no gradient of x"),
    "no gradient of one input": (lambda x, weight: mixing(x, weight.detach()), "gradient of weight"),
    "a wrong gradient": (lost_sign, "gradient of x[1, "),
    "one pixel": (one_pixel, "output[1, 3, 0, 2]"),
    "negative inputs": (negative, "output"),
    "one half of the inputs": (branching, "output"),
    "a factor close to one": (lambda x, weight: mixing(x, weight) * (1 + 1e-12), "output"),
    "a small constant": (lambda x, weight: mixing(x, weight) + 1e-13, "output"),
    "one weight": (nudged, "output"),
    "an edited input": (edited, "the implementation changes its input x"),
    "an input edited unseen": (edited_unseen, "the implementation changes its input weight"),
    "an input as output": (aliasing, "the implementation changes its input x"),
    "wrong where no gradient is asked for": (
        lambda x, weight: mixing(x, weight) * (1 if torch.is_grad_enabled() else 2),
        "output without gradients",
    ),
    "a view of an input": (lambda x, weight: x.view_as(x), "output"),
    "a kept output": (kept(), "output"),
    "an output kept by identity": (kept_by_identity(), "output"),
    "a cast": (narrowed, "output"),
    "dropout": (
        lambda x, weight: F.dropout(mixing(x, weight), 0.5),
        "the implementation draws random numbers",
    ),
    "unused noise": (
        lambda x, weight: mixing(x, weight) + 0 * torch.randn(()),
        "the implementation draws random numbers",
    ),
    "not a number": (lambda x, weight: mixing(x, weight) * torch.nan, "output[0, 0, 0, 0] is nan"),
    "infinity": (lambda x, weight: mixing(x, weight) + torch.inf, "output[0, 0, 0, 0] is inf"),
    "another shape": (
        lambda x, weight: mixing(x, weight).flatten(2),
        "the output has shape [2, 4, 15], the reference has [2, 4, 5, 3]",
    ),
    "a shape that broadcasts": (
        lambda x, weight: mixing(x, weight)[:1],
        "the output has shape [1, 4, 5, 3], the reference has [2, 4, 5, 3]",
    ),
    "another dtype": (
        lambda x, weight: mixing(x, weight).float(),
        "the output is torch.float32, the inputs are torch.float64",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_implementation_is_refused(judges: dict[tuple[str, str], Judge], name: str) -> None:
    """In float64 the judge sees what differs by little, at one place, in gradients only, or by a trick."""
    function, told = WRONG[name]
    found = judges["polynomial", "float64"].judge(implementation(function))
    assert not found.agrees
    assert found.reason is not None
    assert found.reason.startswith(told)


# What float32 and bfloat16 themselves round away is no disagreement in these dtypes.
_BELOW = {"a factor close to one", "a small constant", "a cast", "another dtype"}


@pytest.mark.parametrize("name", sorted(set(WRONG) - _BELOW - {"one weight"}))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_wrong_implementation_is_refused_in_other_dtypes(
    judges: dict[tuple[str, str], Judge], name: str, dtype: str
) -> None:
    """A narrower dtype makes the judge no softer."""
    assert not judges["polynomial", dtype].judge(implementation(WRONG[name][0])).agrees


TRANSCENDENTAL: dict[str, Function] = {
    "one weight": lambda x, weight: attending(x, weight * (1 + 1e-6 * torch.eye(4, dtype=x.dtype))),
    "another axis": lambda x, weight: mixing(x, weight).softmax(2) * x,
    "no normalisation": lambda x, weight: mixing(x, weight).exp() * x,
    "one channel": lambda x, weight: torch.cat(
        [attending(x, weight)[:, :3], attending(x, weight)[:, 3:] * 1.01], 1
    ),
    "a wrong gradient": lambda x, weight: attending(x, weight.detach()),
    "a cast": lambda x, weight: attending(x.float(), weight.float()).to(x.dtype),
    "not a number": lambda x, weight: attending(x, weight) / 0 * 0,
}


@pytest.mark.parametrize("name", TRANSCENDENTAL)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_rounding_excuses_no_mistake(judges: dict[tuple[str, str], Judge], name: str, dtype: str) -> None:
    """Where nothing is exact, float64 decides in every dtype; it sees a millionth in one weight."""
    assert not judges["transcendental", dtype].judge(implementation(TRANSCENDENTAL[name])).agrees


def failure(judge: Judge, function: Function, **properties: Any) -> Agreement:
    """Judge an implementation that must fail."""
    found = judge.judge(implementation(function, **properties))
    assert not found.agrees
    return found


def test_a_difference_is_told_with_index_values_error_and_limit(judges: dict[tuple[str, str], Judge]) -> None:
    """The message says where, what was found, what was wanted, and how much was allowed."""

    def wrong(x: Tensor, weight: Tensor) -> Tensor:
        result = mixing(x, weight)
        return torch.cat([result[:, :3], result[:, 3:] + 1000], 1)

    found = failure(judges["polynomial", "float32"], wrong)
    values = judges["polynomial", "float32"].checks[0].values["output"]
    wanted = float(values[0, 3, 0, 0])
    assert found.level == "exact on integers"
    assert found.reason == (
        f"output[0, 3, 0, 0] is {wanted + 1000:.9g}, the reference has {wanted:.9g}: "
        "the error is 1e+03, the limit 0 (integers, float32)"
    )


def test_the_worst_element_is_told(judges: dict[tuple[str, str], Judge]) -> None:
    """Of many wrong elements the one that is furthest beyond its limit is named."""

    def wrong(x: Tensor, weight: Tensor) -> Tensor:
        result = attending(x, weight).clone()
        result[0, 0] += 1
        result[1, 2, 3, 1] += 50
        return result

    found = failure(judges["transcendental", "float32"], wrong)
    assert found.level == "L0"
    assert found.reason is not None
    assert found.reason.startswith("output[1, 2, 3, 1] is ")
    assert ": the error is 50, the limit " in found.reason
    assert found.reason.endswith(" (floats, float64)")


def test_a_check_that_cannot_fail_is_none(judges: dict[tuple[str, str], Judge]) -> None:
    """An implementation that runs only where no check says anything does not agree."""
    found = failure(judges["transcendental", "bfloat16"], attending, dtypes=("float32",))
    assert (found.level, found.reason) == (
        "L0",
        "no check that ran could have refuted it: let the implementation support float64",
    )


def scaled(shift: float) -> Function:
    """Mix, off by a constant in float32 and exact in float64, as kernels by transforms are."""
    return lambda x, weight: mixing(x, weight) + (shift if x.dtype is torch.float32 else 0)


def test_a_kernel_that_rounds_integers_is_excused_with_a_note(judges: dict[tuple[str, str], Judge]) -> None:
    """Winograd and FFT kernels are off by their rounding in float32 and exact in float64."""
    judge = judges["polynomial", "float32"]
    assert judge.checks[0].rounding > 1.0
    on_integers = Judge(judge.scope, judge.dims, judge.device, judge.checks[:1])
    found = on_integers.judge(implementation(scaled(1.0)))
    assert found.agrees
    assert found.evidence["checks"][0]["note"] == (
        "the kernel is not exact on integers; its error lies within the rounding bound"
    )


def test_an_error_beyond_rounding_is_not_excused(judges: dict[tuple[str, str], Judge]) -> None:
    """An error larger than rounding can be is a mistake of the float32 path."""
    judge = judges["polynomial", "float32"]
    found = failure(judge, scaled(2 * judge.checks[0].rounding))
    assert "note" not in found.evidence["checks"][0]


def test_an_error_in_float64_too_is_not_excused(judges: dict[tuple[str, str], Judge]) -> None:
    """A small error that float64 shows as well is no rounding."""
    found = failure(judges["polynomial", "float32"], lambda x, weight: mixing(x, weight) + 1)
    assert "note" not in found.evidence["checks"][0]


def test_a_judge_survives_the_journey_to_a_worker(
    judges: dict[tuple[str, str], Judge], tmp_path: Any
) -> None:
    """What one process expects, another judges by, through a file that holds nothing but data."""
    judge = judges["transcendental", "float32"]
    torch.save(save(judge), tmp_path / "expected.pt")
    saved = torch.load(tmp_path / "expected.pt", weights_only=True)
    again = restore(judge.scope, judge.dims, judge.device, saved)
    for function in (attending, multiplied_out, TRANSCENDENTAL["one channel"]):
        assert again.judge(implementation(function)) == judge.judge(implementation(function))


def test_the_record_describes_its_inputs() -> None:
    """Seed, shapes, roles and distributions say how to draw the inputs again."""
    assert describe_inputs(polynomial(), DIMS) == {
        "seed": 137062164169278,
        "tensors": {
            "x": {"shape": [2, 4, 5, 3], "role": "activation", "distribution": "normal(0, 1)"},
            "weight": {"shape": [4, 4], "role": "parameter", "distribution": "normal(0, 0.5²)"},
        },
    }


def test_compilers_may_draw_numbers(judges: dict[tuple[str, str], Judge]) -> None:
    """A compiler's own random numbers are none of the implementation's."""

    def drawing(x: Tensor, weight: Tensor) -> Tensor:
        torch.rand(1)
        return mixing(x, weight)

    judge = judges["polynomial", "float32"]
    assert judge.judge(implementation(drawing, kind="compiled")).agrees
    assert failure(judge, drawing).reason == "the implementation draws random numbers"


def test_an_implementation_is_judged_where_it_runs(judges: dict[tuple[str, str], Judge]) -> None:
    """Only the dtypes that an implementation supports are asked of it."""

    def single(x: Tensor, weight: Tensor) -> Tensor:
        assert x.dtype is torch.float32
        return mixing(x, weight)

    subject = Implementation("subject", single, dtypes=("float32",))
    assert judges["polynomial", "float32"].judge(subject).agrees


def test_scopes_of_one_name_and_shape_share_their_inputs() -> None:
    """Inputs depend on names and dimensions alone, so every implementation meets the same ones."""

    def seed(scope: Scope) -> Any:
        return describe_inputs(scope, DIMS)["seed"]

    assert seed(polynomial()) == seed(transcendental())
    assert seed(polynomial()) != describe_inputs(polynomial(), DIMS.replace(B=3))["seed"]
