"""Formulas of parameters and complexity as they are stated in papers and in notes on them.

A formula that does not hold as it stands keeps its row, with the verdict that is expected and the reason.
"""

from itertools import count

from harness import Books, Dims, Formula

WU = "Wu et al. 2019, ICLR, arXiv 1901.10430, section 3"
DCD = "Li et al. 2021, ICLR, arXiv 2103.08756, section 4"
DY_RELU = "Chen et al. 2020, ECCV, arXiv 2003.10027, section 3"
INVOLUTION = "Li et al. 2021, CVPR, arXiv 2103.06255, section 3"
SWIN = "Liu et al. 2021, ICCV, arXiv 2103.14030, eq. (2)"

CONVOLUTIONS = [
    Dims(B=1, C=C, Co=Co, H=8, W=9, K=K, G=1) for C, Co, K in ((16, 24, 3), (64, 64, 5), (3, 96, 4))
]
DEPTHWISE = [Dims(B=1, C=C, H=8, W=9, K=K) for C, K in ((16, 3), (64, 5), (96, 7))]
SEQUENCES = [Dims(B=1, C=C, Co=C, T=30, K=K, G=1) for C, K in ((512, 3), (1024, 31))]
HEADED = [Dims(B=1, C=C, T=30, K=K, M=M) for C, K, M in ((512, 7, 4), (1024, 31, 16))]

convolutions = [
    Formula(
        "k²·d_in·d_out",
        "parameters of a convolution",
        WU,
        stated=lambda d: d.K**2 * d.C * d.Co,
        counted=lambda books, d: books.params("conv2d", "core", **d),
        dims=CONVOLUTIONS,
    ),
    Formula(
        "k²d",
        "parameters of a depthwise convolution",
        WU,
        stated=lambda d: d.K**2 * d.C,
        counted=lambda books, d: books.params("depthwise_conv2d", "core", **d),
        dims=DEPTHWISE,
    ),
    Formula(
        "d_in·d_out",
        "parameters of a pointwise convolution",
        WU,
        stated=lambda d: d.C * d.Co,
        counted=lambda books, d: books.params("pointwise_conv2d", "core", **d),
        dims=[d.without("K", "G") for d in CONVOLUTIONS],
    ),
    Formula(
        "kd²",
        "parameters of a convolution over a sequence",
        WU,
        stated=lambda d: d.K * d.C**2,
        counted=lambda books, d: books.params("conv1d", "core", **d),
        dims=SEQUENCES,
    ),
    Formula(
        "kd",
        "parameters of a depthwise convolution over a sequence",
        WU,
        stated=lambda d: d.K * d.C,
        counted=lambda books, d: books.params("depthwise_conv1d", "core", **d),
        dims=[d.without("Co", "G") for d in SEQUENCES],
    ),
    Formula(
        "kH",
        "parameters of a lightweight convolution, H heads",
        WU,
        stated=lambda d: d.K * d.M,
        counted=lambda books, d: books.params("lightweight_conv1d", "module", **d),
        dims=HEADED,
    ),
    Formula(
        "d·H·k",
        "parameters of a dynamic convolution's generator, H heads",
        WU,
        stated=lambda d: d.C * d.M * d.K,
        counted=lambda books, d: books.params("dynamic_conv1d", "module", **d),
        dims=HEADED,
    ),
]

TOKENS = [Dims(B=1, C=64, H=1, W=n, M=4) for n in (64, 256, 1024, 4096)]
STEPS = [Dims(B=1, C=64, T=n, M=4, K=31) for n in (64, 256, 1024, 4096)]
orders = [
    Formula(
        "O(n²)",
        "multiply-accumulates of self-attention over n tokens",
        WU,
        stated=lambda d: d.W**2,
        counted=lambda books, d: books.macs("self_attention", "core", **d),
        dims=TOKENS,
        kind="growth",
        remark="the products of attention; its projections grow with n",
    ),
    Formula(
        "O(n)",
        "multiply-accumulates of a dynamic convolution over n steps",
        WU,
        stated=lambda d: d.T,
        counted=lambda books, d: books.macs("dynamic_conv1d", "module", **d),
        dims=STEPS,
        kind="growth",
    ),
    Formula(
        "O(n)",
        "multiply-accumulates that fairseq's default way to compute a dynamic convolution executes",
        WU,
        stated=lambda d: d.T,
        counted=lambda books, d: books.executed("dynamic_conv1d", "core", "band", d),
        dims=STEPS,
        kind="growth",
        expected="differs",
        remark="it fills a band of n × (n + k − 1) for every head and multiplies by n columns: quadratic",
    ),
]

SQUARES = [Dims(B=1, C=C, Co=C, H=7, W=6, K=1, G=1, E=4) for C in (64, 256)]
LATENT = [Dims(B=1, C=C, Co=C, H=7, W=6, L=L, R=16) for C, L in ((64, 8), (256, 16), (960, 60))]


def paper_width(channels: int) -> int:
    """Return the L that the paper of DCD gives for C channels, ⌊C / 2^⌊log₂√C⌋⌋."""
    return channels >> (channels.bit_length() - 1) // 2


def gated(C: int, H: int, W: int) -> Dims:
    """Return the dimensions of a square 1×1 layer of which Λ alone is dynamic."""
    return Dims(B=1, C=C, Co=C, H=H, W=W, L=8, R=16, parts="gate")


def crossing(books: Books, d: Dims) -> int:
    """Count the positions from which on Λ costs no more for one more: it is applied to the weights there."""

    def operations(positions: int) -> int:
        return books.elementwise("dcd_pointwise", "core", **gated(d.C, positions, 1))

    return next(n for n in count(1) if operations(n + 1) == operations(n))


LARGE, EVEN, SMALL = gated(256, 56, 56), gated(256, 16, 16), gated(256, 7, 7)

channel_fusion = [
    Formula(
        "C + L²",
        "numbers that the branch of dynamic channel fusion computes for an image",
        DCD,
        stated=lambda d: d.C + d.L**2,
        counted=lambda books, d: books.generated("dcd_pointwise", d),
        dims=LATENT,
    ),
    Formula(
        "KC²",
        "parameters of a 1×1 mixture of K kernels",
        DCD,
        stated=lambda d: d.E * d.C**2,
        counted=lambda books, d: books.params("cond_conv2d", "core", **d),
        dims=SQUARES,
    ),
    Formula(
        "C² + 2CL + (2C + L²)C/r",
        "parameters of dynamic channel fusion, 1×1",
        DCD,
        stated=lambda d: d.C**2 + 2 * d.C * d.L + (2 * d.C + d.L**2) * d.C // d.R,
        counted=lambda books, d: books.params("dcd_pointwise", "module", **d),
        dims=LATENT,
    ),
    Formula(
        "1 3/16 C²",
        "parameters of dynamic channel fusion at r = 16 with L² < C",
        DCD,
        stated=lambda d: 19 * d.C**2 / 16,
        counted=lambda books, d: books.params("dcd_pointwise", "module", **d),
        dims=[Dims(B=1, C=C, Co=C, H=7, W=6, L=paper_width(C), R=16) for C in (64, 256, 1024)],
        expected="differs",
        remark="it leaves 2CL out, and the paper's own L is not below √C: the count is 1.25 to 1.75 C²",
    ),
    Formula(
        "L² < C",
        "the paper's latent width L = ⌊C / 2^⌊log₂√C⌋⌋: how many of the widths obey it",
        DCD,
        stated=lambda d: 1,
        counted=lambda books, d: int(paper_width(d.C) ** 2 < d.C),
        dims=[Dims(C=C) for C in (64, 96, 128, 255)],
        expected="differs",
        remark="2^⌊log₂√C⌋ is at most √C, so L is at least about √C; it needs a ceiling in its place",
    ),
    Formula(
        "min(O(C²), O(HWC))",
        "operations to apply Λ: on the weights, or on the output",
        DCD,
        stated=lambda d: min(d.C**2, d.H * d.W * d.C),
        counted=lambda books, d: books.elementwise("dcd_pointwise", "core", **d),
        dims=[LARGE, EVEN, SMALL],
        remark="both orders give one function, (ΛW₀)x and Λ(W₀x); they cost the same where HW = C",
    ),
    Formula(
        "O(C²)",
        "operations to apply Λ on the weights, (ΛW₀)x, the cheaper order where HW ≥ C",
        DCD,
        stated=lambda d: d.C**2,
        counted=lambda books, d: books.elementwise("dcd_pointwise", "core", **d),
        dims=[LARGE, EVEN],
    ),
    Formula(
        "O(HWC)",
        "operations to apply Λ on the output, Λ(W₀x), the cheaper order where HW ≤ C",
        DCD,
        stated=lambda d: d.H * d.W * d.C,
        counted=lambda books, d: books.elementwise("dcd_pointwise", "core", **d),
        dims=[EVEN, SMALL],
    ),
    Formula(
        "HW = C",
        "positions at which the two orders cost the same",
        DCD,
        stated=lambda d: d.C,
        counted=crossing,
        dims=[gated(C, 1, 1) for C in (16, 64, 256)],
    ),
    Formula(
        "O(HWC)",
        "operations to apply the gate of squeeze-and-excitation, which needs the output first",
        DCD,
        stated=lambda d: d.H * d.W * d.C,
        counted=lambda books, d: books.macs("squeeze_excite", "core", **d),
        dims=[d.without("Co", "L", "R", "parts") for d in (LARGE, EVEN, SMALL)],
    ),
]


def rectified(C: int, **letters: int) -> Dims:
    """Return the dimensions of a dynamic ReLU of two pieces."""
    return Dims(B=1, C=C, H=14, W=12, R=8, pieces=2, **letters)


def _params_of_layers(d: Dims) -> int:
    hidden = d.C // d.R
    return int(d.C * hidden + hidden * d.G * d.K**2)


dynamic = [
    Formula(
        "2K",
        "numbers that dynamic ReLU A computes for an image",
        DY_RELU,
        stated=lambda d: 2 * d.pieces,
        counted=lambda books, d: books.generated("dynamic_relu_a", d),
        dims=[rectified(64), rectified(256)],
    ),
    Formula(
        "2KC",
        "numbers that dynamic ReLU B computes for an image",
        DY_RELU,
        stated=lambda d: 2 * d.pieces * d.C,
        counted=lambda books, d: books.generated("dynamic_relu_b", d),
        dims=[rectified(64), rectified(256)],
    ),
    Formula(
        "2KHWC",
        "numbers that dynamic ReLU C computes for an image",
        DY_RELU,
        stated=lambda d: 2 * d.pieces * d.C * d.H * d.W,
        counted=lambda books, d: books.generated("dynamic_relu_c", d),
        dims=[rectified(64), rectified(256)],
        expected="differs",
        remark="2KHWC slopes and intercepts act, but they are products of 2KC and HW numbers, and none is a "
        "parameter: the layer computes 2KC + HW",
    ),
    Formula(
        "(C² + K²GC)/r",
        "parameters of involution's kernel generator",
        INVOLUTION,
        stated=lambda d: (d.C**2 + d.K**2 * d.G * d.C) / d.R,
        counted=lambda books, d: books.params("involution", "module", **d) - 2 * d.C // d.R - d.G * d.K**2,
        dims=[Dims(B=1, C=C, H=7, W=6, K=7, G=C // 16, R=4) for C in (64, 256)],
        remark="without the batch norm's 2C/r and the K²G biases of the released layer",
    ),
    Formula(
        "HW(C² + K²GC)/r + HWK²C",
        "multiply-accumulates of involution and its generator",
        INVOLUTION,
        stated=lambda d: d.H * d.W * (_params_of_layers(d) + d.K**2 * d.C),
        counted=lambda books, d: books.macs("involution", "module", **d),
        dims=[Dims(B=1, C=C, H=7, W=6, K=7, G=C // 16, R=4) for C in (64, 256)],
    ),
    Formula(
        "4hwC² + 2M²hwC",
        "multiply-accumulates of attention in windows of M×M",
        SWIN,
        stated=lambda d: d.H * d.W * (4 * d.C**2 + 2 * d.S**2 * d.C),
        counted=lambda books, d: books.macs("window_attention", "module", **d),
        dims=[Dims(B=1, C=C, H=14, W=21, S=7, M=C // 32) for C in (96, 384)],
    ),
    Formula(
        "4hwC² + 2(hw)²C",
        "multiply-accumulates of attention over the whole map",
        SWIN,
        stated=lambda d: d.H * d.W * (4 * d.C**2 + 2 * d.H * d.W * d.C),
        counted=lambda books, d: books.macs("self_attention", "module", **d),
        dims=[Dims(B=1, C=C, H=14, W=21, M=C // 32) for C in (96, 384)],
    ),
]
