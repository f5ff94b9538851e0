"""Networks: published ones, assembled from operators on the meta device and counted layer by layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from harness.bench.dims import Dims, Workload
from harness.bench.pages import Operator, Scope
from harness.paper.errors import SameopError

# What the axes of a vector, a sequence and a map are called.
_LETTERS = {2: ("B", "C"), 3: ("B", "C", "T"), 4: ("B", "C", "H", "W")}


@dataclass(frozen=True)
class Layer:
    """A layer and how often it occurs; what is no operator of the catalogue has no scope and no dims.

    workload: ``network/stage_role``. params, macs and elementwise are those of one occurrence.
    """

    operator: str
    workload: str
    count: int
    params: int
    macs: int
    elementwise: int = 0
    scope: str | None = None
    dims: Dims | None = None


@dataclass(frozen=True)
class Assembly:
    """An assembled network: its distinct layers in order, and the parameters that were allocated for it."""

    name: str
    layers: tuple[Layer, ...]
    allocated: int

    @property
    def params(self) -> int:
        """Learned numbers, by the operators' formulas."""
        return sum(layer.count * layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image or sequence, by the operators' formulas."""
        return sum(layer.count * layer.macs for layer in self.layers)

    def params_of(self, operator: str) -> int:
        """Learned numbers of one operator or other kind of layer."""
        return sum(layer.count * layer.params for layer in self.layers if layer.operator == operator)

    def macs_of(self, operator: str) -> int:
        """Multiply-accumulates of one operator or other kind of layer."""
        return sum(layer.count * layer.macs for layer in self.layers if layer.operator == operator)

    def elementwise_of(self, operator: str) -> int:
        """Elementwise operations of one operator or other kind of layer, such as ``batch_norm``."""
        return sum(layer.count * layer.elementwise for layer in self.layers if layer.operator == operator)

    def workloads(self) -> Iterator[tuple[Layer, Workload]]:
        """Return the operators' layers with the workloads they are measured by."""
        for layer in self.layers:
            if layer.dims is not None:
                yield layer, Workload(layer.workload, layer.dims, f"{self.name}, {layer.count} times")


@dataclass(frozen=True)
class Network:
    """A published network: ``build`` lays its layers into a blueprint.

    convention: what the multiply-accumulates are counted of. mixes: whether its mixing layers can be
    replaced by another operator.
    """

    name: str
    source: str
    build: Callable[[Blueprint], None]
    note: str = ""
    mixes: bool = False
    convention: str = (
        "multiply-accumulates of convolutions, linear layers, the products of attention, gates on maps and "
        "mixing of kernels, padding taps included; norms, activations, biases, softmax and pooling are not "
        "among them"
    )

    def assemble(self, operators: Mapping[str, Operator], mixer: str | None = None) -> Assembly:
        """Assemble the network, its mixing layers replaced by ``mixer`` if one is named.

        Raises :class:`SameopError` for a mixer that is unknown, that the network has no place for, or
        that cannot take one of its layers.
        """
        if mixer is not None and not self.mixes:
            raise SameopError(
                f"{self.name} was asked for with the mixer {mixer!r}, but its mixing layers have no other "
                "operator's shape: name a network whose mixers can be replaced, such as swin_t."
            )
        if mixer is not None and mixer not in operators:
            raise SameopError(f"No operator is named {mixer!r}: `sameop list` shows those that are.")
        blueprint = Blueprint(f"{self.name}+{mixer}" if mixer else self.name, operators, mixer)
        self.build(blueprint)
        return blueprint.finished()


@dataclass
class Blueprint:
    """What a network's layers are laid into; its maps are tensors [1, …] on the meta device.

    Every layer runs the operator's implementation on them, so shapes that do not fit are found here.
    """

    name: str
    operators: Mapping[str, Operator]
    mixer: str | None = None
    _stage: str = ""
    _layers: dict[tuple[str, str, Dims | tuple[int, ...]], Layer] = field(default_factory=dict)
    _names: dict[str, Dims] = field(default_factory=dict)
    _allocated: int = 0

    def input(self, *shape: int) -> Tensor:
        """Return what the network is given, one image [1, C, H, W] or sequence [1, C, T]."""
        return torch.empty(1, *shape, device="meta")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name the stage that the layers laid meanwhile belong to."""
        before, self._stage = self._stage, name
        yield
        self._stage = before

    def layer(
        self, operator: str, role: str, x: Tensor, scope: str | None = None, **letters: int | str
    ) -> Tensor:
        """Lay a layer on ``x`` and return its output; its letters beside B, C, H, W (or T) are given.

        role: what the layer is for, the second half of its workload's name; empty where the stage says it.
        scope: ``module`` where the operator has one, unless named.
        """
        chosen = self._scope(operator, scope)
        sizes = dict(zip(_LETTERS[x.dim()], x.shape, strict=True))
        dims = Dims(**sizes, **letters)
        cost = chosen.cost(dims)
        key = (operator, chosen.name, dims)
        known = self._layers.get(key) or Layer(
            operator,
            self._new_name(role, dims),
            0,
            cost.params,
            cost.macs,
            cost.elementwise,
            chosen.name,
            dims,
        )
        self._layers[key] = replace(known, count=known.count + 1)
        return self._run(chosen, dims, x)

    def other(
        self, kind: str, params: tuple[tuple[int, ...], ...] = (), macs: int = 0, elementwise: int = 0
    ) -> None:
        """Count a layer that is no operator here, such as a norm; params are the shapes of what it learns."""
        size = sum(torch.Size(shape).numel() for shape in params)
        workload = f"{self.name}/{self._stage or kind}"
        key = (kind, workload, (size, macs, elementwise))
        known = self._layers.get(key) or Layer(kind, workload, 0, size, macs, elementwise)
        self._layers[key] = replace(known, count=known.count + 1)
        self._allocated += sum(torch.empty(shape, device="meta").numel() for shape in params)

    def finished(self) -> Assembly:
        """Return what was laid."""
        return Assembly(self.name, tuple(self._layers.values()), self._allocated)

    def _scope(self, operator: str, scope: str | None) -> Scope:
        if operator not in self.operators:
            raise SameopError(
                f"{self.name} is built with {operator!r}, which no page declares: add the page."
            )
        scopes = self.operators[operator].scopes
        name = scope or ("module" if "module" in scopes else "core")
        if name not in scopes:
            raise SameopError(
                f"{self.name} is built with {operator}/{name}, but the page of {operator} has "
                f"{', '.join(scopes)}: name one of these."
            )
        return scopes[name]

    def _run(self, scope: Scope, dims: Dims, x: Tensor) -> Tensor:
        """Run the fastest implementation on the meta device, with parameters that are allocated for it."""
        specs = scope.inputs(dims)
        first = next(name for name, spec in specs.items() if spec.role == "activation")
        if specs[first].shape != tuple(x.shape):
            raise SameopError(
                f"{self.name} lays {scope.operator.name} on {list(x.shape)}, but it takes "
                f"{list(specs[first].shape)}: name an operator for such maps, or correct the layer's letters."
            )
        tensors = {name: torch.empty(spec.shape, device="meta") for name, spec in specs.items()}
        self._allocated += sum(tensors[name].numel() for name, s in specs.items() if s.role == "parameter")
        tensors[first] = x
        return scope.best_eager(dims).function(**tensors, **scope.options(dims))

    def _new_name(self, role: str, dims: Dims) -> str:
        """Name a layer after its stage and role, and where that is taken after what tells it apart."""
        name = f"{self.name}/{'_'.join(filter(None, (self._stage, role)))}"
        if name in self._names:
            first = self._names[name]
            differing = {letter: value for letter, value in dims.items() if first.get(letter) != value}
            name = "_".join((name, *(f"{letter.lower()}{value}" for letter, value in differing.items())))
        while name in self._names:
            name += "_again"
        self._names[name] = dims
        return name
