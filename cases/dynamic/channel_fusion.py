"""What the pages of dynamic channel fusion (DCD) share: their dynamic parts, and the branch that makes them.

Li et al., ICLR 2021 (arXiv 2103.08756), figure 3: Λ(x), ``gate``, and Φ(x), ``phi``, come from one branch, a
mean over the map and two bias-free layers with a ReLU between them. Either part may be left out by ``parts``,
as in the paper's ablation. References have a branch of their own.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Spec, parameter

PARTS = BOTH, GATE, PHI = "gate+phi", "gate", "phi"
Part = Tensor | None
Bases = Mapping[str, Tensor]


def parts_of(d: Dims) -> str:
    """Return the dynamic parts that the workload names, both by default."""
    return str(d.get("parts", BOTH))


def refusal(d: Dims) -> str | None:
    """Say why there are no such parts, or return None."""
    if parts_of(d) not in PARTS:
        return f"no parts are called {d.parts!r}: name 'gate+phi', 'gate' or 'phi'"
    return None


def refusal_of_branch(d: Dims) -> str | None:
    """Say why the branch has no hidden unit, or return None."""
    if d.C < d.R:
        return f"a reduction by {d.R} leaves none of {d.C} channels: choose R of at most C"
    return None


def behind_branch(d: Dims, specs: Mapping[str, Spec]) -> Mapping[str, Spec]:
    """Replace Λ and Φ, as far as they are among the inputs, by the two layers that make them."""
    made = [spec.elements // d.B for spec in specs.values() if spec.role == "generated"]
    hidden = d.C // d.R
    return {
        **{name: spec for name, spec in specs.items() if spec.role != "generated"},
        "squeeze": parameter(hidden, d.C, fan_in=d.C),
        "excite": parameter(sum(made), hidden, fan_in=hidden),
    }


def branch_macs(d: Dims, specs: Mapping[str, Spec]) -> int:
    """Count the two layers of the branch, which are as many weights, for the batch."""
    behind = behind_branch(d, specs)
    return int(d.B) * (behind["squeeze"].elements + behind["excite"].elements)


def with_branch_cost(d: Dims, fused: Cost, specs: Mapping[str, Spec]) -> Cost:
    """Add the branch to the costs of a core with these inputs: a mean over the map, two layers, a ReLU."""
    macs = branch_macs(d, specs)
    bounded = None if fused.macs_in_bounds is None else fused.macs_in_bounds + macs
    return replace(
        fused,
        params=fused.params + macs // d.B,
        macs=fused.macs + macs,
        macs_in_bounds=bounded,
        elements_read=sum(spec.elements for spec in behind_branch(d, specs).values()),
        elementwise=fused.elementwise + d.B * (d.C * d.H * d.W + d.C // d.R),
    )


def merging_pays(weights: int, H: int, W: int, stride: int = 1) -> bool:
    """Tell whether one kernel per image is faster than maps, by the weights of an output channel.

    They may not be more than its positions: the rule by which the paper gates weights or outputs.
    """
    return weights <= -(-H // stride) * -(-W // stride)


def branch(x: Tensor, squeeze: Tensor, excite: Tensor, shape: tuple[int, ...]) -> tuple[Part, Part]:
    """Compute λ and Φ of a map [B, C, H, W]; no λ where excite has no rows for it, no Φ without a shape."""
    dynamic = F.linear(F.relu(F.linear(x.mean((2, 3)), squeeze)), excite)
    gates = len(excite) - (math.prod(shape) if shape else 0)
    gate, phi = dynamic.tensor_split([gates], dim=1)
    return gate if gates else None, phi.reshape(-1, *shape) if shape else None


def square_phi(bases: Bases) -> tuple[int, ...]:
    """Return the shape of an image's Φ where that is a matrix, [L, L] for P [·, L]."""
    L = bases["P"].shape[1]
    return L, L


def with_branch(
    fuse: Callable[..., Tensor], shape_of_phi: Callable[[Bases], tuple[int, ...]]
) -> Callable[..., Tensor]:
    """Turn a form of a core into one of its module, which computes Λ and Φ by the branch.

    shape_of_phi: the bases by name to the shape of an image's Φ; it is asked where P is among them.
    """

    def run(
        x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor, stride: int | None = None, **bases: Tensor
    ) -> Tensor:
        gate, phi = branch(x, squeeze, excite, shape_of_phi(bases) if "P" in bases else ())
        options = {} if stride is None else {"stride": stride}
        return fuse(x, weight, gate, phi, **bases, **options)

    return run


def linear_layers(d: Dims, specs: Mapping[str, Spec]) -> Mapping[str, Spec]:
    """Shapes of the layers that make the generated inputs linearly from a vector of the channels."""
    return {
        f"to_{name}": parameter(spec.elements // d.B, d.C)
        for name, spec in specs.items()
        if spec.role == "generated"
    }


def made_of_sums(specs: Mapping[str, Spec], x: Tensor, layers: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Make the generated inputs by one linear layer each, on the sum over all positions of every image."""
    return {
        name: torch.einsum("oc,bchw->bo", layers[f"to_{name}"], x).reshape(spec.shape)
        for name, spec in specs.items()
        if spec.role == "generated"
    }
