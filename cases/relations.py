"""The relation graph of Han et al., edge by edge, as they draw it.

An edge of theirs is reproduced where the probed traits of the operators at its ends change by the rule that
its label stands for, and a claim shows the special case. Their graph sorts by sparse connection, low rank
and dynamic weight, not by weight sharing, so a step that changes sharing alone may be part of an edge.
"Sep." is separation or separable, "LR" low rank, "DW-S" depthwise separable, "MS" multi-scale, "Vec. Atten."
vector attention; the dotted edge is theirs. What the figure's callouts name stands for a node: MLP-Mixer,
Res2Net, ResNet, MobileNet, the Vision Transformer, Swin, PVT, DynamicConv and involution.
"""

from harness import DrawnEdge

FIGURE = (
    "Han et al. 2022, ICLR, arXiv 2106.04263, relation graph; "
    "figures/relation.png of github.com/Atten4Vis/DemystifyLocalViT"
)

relation_graph = [
    DrawnEdge(
        "MLP",
        "Conv.",
        "Locality Sep.",
        sources=("mlp",),
        targets=("conv2d",),
        kinds=("locality",),
        source=FIGURE,
        remark="locality alone gives the locally connected layer; a convolution shares weights besides",
    ),
    DrawnEdge(
        "MLP",
        "LR MLP",
        "Dim. LR",
        sources=("mlp",),
        targets=(),
        kinds=("low rank in space", "low rank in channels"),
        source=FIGURE,
        expected="not reproduced",
        remark="dotted in the figure, which names no network that has it",
    ),
    DrawnEdge(
        "MLP",
        "Sep. MLP",
        "Dim. Sep.",
        sources=("mlp",),
        targets=("spatial_mixing_mlp",),
        kinds=("dimension separation",),
        source=FIGURE,
        remark="the half that mixes positions; the channel MLP is the other half",
    ),
    DrawnEdge(
        "Conv.",
        "Pyramid MS Conv.",
        "Spatial LR",
        sources=("conv2d",),
        targets=("multiscale_conv2d",),
        kinds=("low rank in space",),
        source=FIGURE,
        expected="not reproduced",
        remark=(
            "the convolutions of Res2Net have full rank in space, and its channels read what lies before "
            "them; what has lower rank in HRNet is a branch of lower resolution, not a convolution"
        ),
    ),
    DrawnEdge(
        "Conv.",
        "Bottleneck",
        "Channel LR",
        sources=("conv2d",),
        targets=("bottleneck",),
        kinds=("low rank in channels",),
        source=FIGURE,
        remark="without the batch norms and ReLUs inside, with which it is no linear map of any rank",
    ),
    DrawnEdge(
        "Conv.",
        "DW-S Conv.",
        "Dim. Sep.",
        sources=("conv2d",),
        targets=("depthwise_conv2d",),
        kinds=("dimension separation",),
        source=FIGURE,
        remark="the depthwise half; the pointwise convolution is the other half",
    ),
    DrawnEdge(
        "Sep. MLP",
        "DW-S Conv.",
        "Locality Sep.",
        sources=("spatial_mixing_mlp",),
        targets=("depthwise_conv2d",),
        kinds=("locality",),
        source=FIGURE,
        remark="locality gives one kernel for all channels; a depthwise convolution has one for each",
    ),
    DrawnEdge(
        "Sep. MLP",
        "ViT",
        "Spatial Dynamic",
        sources=("spatial_mixing_mlp",),
        targets=("self_attention",),
        kinds=("dynamic per position",),
        source=FIGURE,
        remark="one matrix for all channels becomes one for each head besides",
    ),
    DrawnEdge(
        "ViT",
        "Local ViT",
        "Locality Sep.",
        sources=("self_attention",),
        targets=("window_attention",),
        kinds=("locality",),
        source=FIGURE,
    ),
    DrawnEdge(
        "ViT",
        "PVT",
        "Spatial LR",
        sources=("self_attention",),
        targets=("spatial_reduction_attention",),
        kinds=("low rank in space",),
        source=FIGURE,
        remark="the strided convolution that reduces the map mixes channels besides",
    ),
    DrawnEdge(
        "DW-S Conv.",
        "Dynamic DW-S Conv.",
        "Vec. Atten.",
        sources=("depthwise_conv2d",),
        targets=("dynamic_depthwise_conv2d",),
        kinds=("dynamic per image",),
        source=FIGURE,
    ),
    DrawnEdge(
        "DW-S Conv.",
        "Dynamic Local-S MLP",
        "Inhomogeneous Vec. Atten.",
        sources=("depthwise_conv2d",),
        targets=("dynamic_conv1d", "involution"),
        kinds=("dynamic per position",),
        source=FIGURE,
        remark="a group of channels shares its weights besides",
    ),
    DrawnEdge(
        "Local ViT",
        "Dynamic Local-S MLP",
        "Inhomogeneous Vec. Atten.",
        sources=("window_attention", "sliding_attention2d"),
        targets=("dynamic_conv1d", "involution"),
        kinds=("weights of one position",),
        source=FIGURE,
        remark="of a window that slides; Swin's cells are no neighbourhoods at given offsets",
    ),
]
