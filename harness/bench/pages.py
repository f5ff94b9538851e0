"""An operator's page: the operator, its scopes and its implementations."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from torch import Tensor

from harness.bench.cost import Cost
from harness.bench.dims import Dims, Workload
from harness.bench.inputs import Spec, Specs
from harness.bench.traits import Traits
from harness.paper.errors import SameopError

Function = TypeVar("Function", bound=Callable[..., Tensor])
Kind = Literal["eager", "compiled", "native", "triton"]

ALL_DEVICES = ("cpu", "cuda")
ALL_DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Implementation:
    """One way to compute a scope of an operator.

    counted: how many MACs a counter that knows only matrix products and convolutions sees,
    by dims, where that is not all of them; counted_because says why.
    preferred: the form that is expected to be the fastest eager one.
    supports: returns the reason why dims cannot be taken, or None.
    """

    name: str
    function: Callable[..., Tensor]
    devices: tuple[str, ...] = ALL_DEVICES
    dtypes: tuple[str, ...] = ALL_DTYPES
    kind: Kind = "eager"
    preferred: bool = False
    counted: Callable[[Dims], int] | None = None
    counted_because: str = ""
    supports: Callable[[Dims], str | None] | None = None

    def refusal(self, d: Dims) -> str | None:
        """Say why these dimensions cannot be taken, or return None."""
        return self.supports(d) if self.supports else None


@dataclass(frozen=True)
class Generator:
    """How a core's generated inputs come from its activation, the generator's non-linearities left out.

    function: dims, the activation and the parameters to the generated inputs by name.
    inputs: dims to the specs of those parameters. Both are there to probe traits, not to be timed.
    """

    function: Callable[..., Mapping[str, Tensor]]
    inputs: Callable[[Dims], Specs]


@dataclass
class Scope:
    """What of an operator is computed: its core, or the whole module with its generator.

    inputs: dims to named specs. output: dims to the output's shape. cost: dims to closed-form
    costs. options: dims to keyword arguments that are no tensors. polynomial: whether the scope
    is a polynomial of its inputs with integer coefficients, so that agreement can be exact.
    domain: dims to the reason why the formula defines nothing there, or None.
    """

    name: str
    operator: Operator
    inputs: Callable[[Dims], Mapping[str, Spec]]
    output: Callable[[Dims], tuple[int, ...]]
    cost: Callable[[Dims], Cost]
    options: Callable[[Dims], Mapping[str, Any]]
    polynomial: bool
    formula: str
    workloads: list[Workload]
    proof_dims: tuple[Dims, ...]
    domain: Callable[[Dims], str | None] = lambda _: None
    linear_generator: Generator | None = None
    implementations: dict[str, Implementation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        declared = self.inputs

        def inputs(d: Dims) -> Mapping[str, Spec]:
            self.demand(d)
            return declared(d)

        self.inputs = inputs

    def __call__(self, *tensors: Tensor, **arguments: Any) -> Tensor:
        """Compute the scope by its reference."""
        return self.reference.function(*tensors, **arguments)

    @property
    def reference(self) -> Implementation:
        """The defining implementation."""
        return self.implementations["reference"]

    def refusal(self, d: Dims) -> str | None:
        """Say in one sentence why the formula defines nothing at these dimensions, or return None."""
        reason = _not_a_size(d) or self.domain(d)
        if reason is None and min(self.output(d)) < 1:
            reason = "its output would be empty: choose a larger map, more padding or a smaller kernel"
        if reason is None:
            return None
        return f"{self.operator.name}/{self.name} was asked for {d!r}, but {reason}."

    def demand(self, d: Dims) -> None:
        """Raise :class:`SameopError` where the formula defines nothing at these dimensions."""
        refusal = self.refusal(d)
        if refusal is not None:
            raise SameopError(refusal)

    def generator(
        self, inputs: Callable[[Dims], Specs]
    ) -> Callable[[Callable[..., Mapping[str, Tensor]]], Callable[..., Mapping[str, Tensor]]]:
        """Declare the decorated function as the linear generator of this core's generated inputs.

        It is called as ``function(d, x, **parameters)`` with the core's first activation and parameters
        drawn from ``inputs``.
        """

        def register(function: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
            self.linear_generator = Generator(function, inputs)
            return function

        return register

    def implementation(self, name: str, **properties: Any) -> Callable[[Function], Function]:
        """Register the decorated function as an implementation of this scope."""

        def register(function: Function) -> Function:
            if name in self.implementations:
                raise SameopError(
                    f"{self.operator.name}/{self.name} has two implementations named {name!r} in "
                    f"{self.operator.place}: rename one."
                )
            self.implementations[name] = Implementation(name, function, **properties)
            return function

        return register

    def costs_of_shapes(self, d: Dims) -> dict[str, int]:
        """Return the costs that need no counter: the shapes of inputs and output give them."""
        specs = self.inputs(d).values()
        return {
            "params": sum(spec.elements for spec in specs if spec.role == "parameter"),
            "elements_read": sum(spec.elements for spec in specs),
            "elements_written": math.prod(self.output(d)),
        }

    def best_eager(self, d: Dims) -> Implementation:
        """Return the form that is expected to be the fastest eager one at these dimensions."""
        for found in self.implementations.values():
            if found.preferred and found.refusal(d) is None:
                return found
        return self.reference

    def workload(self, name: str) -> Workload:
        """Return the workload of that name, or raise :class:`SameopError`."""
        for workload in self.workloads:
            if workload.name == name:
                return workload
        raise SameopError(
            f"The workload {name!r} was asked of {self.operator.name}/{self.name}, which has "
            f"{', '.join(w.name for w in self.workloads)}: name one of these."
        )


class Operator:
    """A function family from a paper: its name, its family and its source.

    Example: ``Operator("involution", family="involution", source="Li et al. 2021, eq. (4)")``.
    ``traits`` declares what Han et al. 2021 sort operators by; they are probed, at
    ``probed_at``, or the largest of the dimensions made for proofs.
    """

    def __init__(
        self,
        name: str,
        *,
        family: str,
        source: str,
        note: str = "",
        traits: Traits | None = None,
        probed_at: Dims | None = None,
    ) -> None:
        self.name = name
        self.family = family
        self.source = source
        self.note = note
        self.traits = traits
        self.probed_at = probed_at
        self.scopes: dict[str, Scope] = {}
        self.place = _caller()

    def scope(
        self,
        name: str,
        *,
        reference: Callable[..., Tensor],
        inputs: Callable[[Dims], Mapping[str, Spec]],
        output: Callable[[Dims], tuple[int, ...]],
        cost: Callable[[Dims], Cost],
        workloads: Iterable[Workload],
        proof_dims: Iterable[Dims],
        options: Callable[[Dims], Mapping[str, Any]] = lambda _: {},
        polynomial: bool = False,
        domain: Callable[[Dims], str | None] = lambda _: None,
        **properties: Any,
    ) -> Scope:
        """Declare a scope with its reference; ``properties`` are those of the reference."""
        scope = Scope(
            name=name,
            operator=self,
            inputs=inputs,
            output=output,
            cost=cost,
            options=options,
            polynomial=polynomial,
            domain=domain,
            formula=inspect.getdoc(reference) or "",
            workloads=list(workloads),
            proof_dims=tuple(proof_dims),
        )
        scope.implementations["reference"] = Implementation("reference", reference, **properties)
        self.scopes[name] = scope
        return scope

    def __repr__(self) -> str:
        return f"<operator {self.name}>"


def _not_a_size(d: Dims) -> str | None:
    """Name the first dimension that no tensor and no kernel can have."""
    for name, value in d.items():
        least = 0 if name == "padding" else 1
        if isinstance(value, int) and value < least:
            return f"{name} must be at least {least}: choose another"
    return None


def _caller() -> str:
    """Name the page that creates an operator."""
    frame = inspect.currentframe()
    while frame and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown"
