"""Arithmetic: which shortcuts of CUDA libraries are allowed where exactness matters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def forbid_tf32() -> None:
    """Let float32 mean float32: TF32 keeps 11 bits of 24, and cuDNN uses it unless it is told not to."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Forbid TF32 for a while."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    forbid_tf32()
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Forbid TF32 and cuDNN, whose Winograd and FFT kernels are not exact even on integers."""
    with full_precision(), torch.backends.cudnn.flags(enabled=False, allow_tf32=False):
        yield
