"""Involution: a kernel for every position, shared by the channels of a group.

Li et al., Involution: Inverting the Inherence of Convolution for Visual Recognition, CVPR 2021
(arXiv 2103.06255), eq. (3) to (6). The paper's K×K×G kernel tensor per position is ``kernel`` here.
The released code (d-li14/involution) fixes K = 7, r = 4 and 16 channels per group; it computes the
formula of the paper, with a bias in the last 1×1 convolution.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Workload, activation, buffer, generated, parameter
from harness.bench.cost import taps_in_bounds

from ..workloads import grouped_maps

operator = Operator(
    "involution",
    family="involution",
    source="Li et al. 2021, CVPR, arXiv 2103.06255, eq. (3)-(6)",
    traits={"connectivity": "local", "sharing": "groups of channels", "dynamic": "per position"},
)


def reference(x: Tensor, kernel: Tensor) -> Tensor:
    """y[b,c,i,j] = Σ_uv kernel[b, ⌊cG/C⌋, u, v, i, j] · x[b, c, i+u−⌊U/2⌋, j+v−⌊V/2⌋].

    x [B, C, H, W], zero outside the map; kernel [B, G, U, V, H, W] with odd U and V; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    G, U, V = kernel.shape[1:4]
    padded = F.pad(x, (V // 2, V // 2, U // 2, U // 2))
    taps = padded.unfold(2, U, 1).unfold(3, V, 1)  # [B, C, H, W, U, V]
    grouped = taps.reshape(B, G, C // G, H, W, U, V)
    weights = kernel.permute(0, 1, 4, 5, 2, 3).unsqueeze(2)  # [B, G, 1, H, W, U, V]
    return (grouped * weights).sum((-1, -2)).reshape(B, C, H, W)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "kernel": generated(d.B, d.G, d.K, d.K, d.H, d.W, fan_in=d.K**2),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """K²·C multiply-adds per position; nothing is learned in the core."""
    positions = d.B * d.H * d.W
    return Cost(
        params=0,
        macs=positions * d.C * d.K**2,
        macs_in_bounds=d.B * d.C * taps_in_bounds(d.H, d.K) * taps_in_bounds(d.W, d.K),
        elements_read=positions * (d.C + d.G * d.K**2),
        elements_written=positions * d.C,
    )


REDNET = "RedNet-50, Li et al. 2021, table 1: K = 7, r = 4, 16 channels per group"
WORKLOADS = [
    Workload("rednet50/stage1", Dims(B=1, C=64, H=56, W=56, K=7, G=4, R=4), REDNET),
    Workload("rednet50/stage2", Dims(B=1, C=128, H=28, W=28, K=7, G=8, R=4), REDNET),
    Workload("rednet50/stage3", Dims(B=1, C=256, H=14, W=14, K=7, G=16, R=4), REDNET),
    Workload("rednet50/stage4", Dims(B=1, C=512, H=7, W=7, K=7, G=32, R=4), REDNET),
]

NO_PRODUCTS = "the taps are multiplied and added elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=WORKLOADS,
    proof_dims=grouped_maps(),
    polynomial=True,
    counted=lambda d: 0,
    counted_because=NO_PRODUCTS,
)


@core.implementation("authors", counted=lambda d: 0, counted_because=NO_PRODUCTS)
def authors(x: Tensor, kernel: Tensor) -> Tensor:
    """Gather all K² taps into one tensor, multiply and add, as the authors' CPU module does."""
    B, C, H, W = x.shape
    G, K = kernel.shape[1:3]
    taps = F.unfold(x, K, padding=K // 2).view(B, G, C // G, K * K, H, W)
    return (kernel.view(B, G, 1, K * K, H, W) * taps).sum(dim=3).view(B, C, H, W)


@core.implementation("shifted", preferred=True, counted=lambda d: 0, counted_because=NO_PRODUCTS)
def shifted(x: Tensor, kernel: Tensor) -> Tensor:
    """Add up shifted copies of the padded map, one tap at a time, without the K² copy."""
    B, C, H, W = x.shape
    G, K = kernel.shape[1:3]
    padded = F.pad(x, (K // 2,) * 4).view(B, G, C // G, H + K - 1, W + K - 1)
    total = torch.zeros_like(x).view(B, G, C // G, H, W)
    for u in range(K):
        for v in range(K):
            total.addcmul_(padded[..., u : u + H, v : v + W], kernel[:, :, u, v].unsqueeze(2))
    return total.view(B, C, H, W)
