"""Fully connected layer: every output is a weighted sum of all channels at all positions of the map.

Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 323 (1986),
eq. (1); the operator from which Han et al., ICLR 2022 (arXiv 2106.04263), derive the others by leaving
connections out and sharing weights. The output is a map as large as the input unless ``Ho`` and ``Wo`` say
otherwise; a classifier's layer has Ho = Wo = 1. Module: two layers with ``hidden`` units between them and
the activation ``act``, relu or gelu, the latter by erf. Released code calls the framework's linear layer on
the flattened map, ``authors`` here; it computes the formula.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, parameter, sweep

operator = Operator(
    "mlp",
    family="mlp",
    source="Rumelhart et al. 1986, Nature 323, eq. (1)",
    note="Its weights fit one size of map only.",
    traits=Traits(space="global", channels="all"),
)

ACTIVATIONS = ("relu", "gelu")


def reference(x: Tensor, weight: Tensor, height: int = 1, width: int = 1) -> Tensor:
    """y[b, o, i, j] = Σ_chw weight[(o·H'+i)·W'+j, (c·H+h)·W+w] · x[b, c, h, w].

    x [B, C, H, W]; weight [Co·H'·W', C·H·W]; y [B, Co, H', W'] with H' the height and W' the width.
    """
    outputs = torch.einsum("oi,bi->bo", weight, x.reshape(len(x), -1))
    return outputs.reshape(len(x), -1, height, width)


def module_reference(
    x: Tensor,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
    height: int = 1,
    width: int = 1,
    act: str = "relu",
) -> Tensor:
    """y[b] = second·σ(first·x[b] + first_bias) + second_bias, x[b] and y[b] being flattened maps.

    σ(z) = max(0, z) for relu and ½z·(1 + erf(z/√2)) for gelu. x [B, C, H, W], its element (c, h, w) the
    (c·H+h)·W+w-th; first [D, C·H·W] with D the hidden units; first_bias [D]; second [Co·H'·W', D];
    second_bias [Co·H'·W']; y [B, Co, H', W'] with H' the height and W' the width.
    """
    hidden = torch.einsum("oi,bi->bo", first, x.reshape(len(x), -1)) + first_bias
    active = torch.relu(hidden) if act == "relu" else F.gelu(hidden)
    outputs = torch.einsum("oi,bi->bo", second, active) + second_bias
    return outputs.reshape(len(x), -1, height, width)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    sources, outputs = sizes(d)
    return {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(outputs, sources, fan_in=sources)}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    sources, outputs = sizes(d)
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "first": parameter(d.hidden, sources, fan_in=sources),
        "first_bias": parameter(d.hidden),
        "second": parameter(outputs, d.hidden, fan_in=d.hidden),
        "second_bias": parameter(outputs),
    }


def options(d: Dims) -> Mapping[str, int]:
    """Height and width of the output, the map's own unless the workload names them."""
    return {"height": d.get("Ho", d.H), "width": d.get("Wo", d.W)}


def module_options(d: Dims) -> Mapping[str, int | str]:
    """Height and width of the output, and the activation, ReLU unless the workload names it."""
    return {**options(d), "act": d.get("act", "relu")}


def sizes(d: Dims) -> tuple[int, int]:
    """Count the elements of a map and of its output."""
    height, width = options(d).values()
    return int(d.C * d.H * d.W), int(d.Co * height * width)


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.Co, *options(d).values()


def domain(d: Dims) -> str | None:
    """Refuse an activation that the module does not have."""
    act = d.get("act", "relu")
    return (
        None if act in ACTIVATIONS else f"{act} is none of its activations: choose {' or '.join(ACTIVATIONS)}"
    )


def cost(d: Dims) -> Cost:
    """One multiply-add per weight and image."""
    sources, outputs = sizes(d)
    return Cost(
        params=outputs * sources,
        macs=d.B * outputs * sources,
        elements_read=d.B * sources + outputs * sources,
        elements_written=d.B * outputs,
    )


def module_cost(d: Dims) -> Cost:
    """One multiply-add per weight and image; biases and ReLU, or the steps around erf, are elementwise."""
    sources, outputs = sizes(d)
    gelu = d.get("act", "relu") == "gelu"
    params = d.hidden * (sources + 1) + outputs * (d.hidden + 1)
    return Cost(
        params=params,
        macs=d.B * d.hidden * (sources + outputs),
        elements_read=d.B * sources + params,
        elements_written=d.B * outputs,
        elementwise=d.B * (d.hidden * (5 if gelu else 2) + outputs),
        transcendental=d.B * d.hidden * gelu,
    )


DQN = "DQN, Mnih et al. 2015, Nature 518, methods: 64 maps of 7×7 to 512 units to 18 actions"
SAME_MAP = "a map of the size of DQN's third one, 64×7×7, onto another; no layer of that network"
LENET = "LeNet-5, LeCun et al. 1998, section II.B: 16 maps of 5×5 to 120 to 84"
LENET_300 = "LeNet-300-100, LeCun et al. 1998, section III.C: 28×28 pixels to 300 to 100"
FC1 = Dims(B=1, C=64, Co=512, H=7, W=7, Ho=1, Wo=1)
C5 = Dims(B=1, C=16, Co=120, H=5, W=5, Ho=1, Wo=1)
PIXELS = Dims(B=1, C=1, Co=300, H=28, W=28, Ho=1, Wo=1)
MAP = Dims(B=1, C=64, Co=64, H=7, W=7)
WORKLOADS = [
    Workload("dqn/fc1", FC1, DQN),
    Workload("dqn/fc1_b32", FC1.replace(B=32), DQN + ", trained by 32"),
    Workload("lenet5/c5", C5, LENET),
    Workload("lenet300_100/fc1", PIXELS, LENET_300),
    Workload("dqn/map", MAP, SAME_MAP),
]
PERCEPTRONS = [
    Workload("dqn/fc1_fc2", FC1.replace(Co=18, hidden=512), DQN),
    Workload("dqn/fc1_fc2_b32", FC1.replace(B=32, Co=18, hidden=512), DQN + ", trained by 32"),
    Workload("lenet5/c5_f6", C5.replace(Co=84, hidden=120), LENET + "; ReLU in place of tanh"),
    Workload(
        "lenet300_100/fc1_fc2", PIXELS.replace(Co=100, hidden=300), LENET_300 + "; ReLU in place of tanh"
    ),
    Workload("dqn/map_gelu", MAP.replace(hidden=512, act="gelu"), SAME_MAP),
]
SMALL = Dims(B=2, C=3, Co=4, H=3, W=2)
PROOF_DIMS = (
    SMALL,
    SMALL.replace(H=1, W=5),
    SMALL.replace(Ho=2, Wo=5),
    Dims(B=3, C=2, Co=5, H=4, W=3, Ho=1, Wo=1),
)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    workloads=[*WORKLOADS, *sweep(WORKLOADS[0], C=(16, 32, 64, 128), Co=(128, 256, 512, 1024))],
    proof_dims=PROOF_DIMS,
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
    workloads=[*PERCEPTRONS, *sweep(PERCEPTRONS[0], hidden=(128, 256, 512, 1024), act=ACTIVATIONS)],
    proof_dims=tuple(d.replace(hidden=7, act=act) for d in PROOF_DIMS for act in ACTIVATIONS),
)


@core.implementation("authors", preferred=True)
def authors(x: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    """Call the framework's linear layer on the flattened map."""
    return F.linear(x.flatten(1), weight).view(len(x), -1, height, width)


@core.implementation("convolution")
def convolution(x: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    """Convolve with kernels as large as the map, which fit it once.

    Long et al., Fully Convolutional Networks, CVPR 2015, section 3.1, read classifiers' layers this way.
    """
    return F.conv2d(x, weight.reshape(-1, *x.shape[1:])).reshape(len(x), -1, height, width)


@module.implementation("authors", preferred=True)
def module_authors(
    x: Tensor,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
    height: int,
    width: int,
    act: str,
) -> Tensor:
    """Call the framework's linear layer twice on the flattened map."""
    hidden = F.linear(x.flatten(1), first, first_bias)
    hidden = F.relu(hidden) if act == "relu" else F.gelu(hidden)
    return F.linear(hidden, second, second_bias).view(len(x), -1, height, width)
