"""What the claims about every operator have in common: its core, with its generated inputs made by a map.

A core takes kernels, attention maps or gates as given. Here they come from the map by the generator that the
operator's page names for its probes, in which softmax, sigmoid and the like are left out: what fails there
does not fail because of them.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from harness import Claim, Dims, Scope

_GENERATOR = "generator_"


class ClaimOfOperator(Claim):
    """A claim about the core of one operator; a subclass gives ``scope``.

    constants: parameters that only add something to the output, and are zero here.
    """

    scope: ClassVar[Scope]
    constants: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def activation(cls, d: Dims) -> str:
        """Name the map."""
        return next(name for name, spec in cls.scope.inputs(d).items() if spec.role == "activation")

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, and the parameters of the operator and of its generator."""
        specs = self.scope.inputs(d).items()
        free = {name: spec.shape for name, spec in specs if spec.role != "generated"}
        generator = self.scope.linear_generator
        if generator is not None:
            free |= {_GENERATOR + name: spec.shape for name, spec in generator.inputs(d).items()}
        return {name: shape for name, shape in free.items() if name not in self.constants}

    def parameters(self, d: Dims, free: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the operator's own parameters by name."""
        specs = self.scope.inputs(d)
        zeros = {name: next(iter(free.values())).new_zeros(specs[name].shape) for name in self.constants}
        own = {name: free[name] for name, spec in specs.items() if name in free and spec.role != "activation"}
        return {**own, **zeros}

    def generate(self, d: Dims, x: Tensor, free: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Make kernels, attention maps or gates from a map; nothing for an operator without."""
        generator = self.scope.linear_generator
        if generator is None:
            return {}
        own = {
            name.removeprefix(_GENERATOR): tensor
            for name, tensor in free.items()
            if name.startswith(_GENERATOR)
        }
        return generator.function(d, x, **own)

    def compute(self, d: Dims, x: Tensor, *others: Mapping[str, Tensor]) -> Tensor:
        """Compute the core from the map and whatever else it takes."""
        arguments: dict[str, Any] = {name: tensor for part in others for name, tensor in part.items()}
        return self.scope(**{self.activation(d): x}, **arguments, **self.scope.options(d))


Stated = TypeVar("Stated", bound=ClaimOfOperator)


def shapes_of(scope: Scope) -> tuple[Dims, ...]:
    """Return three adversarial shapes of a core with several images, the largest output first."""
    # Every further piece of a rectifier nests one more maximum, and doubles the trials that are needed.
    several = [d for d in scope.proof_dims if d.B > 1 and d.get("pieces", 1) <= 2]
    return tuple(sorted(several, key=lambda d: -torch.Size(scope.output(d)).numel())[:3])


def with_one_output_of(result: Tensor, other: Tensor) -> Tensor:
    """Return a result whose last output alone is that of another."""
    mixed = result.flatten().clone()
    mixed[-1] = other.flatten()[-1]
    return mixed.view_as(result)


def name_of(page: Any) -> str:
    """Return the name of a page's operator as words."""
    name: str = page.operator.name
    return name.replace("_", " ")


def claim_of(page: Any, base: type[Stated], ending: str, statement: str, **fields: Any) -> type[Stated]:
    """State a claim of one operator, in the module that states its base.

    statement: the words after the operator's name. fields: further attributes of the claim.
    """
    name = name_of(page)
    stated = {
        "__doc__": f"{name[0].upper()}{name[1:]} {statement}",
        "__module__": base.__module__,
        "name": f"{name.replace(' ', '-')}-{ending}",
        "operators": (page.operator.name,),
        "scope": page.core,
        "shapes": shapes_of(page.core),
        **fields,
    }
    return type(f"{base.__name__}Of{name.title().replace(' ', '')}", (base,), stated)
