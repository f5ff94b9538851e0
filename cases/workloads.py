"""The adversarial shapes: small, and made so that a wrong program cannot look right by symmetry.

In those below height and width differ, the batch is larger than one, groups lie strictly between one
and the channels with at least two channels each, kernels are odd and at least three, and one side of
the map is a single row, is shorter than the kernel is wide, equals its width, or is one more than twice
its width. Pages add shapes of their own that are none of this on purpose, such as a kernel of 1×1 or
2×2, a single group, or a stride.
"""

from harness import Dims

# (H, W, K): a single row, a map smaller than the kernel, one as large, and two larger ones.
MAPS = ((1, 4, 3), (2, 5, 3), (3, 4, 3), (7, 6, 3), (5, 11, 5))

# (H, W, S): windows in a row, in a column, and in a grid.
WINDOWED_MAPS = ((2, 6, 2), (9, 3, 3), (4, 6, 2))


def grouped_maps(**more: int | float | str) -> tuple[Dims, ...]:
    """Return the maps with two images, four channels in two groups, and whatever else is asked for."""
    return tuple(Dims(B=2, C=4, H=H, W=W, K=K, G=2).replace(**more) for H, W, K in MAPS)


def windowed_maps(**more: int | float | str) -> tuple[Dims, ...]:
    """Return maps that windows tile, with two images and four channels in two heads."""
    return tuple(Dims(B=2, C=4, H=H, W=W, S=S, M=2).replace(**more) for H, W, S in WINDOWED_MAPS)
