"""Networks written again with torch.nn alone: parameters and multiply-accumulates come out the same.

Nothing here uses a page, its formulas or its implementations.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.bench.catalog import load_catalogue

BOOKS = load_catalogue([Path(__file__).parent]).books


def conv(C: int, Co: int, K: int, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    """Return a convolution without bias, its batch norm, and a ReLU unless told not to."""
    layers = [nn.Conv2d(C, Co, K, stride, K // 2, groups=groups, bias=False), nn.BatchNorm2d(Co)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def head(C: int) -> list[nn.Module]:
    """Return the mean over the map and the classifier."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 1000)]


class Residual(nn.Module):
    """A body beside a shortcut, which is the identity where nothing else is given."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Add the two."""
        sum_: Tensor = self.body(x) + self.shortcut(x)
        return sum_


class Involution(nn.Module):
    """Involution with 16 channels per group and r = 4, its taps gathered and multiplied as matrices."""

    def __init__(self, C: int, K: int, stride: int) -> None:
        super().__init__()
        self.K, self.stride = K, stride
        self.reduce, self.span = conv(C, C // 4, 1), nn.Conv2d(C // 4, C // 16 * K * K, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Make the kernels of every position and apply them."""
        kernels = self.span(self.reduce(F.avg_pool2d(x, self.stride)))
        _, _, H, W = kernels.shape
        taps = F.unfold(x, (self.K, self.K), padding=self.K // 2, stride=self.stride)
        rows = taps.view(x.shape[1] // 16, 16, self.K**2, H * W).permute(0, 3, 1, 2)
        columns = kernels.view(x.shape[1] // 16, self.K**2, H * W).permute(0, 2, 1).unsqueeze(-1)
        out: Tensor = (rows @ columns).permute(0, 2, 1, 3).reshape(1, x.shape[1], H, W)
        return out


def bottleneck(C: int, width: int, stride: int, middle: Callable[[int, int], nn.Module]) -> nn.Module:
    """Return a ResNet's block around what stands in its middle."""
    body = nn.Sequential(conv(C, width, 1), middle(width, stride), conv(width, 4 * width, 1, relu=False))
    widens = width * 4 != C
    return nn.Sequential(
        Residual(body, conv(C, 4 * width, 1, stride, relu=False) if stride > 1 or widens else None), nn.ReLU()
    )


def residual_stages(middle: Callable[[int, int], nn.Module]) -> list[nn.Module]:
    """Return the four stages of a ResNet of 50 layers."""
    blocks, C = [], 64
    for place, depth in enumerate((3, 4, 6, 3)):
        for index in range(depth):
            blocks.append(bottleneck(C, 64 << place, 2 if place and not index else 1, middle))
            C = 256 << place
    return blocks


def resnet50() -> nn.Module:
    """Return a ResNet-50 with the stride in the 3×3."""
    stages = residual_stages(lambda width, stride: conv(width, width, 3, stride))
    return nn.Sequential(conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1), *stages, *head(2048))


def rednet50() -> nn.Module:
    """Return a RedNet-50, with an involution in its stem too."""

    def middle(C: int, stride: int, K: int = 7) -> nn.Module:
        return nn.Sequential(Involution(C, K, stride), nn.BatchNorm2d(C), nn.ReLU())

    stem = (conv(3, 32, 3, 2), middle(32, 1, 3), conv(32, 64, 3), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(*stem, *residual_stages(middle), *head(2048))


def mobilenetv2() -> nn.Module:
    """Return a MobileNetV2 of width one."""
    layers, C = [conv(3, 32, 3, 2)], 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
    for expansion, Co, depth, first in (*table, (6, 320, 1, 1)):
        for index in range(depth):
            hidden, stride = expansion * C, 1 if index else first
            widen = [conv(C, hidden, 1)] if expansion > 1 else []
            body = nn.Sequential(
                *widen, conv(hidden, hidden, 3, stride, hidden), conv(hidden, Co, 1, relu=False)
            )
            layers.append(nn.Sequential(Residual(body)) if index else body)
            C = Co
    return nn.Sequential(*layers, conv(C, 1280, 1), *head(1280))


class WindowAttention(nn.Module):
    """Attention in windows of 7×7 with a table of positions, on maps [1, H, W, C]."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = C // 32, nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.table = nn.Parameter(torch.empty(169, self.heads))

    def forward(self, x: Tensor) -> Tensor:
        """Attend; which window a token is in does not matter for the count."""
        _, H, W, C = x.shape
        parts = self.qkv(x.reshape(-1, 49, C)).reshape(-1, 49, 3, self.heads, 32).permute(2, 0, 3, 1, 4)
        mixed = (parts[0] @ parts[1].mT).softmax(-1) @ parts[2]
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(-1, 49, C))
        return out.reshape(1, H, W, C)


class Merge(nn.Module):
    """Patch merging: four neighbours become one position with twice the channels."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4 * C), nn.Linear(4 * C, 2 * C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Join and project."""
        _, H, W, C = x.shape
        out: Tensor = self.linear(self.norm(x.reshape(1, H // 2, W // 2, 4 * C)))
        return out


class Permute(nn.Module):
    """Change the order of the axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Permute."""
        return x.permute(self.axes)


def swin_t() -> nn.Module:
    """Return a Swin-T; a shifted window costs what a regular one does."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), Permute(0, 2, 3, 1), nn.LayerNorm(96)]
    for place, depth in enumerate((2, 2, 6, 2)):
        C = 96 << place
        for _ in range(depth):
            mlp = (nn.LayerNorm(C), nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C))
            layers.append(Residual(nn.Sequential(nn.LayerNorm(C), WindowAttention(C))))
            layers.append(Residual(nn.Sequential(*mlp)))
        if place < 3:
            layers.append(Merge(C))
    return nn.Sequential(*layers, nn.LayerNorm(768), Permute(0, 3, 1, 2), *head(768))


@pytest.mark.parametrize("build", [resnet50, rednet50, mobilenetv2, swin_t])
def test_torch_nn_counts_the_same(build: Callable[[], nn.Module]) -> None:
    """Parameters of the modules, and half of the operations that torch counts in them."""
    with torch.device("meta"):
        module = build().eval()
    counter = FlopCounterMode(display=False)
    with counter:
        module(torch.empty(1, 3, 224, 224, device="meta"))
    found = BOOKS.network(build.__name__)
    assert sum(parameter.numel() for parameter in module.parameters()) == found.params
    assert counter.get_total_flops() == 2 * found.macs
