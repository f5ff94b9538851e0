"""Self-attention over a map: every position attends to every other one.

Vaswani et al., Attention Is All You Need, NeurIPS 2017 (arXiv 1706.03762), eq. (1) and section 3.2.2,
as Dosovitskiy et al., An Image Is Worth 16×16 Words, ICLR 2021 (arXiv 2010.11929), appendix A, apply
it to an image. The papers write positions as a sequence of N tokens; here N = H·W in row order, without
the class token. Vaswani et al. state no bias; this page has the biases of the vision transformer's
released code (google-research/vision_transformer), and with ``bias="proj"`` only that of the last layer,
as VOLO (sail-sg/volo).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter, sweep

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
    x: Tensor, qkv: Tensor, proj: Tensor, proj_bias: Tensor, qkv_bias: Tensor | None = None, *, heads: int
) -> Tensor:
    """y[b] = W_o·[a_1; …; a_M] + b_o with a_m = softmax(q_m·k_m/√D)·v_m.

    x [B, C, H, W]; qkv [3C, C] with qkv_bias [3C], which may be absent, ordered q, k, v and by heads within
    each; proj [C, C] with proj_bias [C]; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    projected = torch.einsum("oc,bchw->bohw", qkv, x)
    if qkv_bias is not None:
        projected = projected + qkv_bias[:, None, None]
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
    inputs = {
        "x": activation(d.B, d.C, d.H, d.W),
        "qkv": parameter(3 * d.C, d.C, fan_in=d.C),
        "proj": parameter(d.C, d.C, fan_in=d.C),
        "proj_bias": parameter(d.C),
    }
    return inputs if biased(d) == 1 else {**inputs, "qkv_bias": parameter(3 * d.C)}


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
    params = 4 * d.C**2 + biased(d) * d.C
    weights = d.B * d.M * N**2
    return Cost(
        params=params,
        macs=d.B * N * (4 * d.C**2 + 2 * N * d.C),
        elements_read=d.B * N * d.C + params,
        elements_written=d.B * N * d.C,
        elementwise=3 * weights + biased(d) * d.B * N * d.C,
        transcendental=weights,
    )


def domain(d: Dims) -> str | None:
    """Say why the formula defines nothing, or return None."""
    if d.C % d.M:
        return f"{d.C} channels do not form {d.M} heads of one width: choose M as a divisor of C"
    if d.get("bias", "all") not in ("all", "proj"):
        return f"no choice of biases is called {d.bias!r}: name 'all' or 'proj'"
    return None


def biased(d: Dims) -> int:
    """Count the layers with a bias: q, k, v and the last, or with ``bias="proj"`` the last alone."""
    return 1 if d.get("bias") == "proj" else 4


DEIT = "DeiT-Ti at 224, Touvron et al. 2021, arXiv 2012.12877, table 1; without the class token"
SWIN = "Swin-T, Liu et al. 2021, arXiv 2103.14030, table 7: its last stage is one window"
VIT = "ViT-B/32 at 384, Dosovitskiy et al. 2021, arXiv 2010.11929, table 1; without the class token"
VOLO = "VOLO-D1 at 384 as released (sail-sg/volo): its second stage, without biases of q, k and v"
NETWORK = [
    Workload("deit_ti16/224", Dims(B=1, C=192, H=14, W=14, M=3), DEIT),
    Workload("swin_t/stage4", Dims(B=1, C=768, H=7, W=7, M=24), SWIN),
    Workload("vit_b32/384", Dims(B=1, C=768, H=12, W=12, M=12), VIT),
    Workload("volo_d1_384/stage2", Dims(B=1, C=384, H=24, W=24, M=12, bias="proj"), VOLO),
]
# Heads of all channels, of DeiT's 64 and fewer, and of one channel; then longer and longer maps.
WORKLOADS = [*NETWORK, *sweep(NETWORK[0], M=(1, 3, 6, 12, 192), H=(7, 14, 28, 56))]
ONE_HEAD, OWN_HEADS = Dims(B=2, C=3, H=3, W=4, M=1), Dims(B=2, C=3, H=4, W=2, M=3)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=(*grouped_maps(M=2), ONE_HEAD, OWN_HEADS),
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=lambda d: {"heads": d.M},
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=(*grouped_maps(M=2), ONE_HEAD, OWN_HEADS.replace(bias="proj")),
)


@core.generator(inputs=lambda d: {"query": parameter(d.C, d.C), "key": parameter(d.C, d.C)})
def linear_logits(d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Mapping[str, Tensor]:
    """The logits of linear queries and keys at any two positions."""
    tokens = x.reshape(d.B, d.C, d.H * d.W)
    q, k = (
        torch.einsum("oc,bcn->bon", weight, tokens).reshape(d.B, d.M, d.C // d.M, -1)
        for weight in (query, key)
    )
    return {"attention": torch.einsum("bmdp,bmdq->bmpq", q, k)}


@core.implementation("authors", preferred=True)
def authors(value: Tensor, attention: Tensor) -> Tensor:
    """Multiply every head's map with its rows of tokens, channels last, as transformers do."""
    mixed = attention @ split_heads(value.flatten(2).mT, attention.shape[1])
    return merge_heads(mixed).mT.reshape(value.shape)


@module.implementation("authors")
def module_authors(
    x: Tensor, qkv: Tensor, proj: Tensor, proj_bias: Tensor, qkv_bias: Tensor | None = None, *, heads: int
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
def sdpa(
    x: Tensor, qkv: Tensor, proj: Tensor, proj_bias: Tensor, qkv_bias: Tensor | None = None, *, heads: int
) -> Tensor:
    """Linear layers on tokens, attention left to torch's fused kernel."""
    tokens = F.linear(x.flatten(2).mT, qkv, qkv_bias)
    q, k, v = (split_heads(part, heads) for part in tokens.chunk(3, dim=-1))
    mixed = F.scaled_dot_product_attention(q, k, v)
    return F.linear(merge_heads(mixed), proj, proj_bias).mT.reshape(x.shape)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Split the tokens [B, N, C] of images or windows into heads [B, M, N, D]."""
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """Merge heads [B, M, N, D] into tokens [B, N, C]."""
    return tokens.transpose(1, 2).flatten(2)
