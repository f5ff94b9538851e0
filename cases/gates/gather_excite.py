"""Gather-excite: every channel is scaled by what is gathered of it around a position, or over the whole map.

Hu et al., Gather-Excite: Exploiting Feature Context in CNNs, NeurIPS 2018 (arXiv 1810.12348), section 3; its
extent ratio e is ``extent``, 2, 4, 8 or "global". A workload chooses ``variant``: "minus", GE-θ⁻, gathers by
averages and learns nothing; "theta", GE-θ, by depthwise convolutions, each with a batch norm; "plus", GE-θ⁺,
puts two 1×1 layers with C/R hidden units after those. ``norm="train"`` takes the statistics of the batch.

The released code (hujie-frank/GENet, in Caffe) has the global extent of each variant, ``authors`` here, and
computes the formula, with R = 16 and biases in the 1×1 layers alone. Smaller extents are drawn in its
figures: a pooling of side 2e−1 with stride e, or log₂ e convolutions of 3×3 with stride 2 and a ReLU between
them, then an enlargement to the map's size. What an average takes at the border is not said; here, as in
timm, the positions within the map. GE-θ⁺ with an extent is not drawn; here a ReLU precedes its 1×1 layers, as
in the global one. A gather that convolves the whole map fits one size of map only.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import (
    Cost,
    Dims,
    Operator,
    Spec,
    Traits,
    Workload,
    activation,
    generated,
    parameter,
    sweep,
    taps_in_bounds,
)

from ..convolution import batch_norm

operator = Operator(
    "gather_excite",
    family="gates",
    source="Hu et al. 2018, NeurIPS, arXiv 1810.12348, section 3",
    note="The traits are those of the global extent; with a smaller one every cell has a gate of its own.",
    traits=Traits(space="position", channels="own", sharing=("positions",), dynamic="per image", degree=2),
    probed_at=Dims(B=2, C=4, H=3, W=5),
)

VARIANTS = ("minus", "theta", "plus")


def reference(x: Tensor, gate: Tensor) -> Tensor:
    """y[b,c,i,j] = gate[b, c, ⌊i·h/H⌋, ⌊j·w/W⌋] · x[b,c,i,j], the gate of the nearest cell.

    x [B, C, H, W]; gate [B, C, h, w], one of 1×1 for the global extent; y [B, C, H, W].
    """
    H, W = x.shape[2:]
    h, w = gate.shape[2:]
    rows = gate.unbind(2)
    columns = torch.stack([rows[i * h // H] for i in range(H)], 2).unbind(3)
    return x * torch.stack([columns[j * w // W] for j in range(W)], 3)


def module_reference(x: Tensor, *, extent: int | None = None, **learned: Tensor) -> Tensor:
    """y[b,c,i,j] = σ(z)[b, c, ⌊i·h/H⌋, ⌊j·w/W⌋] · x[b,c,i,j], z [B, C, h, w] the gathered map.

    x, y [B, C, H, W]; h = ⌈H/e⌉ and w = ⌈W/e⌉ for the extent e, 1 if it is global (None); σ the sigmoid.
    θ⁻: z[b,c,m,n] is the mean of x[b,c,i,j] over |i − m·e| < e and |j − n·e| < e, the whole map if global.
    θ: z = L₁(x) with L₁(x)[b,c] = BN(Σ_uv gather1[c,u,v]·x[b,c,u,v]) and gather1 [C, H, W] if global, else
    z = L_n(ReLU(… L₁(x))), n = log₂ e, L the BN of a depthwise convolution with gather1 [C, 3, 3], gather2
    and so on, with stride 2 and zero outside the map; BN with gain, shift and the stored mean and variance
    [C] of every layer, without which it takes those of the batch.
    θ⁺: expand·ReLU(reduce·ReLU(z) + reduce_bias) + expand_bias in place of z; reduce [C/R, C], expand
    [C, C/R].
    """
    H, W = x.shape[2:]
    z = x
    if "gather1" not in learned and extent is None:
        z = x.mean((2, 3), keepdim=True)
    elif "gather1" not in learned and extent is not None:
        reach, side = (extent - 1,) * 4, 2 * extent - 1
        windows = F.pad(x, reach).unfold(2, side, extent).unfold(3, side, extent)
        inside = F.pad(torch.ones_like(x[:1, :1]), reach).unfold(2, side, extent).unfold(3, side, extent)
        z = windows.sum((-1, -2)) / inside.sum((-1, -2))
    for layer in (name for name in learned if name.startswith("gather") and "_" not in name):
        z = x if layer == "gather1" else torch.relu(z)
        taps = z[:, :, None, None]
        if extent is not None:
            taps = F.pad(z, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2)  # [B, C, ⌈H/2⌉, ⌈W/2⌉, 3, 3]
        z = torch.einsum("bcijuv,cuv->bcij", taps, learned[layer])
        mean, variance = z.mean((0, 2, 3)), (z - z.mean((0, 2, 3), keepdim=True)).square().mean((0, 2, 3))
        if f"{layer}_mean" in learned:
            mean, variance = learned[f"{layer}_mean"], learned[f"{layer}_variance"]
        scale = (variance + 1e-5).rsqrt() * learned[f"{layer}_gain"]
        z = (z - mean[:, None, None]) * scale[:, None, None] + learned[f"{layer}_shift"][:, None, None]
    if "reduce" in learned:
        hidden = torch.einsum("oc,bchw->bohw", learned["reduce"], torch.relu(z))
        hidden = torch.relu(hidden + learned["reduce_bias"][:, None, None])
        z = torch.einsum("co,bohw->bchw", learned["expand"], hidden) + learned["expand_bias"][:, None, None]
    h, w = z.shape[2:]
    rows = torch.sigmoid(z).unbind(2)
    columns = torch.stack([rows[i * h // H] for i in range(H)], 2).unbind(3)
    return x * torch.stack([columns[j * w // W] for j in range(W)], 3)


def extent_of(d: Dims) -> int | None:
    """Return the extent, None for the global one, which it is unless the workload names another."""
    extent: int | str = d.get("extent", "global")
    return None if isinstance(extent, str) else extent


def variant_of(d: Dims) -> str:
    """Return the variant, GE-θ unless the workload names it."""
    return str(d.get("variant", "theta"))


def cells(d: Dims) -> tuple[int, int]:
    """Return height and width of the gathered map."""
    extent = extent_of(d)
    return (1, 1) if extent is None else (-(-d.H // extent), -(-d.W // extent))


def gathers(d: Dims) -> Iterator[tuple[str, int, int]]:
    """List the convolutions that gather, each with height and width of its output."""
    extent = extent_of(d)
    if variant_of(d) == "minus":
        return
    if extent is None:
        yield "gather1", 1, 1
        return
    for layer in range(1, extent.bit_length()):
        yield f"gather{layer}", -(-d.H // 2**layer), -(-d.W // 2**layer)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {"x": activation(d.B, d.C, d.H, d.W), "gate": generated(d.B, d.C, *cells(d))}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs; training has no stored statistics."""
    side = (d.H, d.W) if extent_of(d) is None else (3, 3)
    found: dict[str, Spec] = {"x": activation(d.B, d.C, d.H, d.W)}
    for layer, _, _ in gathers(d):
        found[layer] = parameter(d.C, *side, fan_in=math.prod(side))
        found |= batch_norm.inputs(layer, d, d.C)
    if variant_of(d) != "plus":
        return found
    hidden = hidden_channels(d)
    return found | {
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "reduce_bias": parameter(hidden),
        "expand": parameter(d.C, hidden, fan_in=hidden),
        "expand_bias": parameter(d.C),
    }


def hidden_channels(d: Dims) -> int:
    """Count the hidden units of GE-θ⁺, C/16 rounded down unless the workload names R."""
    return int(d.C // d.get("R", 16)) if variant_of(d) == "plus" else 0


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def options(d: Dims) -> Mapping[str, int | None]:
    """Extent, None for the global one."""
    return {"extent": extent_of(d)}


def domain(d: Dims) -> str | None:
    """Say why the formula of the core defines nothing, or return None."""
    extent = d.get("extent", "global")
    if isinstance(extent, int) or extent == "global":
        return None
    return f"an extent is a whole number or 'global', not {extent!r}: name one"


def module_domain(d: Dims) -> str | None:
    """Say why the formula of the module defines nothing, or return None."""
    extent, variant = extent_of(d), variant_of(d)
    if domain(d) is not None:
        return domain(d)
    if variant not in VARIANTS:
        return f"no variant is called {variant!r}: name {', '.join(map(repr, VARIANTS))}"
    if variant != "minus" and extent is not None and (extent < 2 or extent & (extent - 1)):
        return "convolutions of stride 2 gather extents of 2, 4, 8 and so on: choose one, or variant='minus'"
    if variant == "plus" and hidden_channels(d) < 1:
        return f"{d.C} channels reduced by {d.get('R', 16)} leave none: choose R no larger than C"
    return batch_norm.refusal(d, d.B * math.prod(cells(d)) if variant != "minus" else 2)


def cost(d: Dims) -> Cost:
    """One multiply-add per element, as squeeze-and-excitation's authors count a scale."""
    elements = math.prod(output(d))
    return Cost(
        params=0,
        macs=elements,
        elements_read=elements + d.B * d.C * math.prod(cells(d)),
        elements_written=elements,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core, the convolutions that gather and the 1×1 layers; what else there is is elementwise."""
    scale, gathered, hidden = cost(d), list(gathers(d)), hidden_channels(d)
    layers = 2 * d.C * hidden + hidden + d.C if hidden else 0
    params = len(gathered) * d.C * (kernel_elements(d) + 2) + layers
    return replace(
        scale,
        params=params,
        macs=scale.macs + layer_macs(d),
        macs_in_bounds=scale.macs + layer_macs(d, in_bounds=True),
        elements_read=math.prod(output(d)) + params + len(gathered) * batch_norm.stored(d, d.C),
        elementwise=elementwise(d),
        transcendental=d.B * d.C * math.prod(cells(d)),
    )


def elementwise(d: Dims) -> int:
    """Count the additions of averages, the steps of batch norms, biases and ReLUs."""
    found = averaged(d) if variant_of(d) == "minus" else 0
    *between, last = [d.B * d.C * height * width for _, height, width in gathers(d)] or [0]
    found += sum(batch_norm.elementwise(d, elements) + elements for elements in between)
    found += batch_norm.elementwise(d, last)
    if variant_of(d) == "plus":
        found += last + d.B * math.prod(cells(d)) * (2 * hidden_channels(d) + d.C)
    return int(found)


def kernel_elements(d: Dims) -> int:
    """Count the taps of a gathering convolution."""
    return int(d.H * d.W) if extent_of(d) is None else 9


def averaged(d: Dims) -> int:
    """Count the additions of the averages, taps outside the map left out."""
    extent = extent_of(d)
    if extent is None:
        return math.prod(output(d))
    rows, columns = (taps_in_bounds(size, 2 * extent - 1, extent, extent - 1) for size in (d.H, d.W))
    return int(d.B * d.C * rows * columns)


def layer_macs(d: Dims, in_bounds: bool = False) -> int:
    """Count the multiply-adds of the gathering convolutions and of the 1×1 layers."""
    total = 2 * d.B * d.C * hidden_channels(d) * math.prod(cells(d))
    height, width = d.H, d.W
    for _, rows, columns in gathers(d):
        taps = rows * columns * kernel_elements(d)
        if in_bounds and extent_of(d) is not None:
            taps = taps_in_bounds(height, 3, 2) * taps_in_bounds(width, 3, 2)
        total += d.B * d.C * taps
        height, width = rows, columns
    return int(total)


GENET = "GE-ResNet-50, Hu et al. 2018, section 4.1, before the shortcut is added"
NETWORK = [
    Workload("ge_resnet50/stage1", Dims(B=1, C=256, H=56, W=56), GENET),
    Workload("ge_resnet50/stage2", Dims(B=1, C=512, H=28, W=28), GENET),
    Workload("ge_resnet50/stage3", Dims(B=1, C=1024, H=14, W=14), GENET),
    Workload("ge_resnet50/stage4", Dims(B=1, C=2048, H=7, W=7), GENET),
]
STAGE1, STAGE2, STAGE3 = (workload.dims for workload in NETWORK[:3])
EXTENTS = sweep(NETWORK[1], extent=("global", 2, 4, 8))
VARIED = [
    Workload("ge_resnet50/stage2_plus", STAGE2.replace(variant="plus", R=16), f"{GENET}; GE-θ⁺"),
    Workload("ge_resnet50/stage3_minus", STAGE3.replace(variant="minus"), f"{GENET}; GE-θ⁻"),
    Workload("ge_resnet50/stage1_minus_e8", STAGE1.replace(variant="minus", extent=8), f"{GENET}; GE-θ⁻"),
    Workload("ge_resnet50/stage2_train_b8", STAGE2.replace(B=8, norm="train"), f"{GENET}; in training"),
]
PROOF_EXTENTS = (
    Dims(B=2, C=6, H=4, W=5),
    Dims(B=2, C=6, H=5, W=7, extent=2),
    Dims(B=3, C=4, H=1, W=10, extent=4),
    Dims(B=2, C=4, H=9, W=8, extent=8),
)

BROADCAST = "the scale is multiplied elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    domain=domain,
    workloads=[*NETWORK, *EXTENTS],
    proof_dims=(*PROOF_EXTENTS, Dims(B=2, C=4, H=2, W=7, extent=3)),
    polynomial=True,
    counted=lambda d: 0,
    counted_because=BROADCAST,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=options,
    domain=module_domain,
    workloads=[*NETWORK, *VARIED, *EXTENTS, *sweep(VARIED[0], R=(4, 8, 16, 32))],
    proof_dims=(
        *PROOF_EXTENTS,
        *(d.replace(variant="minus") for d in PROOF_EXTENTS),
        *(d.replace(C=8, variant="plus", R=2) for d in PROOF_EXTENTS),
        Dims(B=2, C=4, H=2, W=7, extent=3, variant="minus"),
        Dims(B=4, C=4, H=3, W=4, norm="train"),
        Dims(B=3, C=4, H=9, W=7, extent=4, norm="train"),
        Dims(B=3, C=8, H=5, W=6, extent=2, variant="plus", R=2, norm="train"),
    ),
    counted=layer_macs,
    counted_because=BROADCAST,
)


@core.generator(
    inputs=lambda d: {"weight": parameter(d.C, d.C) if variant_of(d) == "plus" else parameter(d.C)}
)
def generated_linearly(d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    """Weighted sums around every cell's centre, over the whole map if global, and over channels for GE-θ⁺."""
    extent = extent_of(d)
    if extent is None:
        gathered = x.sum((2, 3), keepdim=True)
    else:
        windows = F.pad(x, (extent - 1,) * 4).unfold(2, 2 * extent - 1, extent)
        gathered = windows.unfold(3, 2 * extent - 1, extent).sum((-1, -2))
    equation = "oc,bchw->bohw" if weight.dim() == 2 else "c,bchw->bchw"
    return {"gate": torch.einsum(equation, weight, gathered)}


def enlarged_elsewhere(d: Dims) -> str | None:
    """Say where the framework's nearest neighbour is another one, for it multiplies by a rounded h/H."""
    for size, count in zip((d.H, d.W), cells(d), strict=True):
        index = torch.arange(count, dtype=torch.float32)
        nearest = F.interpolate(index.reshape(1, 1, count), size=int(size))[0, 0].long()
        if not torch.equal(nearest, torch.arange(size) * count // size):
            return f"it enlarges {count} cells to {size} by a rounded ratio, which misses the nearest cell"
    return None


def counted_macs(d: Dims) -> int:
    """Count the multiply-adds of all layers but a gather of the whole map, which is a dot product here."""
    whole = extent_of(d) is None and variant_of(d) != "minus"
    return layer_macs(d) - whole * math.prod(output(d))


DOT_PRODUCTS = f"dot products over the map are no matrix products, and {BROADCAST}"


def released(d: Dims) -> str | None:
    """Say why the released networks do not compute these dimensions, or return None."""
    return None if extent_of(d) is None else "they have the global extent alone"


@core.implementation(
    "interpolate", counted=lambda d: 0, counted_because=BROADCAST, supports=enlarged_elsewhere
)
def interpolate(x: Tensor, gate: Tensor) -> Tensor:
    """Enlarge the gate to the map's size by the framework's nearest neighbour, then multiply."""
    return x * F.interpolate(gate, size=x.shape[2:])


@core.implementation("cells", preferred=True, counted=lambda d: 0, counted_because=BROADCAST)
def tiled(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply every cell with its number, without an enlarged gate where cells of one size tile the map."""
    H, W = x.shape[2:]
    h, w = gate.shape[2:]
    if h == w == 1:
        return x * gate
    if H % h or W % w:
        rows = torch.arange(H, device=x.device) * h // H
        columns = torch.arange(W, device=x.device) * w // W
        return x * gate.index_select(2, rows).index_select(3, columns)
    tiles = x.reshape(*x.shape[:2], h, H // h, w, W // w)
    return (tiles * gate[:, :, :, None, :, None]).reshape(x.shape)


@module.implementation("authors", counted=layer_macs, counted_because=BROADCAST, supports=released)
def module_authors(x: Tensor, *, extent: int | None = None, **learned: Tensor) -> Tensor:
    """Gather by a pooling or by a convolution as large as the map, as the authors do."""
    if "gather1" in learned:
        kernel = learned["gather1"].unsqueeze(1)
        z = batch_norm.normalise(F.conv2d(x, kernel, groups=x.shape[1]), learned, "gather1")
    else:
        z = F.adaptive_avg_pool2d(x, 1)
    return x * torch.sigmoid(excite(z, learned))


@module.implementation("cells", preferred=True, counted=counted_macs, counted_because=DOT_PRODUCTS)
def module_tiled(x: Tensor, *, extent: int | None = None, **learned: Tensor) -> Tensor:
    """Gather by dot products over the map or by convolutions, and multiply every cell with its number."""
    return tiled(x, torch.sigmoid(excite(gather(x, extent, learned), learned)))


def gather(x: Tensor, extent: int | None, learned: Mapping[str, Tensor]) -> Tensor:
    """Gather a map to [B, C, h, w] by averages, by dot products with the whole map, or by convolutions."""
    C = x.shape[1]
    if extent is None:
        if "gather1" not in learned:
            return x.mean((2, 3), keepdim=True)
        z = torch.linalg.vecdot(x.flatten(2), learned["gather1"].flatten(1))
        return batch_norm.normalise(z[:, :, None, None], learned, "gather1")
    if "gather1" not in learned:
        return F.avg_pool2d(x, 2 * extent - 1, extent, extent - 1, count_include_pad=False)
    z = x
    for layer in range(1, extent.bit_length()):
        kernel = learned[f"gather{layer}"].unsqueeze(1)
        z = F.conv2d(z if layer == 1 else F.relu(z), kernel, stride=2, padding=1, groups=C)
        z = batch_norm.normalise(z, learned, f"gather{layer}")
    return z


def excite(z: Tensor, learned: Mapping[str, Tensor]) -> Tensor:
    """Apply the 1×1 layers of GE-θ⁺, which other variants lack."""
    if "reduce" not in learned:
        return z
    hidden = F.conv2d(F.relu(z), learned["reduce"][:, :, None, None], learned["reduce_bias"])
    return F.conv2d(F.relu(hidden), learned["expand"][:, :, None, None], learned["expand_bias"])
