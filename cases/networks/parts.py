"""Layers that several networks are built of; what is no operator here is counted by its kind."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness import Blueprint, SameopError

BATCH_NORM, LAYER_NORM = "batch_norm", "layer_norm"
ACTIVATION, POOLING, BIAS, SHORTCUT = "activation", "pooling", "bias", "shortcut"

# Lays a convolution with its batch norm, as conv_norm does and with its parameters.
ConvNorm = Callable[..., Tensor]


def conv(
    net: Blueprint,
    role: str,
    x: Tensor,
    Co: int,
    K: int,
    stride: int = 1,
    G: int = 1,
    padding: int | None = None,
    bias: bool = False,
) -> Tensor:
    """Lay a convolution, on the page that its shape belongs to; stride and padding as the pages default."""
    C = x.shape[1]
    letters: dict[str, Any] = {"stride": stride} if stride != 1 else {}
    if padding is not None and padding != K // 2:
        letters["padding"] = padding
    if K == 1 and stride == 1 and G == 1:
        y = net.layer("pointwise_conv2d", role, x, Co=Co)
    elif G == C == Co:
        y = net.layer("depthwise_conv2d", role, x, K=K, **letters)
    else:
        y = net.layer("conv2d", role, x, Co=Co, K=K, G=G, **letters)
    if bias:
        net.other(BIAS, ((Co,),), elementwise=y.numel())
    return y


def linear(net: Blueprint, role: str, x: Tensor, Co: int, bias: bool = True) -> Tensor:
    """Lay a linear layer on a vector or on tokens: a 1×1 convolution of the map that they are."""
    return conv(net, role, x, Co, 1, bias=bias)


def batch_norm(net: Blueprint, x: Tensor, relu: bool = True) -> Tensor:
    """Count a batch norm with gain and shift, two operations an element, and a ReLU unless told not to."""
    C = x.shape[1]
    net.other(BATCH_NORM, ((C,), (C,)), elementwise=2 * x.numel())
    return activate(net, x) if relu else x


def layer_norm(net: Blueprint, x: Tensor) -> Tensor:
    """Count a layer norm over the channels with gain and shift, five operations an element."""
    C = x.shape[1]
    net.other(LAYER_NORM, ((C,), (C,)), elementwise=5 * x.numel())
    return x


def activate(net: Blueprint, x: Tensor) -> Tensor:
    """Count an activation without parameters, one operation an element."""
    net.other(ACTIVATION, elementwise=x.numel())
    return x


def mlp(net: Blueprint, x: Tensor, ratio: int = 4) -> Tensor:
    """Lay two linear layers with biases and an activation between, behind a norm and beside a shortcut."""
    return add(net, expand(net, layer_norm(net, x), ratio), x)


def expand(net: Blueprint, x: Tensor, ratio: int) -> Tensor:
    """Lay a linear layer to ``ratio`` times the channels, an activation, and a linear layer back."""
    hidden = activate(net, linear(net, "mlp_in", x, ratio * x.shape[1]))
    return linear(net, "mlp_out", hidden, x.shape[1])


def add(net: Blueprint, x: Tensor, y: Tensor, relu: bool = False) -> Tensor:
    """Count the addition of a shortcut, which has to have the same shape, and a ReLU after it if asked to."""
    if x.shape != y.shape:
        raise SameopError(
            f"{net.name} adds a map of {list(x.shape)} to one of {list(y.shape)}: correct its layers."
        )
    net.other(SHORTCUT, elementwise=x.numel())
    return activate(net, x) if relu else x


def max_pool(net: Blueprint, x: Tensor, K: int, stride: int, padding: int) -> Tensor:
    """Count a pooling, one operation a tap."""
    y = torch.nn.functional.max_pool2d(x, K, stride, padding)
    net.other(POOLING, elementwise=y.numel() * K * K)
    return y


def global_pool(net: Blueprint, x: Tensor) -> Tensor:
    """Count a mean over all positions, one operation an element."""
    net.other(POOLING, elementwise=x.numel())
    return x.mean((2, 3), keepdim=True)


def classifier(net: Blueprint, x: Tensor, classes: int = 1000) -> Tensor:
    """Lay the mean over all positions and the last linear layer."""
    with net.stage("head"):
        return linear(net, "classifier", global_pool(net, x), classes)


def conv_norm(
    net: Blueprint, role: str, x: Tensor, Co: int, K: int, stride: int = 1, G: int = 1, relu: bool = True
) -> Tensor:
    """Lay a convolution without bias, its batch norm, and a ReLU unless told not to."""
    return batch_norm(net, conv(net, role, x, Co, K, stride, G), relu)
