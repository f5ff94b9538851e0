"""Sliding-window attention: every position attends to the K×K window centred on it.

Ramachandran et al., Stand-Alone Self-Attention in Vision Models, NeurIPS 2019 (arXiv 1906.05909),
eq. (3), without position terms; Han et al. 2021 (arXiv 2106.04263), eq. (3) and (4) for the
connection pattern. Neighbours outside the map take no part in the softmax.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Workload, activation, generated
from harness.bench.cost import taps_in_bounds

from ..workloads import grouped_maps

operator = Operator(
    "sliding_attention2d",
    family="attention",
    source="Ramachandran et al. 2019, NeurIPS, arXiv 1906.05909, eq. (3)",
    traits={"connectivity": "local", "sharing": "heads", "dynamic": "per position"},
)


def reference(value: Tensor, attention: Tensor) -> Tensor:
    """y[b, mD+e, i, j] = Σ_n attention[b, m, i, j, n] · value[b, mD+e, neighbour n of (i, j)].

    value [B, C, H, W], zero outside the map; attention [B, M, H, W, K²] over the window in row order;
    y [B, C, H, W], head m owning the channels mD to mD+D−1.
    """
    B, C, H, W = value.shape
    M, K = attention.shape[1], round(attention.shape[-1] ** 0.5)
    neighbours = F.unfold(value, K, padding=K // 2).view(B, M, C // M, K * K, H * W)
    weights = attention.reshape(B, M, H * W, K * K)
    return torch.einsum("bmdkn,bmnk->bmdn", neighbours, weights).reshape(B, C, H, W)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "value": activation(d.B, d.C, d.H, d.W),
        "attention": generated(d.B, d.M, d.H, d.W, d.K**2, softmax=-1),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """K²·C multiply-adds per position."""
    positions = d.B * d.H * d.W
    return Cost(
        params=0,
        macs=positions * d.C * d.K**2,
        macs_in_bounds=d.B * d.C * taps_in_bounds(d.H, d.K) * taps_in_bounds(d.W, d.K),
        elements_read=positions * (d.C + d.M * d.K**2),
        elements_written=positions * d.C,
    )


WORKLOADS = [
    Workload("swin_t/stage1_k7", Dims(B=1, C=96, H=56, W=56, K=7, M=3), "Swin-T's first stage, window 7"),
]

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=WORKLOADS,
    proof_dims=grouped_maps(M=2),
    polynomial=True,
)
