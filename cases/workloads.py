"""The adversarial shapes: small, and made so that a wrong program cannot look right by symmetry.

Height and width differ, the batch is larger than one, groups lie strictly between one and the
channels with at least two channels each, kernels are odd and at least three, and one side of the
map is shorter than the kernel is wide, or equals its width, or one more than twice its width.
"""

from harness import Dims

# (H, W, K): a map smaller than the kernel, one as large, and two larger ones.
MAPS = ((2, 5, 3), (3, 4, 3), (7, 6, 3), (5, 11, 5))


def grouped_maps(**more: int | float | str) -> tuple[Dims, ...]:
    """Return the maps with two images, four channels in two groups, and whatever else is asked for."""
    return tuple(Dims(B=2, C=4, H=H, W=W, K=K, G=2).replace(**more) for H, W, K in MAPS)
