"""Self-attention over a map: every position attends to every other one.

Vaswani et al., Attention Is All You Need, NeurIPS 2017 (arXiv 1706.03762), eq. (1) and section 3.2.2,
as Dosovitskiy et al., An Image Is Worth 16×16 Words, ICLR 2021 (arXiv 2010.11929), appendix A, apply
it to an image. The papers write positions as a sequence of N tokens; here N = H·W in row order, without
the class token. Vaswani et al. state no bias; this page has the biases of the vision transformer's
released code (google-research/vision_transformer).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter

from ..workloads import grouped_maps

operator = Operator(
    "self_attention",
    family="attention",
    source="Vaswani et al. 2017, NeurIPS, arXiv 1706.03762, eq. (1)",
    note="without position terms and class token",
    traits=Traits(space="global", channels="own", sharing=("groups",), dynamic="per position", degree=3),
)


def reference(value: Tensor, attention: Tensor) -> Tensor:
    """y[b, mD+e, p] = Σ_q attention[b, m, p, q] · value[b, mD+e, q], positions p and q in row order.

    value [B, C, H, W]; attention [B, M, N, N]; y [B, C, H, W], head m owning the channels mD to mD+D−1.
    """
    B, C, H, W = value.shape
    M = attention.shape[1]
    tokens = value.reshape(B, M, C // M, H * W)
    return torch.einsum("bmpq,bmdq->bmdp", attention, tokens).reshape(B, C, H, W)


def module_reference(
    x: Tensor, qkv: Tensor, qkv_bias: Tensor, proj: Tensor, proj_bias: Tensor, *, heads: int
) -> Tensor:
    """y[b] = W_o·[a_1; …; a_M] + b_o with a_m = softmax(q_m·k_m/√D)·v_m.

    x [B, C, H, W]; qkv [3C, C] with qkv_bias [3C], ordered q, k, v and by heads within each;
    proj [C, C]; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    projected = torch.einsum("oc,bchw->bohw", qkv, x) + qkv_bias[:, None, None]
    q, k, v = projected.reshape(B, 3, heads, C // heads, H * W).unbind(1)
    logits = torch.einsum("bmdp,bmdq->bmpq", q, k) * (C // heads) ** -0.5
    mixed = torch.einsum("bmpq,bmdq->bmdp", logits.softmax(-1), v).reshape(B, C, H, W)
    return torch.einsum("oc,bchw->bohw", proj, mixed) + proj_bias[:, None, None]


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    N = d.H * d.W
    return {
        "value": activation(d.B, d.C, d.H, d.W),
        "attention": generated(d.B, d.M, N, N, softmax=-1),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "qkv": parameter(3 * d.C, d.C, fan_in=d.C),
        "qkv_bias": parameter(3 * d.C),
        "proj": parameter(d.C, d.C, fan_in=d.C),
        "proj_bias": parameter(d.C),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """N·C multiply-adds per position."""
    N = d.H * d.W
    return Cost(
        params=0,
        macs=d.B * N**2 * d.C,
        elements_read=d.B * N * (d.C + d.M * N),
        elements_written=d.B * N * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """4C² + 2N·C multiply-adds per position; softmax: one exp, add and divide per weight."""
    N = d.H * d.W
    params = 4 * d.C**2 + 4 * d.C
    weights = d.B * d.M * N**2
    return Cost(
        params=params,
        macs=d.B * N * (4 * d.C**2 + 2 * N * d.C),
        elements_read=d.B * N * d.C + params,
        elements_written=d.B * N * d.C,
        elementwise=3 * weights + 4 * d.B * N * d.C,
        transcendental=weights,
    )


DEIT = "DeiT-Ti at 224, Touvron et al. 2021, arXiv 2012.12877, table 1; without the class token"
SWIN = "Swin-T, Liu et al. 2021, arXiv 2103.14030, table 7: its last stage is one window"
VIT = "ViT-B/32 at 384, Dosovitskiy et al. 2021, arXiv 2010.11929, table 1; without the class token"
WORKLOADS = [
    Workload("deit_ti16/224", Dims(B=1, C=192, H=14, W=14, M=3), DEIT),
    Workload("swin_t/stage4", Dims(B=1, C=768, H=7, W=7, M=24), SWIN),
    Workload("vit_b32/384", Dims(B=1, C=768, H=12, W=12, M=12), VIT),
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
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=lambda d: {"heads": d.M},
    workloads=WORKLOADS,
    proof_dims=grouped_maps(M=2),
)


@core.implementation("authors", preferred=True)
def authors(value: Tensor, attention: Tensor) -> Tensor:
    """Multiply every head's map with its rows of tokens, channels last, as transformers do."""
    mixed = attention @ split_heads(value.flatten(2).mT, attention.shape[1])
    return merge_heads(mixed).mT.reshape(value.shape)


@module.implementation("authors")
def module_authors(
    x: Tensor, qkv: Tensor, qkv_bias: Tensor, proj: Tensor, proj_bias: Tensor, *, heads: int
) -> Tensor:
    """Linear layers on tokens and two products of matrices, as transformers do."""
    tokens = F.linear(x.flatten(2).mT, qkv, qkv_bias)
    q, k, v = (split_heads(part, heads) for part in tokens.chunk(3, dim=-1))
    logits = q * q.shape[-1] ** -0.5 @ k.mT
    return F.linear(merge_heads(logits.softmax(-1) @ v), proj, proj_bias).mT.reshape(x.shape)


@module.implementation(
    "sdpa",
    preferred=True,
    counted=lambda d: 4 * d.B * d.H * d.W * d.C**2,
    counted_because="on the CPU attention is one fused kernel, whose two products counters do not see",
)
def sdpa(x: Tensor, qkv: Tensor, qkv_bias: Tensor, proj: Tensor, proj_bias: Tensor, *, heads: int) -> Tensor:
    """Linear layers on tokens, attention left to torch's fused kernel."""
    tokens = F.linear(x.flatten(2).mT, qkv, qkv_bias)
    q, k, v = (split_heads(part, heads) for part in tokens.chunk(3, dim=-1))
    mixed = F.scaled_dot_product_attention(q, k, v)
    return F.linear(merge_heads(mixed), proj, proj_bias).mT.reshape(x.shape)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Split the tokens [B, N, C] of images or windows into heads [B, M, N, D]."""
    return tokens.view(*tokens.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """Merge heads [B, M, N, D] into tokens [B, N, C]."""
    return tokens.transpose(1, 2).flatten(2)
