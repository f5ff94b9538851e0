"""Batch norm as the modules of this family have it: its inputs, what it costs, and its fast form.

Ioffe and Szegedy, ICML 2015 (arXiv 1502.03167), algorithms 1 and 2. A workload chooses ``norm="eval"``, the
default, where mean and variance are stored, or ``norm="train"``, where they are those of the batch, the
variance biased. Epsilon is 1e-5. References have their own.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from harness import Dims, Spec, buffer, parameter


def inputs(layer: str, d: Dims, *shape: int) -> Mapping[str, Spec]:
    """Shapes of a layer's gain and shift, and of its stored mean and variance unless ``norm="train"``."""
    learned = {f"{layer}_gain": parameter(*shape, mean=1.0), f"{layer}_shift": parameter(*shape)}
    if is_training(d):
        return learned
    return {**learned, f"{layer}_mean": buffer(*shape), f"{layer}_variance": buffer(*shape, positive=True)}


def refusal(d: Dims, values: int) -> str | None:
    """Say why there is no batch norm of a channel with so many values, or return None."""
    norm = d.get("norm", "eval")
    if norm not in ("eval", "train"):
        return f"a batch norm {norm!r} is unknown: name 'eval' or 'train'"
    if norm == "train" and values == 1:
        return "a single value per channel has no variance: choose a larger batch, or norm='eval'"
    return None


def is_training(d: Dims) -> bool:
    """Tell whether the statistics are those of the batch."""
    return bool(d.get("norm", "eval") == "train")


def stored(d: Dims, channels: int) -> int:
    """Count the stored statistics of so many channels."""
    return 0 if is_training(d) else 2 * channels


def elementwise(d: Dims, elements: int) -> int:
    """Count scale and shift, and in training a sum for the mean and a difference, square and sum besides."""
    return (6 if is_training(d) else 2) * elements


def normalise(z: Tensor, norms: Mapping[str, Tensor], layer: str) -> Tensor:
    """Normalise [B, C, …] with the layer's own of ``norms``; by the batch where no statistics are stored."""
    # On the CPU the gradients of torch 2.13 are wrong where these four do not lie close together, and where
    # the map of a single image has another layout than its gradient; [1, C, H·W] has no second layout.
    names = ("mean", "variance", "gain", "shift")
    mean, variance, gain, shift = (
        norms[f"{layer}_{name}"].contiguous() if f"{layer}_{name}" in norms else None for name in names
    )
    maps = z.flatten(2) if len(z) == 1 and z.dim() > 2 else z
    return F.batch_norm(maps, mean, variance, gain, shift, training=mean is None).reshape(z.shape)
