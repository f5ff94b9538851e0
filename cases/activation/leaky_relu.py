"""Leaky rectified linear unit: what is negative is multiplied by a small slope.

Maas et al., Rectifier Nonlinearities Improve Neural Network Acoustic Models, ICML workshop 2013, section 2,
whose slope of 0.01 a workload may replace by another ``slope``. Released code calls the framework's function,
``authors`` here, which computes the formula; where x is zero, it takes the slope for the derivative.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, activation, sweep

from .relu import WORKLOADS

operator = Operator(
    "leaky_relu",
    family="activation",
    source="Maas et al. 2013, ICML workshop on deep learning for audio, section 2",
    traits=Traits(space="position", channels="own", sharing=("positions", "channels"), degree=None),
)


def reference(x: Tensor, slope: float = 0.01) -> Tensor:
    """y[b,c,i,j] = max(0, x[b,c,i,j]) + slope · min(0, x[b,c,i,j]). x and y [B, C, H, W].

    min(0, x) is written x − max(0, x).
    """
    positive = torch.relu(x)
    return positive + slope * (x - positive)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shape of the input."""
    return {"x": activation(d.B, d.C, d.H, d.W)}


def options(d: Dims) -> Mapping[str, float]:
    """Slope, 0.01 unless the workload names it."""
    return {"slope": d.get("slope", 0.01)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    return d.B, d.C, d.H, d.W


def domain(d: Dims) -> str | None:
    """Refuse a slope that is no finite number."""
    slope = d.get("slope", 0.01)
    if isinstance(slope, str) or not math.isfinite(slope):
        return f"a slope is a finite number, not {slope!r}: choose one such as 0.01"
    return None


def cost(d: Dims) -> Cost:
    """One comparison and one product per element, which is no multiply-add."""
    elements = math.prod(output(d))
    return Cost(params=0, macs=0, elements_read=elements, elements_written=elements, elementwise=2 * elements)


core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
    workloads=[*WORKLOADS, *sweep(WORKLOADS[0], C=(64, 128, 256, 512))],
    proof_dims=(
        Dims(B=2, C=3, H=4, W=5),
        Dims(B=3, C=2, H=1, W=7, slope=0.25),
        Dims(B=2, C=5, H=3, W=2, slope=-0.5),
        Dims(B=1, C=5, H=3, W=1, slope=1.5),
    ),
)


@core.implementation("authors", preferred=True)
def authors(x: Tensor, slope: float) -> Tensor:
    """Call the framework's function."""
    return F.leaky_relu(x, slope)


@core.implementation("where")
def where(x: Tensor, slope: float) -> Tensor:
    """Choose between x and slope·x by the sign."""
    return torch.where(x > 0, x, slope * x)
