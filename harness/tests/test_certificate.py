"""The certificate: true identities hold with their numbers, and no cheat passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import _get_current_function_mode
from torch.utils._python_dispatch import _get_current_dispatch_mode

from harness.bench.proof.certificate import Outcome, analyse, certify, first_difference, follow
from harness.bench.proof.shadow import RefusedError
from harness.paper.errors import SameopError

SHAPES = {"x": (2, 4, 3, 5), "w": (4, 4)}
Inputs = dict[str, Tensor]


def mixing(t: Inputs) -> Tensor:
    """Mix channels: y = w·x at every position."""
    return torch.einsum("oc,bchw->bohw", t["w"], t["x"])


def convolving(t: Inputs) -> Tensor:
    """Mix channels by a 1×1 convolution."""
    return F.conv2d(t["x"], t["w"][:, :, None, None])


def against(right: Callable[[Inputs], Any], left: Callable[[Inputs], Any] = mixing) -> Outcome:
    """Hold a program against mixing."""
    return certify(left, right, SHAPES, seed=5)


def test_a_true_identity_holds_with_its_numbers() -> None:
    """Two ways to mix channels are one polynomial: values of degree two, and so their gradients."""
    outcome = against(convolving)
    assert (outcome.verdict, outcome.difference, outcome.reason) == ("holds", None, None)
    values, gradients = outcome.evidence
    assert (values.vjp, values.degree, gradients.vjp, gradients.degree) == (False, 2, True, 2)
    assert values.magnitude == math.isqrt(2**53 // 4)  # four products meet in a value
    assert gradients.magnitude == math.isqrt(2**53 // 30)  # thirty in a weight's gradient: 2 maps of 3×5
    assert len(values.backends) == 1  # which kernel convolves is torch's choice


def test_the_evidence_reaches_its_target() -> None:
    """Trials are as many as the error probability needs, and no more; nothing can round."""
    for evidence in against(convolving).evidence:
        chance = math.log10(evidence.degree / (2 * evidence.magnitude + 1))
        assert evidence.trials == math.ceil(-30 / chance)
        assert evidence.log10_p == pytest.approx(evidence.trials * chance)
        assert 0.99 < evidence.majorant_ratio <= 1


def test_fewer_trials_say_less() -> None:
    """The error probability is that of the trials which ran."""
    outcome = certify(mixing, convolving, SHAPES, seed=5, trials=1)
    assert [evidence.trials for evidence in outcome.evidence] == [1, 1]
    assert all(-9 < evidence.log10_p < -6 for evidence in outcome.evidence)


@pytest.mark.parametrize(("vjp", "majorant"), [(False, 4 * 4), (True, 2 * 4 * (2 * 3 * 5))])
def test_degree_and_majorant_are_those_of_every_intermediate(vjp: bool, majorant: float) -> None:
    """Mixing twice sums 4·4 products of three factors; the weight's gradient sums over both maps, twice."""

    def twice(t: Inputs) -> Tensor:
        return mixing({"w": t["w"] @ t["w"], "x": t["x"]})

    found = analyse(twice, SHAPES, 0, vjp=vjp)
    assert (found.degree, found.majorant) == (3, majorant)


class WrongGradient(torch.autograd.Function):
    """A right value with a wrong gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """Copy."""
        return x.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Lose the gradient of the first element."""
        (gradient,) = gradients
        changed = gradient.clone()
        changed.view(-1)[0] = 0
        return changed


def lost_gradient(t: Inputs) -> Tensor:
    """Mix, with a part of the gradient lost."""
    apply: Any = WrongGradient.apply
    result: Tensor = apply(mixing(t))
    return result


def wrong_at_a_corner(t: Inputs) -> Tensor:
    """Be off by one at one pixel of the border, in one channel of one image."""
    result = mixing(t)
    result[1, 3, 2, 4] += t["w"][0, 0]
    return result


def wrong_below(t: Inputs) -> Tensor:
    """Miss the lowest row in one channel of one image."""
    result = mixing(t)
    result[0, 2, -1] *= 0.5
    return result


def doubled_hook(t: Inputs) -> Tensor:
    """Double a gradient by a hook."""
    result = mixing(t)
    if result.requires_grad:
        result.register_hook(lambda gradient: 2 * gradient)
    return result


def wrong_while_recorded(t: Inputs) -> Tensor:
    """Be right only where no gradient is asked for."""
    return 2 * mixing(t) if torch.is_grad_enabled() else mixing(t)


def fourth_call_is_wrong() -> Callable[[Inputs], Tensor]:
    """Be right as often as it takes to be analysed."""
    calls = itertools.count()
    return lambda t: mixing(t) * 2 if next(calls) >= 3 else mixing(t)


def one_in_a_billion(t: Inputs) -> Tensor:
    """Differ by less than float32 can see."""
    return mixing(t) * 2**20 + t["x"]


def cached_by_identity() -> Callable[[Inputs], Tensor]:
    """Compute once for every input tensor."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}

    def program(t: Inputs) -> Tensor:
        if id(t["x"]) not in kept:
            kept[id(t["x"])] = (t["x"], mixing(t).detach())
        return kept[id(t["x"])][1]

    return program


REFUTED: dict[str, tuple[Callable[[Inputs], Any], str, float]] = {
    "one pixel": (wrong_at_a_corner, "output", 1 / 120),
    "a gradient": (lost_gradient, "gradient of x", 4 / 120),
    "a hook": (doubled_hook, "gradient of x", 1.0),
    "gradients asked for": (wrong_while_recorded, "gradient of x", 1.0),
    "no gradients": (lambda t: mixing(t).detach(), "gradient of x", 1.0),
    "no gradients recorded": (torch.no_grad()(mixing), "gradient of x", 1.0),
    "no gradient of one factor": (lambda t: mixing({**t, "w": t["w"].detach()}), "gradient of w", 1.0),
    "an input in place of the output": (lambda t: t["x"], "output", 1.0),
    "a view of an input": (lambda t: t["x"].flip(1), "output", 1.0),
    "transposed weights": (lambda t: mixing({**t, "w": t["w"].T}), "output", 1.0),
    "a later call": (fourth_call_is_wrong(), "output", 1.0),
    "an output kept without its gradient": (cached_by_identity(), "gradient of x", 1.0),
    "wrong for negative inputs": (lambda t: torch.where(t["x"] < 0, 0, mixing(t)), "output", 0.5),
    "wrong for positive outputs": (lambda t: F.relu(mixing(t)), "output", 0.5),
    "right only when followed": (lambda t: mixing(t) if is_followed() else t["x"] * 1, "output", 1.0),
    "a little of one input": (lambda t: mixing(t) + t["x"] * 2.0**-16, "output", 1.0),
    "wrong at one border": (wrong_below, "output", 5 / 120),
    "another number of results": (lambda t: (mixing(t), mixing(t)), "number of results", 1.0),
    "another shape": (lambda t: mixing(t)[:, :3], "size of the output along axis", 1.0),
    "another number of axes": (lambda t: mixing(t).flatten(2), "number of axes of the output", 1.0),
}


@pytest.mark.parametrize("name", REFUTED)
def test_a_wrong_program_is_refuted(name: str) -> None:
    """One differing element of a value or of a gradient is enough, wherever it lies."""
    program, result, share = REFUTED[name]
    outcome = against(program)
    assert (outcome.verdict, outcome.reason) == ("refuted", None)
    assert outcome.difference is not None
    assert outcome.difference.result == result
    assert outcome.difference.share == pytest.approx(share, rel=0.2)


def test_a_difference_below_float32_is_refuted() -> None:
    """In float64 every integer below 2⁵³ counts."""
    outcome = against(one_in_a_billion, lambda t: mixing(t) * 2**20)
    assert outcome.verdict == "refuted"
    assert outcome.difference is not None
    assert outcome.difference.left == pytest.approx(outcome.difference.right, rel=1e-5)


def test_a_difference_names_its_place() -> None:
    """A counterexample is an index with both values."""
    found = against(wrong_at_a_corner).difference
    assert found is not None
    assert found.index == (1, 3, 2, 4)
    assert found.left != found.right


def carried(t: Inputs) -> Tensor:
    """Carry the data through a list."""
    return mixing({**t, "x": torch.tensor(t["x"].tolist(), dtype=torch.float64)})


def cached() -> Callable[[Inputs], Tensor]:
    """Return what the former call computed."""
    kept: list[Tensor] = []

    def program(t: Inputs) -> Tensor:
        kept.append(mixing(t).detach())
        return kept[max(0, len(kept) - 2)]

    return program


def edited(t: Inputs) -> Tensor:
    """Use the input as scratch memory."""
    t["x"].mul_(2)
    return mixing(t)


def edited_unseen(t: Inputs) -> Tensor:
    """Edit an input behind autograd's back."""
    result = mixing(t)
    t["x"].data.zero_()
    return result


def written_over(t: Inputs) -> Tensor:
    """Give the input's memory for the result."""
    result: Tensor = t["x"].detach().copy_(mixing(t))
    return result


def guarded(t: Inputs) -> Tensor:
    """Be wrong for large inputs only."""
    return -mixing(t) if t["x"].abs().amax() > 1000 else mixing(t)


BUFFER = torch.zeros(2, 4, 3, 5, dtype=torch.float64)
BEHIND = BUFFER.numpy()


def written_behind(t: Inputs) -> Tensor:
    """Write known memory by something that torch does not see."""
    BEHIND[:] = 0
    BUFFER.mul_(1)
    BEHIND[:] = 7
    return BUFFER


def written_behind_later() -> Callable[[Inputs], Tensor]:
    """Write known memory by something that torch does not see, from the second call on."""
    count = itertools.count()

    def program(t: Inputs) -> Tensor:
        BEHIND[:] = 0
        BUFFER.mul_(1)
        BEHIND[:] = 7 if next(count) else 0
        return BUFFER

    return program


def fewer_while_recorded(t: Inputs) -> tuple[Tensor, ...]:
    """Give two results, and one where gradients are wanted."""
    return (mixing(t),) if torch.is_grad_enabled() else (mixing(t), mixing(t))


def is_followed() -> bool:
    """Whether some mode is at work, by which a program could tell that it is followed."""
    return _get_current_dispatch_mode() is not None or _get_current_function_mode() is not None


def random_factor(t: Inputs) -> Tensor:
    """Multiply by a number that Python draws."""
    return mixing(t) * next(NUMBERS)


NUMBERS = itertools.count(2)
OTHERWISE = "the program does something else on other inputs, or carries data out of torch"
REFUSED: dict[str, tuple[Callable[[Inputs], Any], str]] = {
    "numpy": (
        lambda t: mixing(t) + torch.from_numpy(t["x"].numpy()),
        "Tensor.numpy carries data out of torch",
    ),
    "a list": (carried, "Tensor.tolist carries data out of torch"),
    "a number": (lambda t: mixing(t) * t["w"][0, 0].item(), "Tensor.item carries data out of torch"),
    "a factor close to one": (
        lambda t: mixing(t) * (1 + 1e-12),
        "aten.mul with the coefficient 1.000000000001, which is no multiple of 1/65536",
    ),
    "a hidden constant": (
        lambda t: mixing(t) + 1e-9 * t["x"],
        "aten.mul with the coefficient 1e-09, which is no multiple of 1/65536",
    ),
    "a hidden tensor": (
        lambda t: mixing(t) + torch.tensor(1e-9, dtype=torch.float64),
        "a constant of the program is 1e-09, which is no multiple of 1/65536",
    ),
    "a branch": (guarded, "Tensor.__bool__ carries data out of torch"),
    "a branch on a sum": (
        lambda t: mixing(t) if t["x"].sum() else t["x"],
        "Tensor.__bool__ carries data out of torch",
    ),
    "an edited input": (edited, "the program changes its input x"),
    "an input edited unseen": (edited_unseen, "the program changes its input x"),
    "an input as output": (written_over, "the program changes its input x"),
    "a kept output": (cached(), OTHERWISE),
    "memory written behind": (
        written_behind,
        "a result was never written, or written in a way that cannot be followed",
    ),
    "memory written behind later": (
        written_behind_later(),
        "a result was never written, or written in a way that cannot be followed",
    ),
    "memory never written": (
        lambda t: torch.empty_like(t["x"]),
        "a result was never written, or written in a way that cannot be followed",
    ),
    "not a number": (
        lambda t: mixing(t) + torch.nan,
        "aten.add with the coefficient nan, which is no multiple of 1/65536",
    ),
    "infinity": (
        lambda t: mixing(t) * torch.inf,
        "aten.mul with the coefficient inf, which is no multiple of 1/65536",
    ),
    "zero by zero": (
        lambda t: mixing(t) + 0 * t["x"] / (0 * t["x"]),
        "a constant of the program is not a number",
    ),
    "minus infinity": (
        lambda t: mixing(t).masked_fill(torch.arange(5) == 4, -torch.inf),
        "a result is minus infinity",
    ),
    "right but when followed": (
        lambda t: t["x"] if is_followed() else mixing(t),
        "the program computes something else than when it was followed",
    ),
    "dropout": (lambda t: F.dropout(mixing(t), 1e-6), "aten.bernoulli_ draws random numbers"),
    "a number from Python": (random_factor, OTHERWISE),
    "a cast": (lambda t: mixing(t).float().double(), "aten._to_copy turns the data into torch.float32"),
    "a narrow result": (lambda t: mixing(t).bfloat16(), "aten._to_copy turns the data into torch.bfloat16"),
    "no tensor": (lambda t: None, "the result is a NoneType, no tensor"),
    "a list of tensors": (lambda t: [mixing(t)], "the result is a list, no tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_cheat_is_refused(name: str) -> None:
    """What the analysis cannot vouch for ends in a third verdict, never in equal."""
    program, why = REFUSED[name]
    outcome = against(program)
    assert (outcome.verdict, outcome.evidence, outcome.difference) == ("refused", [], None)
    assert outcome.reason == f"On the right side {why}."


def test_results_that_come_and_go_are_refused() -> None:
    """A program has as many results where gradients are wanted as elsewhere."""
    outcome = against(fewer_while_recorded, lambda t: (mixing(t), mixing(t)))
    reason = "On the right side the program gives other results than before."
    assert (outcome.verdict, outcome.reason) == ("refused", reason)


def test_the_memory_of_the_other_side_is_no_result() -> None:
    """A program that gives what the other one has left behind computes nothing."""
    left: list[Tensor] = []

    def keeping(t: Inputs) -> Tensor:
        left[:] = [mixing(t).detach()]
        return left[0]

    outcome = certify(keeping, lambda t: left[0], SHAPES, seed=5)
    assert (outcome.verdict, outcome.reason) == (
        "refused",
        "On the right side the program computes something else than when it was followed.",
    )


HALVES: dict[str, tuple[Callable[[Inputs], Tensor], Callable[[Inputs], Tensor]]] = {
    "half": (lambda t: 0.5 * mixing(t), lambda t: mixing(t) / 2),
    "quarter of a quarter": (lambda t: mixing(t) / 16, lambda t: mixing({**t, "w": t["w"] / 4}) * 0.25),
    "division by constants": (
        lambda t: mixing(t) / torch.tensor([1.0, 2.0, 4.0, -8.0, 0.5]),
        lambda t: mixing(t) * torch.tensor([1.0, 0.5, 0.25, -0.125, 2.0]),
    ),
    "mean over channels": (lambda t: mixing(t).mean(1), lambda t: mixing(t).sum(1) / 4),
    "average pool": (
        lambda t: F.avg_pool2d(mixing(t), 2, padding=1),
        lambda t: F.conv2d(mixing(t), torch.full((4, 1, 2, 2), 0.25).double(), stride=2, padding=1, groups=4),
    ),
    "average pool with a divisor": (
        lambda t: F.avg_pool2d(mixing(t), 3, 1, divisor_override=8),
        lambda t: F.unfold(mixing(t), 3).unflatten(1, (4, 9)).sum(2).unflatten(2, (1, 3)) * 0.125,
    ),
    "adaptive pool": (
        lambda t: F.adaptive_avg_pool2d(mixing(t)[..., :4], (3, 2)),
        lambda t: mixing(t)[..., :4].unflatten(3, (2, 2)).mean(4),
    ),
    "global pool": (
        lambda t: F.adaptive_avg_pool2d(mixing(t)[:, :, :2, :4], 1),
        lambda t: mixing(t)[:, :, :2, :4].mean((2, 3), keepdim=True),
    ),
    "factors of sums": (
        lambda t: torch.add(mixing(t), t["x"], alpha=-0.75).addcmul(t["x"], t["x"], value=0.5),
        lambda t: mixing(t) - 0.25 * t["x"] * 3 + t["x"] ** 2 / 2,
    ),
    "padding": (
        lambda t: F.pad(mixing(t), (1, 0), value=0.5),
        lambda t: torch.cat([0.5 + 0 * mixing(t)[..., :1], mixing(t)], 3),
    ),
}


@pytest.mark.parametrize("name", HALVES)
def test_binary_fractions_are_exact(name: str) -> None:
    """Where a coefficient is k/2ᵍ nothing rounds, if the integers leave room for g more digits."""
    left, right = HALVES[name]
    outcome = certify(left, right, SHAPES, seed=5)
    assert (outcome.verdict, outcome.reason) == ("holds", None)
    assert all(0.9 < evidence.majorant_ratio <= 1 for evidence in outcome.evidence)
    wrong = certify(left, lambda t: right({**t, "w": t["w"] + t["w"] / 2**12}), SHAPES, seed=5)
    assert wrong.verdict == "refuted"


def test_a_fraction_takes_room() -> None:
    """A quarter counts as four terms: values in quarters reach a fourth of what integers reach."""
    whole, quarters = (certify(f, f, SHAPES, seed=5).evidence[0] for f in (mixing, lambda t: mixing(t) / 4))
    assert (whole.magnitude, quarters.magnitude) == (math.isqrt(2**53 // 4), math.isqrt(2**53 // 4))
    eighth = certify(lambda t: mixing(t) * 1.125, lambda t: mixing(t) * 9 / 8, SHAPES, seed=5).evidence[0]
    assert eighth.magnitude == math.isqrt(2**53 // 36)


def test_a_refusal_names_its_side() -> None:
    """The side that cannot be followed is told."""
    assert against(mixing, left=lambda t: t["x"].cumsum(0)).reason == (
        "On the left side aten.cumsum has no rule."
    )


def test_a_program_that_raises_is_refused() -> None:
    """A mistake in a program is its verdict and costs no other claim."""
    outcome = against(lambda t: t["x"] @ t["w"])
    assert outcome.verdict == "refused"
    assert outcome.reason is not None
    assert outcome.reason.startswith("The right side raises RuntimeError: ")
    assert against(lambda t: t["y"]).reason == "The right side raises KeyError: 'y'."


def test_a_sentence_of_ours_is_passed_on() -> None:
    """What a page asks of its user is not wrapped in a verdict."""

    def asking(t: Inputs) -> Tensor:
        raise SameopError("The dimension G was asked for.")

    with pytest.raises(SameopError, match=r"^The dimension G was asked for\.$"):
        against(asking)


def test_too_high_a_degree_is_refused() -> None:
    """Where exact integers are too few to tell polynomials apart, nothing is certified."""

    def high(t: Inputs) -> Tensor:
        return math.prod([t["w"]] * 16, start=torch.ones((), dtype=torch.float64))

    assert certify(high, high, {"w": (2,)}, seed=0).reason == (
        "The integers that stay exact reach only ±9 at degree 16: use a smaller shape."
    )


def test_tuples_of_results_are_compared_one_by_one() -> None:
    """A chain of equations is as many results; the second may be the wrong one."""
    outcome = against(
        lambda t: (mixing(t), mixing(t) + t["x"]), left=lambda t: (mixing(t), mixing(t) - t["x"])
    )
    assert outcome.difference is not None
    assert outcome.difference.result == "output 2"


def test_a_constant_program_has_gradients_of_zero() -> None:
    """A program that ignores its inputs is followed too."""
    outcome = certify(lambda t: torch.ones(2), lambda t: torch.tensor([1.0, 1.0]), SHAPES, seed=0)
    assert outcome.verdict == "holds"


@pytest.mark.parametrize(
    ("left", "right", "index"),
    [
        ([1.0, 2.0], [1.0, 2.0], None),
        ([1.0, 2.0], [1.0, 3.0], (1,)),
        ([math.nan], [math.nan], (0,)),
        ([0.0], [-0.0], None),
    ],
)
def test_what_is_not_a_number_is_a_difference(
    left: list[float], right: list[float], index: tuple[int, ...] | None
) -> None:
    """NaN equals nothing, so that it never passes for agreement; zero has one value."""
    found = first_difference({"output": torch.tensor(left)}, {"output": torch.tensor(right)})
    assert (found.index if found else None) == index


def test_following_alone_tells_what_a_program_is() -> None:
    """Degree, largest sum and constants can be had without a second program."""
    found = follow(lambda t: mixing(t) + torch.arange(5), SHAPES, 0, vjp=False)
    assert (found.degree, found.majorant, found.roundings) == (2, 8.0, 6)
    with pytest.raises(RefusedError, match=r"^aten\.exp is no polynomial$"):
        follow(lambda t: t["x"].exp(), SHAPES, 0, vjp=False)
