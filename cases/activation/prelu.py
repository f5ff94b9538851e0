"""Parametric rectified linear unit: what is negative is multiplied by a slope that the channel has learned.

He et al., Delving Deep into Rectifiers, ICCV 2015 (arXiv 1502.01852), eq. (1), the channel-wise form; a
single slope for all channels is its channel-shared form. Slopes start at 0.25. Released code calls the
framework's function, ``authors`` here, which computes the formula; where x is zero, it takes the slope for
the derivative.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, activation, parameter, sweep

from .relu import PROOF_DIMS, WORKLOADS

operator = Operator(
    "prelu",
    family="activation",
    source="He et al. 2015, ICCV, arXiv 1502.01852, eq. (1)",
    traits=Traits(space="position", channels="own", sharing=("positions",), degree=None),
)


def reference(x: Tensor, slope: Tensor) -> Tensor:
    """y[b,c,i,j] = max(0, x[b,c,i,j]) + slope[c] · min(0, x[b,c,i,j]). x, y [B, C, H, W]; slope [C].

    min(0, x) is written x − max(0, x).
    """
    positive = torch.relu(x)
    return positive + slope[:, None, None] * (x - positive)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the inputs; the slopes are spread about where they start."""
    return {"x": activation(d.B, d.C, d.H, d.W), "slope": parameter(d.C, fan_in=16, mean=0.25)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """One comparison and one product per element, which is no multiply-add."""
    elements = math.prod(output(d))
    return Cost(
        params=d.C,
        macs=0,
        elements_read=elements + d.C,
        elements_written=elements,
        elementwise=2 * elements,
    )


core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=[*WORKLOADS, *sweep(WORKLOADS[0], C=(64, 128, 256, 512))],
    proof_dims=PROOF_DIMS,
)


@core.implementation("authors", preferred=True)
def authors(x: Tensor, slope: Tensor) -> Tensor:
    """Call the framework's function."""
    return F.prelu(x, slope)


@core.implementation("parts")
def parts(x: Tensor, slope: Tensor) -> Tensor:
    """Add the product of slope and negative part to the positive part, without a fused function."""
    positive = F.relu(x)
    return torch.addcmul(positive, slope[:, None, None], x - positive)


@core.implementation("where")
def where(x: Tensor, slope: Tensor) -> Tensor:
    """Choose between x and slope·x by the sign."""
    return torch.where(x > 0, x, slope[:, None, None] * x)
