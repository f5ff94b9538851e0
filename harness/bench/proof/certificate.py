"""The certificate: two torch programs are equal, or an identity of small error probability says so.

Both programs run on random integers in float64. If every sum of absolute terms stays below 2⁵³, no
addition or multiplication rounds in any order, so equal polynomials give bitwise equal results. By
Schwartz and Zippel, two different polynomials of total degree at most D agree at a point drawn from
S values per variable with probability at most D/S; trials multiply.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.rules import RULES
from harness.bench.proof.shadow import RefusedError, Seen, Shadow
from harness.paper.errors import SameopError

Outputs = Tensor | tuple[Tensor, ...]
Program = Callable[[Tensors], Outputs]
Shapes = Mapping[str, tuple[int, ...]]

EXACT_BELOW = 2.0**53
TARGET_LOG10_P = -30.0
# A program is followed on integers of this size; a bound on its terms then holds for every size.
_FOLLOWED = 3


@dataclass(frozen=True)
class Difference:
    """Where two programs differ: which result, at which index, and both values there."""

    result: str
    index: tuple[int, ...]
    left: float
    right: float
    share: float


@dataclass(frozen=True)
class Analysis:
    """What following a program says of it: degree, majorant for inputs of size one, constants, backends.

    degree and majorant hold for every intermediate tensor; roundings for the results.
    """

    degree: int
    majorant: float
    roundings: float
    constants: list[Tensor]
    operations: list[str]
    backends: frozenset[str]

    def magnitude(self) -> int:
        """Return the largest integer range at which nothing can round."""
        limit: float = (EXACT_BELOW / self.majorant) ** (1 / self.degree)
        return int(limit * (1 - 1e-12))


@dataclass(frozen=True)
class Evidence:
    """What one pass (values, or vector-Jacobian products) established at one shape."""

    vjp: bool
    degree: int
    magnitude: int
    trials: int
    log10_p: float
    majorant_ratio: float
    backends: tuple[str, ...]


@dataclass
class Outcome:
    """The verdict on one pair of programs at one shape."""

    verdict: str
    evidence: list[Evidence] = field(default_factory=list)
    difference: Difference | None = None
    reason: str | None = None


# What is known of the programs: by side, and whether it is of the vector-Jacobian product.
Known = MutableMapping[tuple[str, bool], Analysis]


def certify(
    left: Program,
    right: Program,
    shapes: Shapes,
    seed: int,
    trials: int | None = None,
    known: Known | None = None,
) -> Outcome:
    """Compare two programs of named inputs, forward and by vector-Jacobian products.

    trials: how many; by default as many as bring the error probability to 1e-30. known: analyses of these
    programs, which are not repeated; new ones are added.
    The verdict is ``holds``, ``refuted`` with the difference, or ``refused`` with the reason; a
    program that raises is refused.
    """
    outcome = Outcome("holds")
    known = {} if known is None else known
    for vjp in (False, True):
        try:
            evidence, difference = _pass(left, right, shapes, seed, trials, known, vjp=vjp)
        except RefusedError as refusal:
            reason = str(refusal)
            return Outcome("refused", reason=f"{reason[0].upper()}{reason[1:]}.")
        if difference is not None:
            return Outcome("refuted", outcome.evidence, difference)
        outcome.evidence.append(evidence)
    return outcome


def _pass(
    left: Program, right: Program, shapes: Shapes, seed: int, trials: int | None, known: Known, *, vjp: bool
) -> tuple[Evidence, Difference | None]:
    for name, side in (("left", left), ("right", right)):
        if (name, vjp) not in known:
            with _telling(name):
                known[name, vjp] = analyse(side, shapes, seed, vjp=vjp)
    analyses = [known[name, vjp] for name in ("left", "right")]
    degree = max(analysis.degree for analysis in analyses)
    magnitude = min(analysis.magnitude() for analysis in analyses)
    if magnitude < degree:
        raise RefusedError(
            f"the integers that stay exact reach only ±{magnitude} at degree {degree}: use a smaller shape"
        )
    log10_chance = math.log10(degree / (2 * magnitude + 1))
    count = trials or math.ceil(TARGET_LOG10_P / log10_chance)
    difference = None
    for trial in range(count):
        difference = _try(left, right, shapes, magnitude, seed + trial, vjp=vjp)
        if difference is not None:
            break
    backends = tuple(sorted(analyses[0].backends | analyses[1].backends))
    ratio = max(side.majorant * float(magnitude) ** side.degree for side in analyses) / EXACT_BELOW
    return Evidence(vjp, degree, magnitude, count, count * log10_chance, ratio, backends), difference


@contextlib.contextmanager
def _telling(side: str) -> Iterator[None]:
    """Say of which side a refusal speaks, and turn whatever the program raises into one."""
    try:
        yield
    except RefusedError as refusal:
        raise RefusedError(f"on the {side} side {refusal}") from None
    except SameopError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or ["no message"])[0]
        raise RefusedError(f"the {side} side raises {type(error).__name__}: {said}") from error


def analyse(program: Program, shapes: Shapes, seed: int, *, vjp: bool) -> Analysis:
    """Follow a program twice on different integers; both must do the same to the same constants."""
    first, second = (follow(program, shapes, seed + level, vjp=vjp) for level in (0, 1))
    same = first.operations == second.operations and len(first.constants) == len(second.constants)
    if not same or not all(map(torch.equal, first.constants, second.constants)):
        raise RefusedError("the program does something else on other inputs, or carries data out of torch")
    return first


def follow(program: Program, shapes: Shapes, seed: int, *, vjp: bool) -> Analysis:
    """Follow a program once on small integers, or raise :class:`RefusedError`."""
    inputs = draw_integers(shapes, _FOLLOWED, seed)
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    shadow = Shadow(RULES)
    for name, tensor in inputs.items():
        shadow.track(name, tensor.requires_grad_(vjp), 1.0)
    results = _run_vjp(program, inputs, shadow) if vjp else _run(program, inputs, shadow)
    _demand_unchanged(inputs, before)
    for result in results.values():
        _demand_followed(shadow.see(result.detach()))
    roundings = max((shadow.see(result.detach()).roundings for result in results.values()), default=0.0)
    return Analysis(
        max(1, shadow.highest_degree),
        max(1.0, shadow.largest),
        roundings,
        shadow.constants,
        shadow.operations,
        frozenset(shadow.backends),
    )


def _demand_unchanged(inputs: Tensors, before: Tensors) -> None:
    for name, tensor in inputs.items():
        if not torch.equal(tensor.detach(), before[name]):
            raise RefusedError(f"the program changes its input {name}")


def _demand_followed(result: Seen) -> None:
    """Refuse a result that its shadow does not bound: something wrote it that torch knows nothing of."""
    bound = result.terms * float(_FOLLOWED) ** result.degree.total
    if not bool((result.value.abs() <= bound).all()):
        raise RefusedError("a result was never written, or written in a way that cannot be followed")


def _run(program: Program, inputs: Tensors, shadow: Shadow) -> Tensors:
    with torch.no_grad(), shadow:
        return _named(program(inputs))


def _run_vjp(program: Program, inputs: Tensors, shadow: Shadow) -> Tensors:
    cotangents = draw_integers(_output_shapes(program, inputs), _FOLLOWED, 99)
    for name, cotangent in cotangents.items():
        shadow.track(f"cotangent of {name}", cotangent, 1.0)
    with shadow:
        return _gradients(program, inputs, cotangents)


def _try(
    left: Program, right: Program, shapes: Shapes, magnitude: int, seed: int, *, vjp: bool
) -> Difference | None:
    results = []
    for name, side in (("left", left), ("right", right)):
        inputs = draw_integers(shapes, magnitude, seed)
        before = {name: tensor.clone() for name, tensor in inputs.items()}
        with _telling(name):
            results.append(_evaluate(side, inputs, magnitude, seed, vjp=vjp))
            _demand_unchanged(inputs, before)
    return first_difference(*results)


def _evaluate(program: Program, inputs: Tensors, magnitude: int, seed: int, *, vjp: bool) -> Tensors:
    if not vjp:
        with torch.no_grad():
            return {name: out.clone() for name, out in _named(program(inputs)).items()}
    leaves = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    cotangents = draw_integers(_output_shapes(program, inputs), magnitude, seed + 1_000_003)
    return _gradients(program, leaves, cotangents)


def _output_shapes(program: Program, inputs: Tensors) -> Shapes:
    # On copies, so that a result which the program keeps for these very tensors is not met again.
    with torch.no_grad():
        outputs = _named(program({name: tensor.clone() for name, tensor in inputs.items()}))
    return {name: tuple(out.shape) for name, out in outputs.items()}


def _gradients(program: Program, inputs: Tensors, cotangents: Tensors) -> Tensors:
    outputs = _named(program(inputs))
    pairs = [(outputs[name], cotangents[name]) for name in outputs if outputs[name].requires_grad]
    found = torch.autograd.grad(
        [output for output, _ in pairs],
        list(inputs.values()),
        [cotangent for _, cotangent in pairs],
        allow_unused=True,
    )
    return {
        f"gradient of {name}": torch.zeros_like(inputs[name]) if gradient is None else gradient
        for name, gradient in zip(inputs, found, strict=True)
    }


def first_difference(left: Tensors, right: Tensors) -> Difference | None:
    """Return the first place where two sets of results differ bitwise, or None."""
    if left.keys() != right.keys():
        return Difference("number of results", (), len(left), len(right), 1.0)
    for name, first in left.items():
        second = right[name]
        if first.ndim != second.ndim:
            return Difference(f"number of axes of the {name}", (), first.ndim, second.ndim, 1.0)
        for axis, sizes in enumerate(zip(first.shape, second.shape, strict=True)):
            if sizes[0] != sizes[1]:
                return Difference(f"size of the {name} along axis", (axis,), *sizes, 1.0)
        unequal = ~(first == second)
        if bool(unequal.any()):
            index = tuple(int(i) for i in unequal.nonzero()[0])
            share = float(unequal.double().mean())
            return Difference(name, index, float(first[index]), float(second[index]), share)
    return None


def draw_integers(shapes: Shapes, magnitude: int, seed: int) -> Tensors:
    """Draw integers of at most the given size for named shapes, as float64."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(-magnitude, magnitude + 1, shape, generator=generator).double()
        for name, shape in shapes.items()
    }


def _named(outputs: Outputs) -> Tensors:
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    for output in several:
        if not isinstance(output, Tensor):
            raise RefusedError(f"the result is a {type(output).__name__}, no tensor")
    if isinstance(outputs, Tensor):
        return {"output": outputs}
    return {f"output {number}": output for number, output in enumerate(several, start=1)}
