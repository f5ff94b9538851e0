"""Rectified linear unit: what is negative becomes zero.

Nair and Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, ICML 2010, section 2; Glorot et
al., Deep Sparse Rectifier Neural Networks, AISTATS 2011, section 3. Released code calls the framework's
function, ``authors`` here, which computes the formula; where x is zero, it takes zero for the derivative.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, sweep

operator = Operator(
    "relu",
    family="activation",
    source="Nair and Hinton 2010, ICML, section 2",
    traits=Traits(space="position", channels="own", sharing=("positions", "channels"), degree=None),
)


def reference(x: Tensor) -> Tensor:
    """y[b,c,i,j] = max(x[b,c,i,j], 0). x and y [B, C, H, W]."""
    return torch.relu(x)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shape of the input."""
    return {"x": activation(d.B, d.C, d.H, d.W)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """One comparison per element, and no multiply-add."""
    elements = math.prod(output(d))
    return Cost(params=0, macs=0, elements_read=elements, elements_written=elements, elementwise=elements)


RESNET = "ResNet-50, He et al. 2016, table 1: what a block's shortcut was added to"
WORKLOADS = [
    Workload("resnet50/stage1", Dims(B=1, C=256, H=56, W=56), RESNET),
    Workload("resnet50/stage2", Dims(B=1, C=512, H=28, W=28), RESNET),
    Workload("resnet50/stage3", Dims(B=1, C=1024, H=14, W=14), RESNET),
    Workload("resnet50/stage4", Dims(B=1, C=2048, H=7, W=7), RESNET),
    Workload("resnet50/stage3_b8", Dims(B=8, C=1024, H=14, W=14), RESNET),
]
SWEPT = sweep(WORKLOADS[0], C=(64, 128, 256, 512))
PROOF_DIMS = (Dims(B=2, C=3, H=4, W=5), Dims(B=3, C=2, H=1, W=7), Dims(B=1, C=5, H=3, W=1))

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=PROOF_DIMS,
)


@core.implementation("authors", preferred=True)
def authors(x: Tensor) -> Tensor:
    """Call the framework's function."""
    return F.relu(x)


@core.implementation("threshold")
def threshold(x: Tensor) -> Tensor:
    """Put zero for what is not above zero."""
    return F.threshold(x, 0.0, 0.0)


@core.implementation("where")
def where(x: Tensor) -> Tensor:
    """Choose between x and zero by the sign."""
    return torch.where(x > 0, x, torch.zeros((), dtype=x.dtype, device=x.device))
