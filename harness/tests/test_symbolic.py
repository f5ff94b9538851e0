"""The symbolic proof: true identities hold for all inputs, softmax included, and no cheat passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from harness.bench.proof.complete import Complete
from harness.bench.proof.refusal import RefusedError
from harness.bench.proof.symbolic import certify_symbolically, polynomials
from harness.bench.proof.symbolic.following import Following
from harness.bench.proof.symbolic.operation import Call, Marks
from harness.bench.proof.symbolic.rules import RULES
from harness.bench.proof.symbolic.symbols import Symbols
from harness.paper.errors import SameopError

Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Any]
Shapes = Mapping[str, tuple[int, ...]]
ROWS = {"x": (2, 3), "y": (2, 3), "w": (3, 3), "c": (2, 1)}
MAPS = {"x": (1, 2, 3, 2), "k": (2, 2, 2, 3)}
TOKENS = {"q": (2, 6, 2), "k": (2, 6, 2), "v": (2, 6, 2)}


def held(left: Program, right: Program, shapes: Shapes = ROWS) -> Complete:
    """Hold two programs against each other."""
    return certify_symbolically(left, right, shapes, seed=3)


# --- identities -------------------------------------------------------------------------------


def of_rows(program: Callable[[Tensor], Tensor]) -> Program:
    """Return a program of x alone."""
    return lambda t: program(t["x"])


def ones(count: int) -> Program:
    """Return a constant program."""
    return lambda t: torch.ones(count)


def by_exponentials(t: Inputs) -> Tensor:
    """Compute a softmax by its formula."""
    powers = t["x"].exp()
    return powers / powers.sum(1, keepdim=True)


def shifted_by_the_largest(t: Inputs) -> Tensor:
    """Compute a softmax as it is written against overflow."""
    powers = (t["x"] - t["x"].amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


def normalised(t: Inputs) -> Tensor:
    """Normalise rows by the formula."""
    apart = t["x"] - t["x"].mean(1, keepdim=True)
    return apart / (apart.square().mean(1, keepdim=True) + 1e-5).sqrt()


def three_sided(t: Inputs) -> Tensor:
    """Take the largest of three by differences."""
    largest = t["x"][:, 0]
    for n in (1, 2):
        other = t["x"][:, n]
        largest = (largest + other + (largest - other).relu() + (other - largest).relu()) / 2
    return largest


def written_in_place(t: Inputs) -> Tensor:
    """Multiply matrices by writing into memory that was only allocated."""
    result = torch.empty(2, 3, dtype=torch.float64)
    result[:, 0] = t["x"] @ t["w"][:, 0]
    result.select(1, 1).copy_((t["x"] * t["w"][:, 1]).sum(1))
    result[..., 2:].zero_().add_(t["x"] @ t["w"][:, 2:])
    return result


def through_aliases(t: Inputs) -> Tensor:
    """Edit a buffer through one view and read it through another."""
    buffer = torch.zeros(6, dtype=torch.float64)
    rows, columns = buffer.view(2, 3), buffer.view(2, 3).T
    rows[:] = t["x"]
    columns[1:].mul_(2)
    columns[0] += buffer[1::3]
    return rows


def masked(t: Inputs) -> Tensor:
    """Attend to all keys but the last, which is masked."""
    logits = t["q"] @ t["k"].mT
    logits[..., -1] = -torch.inf
    return logits.softmax(-1) @ t["v"]


def absent(t: Inputs) -> Tensor:
    """Attend to all keys but the last, which is not there."""
    return attending({**t, "k": t["k"][:, :-1], "v": t["v"][:, :-1]})


def attending(t: Inputs) -> Tensor:
    """Attend to all keys."""
    return (t["q"] @ t["k"].mT).softmax(-1) @ t["v"]


IDENTITIES: dict[str, tuple[Program, Program]] = {
    "weights sum to one": (of_rows(lambda x: x.softmax(1).sum(1)), ones(2)),
    "softmax by its formula": (of_rows(lambda x: x.softmax(1)), by_exponentials),
    "softmax against overflow": (of_rows(lambda x: x.softmax(1)), shifted_by_the_largest),
    "softmax of shifted logits": (of_rows(lambda x: x.softmax(1)), lambda t: (t["x"] - t["c"]).softmax(1)),
    "softmax of equal logits is a mean": (
        lambda t: ((0 * t["x"]).softmax(1) * t["y"]).sum(1),
        lambda t: t["y"].mean(1),
    ),
    "a bias passes through weights that sum to one": (
        lambda t: ((t["y"] + t["c"]) * t["x"].softmax(1)).sum(1, keepdim=True),
        lambda t: (t["y"] * t["x"].softmax(1)).sum(1, keepdim=True) + t["c"],
    ),
    "many rows that each sum to one": (
        lambda t: (
            (t["w"].softmax(1) * t["c"][0] + 1).sum() + t["x"].softmax(1).sum() * t["y"].softmax(0).sum(0)
        ),
        lambda t: (3 * t["c"][0] + 11).expand(3),
    ),
    "permuted classes": (
        of_rows(lambda x: x.softmax(1)[:, [2, 0, 1]]),
        of_rows(lambda x: x[:, [2, 0, 1]].softmax(1)),
    ),
    "product of exponentials": (
        lambda t: (t["x"] - t["y"] / 3).exp(),
        lambda t: t["x"].exp() / (t["y"] / 3).exp(),
    ),
    "half an exponent": (of_rows(lambda x: (x / 2).exp() ** 2), of_rows(torch.exp)),
    "sigmoid is softmax of two": (
        of_rows(torch.sigmoid),
        of_rows(lambda x: torch.stack([torch.zeros_like(x), x]).softmax(0)[1]),
    ),
    "sigmoid of the negative": (of_rows(lambda x: 1 - x.sigmoid()), of_rows(lambda x: (-x).sigmoid())),
    "tanh is a sigmoid": (of_rows(torch.tanh), of_rows(lambda x: 2 * (2 * x).sigmoid() - 1)),
    "silu is a gate": (of_rows(F.silu), of_rows(lambda x: x * x.sigmoid())),
    "relu less relu": (of_rows(lambda x: x.relu() - (-x).relu()), of_rows(lambda x: x)),
    "relu and absolute value": (of_rows(lambda x: (x + x.abs()) / 2), of_rows(torch.relu)),
    "one of the two is off": (of_rows(lambda x: x.relu() * (-x).relu()), of_rows(torch.zeros_like)),
    "relu of a multiple": (of_rows(lambda x: (x * 3 / 2).relu()), of_rows(lambda x: x.relu() * 3 / 2)),
    "relu twice": (of_rows(lambda x: x.relu().relu()), of_rows(torch.relu)),
    "relu of what is positive": (of_rows(lambda x: x.softmax(1).relu()), of_rows(lambda x: x.softmax(1))),
    "absolute value is even": (
        lambda t: (t["x"] - t["y"]).abs(),
        lambda t: (t["y"] - t["x"]).abs(),
    ),
    "absolute value squared": (of_rows(lambda x: x.abs() ** 2), of_rows(lambda x: x * x)),
    "absolute value to the fifth": (of_rows(lambda x: x.abs() ** 5), of_rows(lambda x: x**4 * x.abs())),
    "divided by an absolute value": (of_rows(lambda x: x**4 / x.abs()), of_rows(lambda x: x.abs() ** 3)),
    "larger and smaller": (
        lambda t: torch.maximum(t["x"], t["y"]) * torch.minimum(t["x"], t["y"]),
        lambda t: t["x"] * t["y"],
    ),
    "the largest in any order": (three_sided, of_rows(lambda x: x.flip(1).amax(1))),
    "the largest of the largest": (
        lambda t: torch.maximum(t["x"].amax(1), t["y"].max(1).values),
        lambda t: torch.cat([t["y"], t["x"]], 1).amax(1),
    ),
    "leaky relu": (
        of_rows(lambda x: F.leaky_relu(x, 0.1)),
        of_rows(lambda x: torch.maximum(x, x * 0.1)),
    ),
    "prelu": (
        lambda t: F.prelu(t["x"], t["w"][0]),
        lambda t: t["x"].relu() - t["w"][0] * (-t["x"]).relu(),
    ),
    "relu6 is two relus": (of_rows(F.relu6), of_rows(lambda x: x.relu() - (x - 6).relu())),
    "hard sigmoid": (of_rows(F.hardsigmoid), of_rows(lambda x: (x + 3).clamp(0, 6) / 6)),
    "sum of quotients": (
        lambda t: 1 / t["x"] + 1 / t["y"],
        lambda t: (t["x"] + t["y"]) / (t["x"] * t["y"]),
    ),
    "reciprocal of a reciprocal": (
        lambda t: 1 / (1 / (t["x"] + t["y"])),
        lambda t: t["x"] + t["y"],
    ),
    "cancelled factor": (
        lambda t: (t["x"] ** 2 - t["y"] ** 2) / (t["x"] - t["y"]),
        lambda t: t["x"] + t["y"],
    ),
    "square of a root": (
        of_rows(lambda x: (x * x + 1).sqrt() * (x * x + 1).sqrt()),
        of_rows(lambda x: x * x + 1),
    ),
    "divided by a root": (
        of_rows(lambda x: (x * x + 1) / (x * x + 1).sqrt()),
        of_rows(lambda x: (x * x + 1).sqrt()),
    ),
    "layer norm": (of_rows(lambda x: F.layer_norm(x, (3,))), normalised),
    "layer norm of a shifted row": (
        lambda t: F.layer_norm(t["x"] + t["c"], (3,)),
        of_rows(lambda x: F.layer_norm(x, (3,))),
    ),
    "erf is odd": (of_rows(lambda x: torch.erf(-x)), of_rows(lambda x: -torch.erf(x))),
    "gelu less gelu": (of_rows(lambda x: F.gelu(x) - F.gelu(-x)), of_rows(lambda x: x)),
    "a third of a sum": (of_rows(lambda x: x.mean(1)), of_rows(lambda x: x.sum(1) / 3)),
    "written in place": (written_in_place, lambda t: t["x"] @ t["w"]),
    "indices in memory that was only allocated": (
        lambda t: t["x"][:, torch.empty(2, dtype=torch.long).fill_(1)],
        lambda t: t["x"][:, [1, 1]],
    ),
    "through aliases": (
        through_aliases,
        lambda t: t["x"] * torch.tensor([1, 2, 2]) + F.pad(2 * t["x"][:, 1:2], (0, 2)),
    ),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_an_identity_holds(name: str) -> None:
    """What is equal for all real inputs is proved, whichever side is which."""
    left, right = IDENTITIES[name]
    for sides in ((left, right), (right, left)):
        outcome = held(*sides)
        assert (outcome.verdict, outcome.reason, outcome.method) == ("holds", None, "symbolic")


def test_constants_may_be_compared() -> None:
    """Programs without inputs are followed too: their numbers are exact."""
    thirds = torch.ones(3, dtype=torch.float64)
    assert held(lambda t: thirds / 3, lambda t: thirds.mean(0, keepdim=True) / thirds.sum(), {}).verdict == (
        "refuted"
    )
    assert held(lambda t: thirds / 3, lambda t: thirds.softmax(0), {}).verdict == "holds"


def test_a_masked_key_is_an_absent_one() -> None:
    """A key whose logit is minus infinity has no part in the softmax, even in its denominator."""
    assert held(masked, absent, TOKENS).verdict == "holds"


def test_permuted_keys_change_nothing() -> None:
    """Attention is a sum over keys, and so is the denominator of its softmax."""
    order = [3, 5, 0, 1, 4, 2]

    def turned(t: Inputs) -> Tensor:
        return attending({**t, "k": t["k"][:, order], "v": t["v"][:, order]})

    assert held(attending, turned, TOKENS).verdict == "holds"


def test_a_padded_key_is_not_an_absent_one() -> None:
    """A padded key has the logit zero, which is a term of the denominator: the values differ."""

    def padded(t: Inputs) -> Tensor:
        return attending({"q": t["q"], **{name: F.pad(t[name][:, :-1], (0, 0, 0, 1)) for name in "kv"}})

    outcome = held(absent, padded, TOKENS)
    assert (outcome.verdict, outcome.reason) == ("refuted", None)
    assert outcome.difference is not None
    assert (outcome.difference.result, outcome.difference.index) == ("output", (0, 0, 0))
    assert outcome.difference.share == 1.0
    assert outcome.difference.left != pytest.approx(outcome.difference.right, rel=1e-3)


def test_attention_with_projections_is_proved_whole() -> None:
    """Projections, logits, softmax and mixture are one identity: the value projection may come last."""
    shapes = {"x": (6, 4), "query": (4, 4), "key": (4, 4), "value": (4, 4)}

    def projected_first(t: Inputs) -> Tensor:
        q, k, v = (
            F.linear(t["x"], t[name]).view(6, 2, 2).transpose(0, 1) for name in ("query", "key", "value")
        )
        return attending({"q": q, "k": k, "v": v}).transpose(0, 1).reshape(6, 4)

    def projected_last(t: Inputs) -> Tensor:
        q, k, v = (t[name].view(2, 2, 4) for name in ("query", "key", "value"))
        logits = torch.einsum("md,hed,hec,nc->hmn", t["x"], q, k, t["x"])
        return torch.einsum("hmn,nc,hec->mhe", logits.softmax(2), t["x"], v).reshape(6, 4)

    outcome = held(projected_first, projected_last, shapes)
    assert outcome.verdict == "holds"
    assert outcome.details["free_numbers"] == 72
    assert outcome.details["atoms"] == {"variable": 72, "exponential": 72, "reciprocal": 12}


def test_the_details_are_the_numbers_of_the_proof() -> None:
    """What was compared, how long the longest form is, and what became equal only by clearing."""
    details = held(*IDENTITIES["weights sum to one"]).details
    expected = {"free_numbers": 23, "values": 2, "longest": 3, "cleared": 2}
    assert {key: details[key] for key in expected} == expected
    assert details["atoms"] == {"variable": 23, "exponential": 6, "reciprocal": 2}
    assert details["operations"] == ["aten._softmax", "aten.sum"]
    assert 0 < details["work"] < 1000
    assert 0 < details["seconds"] < 60


# --- what is no identity ----------------------------------------------------------------------


def changed_at_a_corner(t: Inputs) -> Tensor:
    """Convolve, but for a millionth of one element."""
    result = F.conv2d(t["x"], t["k"], padding=1)
    result[0, 1, 3, 1] *= 1 + 1e-6
    return result


REFUTED: dict[str, tuple[Program, Program]] = {
    "softmax along the other axis": (of_rows(lambda x: x.softmax(1)), of_rows(lambda x: x.softmax(0))),
    "sigmoids for a softmax": (of_rows(lambda x: x.softmax(1)), of_rows(torch.sigmoid)),
    "a coefficient": (of_rows(lambda x: x.exp()), of_rows(lambda x: (x * (1 + 1e-6)).exp())),
    "a limit": (of_rows(lambda x: x.clamp(0, 1)), of_rows(torch.relu)),
    "another slope": (of_rows(lambda x: F.leaky_relu(x, 0.1)), of_rows(lambda x: F.leaky_relu(x, 0.125))),
    "another number of results": (of_rows(lambda x: x), lambda t: (t["x"], t["x"])),
    "no number on one side": (of_rows(lambda x: x.sqrt() ** 2), of_rows(lambda x: x)),
    "another shape": (of_rows(lambda x: x), of_rows(lambda x: x[:1])),
    "data read as a number": (of_rows(lambda x: x), of_rows(lambda x: x * x.sum().item())),
}


@pytest.mark.parametrize("name", REFUTED)
def test_what_is_no_identity_is_refuted(name: str) -> None:
    """The values of the programs decide, and both are told."""
    outcome = held(*REFUTED[name])
    assert (outcome.verdict, outcome.reason) == ("refuted", None)
    assert outcome.difference is not None
    assert outcome.difference.left != outcome.difference.right


def test_one_changed_coefficient_is_found_where_it_is() -> None:
    """A difference at one place is told with its place and its share."""
    outcome = held(lambda t: F.conv2d(t["x"], t["k"], padding=1), changed_at_a_corner, MAPS)
    assert outcome.difference is not None
    assert outcome.difference.index == (0, 1, 3, 1)
    assert outcome.difference.share == 1 / (1 * 2 * 4 * 2)


def test_a_difference_below_rounding_is_refused() -> None:
    """Forms that differ by less than float64 shows are neither equal nor refuted: both are told."""
    outcome = held(of_rows(lambda x: x / 3), of_rows(lambda x: x * (1 / 3)))
    assert outcome.verdict == "refused"
    assert outcome.reason == (
        "At output[0, 0] the left side is 1/3·x[0, 0] and the right side is "
        "6004799503160661/18014398509481984·x[0, 0]: their values agree on random inputs, "
        "but no law that is used here makes these forms equal."
    )


def test_what_no_law_shows_is_refused() -> None:
    """|x|·|y| = |xy| is true and not among the laws, which are no decision procedure."""
    outcome = held(lambda t: t["x"].abs() * t["y"].abs(), lambda t: (t["x"] * t["y"]).abs())
    assert outcome.verdict == "refused"
    assert outcome.reason is not None
    assert "max(0, " in outcome.reason
    assert outcome.reason.endswith("no law that is used here makes these forms equal.")


# --- what cannot be followed ------------------------------------------------------------------

BUFFER = torch.zeros(2, 3, dtype=torch.float64)
BEHIND = BUFFER.numpy()


def written_behind(t: Inputs) -> Tensor:
    """Write known memory by something that torch does not see."""
    BEHIND[:] = 0
    BUFFER.mul_(1)
    BEHIND[:] = 7
    return BUFFER.clone()


def kept_from_before() -> Program:
    """Return what the former call computed."""
    kept: list[Tensor] = []

    def program(t: Inputs) -> Tensor:
        kept.append(t["x"].detach().clone())
        return kept[max(0, len(kept) - 2)]

    return program


def wrong_when_followed(t: Inputs) -> Tensor:
    """Tell that something follows, and do something else then."""
    return t["x"] * 2 if isinstance(_get_current_dispatch_mode(), Following) else t["x"]


def changed_input(t: Inputs) -> Tensor:
    """Use the input as scratch memory."""
    return t["x"].mul_(2) / 2


IDENTICAL = of_rows(lambda x: x)
NO_NUMPY = "Tensor.numpy carries data out of torch"
FOLLOWS_NOT = (
    "the program does something else on other inputs, carries data out of torch, "
    "or writes a result in a way that cannot be followed"
)
NOWHERE, LAST = torch.tensor(False), torch.tensor([0, 2])


def edited_unreturned(x: Tensor) -> Tensor:
    """Edit a tensor by an operation that returns nothing."""
    copied = x.clone()
    torch._foreach_mul_([copied], 1)
    return copied


REFUSED: dict[str, tuple[Program, str]] = {
    "numpy": (of_rows(lambda x: torch.from_numpy(x.numpy().copy())), NO_NUMPY),
    "a number": (of_rows(lambda x: x * (x[0, 0].item() ** 0)), "Tensor.item carries data out of torch"),
    "a list": (
        of_rows(lambda x: torch.tensor(x.tolist(), dtype=torch.float64)),
        "Tensor.tolist carries data out of torch",
    ),
    "a branch": (of_rows(lambda x: x if x.sum() else 1 * x), "Tensor.__bool__ carries data out of torch"),
    "a comparison": (of_rows(lambda x: torch.where(x < 0, x, x)), "aten.lt has no rule"),
    "an order": (of_rows(lambda x: x.sort(1).values.sum() * 0 + x), "aten.sort has no rule"),
    "the place of a maximum": (
        of_rows(lambda x: x + 0 * x.gather(1, x.max(1, keepdim=True).indices)),
        "aten.gather reads what is not followed, such as the place of a maximum",
    ),
    "no rule": (of_rows(lambda x: x + 0 * torch.sin(x)), "aten.sin has no rule"),
    "an exponent": (of_rows(lambda x: x + 0 * (x * x) ** 0.3), "aten.pow has the exponent 0.3"),
    "dropout": (of_rows(lambda x: F.dropout(x, 1e-12)), "aten.bernoulli_ draws random numbers"),
    "a cast": (
        of_rows(lambda x: x + 0 * x.float().double()),
        "aten._to_copy turns the data into torch.float32",
    ),
    "memory never written": (
        of_rows(lambda x: x + 0 * torch.empty_like(x).nan_to_num()),
        "aten.nan_to_num reads memory that was never written",
    ),
    "strided memory never written": (
        of_rows(lambda x: torch.where(NOWHERE, torch.empty_strided((2, 3), (1, 2)).double().sum(), x)),
        "aten.sum reads memory that was never written",
    ),
    "half of it written": (
        of_rows(lambda x: torch.where(NOWHERE, torch.empty_like(x).index_copy_(1, LAST, x[:, 1:]).sum(), x)),
        "aten.sum reads memory that was never written",
    ),
    "memory of another kind": (
        of_rows(lambda x: x.view(torch.int64).view(torch.float64)),
        "memory is written as torch.float64 and read as torch.int64",
    ),
    "an edit without a result": (
        of_rows(edited_unreturned),
        "aten._foreach_mul_ edits a tensor that it does not return",
    ),
    "an edited input": (changed_input, "the program changes its input x"),
    "zero by zero": (of_rows(lambda x: x / (x - x)), "aten.div divides by zero"),
    "an infinite mask": (of_rows(lambda x: x * torch.inf), "aten.mul multiplies infinity by data"),
    "no tensor": (lambda t: None, "the result is a NoneType, no tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused(name: str) -> None:
    """What leaves torch, depends on data otherwise than by values, or has no rule is named."""
    program, why = REFUSED[name]
    outcome = held(program, program)
    assert (outcome.verdict, outcome.difference) == ("refused", None)
    assert outcome.reason == f"On the left side {why}."


def test_memory_written_behind_is_refused() -> None:
    """Symbols that do not give the values of the program are no proof."""
    outcome = held(written_behind, lambda t: torch.full((2, 3), 7.0))
    assert outcome.reason == f"On the left side {FOLLOWS_NOT}."


def test_memory_that_grows_is_refused() -> None:
    """Marks that no longer fit their memory are not read."""
    with Following(Symbols()), pytest.raises(RefusedError, match=r"^memory changes its size$"):
        torch.zeros(2, dtype=torch.float64).resize_(3)


def test_a_program_that_is_otherwise_when_followed_is_refused() -> None:
    """A program may tell that it is followed; its symbols are then not those of its values."""
    assert held(wrong_when_followed, IDENTICAL).reason == f"On the left side {FOLLOWS_NOT}."


def test_a_program_with_a_memory_is_refused() -> None:
    """A program that gives something else the second time is no function."""
    program = kept_from_before()
    assert held(program, IDENTICAL).reason == (
        "On the left side the program does something else when it runs again."
    )


def test_a_result_that_is_no_number_is_refused() -> None:
    """Nothing tells whether the symbols of a program without values are right; positive inputs are tried."""
    program = of_rows(lambda x: (-(x * x) - 1).sqrt())
    assert held(program, program).reason == "On the left side the results are no numbers at random inputs."
    program = of_rows(lambda x: x.sqrt() * x.sqrt())
    assert held(program, of_rows(lambda x: x.sqrt() ** 2)).verdict == "holds"


@pytest.mark.parametrize(("name", "wrong"), [("relu", "abs"), ("_softmax", "exp"), ("mm", "mul")])
def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str, wrong: str) -> None:
    """What is followed is held against what is computed, so a mistake in a rule ends in no proof."""
    rule = RULES[f"aten.{wrong}"]
    operand = {"mul": "mat2"}.get(wrong)

    def renamed(call: Call) -> Marks:
        named = {**call.named, "other": call.named[operand]} if operand else call.named
        return rule(Call(call.op, call.args, call.kwargs, named, call.symbols))

    monkeypatch.setitem(RULES, f"aten.{name}", renamed)

    def program(t: Inputs) -> Tensor:
        w = t["w"]
        return w @ w if name == "mm" else w.relu() if name == "relu" else w.softmax(1)

    assert held(program, program).reason == f"On the left side {FOLLOWS_NOT}."


@pytest.mark.parametrize(
    ("limit", "most", "why"),
    [
        ("MOST_WORK", 500, "comes after the work of 500 products of terms"),
        ("MOST_TERMS", 50, "gives a polynomial of more than 50 terms"),
    ],
)
def test_too_much_work_is_refused(monkeypatch: pytest.MonkeyPatch, limit: str, most: int, why: str) -> None:
    """A proof ends after a stated number of products or terms, and says so; a difference needs neither."""
    monkeypatch.setattr(polynomials, limit, most)

    def power(t: Inputs) -> Tensor:
        return t["w"] @ t["w"] @ t["w"] @ t["w"] @ t["w"] @ t["w"]

    assert held(power, power).reason == f"On the left side aten.mm {why}: use a smaller shape."
    assert held(power, lambda t: t["w"]).verdict == "refuted"


def test_too_many_inputs_are_refused() -> None:
    """A shape that is not tiny is refused before anything runs."""
    outcome = held(IDENTICAL, IDENTICAL, {"x": (200, 200)})
    assert outcome.reason == "The inputs have 40,000 elements, more than the 20,000 that are followed."


def test_a_program_that_raises_is_refused() -> None:
    """A mistake in a program is its verdict; what a page asks of its user is passed on."""
    assert held(IDENTICAL, lambda t: t["z"]).reason == "The right side raises KeyError: 'z'."

    def asking(t: Inputs) -> Tensor:
        raise SameopError("The dimension G was asked for.")

    with pytest.raises(SameopError, match=r"^The dimension G was asked for\.$"):
        held(asking, IDENTICAL)
