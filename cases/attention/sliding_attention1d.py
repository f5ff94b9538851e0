"""Sliding-window attention over a sequence: every position attends to the K positions around it.

Beltagy et al., Longformer: The Long-Document Transformer, 2020 (arXiv 2004.05150), section 3.1, whose
window of w tokens, w/2 on either side, is K = w + 1 here; attention as in Vaswani et al., NeurIPS 2017 (arXiv
1706.03762), section 3.2. Positions beyond the ends take no part in the softmax. A window of even length
reaches one further back; with ``direction="causal"`` no neighbour lies after its position. With
``position="table"`` every head has a learned bias for each of the K distances, as Swin's windows have.

What Longformer's code (allenai/longformer, longformer/sliding_chunks.py) does: ``authors`` here, it
multiplies all queries and keys of overlapping chunks of K−1 positions, about twice as many products as the
formula has, and keeps those on the diagonals. It takes centred windows of an odd length of five or more (for
K = 3 a slice does not fit and it stops), and sequences that K−1 divides. It pads the values by −1, so that
weights beyond the ends have to be zero; its softmax makes them so, but weights that are given, as the core's,
need not be. Its layers of q, k and v have biases, and chosen tokens attend to all others: left out here.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter, sweep

from ..convolution import depthwise_conv1d
from ..convolution.depthwise_conv1d import taps_before, taps_in_sequence
from ..dynamic import dynamic_conv1d
from ..dynamic.dynamic_conv1d import (
    DENSE,
    DENSE_OR_ELEMENTWISE,
    ELEMENTWISE,
    SEQUENCES,
    along_diagonals,
    auto_macs,
    band_macs,
    beyond_the_ends,
    normalise,
    skewed,
)

operator = Operator(
    "sliding_attention1d",
    family="attention",
    source="Beltagy et al. 2020, arXiv 2004.05150, section 3.1",
    traits=Traits(space="local", channels="own", sharing=("groups",), dynamic="per position", degree=3),
    probed_at=Dims(B=1, C=4, T=7, K=3, M=2),
)


def reference(value: Tensor, attention: Tensor, before: int | None = None) -> Tensor:
    """y[b, mD+e, i] = Σ_n attention[b, m, n, i] · value[b, mD+e, i+n−p].

    value [B, C, T], zero outside the sequence; attention [B, M, K, T] over the window; p, ``before``, how
    many neighbours come before a position, ⌊K/2⌋ unless it is given, K−1 if causal; y [B, C, T], head m
    owning the channels mD to mD+D−1.
    """
    B, C, T = value.shape
    M, K = attention.shape[1:3]
    p = K // 2 if before is None else before
    neighbours = F.pad(value, (p, K - 1 - p)).unfold(2, K, 1).reshape(B, M, C // M, T, K)
    return torch.einsum("bmnt,bmdtn->bmdt", attention, neighbours).reshape(B, C, T)


def module_reference(
    x: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    proj: Tensor,
    table: Tensor | None = None,
    *,
    heads: int,
    kernel: int,
    before: int | None = None,
) -> Tensor:
    """y[b] = W_o·[a_1; …; a_M] with a_m at i = Σ_n softmax_n(q_m·k_mn/√D + table[m,n])·v_mn, n inside.

    x [B, C, T]; query, key, value and proj [C, C]; table [M, K], which may be absent; n runs over the window
    of K positions, whose first is i−p, ``before`` as in the core; y [B, C, T].
    """
    B, C, T = x.shape
    M, K = heads, kernel
    p = K // 2 if before is None else before
    q = torch.einsum("oc,bct->bot", query, x).reshape(B, M, C // M, T)
    k, v, inside = (
        F.pad(rows, (p, K - 1 - p)).unfold(2, K, 1)  # [B, C, T, K]
        for rows in (
            torch.einsum("oc,bct->bot", key, x),
            torch.einsum("oc,bct->bot", value, x),
            torch.ones_like(x[:1, :1]),
        )
    )
    k, v = (neighbours.reshape(B, M, C // M, T, K) for neighbours in (k, v))
    logits = torch.einsum("bmdt,bmdtn->bmtn", q, k) * (C // M) ** -0.5
    if table is not None:
        logits = logits + table.reshape(M, 1, K)
    weights = logits.masked_fill(inside == 0, -torch.inf).softmax(-1)
    mixed = torch.einsum("bmtn,bmdtn->bmdt", weights, v).reshape(B, C, T)
    return torch.einsum("oc,bct->bot", proj, mixed)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {"value": activation(d.B, d.C, d.T), "attention": generated(d.B, d.M, d.K, d.T, softmax=2)}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    square = parameter(d.C, d.C, fan_in=d.C)
    inputs = {"x": activation(d.B, d.C, d.T), "query": square, "key": square, "value": square, "proj": square}
    return {**inputs, "table": parameter(d.M, d.K)} if has_table(d) else inputs


def options(d: Dims) -> Mapping[str, int]:
    """Count the neighbours before a position."""
    return {"before": taps_before(d)}


def module_options(d: Dims) -> Mapping[str, int]:
    """Heads, the length of the window, and the neighbours before a position."""
    return {"heads": d.M, "kernel": d.K, **options(d)}


def domain(d: Dims) -> str | None:
    """Refuse heads of unequal width and unknown options; windows may be even, and longer than x."""
    if d.C % d.M:
        return f"{d.C} channels do not form {d.M} heads of one width: choose M as a divisor of C"
    if d.get("position", "none") not in ("none", "table"):
        return f"no position term is called {d.position!r}: name 'none' or 'table'"
    return depthwise_conv1d.domain(d)


def has_table(d: Dims) -> bool:
    """Tell whether the module adds biases by distance; it does not unless the workload says ``table``."""
    return bool(d.get("position") == "table")


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.T


def cost(d: Dims) -> Cost:
    """K·C multiply-adds per position."""
    return Cost(
        params=0,
        macs=d.B * d.C * d.T * d.K,
        macs_in_bounds=d.B * d.C * taps_in_sequence(d),
        elements_read=d.B * d.T * (d.C + d.M * d.K),
        elements_written=d.B * d.C * d.T,
    )


def module_cost(d: Dims) -> Cost:
    """4C² + 2K·C multiply-adds per position; softmax: one exp, add and divide, the scale and the bias."""
    params = 4 * d.C**2 + (d.M * d.K if has_table(d) else 0)
    pairs = d.B * d.M * taps_in_sequence(d)
    return Cost(
        params=params,
        macs=linear_macs(d) + 2 * d.B * d.C * d.T * d.K,
        macs_in_bounds=linear_macs(d) + 2 * d.B * d.C * taps_in_sequence(d),
        elements_read=d.B * d.C * d.T + params,
        elements_written=d.B * d.C * d.T,
        elementwise=(4 if has_table(d) else 3) * pairs,
        transcendental=pairs,
    )


def linear_macs(d: Dims) -> int:
    """Count the multiply-adds of the four linear layers."""
    return int(4 * d.B * d.T * d.C**2)


BIG = "the big Transformer for WMT, Vaswani et al. 2017, table 3, in windows of 31 of its 64 tokens"
IWSLT = (
    "the Transformer for IWSLT as released (fairseq's transformer_iwslt_de_en), in windows of 7 of 32 tokens"
)
RECFORMER = "Recformer as released (AaronHeee/RecFormer), Longformer's layers with 32 tokens on either side"
WORKLOADS = [
    Workload(
        "transformer_wmt_big/encoder_k31", Dims(B=1, C=1024, T=64, M=16, K=31, direction="centred"), BIG
    ),
    Workload("transformer_wmt_big/decoder_k31", Dims(B=1, C=1024, T=64, M=16, K=31, direction="causal"), BIG),
    Workload("transformer_iwslt/encoder_k7", Dims(B=1, C=512, T=32, M=4, K=7, direction="centred"), IWSLT),
    Workload("recformer/layer", Dims(B=1, C=768, T=256, M=12, K=65, direction="centred"), RECFORMER),
]
SWEPT = sweep(WORKLOADS[0], K=(3, 7, 15, 31, 63), T=(64, 256, 1024), M=(1, 4, 16, 64, 1024))
TABLED = Workload("transformer_wmt_big/encoder_k31_table", WORKLOADS[0].dims.replace(position="table"), BIG)
# Sequences that chunks of K−1 tile.
TILED = (Dims(B=2, C=4, T=12, K=5, M=2), Dims(B=2, C=4, T=6, K=7, M=2))

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=SEQUENCES,
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=module_options,
    domain=domain,
    workloads=[*WORKLOADS, *SWEPT, TABLED],
    proof_dims=(
        *SEQUENCES,
        *TILED,
        Dims(B=2, C=4, T=7, K=5, M=2, position="table"),
        Dims(B=2, C=4, T=6, K=4, M=2, direction="causal", position="table"),
        # More positions than fit one block, and few of them in a window; and many.
        Dims(B=2, C=2, T=70, K=3, M=1, position="table"),
        Dims(B=2, C=2, T=70, K=17, M=1, position="table"),
        Dims(B=2, C=2, T=67, K=16, M=2, direction="causal"),
    ),
)


@core.generator(inputs=lambda d: {"query": parameter(d.C, d.C), "key": parameter(d.C, d.C)})
def linear_logits(d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Mapping[str, Tensor]:
    """The logits of linear queries and keys at a position and its neighbours, zero outside the sequence."""
    before = taps_before(d)
    q, k = (torch.einsum("oc,bct->bot", weight, x) for weight in (query, key))
    neighbours = F.pad(k, (before, d.K - 1 - before)).unfold(2, d.K, 1).reshape(d.B, d.M, -1, d.T, d.K)
    return {"attention": torch.einsum("bmdt,bmdtn->bmnt", q.reshape(d.B, d.M, -1, d.T), neighbours)}


# With its weights given it is the sum of a dynamic convolution.
@core.implementation("band", counted=band_macs, counted_because=DENSE)
def band(value: Tensor, attention: Tensor, before: int) -> Tensor:
    """Multiply by a dense matrix per head that has the weights along its diagonals."""
    return dynamic_conv1d.band(value, attention, before)


@core.implementation("shifted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(value: Tensor, attention: Tensor, before: int) -> Tensor:
    """Add up shifted copies of the padded values, one neighbour at a time."""
    return dynamic_conv1d.shifted(value, attention, before)


@core.implementation("auto", preferred=True, counted=auto_macs, counted_because=DENSE_OR_ELEMENTWISE)
def auto(value: Tensor, attention: Tensor, before: int) -> Tensor:
    """Choose between band and shifted by the lengths of the sequence and the window."""
    return dynamic_conv1d.auto(value, attention, before)


# Measured on an AMD EPYC with AVX-512: up to so many positions, or so many per neighbour, all pairs of
# positions are computed faster than those of the windows alone; and with windows up to so long, one
# neighbour at a time is faster than blocks of positions.
SHORT_SEQUENCE, SHORT_PER_NEIGHBOUR, SHORT_WINDOW = 64, 2, 15
# Blocks of fewer positions cost more calls than they save.
SHORTEST_BLOCK = 32


def masked_macs(d: Dims) -> int:
    """Count the linear layers and the products of all pairs of positions."""
    return linear_macs(d) + 2 * band_macs(d)


def blocks_macs(d: Dims) -> int:
    """Count the linear layers and the products of every block with the positions that its windows reach."""
    block = block_length(d.T, d.K)
    return int(linear_macs(d) + 2 * d.B * d.C * -(-d.T // block) * block * (block + d.K - 1))


def attend_macs(d: Dims) -> int:
    """Count what the fastest form computes by products."""
    if is_short(d.T, d.K):
        return masked_macs(d)
    return linear_macs(d) if d.K <= SHORT_WINDOW else blocks_macs(d)


def chunks_macs(d: Dims) -> int:
    """Count the linear layers, the products of chunks with themselves, and those with values around."""
    side = d.K // 2
    return int(linear_macs(d) + d.B * d.C * (4 * side * (d.T - side) + 3 * side * d.T))


def refused_by_authors(d: Dims) -> str | None:
    """Say why the released module cannot take these dimensions, or return None."""
    if has_table(d) or d.get("direction") == "causal":
        return "it has centred windows without position terms alone"
    if d.K % 2 == 0 or d.K < 5 or d.T % (d.K - 1):
        return f"it takes odd windows from five on and sequences that K − 1 divides, not K={d.K} and T={d.T}"
    return None


CHUNKS = "chunks are multiplied whole, also where positions are no neighbours"


@module.implementation("authors", counted=chunks_macs, counted_because=CHUNKS, supports=refused_by_authors)
def module_authors(
    x: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    proj: Tensor,
    *,
    heads: int,
    kernel: int,
    before: int,
) -> Tensor:
    """Multiply overlapping chunks of K−1 queries and keys, keep the diagonals, and mix as Longformer does."""
    B, C, T = x.shape
    side = kernel // 2
    q, k, v = (rows.reshape(B * heads, C // heads, T).mT for rows in project(x, query, key, value))
    logits = diagonals_of_chunks(q * (C // heads) ** -0.5, k, side)
    weights = logits.masked_fill(beyond_the_ends(logits.mT, side).t(), -torch.inf).softmax(2)
    # Every row one further right than the last: the weights of a chunk for the values around it.
    rows = F.pad(weights.reshape(len(q), T // side, side, kernel), (0, side + 1)).flatten(2)
    spread = rows[..., :-side].reshape(len(q), T // side, side, 3 * side + 1)[..., :-1]
    around = F.pad(v, (0, 0, side, side)).unfold(1, 3 * side, side)
    mixed = (spread @ around.mT).reshape(len(q), T, -1).mT.reshape(B, C, T)
    return apply(proj, mixed)


def diagonals_of_chunks(q: Tensor, k: Tensor, side: int) -> Tensor:
    """Compute q·k [B·M, T, 2·side+1] of positions up to ``side`` apart; those beyond the ends are arbitrary.

    q and k [B·M, T, D]; half of every chunk of 2·side positions lies in the next one.
    """
    length = 2 * side
    chunks, others = (rows.unfold(1, length, side) for rows in (q, k))
    products = chunks.mT @ others
    # A row more and a column more: the diagonals become columns, from the main one on, then those below it.
    columns = F.pad(products, (0, 0, 0, 1)).reshape(*products.shape[:2], length, length + 1)
    found = q.new_zeros(len(q), q.shape[1] // side, side, length + 1)
    found[:, :-1, :, side:] = columns[:, :, :side, : side + 1]
    found[:, -1, :, side:] = columns[:, -1, side:, : side + 1]
    found[:, 1:, :, :side] = columns[:, :, -side - 1 : -1, side + 1 :]
    found[:, 0, 1:side, 1:side] = columns[:, 0, : side - 1, 1 - side :]
    return found.flatten(1, 2)


@module.implementation("masked", counted=masked_macs, counted_because=DENSE)
def module_masked(
    x: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    proj: Tensor,
    table: Tensor | None = None,
    *,
    heads: int,
    kernel: int,
    before: int,
) -> Tensor:
    """Attend to all positions, those outside the window masked."""
    T = x.shape[2]
    q, k, v = (split_heads(rows, heads) for rows in project(x, query, key, value))
    biases = along_diagonals(biases_of(x, table, heads, kernel, T), before, elsewhere=-torch.inf)
    weights = ((q * q.shape[2] ** -0.5).mT @ k + biases).softmax(3)
    return apply(proj, (v @ weights.mT).reshape(x.shape))


@module.implementation("shifted", counted=linear_macs, counted_because=ELEMENTWISE)
def module_shifted(
    x: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    proj: Tensor,
    table: Tensor | None = None,
    *,
    heads: int,
    kernel: int,
    before: int,
) -> Tensor:
    """Compute the logits of one neighbour at a time, then add up shifted copies of the values."""
    T = x.shape[2]
    q, k, v = project(x, query, key, value)
    queries = split_heads(q, heads)
    queries = queries * queries.shape[2] ** -0.5
    keys = split_heads(F.pad(k, (before, kernel - 1 - before)), heads)
    logits = torch.stack([(queries * keys[..., n : n + T]).sum(2) for n in range(kernel)], 2)
    if table is not None:
        logits = logits + table.unsqueeze(2)
    return apply(proj, shifted(v, normalise(logits, before, "renormalised"), before))


@module.implementation("blocks", counted=blocks_macs, counted_because=CHUNKS)
def module_blocks(
    x: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    proj: Tensor,
    table: Tensor | None = None,
    *,
    heads: int,
    kernel: int,
    before: int,
) -> Tensor:
    """Cut into blocks of about K positions, which attend to all that their windows reach, the rest masked."""
    B, C, T = x.shape
    length = block_length(T, kernel)
    missing = -T % length
    q, k, v = project(x, query, key, value)
    queries = split_heads(F.pad(q, (0, missing)), heads).unfold(3, length, length).transpose(2, 3)
    keys, values = (
        split_heads(F.pad(rows, (before, kernel - 1 - before + missing)), heads)
        .unfold(3, length + kernel - 1, length)
        .transpose(2, 3)
        for rows in (k, v)
    )  # [B, M, T/length, D, length+K−1]
    biases = skewed(biases_of(x, table, heads, kernel, length), elsewhere=-torch.inf)
    logits = (queries * queries.shape[3] ** -0.5).mT @ keys + biases.unsqueeze(1)
    weights = logits.masked_fill(outside_of_blocks(logits, before, T), -torch.inf).softmax(4)
    mixed = (values @ weights.mT).transpose(2, 3).reshape(B, C, T + missing)
    return apply(proj, mixed[..., :T])


@module.implementation("auto", preferred=True, counted=attend_macs, counted_because=DENSE_OR_ELEMENTWISE)
def module_auto(
    x: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    proj: Tensor,
    table: Tensor | None = None,
    *,
    heads: int,
    kernel: int,
    before: int,
) -> Tensor:
    """Choose between masked, shifted and blocks by the lengths of the sequence and the window."""
    if is_short(x.shape[2], kernel):
        chosen = module_masked
    else:
        chosen = module_shifted if kernel <= SHORT_WINDOW else module_blocks
    return chosen(x, query, key, value, proj, table, heads=heads, kernel=kernel, before=before)


def is_short(steps: int, window: int) -> bool:
    """Tell whether computing all pairs of positions is faster than leaving some out."""
    return steps <= max(SHORT_SEQUENCE, SHORT_PER_NEIGHBOUR * window)


def block_length(steps: int, window: int) -> int:
    """Return how many positions make a block."""
    return min(steps, max(SHORTEST_BLOCK, window))


def project(x: Tensor, *weights: Tensor) -> list[Tensor]:
    """Apply linear layers [C, C] to every position of x [B, C, T]."""
    return [apply(weight, x) for weight in weights]


def apply(weight: Tensor, x: Tensor) -> Tensor:
    """Apply a linear layer [C, C] to every position of x [B, C, T]."""
    return weight.expand(len(x), -1, -1).bmm(x)


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """Split [B, C, T] into heads [B, M, D, T]."""
    return rows.reshape(len(rows), heads, -1, rows.shape[2])


def biases_of(x: Tensor, table: Tensor | None, heads: int, kernel: int, length: int) -> Tensor:
    """Return the biases of the neighbours of so many positions, [1, M, K, length], zero without a table."""
    biases = x.new_zeros(heads, kernel) if table is None else table
    return biases[None, :, :, None].expand(1, heads, kernel, length)


def outside_of_blocks(logits: Tensor, before: int, T: int) -> Tensor:
    """Tell which neighbours lie beyond the ends of T positions, as booleans shaped like logits.

    logits [B, M, blocks, length, length+K−1]; positions past the end, which fill up the last block, keep
    theirs, because a softmax of nothing is not a number.
    """
    blocks, length, reach = logits.shape[2:]
    starts = torch.arange(blocks, device=logits.device)[:, None, None] * length
    positions = starts + torch.arange(length, device=logits.device)[:, None]
    neighbours = starts + torch.arange(reach, device=logits.device) - before
    return ((neighbours < 0) | (neighbours >= T)) & (positions < T)
