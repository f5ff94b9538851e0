"""Which operators meet on which input.

Members differ in letters that mean different things to them, groups above all; those are particulars.
"""

from harness import Comparison, Dims, Workload

from .dynamic.dcd_pointwise import latent_width

SWIN_T = "Swin-T's first stage, Liu et al. 2021, arXiv 2103.14030, table 7"
DEIT_TI = "DeiT-Ti at 224, Touvron et al. 2021, arXiv 2012.12877, table 1"
RESNET = "ResNet-18's first stage, He et al. 2016, arXiv 1512.03385, table 1"

STAGE1 = Workload("spatial_mixing/swin_t_stage1", Dims(B=1, C=96, H=56, W=56, K=7), SWIN_T)
STAGE1_PARTICULARS = {
    "window_attention": Dims(S=7, M=3),
    "sliding_attention2d": Dims(M=3),
    "dynamic_depthwise_conv2d": Dims(R=4),
    # 32 groups in every stage is the I-D-DW network's own choice, 16 channels per group RedNet's.
    "inhomogeneous_depthwise_conv2d": Dims(G=32, R=4),
    "involution": Dims(G=6, R=4),
}
stage1_cores = Comparison(
    name="spatial mixing at Swin-T stage 1, core",
    scope="core",
    operators=("depthwise_conv2d", *STAGE1_PARTICULARS),
    workload=STAGE1,
    matched=(
        "the map and the window of 49 positions, and so the multiply-adds, 49 per output with padding "
        "counted; what makes kernels and attention maps is left out, and they differ in size"
    ),
    particulars=STAGE1_PARTICULARS,
)
stage1_modules = Comparison(
    name="spatial mixing at Swin-T stage 1, module",
    scope="module",
    operators=tuple(STAGE1_PARTICULARS),
    workload=STAGE1,
    matched=(
        "the map and the window of 49 positions; parameters and multiply-adds differ: attention includes "
        "four projections of C×C, the others a generator of kernels with r = 4 but no 1×1 layer of a block"
    ),
    particulars=STAGE1_PARTICULARS,
)

TOKENS = Workload("spatial_mixing/deit_ti16", Dims(B=1, C=192, H=14, W=14, K=7), DEIT_TI)
TOKENS_PARTICULARS = {
    "self_attention": Dims(M=3),
    "window_attention": Dims(S=7, M=3),
    "sliding_attention2d": Dims(M=3),
    "involution": Dims(G=12, R=4),
}
token_cores = Comparison(
    name="global and local mixing at 14×14, core",
    scope="core",
    operators=tuple(TOKENS_PARTICULARS),
    workload=TOKENS,
    matched=(
        "the map, and the window of 49 positions for all but self-attention, which sums over all 196; what "
        "makes kernels and attention maps is left out, and they differ in size"
    ),
    particulars=TOKENS_PARTICULARS,
)
token_modules = Comparison(
    name="global and local mixing at 14×14, module",
    scope="module",
    operators=tuple(TOKENS_PARTICULARS),
    workload=TOKENS,
    matched=(
        "the map, and the window of 49 positions for all but self-attention; parameters and multiply-adds "
        "differ: attention has three heads and four projections of C×C, involution a generator with r = 4"
    ),
    particulars=TOKENS_PARTICULARS,
)

KERNEL_ATTENTION_PARTICULARS = {
    "conv2d": Dims(G=1),
    "cond_conv2d": Dims(G=1, E=4),
    "dynamic_conv2d": Dims(G=1, E=4, R=4),
    "dcd_conv2d": Dims(L=latent_width(64), Lk=1, R=16),
}
kernel_attention = Comparison(
    name="kernel attention at 64→64, 3×3, 56×56",
    scope="core",
    operators=tuple(KERNEL_ATTENTION_PARTICULARS),
    workload=Workload("kernel_attention/resnet18_stage1_b2", Dims(B=2, C=64, Co=64, H=56, W=56, K=3), RESNET),
    matched=(
        "the maps and the convolution itself; parameters differ: one static kernel, four experts in CondConv "
        "and dynamic convolution, one kernel with a small latent part in DCD"
    ),
    particulars=KERNEL_ATTENTION_PARTICULARS,
)
