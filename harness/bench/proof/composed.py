"""A scope as functions to probe: its weights free, or made by its linear generator from the activation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.bench.dims import Dims
from harness.bench.inputs import Specs, Tensors, draw_inputs, seed_of
from harness.bench.pages import Generator, Operator, Scope
from harness.bench.proof.certificate import EXACT_BELOW, Analysis, follow
from harness.bench.proof.shadow import RefusedError
from harness.paper.errors import SameopError

# Two integers up to ±1000 that have nothing to do with each other are equal once in 2000 draws.
_LARGEST_INTEGER = 1000
# Below this range, zeros and equalities would be coincidence too often.
_SMALLEST_INTEGER = 3
# The Jacobian of 4096 outputs takes about 10 s.
_MOST_OUTPUTS = 4096
# Passes backward that run as one: more of them take memory, fewer take time.
_AT_ONCE = 128
_PARAMETER = "generator."


@dataclass(frozen=True)
class Function:
    """A function of named tensors; where it is an integer polynomial, nothing in it may round."""

    title: str
    specs: Specs
    compute: Callable[[Tensors], Tensor]
    is_polynomial: bool

    def draw(self, what: str) -> Tensors:
        """Draw every input so that values and gradients are exact, or from its distribution."""
        return self._draw(what, 1, 1, vjp=True)

    def draw_line(self, what: str, steps: int, order: int) -> Tensors:
        """Draw every input so that differences of an order are exact that many steps along a line."""
        # An input is then 1 + steps draws large, and a difference adds up to 2^order values.
        return self._draw(what, 1 + steps, 2**order, vjp=False)

    def _draw(self, what: str, inputs: int, results: int, *, vjp: bool) -> Tensors:
        seed = seed_of(self.title, what)
        if not self.is_polynomial:
            return draw_inputs(self.specs, seed, torch.float64)
        generator = torch.Generator().manual_seed(seed)
        largest = self._largest_integer(inputs, results, self._follow(vjp=vjp))
        return {name: _integers(spec.shape, largest, generator) for name, spec in self.specs.items()}

    def _largest_integer(self, inputs: int, results: int, analysis: Analysis) -> int:
        """Return the largest that stays exact if inputs and results grow by these factors."""
        room = (EXACT_BELOW / analysis.majorant / results) ** (1 / analysis.degree) / inputs
        if room < _SMALLEST_INTEGER:
            raise SameopError(
                f"{self.title} sums so many terms that too few integers stay exact: "
                "declare smaller sizes in `probed_at`."
            )
        return min(_LARGEST_INTEGER, int(room))

    def _follow(self, *, vjp: bool) -> Analysis:
        shapes = {name: spec.shape for name, spec in self.specs.items()}
        try:
            return follow(self.compute, shapes, seed=0, vjp=vjp)
        except RefusedError as refusal:
            raise SameopError(
                f"{self.title} is declared a polynomial with integer coefficients, but {refusal}: keep to "
                "sums and products, in a linear generator too."
            ) from None


@dataclass(frozen=True)
class Subject:
    """A scope at the dimensions where it is probed, B being one.

    activation: the name of its first activation, [1, C, …] over a grid of positions.
    """

    scope: Scope
    dims: Dims
    activation: str

    @classmethod
    def of(cls, operator: Operator) -> Subject:
        """Choose scope and dimensions, or raise :class:`SameopError` where a probe tells nothing."""
        scope = _scope_of(operator)
        dims = _dims_of(scope)
        subject = cls(scope, dims, _activation_of(scope, dims))
        subject._demand_telling()
        subject._demand_generator()
        return subject

    @property
    def title(self) -> str:
        """The scope and its dimensions in words."""
        return f"{_title(self.scope)} at {self.dims!r}"

    @property
    def grid(self) -> tuple[int, ...]:
        """The sizes of the map."""
        return self.specs[self.activation].shape[2:]

    @cached_property
    def specs(self) -> Specs:
        """What the scope takes."""
        return self.scope.inputs(self.dims)

    @cached_property
    def free(self) -> Function:
        """The scope itself, generated inputs being drawn as any other."""
        return Function(self.title, self.specs, self.run, self.scope.polynomial)

    @cached_property
    def composed(self) -> Function:
        """The scope with its generated inputs made from the activation, or itself without a generator."""
        if self.scope.linear_generator is None:
            return self.free
        specs = {name: spec for name, spec in self.specs.items() if spec.role != "generated"}
        specs |= {
            _PARAMETER + name: spec for name, spec in self.scope.linear_generator.inputs(self.dims).items()
        }
        title = f"{self.title} with its linear generator"
        return Function(title, specs, lambda inputs: self.run(self.generate(inputs)), self.scope.polynomial)

    def run(self, inputs: Tensors) -> Tensor:
        """Compute the scope from all its inputs by its reference: [1, Co, …]."""
        return self.scope.reference.function(**inputs, **self.scope.options(self.dims))

    def generate(self, inputs: Tensors) -> Tensors:
        """Return the scope's inputs from those of ``composed``."""
        own = {name: tensor for name, tensor in inputs.items() if name in self.specs}
        generator = self.scope.linear_generator
        if generator is None:
            return own
        parameters = {
            name.removeprefix(_PARAMETER): tensor
            for name, tensor in inputs.items()
            if name.startswith(_PARAMETER)
        }
        return {**own, **self._made(generator, inputs[self.activation], parameters)}

    def _made(self, generator: Generator, x: Tensor, parameters: Tensors) -> Mapping[str, Tensor]:
        """Call a generator and refuse what is not exactly the generated inputs."""
        try:
            made = generator.function(self.dims, x, **parameters)
            found = {name: list(tensor.shape) for name, tensor in made.items()}
        except RefusedError:
            raise
        except Exception as error:
            said = (str(error).strip().splitlines() or ["no message"])[0]
            raise SameopError(
                f"The linear generator of {self.title} raises {type(error).__name__}: {said}."
            ) from error
        wanted = {name: list(self.specs[name].shape) for name in self._generated}
        if found != wanted:
            raise SameopError(
                f"The linear generator of {self.title} makes {found}, but the generated inputs are {wanted}: "
                "return each of them by its name and in its shape."
            )
        return made

    def jacobians(self, inputs: Tensors) -> list[Tensor]:
        """Differentiate at the maps of ones and of minus ones: two of [Co, N, C, N]."""
        ones = torch.ones_like(inputs[self.activation])
        return [self._jacobian({**inputs, self.activation: sign * ones}) for sign in (1, -1)]

    def _jacobian(self, inputs: Tensors) -> Tensor:
        x = inputs[self.activation].detach().requires_grad_()
        output = self.run({**inputs, self.activation: x})
        channels, positions = x.shape[1], math.prod(self.grid)
        rows = x.new_zeros(output.numel(), x.numel())
        if output.requires_grad:
            unit = torch.eye(output.numel(), dtype=output.dtype).unflatten(1, output.shape)
            found = [_pull_back(output, x, part) for part in unit.split(_AT_ONCE)]
            rows = torch.cat(found).flatten(1)
        return rows.reshape(-1, positions, channels, positions)

    def _demand_telling(self) -> None:
        """Refuse dimensions at which different traits look alike."""
        given, made = self.specs[self.activation].shape, self.scope.output(self.dims)
        if made[2:] != given[2:]:
            raise SameopError(
                f"{self.title} was probed, but its output {list(made)} lies on another grid than its input "
                f"{list(given)}: declare `probed_at` with a stride of one."
            )
        if given[1] < 2 or math.prod(self.grid) < 2:
            raise SameopError(
                f"{self.title} was probed, but a map of {list(given)} has too few channels or positions to "
                "tell traits apart: declare `probed_at` with at least two of either."
            )
        if math.prod(made) > _MOST_OUTPUTS:
            raise SameopError(
                f"{self.title} was probed, but has {math.prod(made)} outputs, which takes long: declare "
                f"`probed_at` with at most {_MOST_OUTPUTS}."
            )

    def _demand_generator(self) -> None:
        names = self._generated
        if names and self.scope.linear_generator is None:
            raise SameopError(
                f"{_title(self.scope)} was probed, but nothing says how its generated inputs "
                f"{', '.join(names)} come from {self.activation}: add a linear generator with "
                f"@{self.scope.name}.generator(inputs=…)."
            )

    @property
    def _generated(self) -> list[str]:
        return [name for name, spec in self.specs.items() if spec.role == "generated"]


def _pull_back(output: Tensor, x: Tensor, cotangents: Tensor) -> Tensor:
    """Return the gradients in x of several combinations of outputs."""
    with warnings.catch_warnings():
        # Operations that torch cannot batch are done one by one, of which it warns.
        warnings.filterwarnings("ignore", message=".*batching rule")
        (found,) = torch.autograd.grad(output, x, cotangents, retain_graph=True, is_grads_batched=True)
    return found


def _title(scope: Scope) -> str:
    return f"{scope.operator.name}/{scope.name}"


def _scope_of(operator: Operator) -> Scope:
    if "core" in operator.scopes:
        return operator.scopes["core"]
    if len(operator.scopes) != 1:
        raise SameopError(
            f"{operator.name} was probed, but has {', '.join(operator.scopes) or 'no scope'}: name the scope "
            "that takes its weights as given `core`."
        )
    return next(iter(operator.scopes.values()))


def _dims_of(scope: Scope) -> Dims:
    """Return where to probe: the declared dimensions, else the largest map among the proof's."""
    declared = scope.operator.probed_at
    if declared is not None:
        return _single(declared)
    level = [_single(d) for d in scope.proof_dims if d.get("stride", 1) == 1]
    level = [d for d in level if scope.output(d)[2:] == _grid(scope, d)]
    if not level:
        raise SameopError(
            f"{_title(scope)} was probed, but at none of its proof dimensions has the output the grid of the "
            "input: declare `probed_at`."
        )
    return max(level, key=lambda d: math.prod(_grid(scope, d)))


def _single(d: Dims) -> Dims:
    return d.replace(B=1) if "B" in d else d


def _grid(scope: Scope, d: Dims) -> tuple[int, ...]:
    return scope.inputs(d)[_activation_of(scope, d)].shape[2:]


def _activation_of(scope: Scope, d: Dims) -> str:
    """Name the first activation, which must be a single map or sequence."""
    for name, spec in scope.inputs(d).items():
        if spec.role == "activation":
            if len(spec.shape) in (3, 4) and spec.shape[0] == 1:
                return name
            raise SameopError(
                f"{_title(scope)} was probed at {d!r}, but its activation {name} has the shape "
                f"{list(spec.shape)}: only [1, C, H, W] and [1, C, T] are probed."
            )
    raise SameopError(f"{_title(scope)} was probed, but has no activation: give one input that role.")


def _integers(shape: tuple[int, ...], largest: int, generator: torch.Generator) -> Tensor:
    """Draw integers of either sign, none of them zero."""
    sizes = torch.randint(1, largest + 1, shape, generator=generator)
    return (sizes * (2 * torch.randint(0, 2, shape, generator=generator) - 1)).double()
