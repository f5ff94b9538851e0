"""Mixtures of kernels, as CondConv and dynamic convolution (DY-Conv) compute them."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv2d, pointwise_conv2d
from ..dynamic import cond_conv2d, dynamic_conv2d
from ..workloads import grouped_maps

Outputs = Tensor | tuple[Tensor, ...]

# The map that is smaller than its kernel first: few of its positions read the last tap.
SHAPES = (
    Dims(B=2, C=4, Co=6, H=3, W=4, K=5, G=2, E=3),
    *(d.replace(Co=6, E=3) for d in grouped_maps() if d.H < 3),
    Dims(B=3, C=4, Co=6, H=7, W=6, K=3, G=2, E=4, stride=2),
    Dims(B=1, C=64, Co=64, H=14, W=14, K=1, G=1, E=4),
)
COMPLETE = (Dims(B=2, C=2, Co=2, H=1, W=2, K=1, G=1, E=2),)


class Mixture(Claim):
    """What the claims on mixtures receive: a map, experts in groups of channels, and any routing."""

    shapes = SHAPES
    complete_shapes = COMPLETE

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts and the routing."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "experts": (d.E, d.Co, d.C // d.G, d.K, d.K),
            "routing": (d.B, d.E),
        }

    @mutant(sparse=True)
    def last_tap_left_out(self, d: Dims, experts: Tensor, **rest: Tensor) -> Outputs:
        """The last tap of the last kernel is missing, in every expert."""
        return self.right(d, experts=without_last_tap(experts), **rest)


class MixingKernelsIsMixingOutputs(Mixture):
    """A mixture of kernels is a mixture of its experts' outputs, biases included.

    conv(x, Σ π_k W_k) + Σ π_k b_k = Σ π_k (conv(x, W_k) + b_k), whatever the weights π of an image sum to.
    The left side takes one convolution, the right side E.
    """

    name = "mixing-kernels-is-mixing-outputs"
    operators = ("cond_conv2d", "dynamic_conv2d", "conv2d")
    source = (
        "Yang et al. 2019, NeurIPS, arXiv 1904.04971, section 3.1: “A CondConv layer is mathematically "
        "equivalent to a more expensive linear mixture of experts formulation, where each expert corresponds "
        "to a static convolution”"
    )
    conditions = {
        "per-image": "the outputs of an image are weighed by its own routing",
        "same-grid": "all experts have the same stride and the same padding",
        "biases-mixed": "the biases are mixed by the same weights as the kernels",
        "activated-last": "an activation comes after the mixture, not before it",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts with their biases, and the routing."""
        return {**super().variables(d), "bias": (d.E, d.Co)}

    def left(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, bias: Tensor) -> Tensor:
        """Mix the kernels and the biases, then convolve."""
        mixed = dynamic_conv2d.core(x, experts, routing, stride=stride_of(d))
        return mixed + (routing @ bias)[:, :, None, None]

    def right(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, bias: Tensor) -> Tensor:
        """Convolve with every expert, then mix the outputs."""
        outputs = outputs_of_experts(d, x, experts) + bias[:, None, :, None, None]
        return torch.einsum("be,ebohw->bohw", routing, outputs)

    @mutant(drops="per-image")
    def routing_of_another_image(self, d: Dims, routing: Tensor, **rest: Tensor) -> Tensor:
        """The outputs are weighed by the routing of the next image of the batch."""
        return self.right(d, routing=routing.roll(1, 0), **rest)

    @mutant(drops="same-grid")
    def last_expert_padded_otherwise(self, d: Dims, experts: Tensor, **rest: Tensor) -> Tensor:
        """The last expert begins one column further left."""
        moved = F.pad(experts[-1:, ..., :-1], (1, 0))
        return self.right(d, experts=torch.cat([experts[:-1], moved]), **rest)

    @mutant(drops="biases-mixed")
    def biases_added_once(self, d: Dims, routing: Tensor, bias: Tensor, **rest: Tensor) -> Tensor:
        """The outputs are mixed before the biases are added, and these have no weights."""
        mixed = self.right(d, routing=routing, bias=torch.zeros_like(bias), **rest)
        return mixed + bias.sum(0)[:, None, None]

    @mutant(drops="activated-last")
    def outputs_activated(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, bias: Tensor) -> Tensor:
        """The experts' outputs pass a ReLU before they are mixed."""
        outputs = outputs_of_experts(d, x, experts) + bias[:, None, :, None, None]
        return torch.einsum("be,ebohw->bohw", routing, torch.relu(outputs))

    @mutant()
    def weights_squared(self, d: Dims, routing: Tensor, **rest: Tensor) -> Tensor:
        """Kernel and output are both weighed."""
        return self.right(d, routing=routing**2, **rest)

    @equivalent("a kernel or a map may be weighed as well as an output, as a convolution is linear in each")
    def kernels_weighed_by_themselves(
        self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, bias: Tensor
    ) -> Tensor:
        """The map is weighed for every expert, and the outputs are summed."""
        weighed = [
            (weight[:, None, None, None] * x, kernel)
            for weight, kernel in zip(routing.t(), experts, strict=True)
        ]
        outputs = torch.stack([conv2d.core(*pair, stride=stride_of(d)) for pair in weighed])
        return outputs.sum(0) + (routing @ bias)[:, :, None, None]

    @equivalent(
        "CondConv and dynamic convolution mix alike, and differ in what makes their routing", side="left"
    )
    def mixed_by_cond_conv(
        self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, bias: Tensor
    ) -> Tensor:
        """CondConv mixes the kernels."""
        mixed = cond_conv2d.core(x, experts, routing, stride=stride_of(d))
        return mixed + (routing @ bias)[:, :, None, None]


class BatchFoldedIntoChannels(Mixture):
    """Kernels per image are one grouped convolution of a single map, the batch folded into its channels.

    Kernel [B, Co, C/G, K, K] and map [B, C, H, W] become [B·Co, C/G, K, K] and [1, B·C, H, W], with B·G
    groups; the output is unfolded to [B, Co, H', W'].
    """

    name = "kernels-per-image-are-one-grouped-convolution"
    operators = ("cond_conv2d", "conv2d")
    source = (
        "the released form of github.com/huggingface/pytorch-image-models, cond_conv2d.py, and of "
        "github.com/kaijieshi7/Dynamic-convolution-Pytorch, dynamic_conv.py"
    )
    conditions = {
        "images-outermost": "a map's channels stay together when the batch is folded into them",
        "kernels-likewise": "the kernels of an image stay together, in the order of the images",
        "groups-times-images": "there are B·G groups, so that the groups of an image stay apart",
        "unfolded-likewise": "the output is unfolded as the map was folded",
    }
    algebra = "Group bG+g of the folded convolution thus holds group g of image b, and nothing else."

    def left(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """Mix a kernel for every image, and convolve each with its own."""
        return cond_conv2d.core(x, experts, routing, stride=stride_of(d))

    def right(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """Fold, convolve once, unfold."""
        return unfolded(d, fold(x), mix(experts, routing).flatten(0, 1))

    @lemma
    def groups_of_the_folded_map(self, z3: Any) -> Lemma:
        """Channel r of group g of image b, folded, is channel r of group bG+g, D channels being a group."""
        folded, b, c, g, r, G, D = z3.Ints("folded b c g r G D")
        return Lemma(
            {
                "a group's channels lie together": c == g * D + r,
                "r is one of the D channels of a group": z3.And(r >= 0, r < D),
                "an image's channels lie together": folded == b * (G * D) + c,
            },
            z3.And(folded / D == b * G + g, folded % D == r),
        )

    @mutant(drops="images-outermost")
    def channels_outermost(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """The images of a channel stay together when the batch is folded."""
        return unfolded(d, fold(x.transpose(0, 1)), mix(experts, routing).flatten(0, 1))

    @mutant(drops="kernels-likewise")
    def kernels_of_a_channel_together(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """The kernels that the images have for one output stay together."""
        return unfolded(d, fold(x), mix(experts, routing).transpose(0, 1).flatten(0, 1))

    @mutant(drops="groups-times-images")
    def one_group_for_each_image(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """There are B groups, whose kernels are repeated to reach all channels of an image."""
        return unfolded(d, fold(x), mix(experts, routing).repeat(1, 1, d.G, 1, 1).flatten(0, 1))

    @mutant(drops="unfolded-likewise")
    def outputs_unfolded_otherwise(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """The output is unfolded as if the images of a channel lay together."""
        folded = conv2d.core(fold(x), mix(experts, routing).flatten(0, 1), stride=stride_of(d))
        return folded.reshape(d.Co, d.B, *folded.shape[2:]).transpose(0, 1)

    @mutant()
    def kernels_of_another_image(self, d: Dims, routing: Tensor, **rest: Tensor) -> Tensor:
        """Every image is convolved with the kernel of the next one."""
        return self.right(d, routing=routing.roll(1, 0), **rest)

    @equivalent("images may be convolved in any order, map and kernel together")
    def images_reversed(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """The batch is folded from its end."""
        return self.right(d, x=x.flip(0), experts=experts, routing=routing.flip(0)).flip(0)


class ResidualFormWithAnyBaseKernel(Mixture):
    """If the routing sums to one, conv(x, Σ π_k W_k) = conv(x, W₀) + conv(x, Σ π_k ΔW_k), ΔW_k = W_k − W₀.

    W₀ may be any kernel: it is added once, and taken off with weights that sum to one. That it is the mean of
    the experts, as where the form is introduced, makes the differences sum to zero, and is not needed here.
    """

    name = "residual-form-with-any-base-kernel"
    operators = ("dynamic_conv2d", "conv2d")
    source = (
        "Li et al. 2021, ICLR, arXiv 2103.08756, section 3, where W₀ is the mean kernel: “we reformulate "
        "dynamic convolution in terms of a set of residuals”"
    )
    conditions = {
        "routing-sums-to-one": "the routing of an image sums to one, as a softmax does and sigmoids do not",
        "one-base-kernel": "the kernel W₀ that is added is the one that was subtracted, whichever it is",
    }
    corrects = "residual-form-with-any-base-kernel-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, the routing, and any kernel."""
        free = super().variables(d)
        return {**free, "base": free["experts"][1:]}

    def given(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Let the last weight of every image be what the others leave of one."""
        first = routing[:, :-1]
        return {**rest, "routing": torch.cat([first, 1 - first.sum(1, keepdim=True)], 1)}

    def left(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, **_: Tensor) -> Tensor:
        """Mix the experts."""
        return dynamic_conv2d.core(x, experts, routing, stride=stride_of(d))

    def right(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, base: Tensor) -> Tensor:
        """Add the mixture of the differences to the base."""
        residual = dynamic_conv2d.core(x, experts - base, routing, stride=stride_of(d))
        return conv2d.core(x, base, stride=stride_of(d)) + residual

    @mutant(drops="routing-sums-to-one", side="given")
    def routing_with_any_sum(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The routing is free."""
        return variables

    @mutant(drops="one-base-kernel")
    def another_base_added(
        self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, base: Tensor
    ) -> Tensor:
        """The first expert is added, while the differences are taken from another kernel."""
        residual = dynamic_conv2d.core(x, experts - base, routing, stride=stride_of(d))
        return conv2d.core(x, experts[0], stride=stride_of(d)) + residual

    @mutant()
    def last_difference_left_out(self, d: Dims, routing: Tensor, **rest: Tensor) -> Tensor:
        """The difference of the last expert is left out, as where the differences were those from it."""
        return self.right(d, routing=routing * (1 - first_of(d, routing).flip(0)), **rest)

    @equivalent("W₀ cancels, so the mean of the experts does as well; here their sum, which is no mean")
    def sum_of_experts_as_base(self, d: Dims, experts: Tensor, base: Tensor, **rest: Tensor) -> Tensor:
        """W₀ is the sum of the experts."""
        return self.right(d, experts=experts, base=experts.sum(0), **rest)

    @equivalent("W₀ cancels, so it may be an expert, whose own difference is then zero")
    def first_expert_as_base(self, d: Dims, experts: Tensor, base: Tensor, **rest: Tensor) -> Tensor:
        """W₀ is the first expert."""
        return self.right(d, experts=experts, base=experts[0], **rest)


class ResidualFormNeedsMeanKernelAsStated(Claim):
    """If W₀ is not the mean of the experts, conv(x, W₀) + conv(x, Σ π_k ΔW_k) is not their mixture."""

    name = "residual-form-with-any-base-kernel-as-stated"
    kind = "negative"
    expected = "refuted"
    operators = ("dynamic_conv2d", "conv2d")
    source = "the definition of W₀ in Li et al. 2021, section 1, the mean kernel, taken for a condition"
    shapes = SHAPES

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, the routing, and a kernel that is not their mean."""
        return ResidualFormWithAnyBaseKernel().variables(d)

    def given(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """Let the routing sum to one."""
        return ResidualFormWithAnyBaseKernel().given(d, **variables)

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Mix the experts."""
        return ResidualFormWithAnyBaseKernel().left(d, **given)

    def right(self, d: Dims, **given: Tensor) -> Tensor:
        """Add the mixture of the differences to W₀."""
        return ResidualFormWithAnyBaseKernel().right(d, **given)


class MixturesInARowAreMixtureOfPairs(Claim):
    """Two 1×1 mixtures in a row, with one routing for both, mix the E² products of their experts.

    (Σ π_j B_j)(Σ π_k A_k) x = Σ_jk π_j π_k B_j A_k x. So a block that shares its routing among its layers is
    not a mixture of E whole blocks B_k A_k.
    """

    name = "mixtures-in-a-row-are-mixture-of-pairs"
    operators = ("cond_conv2d", "pointwise_conv2d")
    source = (
        "Yang et al. 2019, arXiv 1904.04971, as released in github.com/tensorflow/tpu, models/official/"
        "efficientnet, where one routing serves the three convolutions of a block"
    )
    conditions = {
        "every-pair": "every expert of the first layer meets every expert of the second",
        "product-of-weights": "a pair has the product of its weights",
        "nothing-between": "nothing acts on the map between the two layers",
    }
    shapes = (
        Dims(B=4, C=3, M=5, Co=6, H=2, W=5, E=3),
        Dims(B=2, C=4, M=3, Co=2, H=7, W=1, E=2),
        Dims(B=1, C=16, M=32, Co=16, H=14, W=14, E=4),
    )
    complete_shapes = (Dims(B=1, C=2, M=2, Co=2, H=1, W=2, E=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts of both layers, which meet in M channels, and the routing."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "first": (d.E, d.M, d.C, 1, 1),
            "second": (d.E, d.Co, d.M, 1, 1),
            "routing": (d.B, d.E),
        }

    def left(self, d: Dims, x: Tensor, first: Tensor, second: Tensor, routing: Tensor) -> Tensor:
        """Mix the first layer, then the second."""
        return cond_conv2d.core(cond_conv2d.core(x, first, routing), second, routing)

    def right(self, d: Dims, x: Tensor, first: Tensor, second: Tensor, routing: Tensor) -> Tensor:
        """Convolve with the product of every pair of experts, and mix the outputs."""
        weights = routing[:, :, None] * routing[:, None, :]
        return mixed_products(x, first, second, weights)

    @mutant(drops="every-pair")
    def experts_meet_their_like(
        self, d: Dims, x: Tensor, first: Tensor, second: Tensor, routing: Tensor
    ) -> Tensor:
        """The experts of one number meet alone: a mixture of E blocks."""
        return mixed_products(x, first, second, torch.diag_embed(routing))

    @mutant(drops="product-of-weights")
    def weights_of_the_second_layer(
        self, d: Dims, x: Tensor, first: Tensor, second: Tensor, routing: Tensor
    ) -> Tensor:
        """A pair has the weight of its second expert."""
        return mixed_products(x, first, second, routing[:, :, None].expand(-1, -1, d.E))

    @mutant(drops="nothing-between", side="left")
    def square_between(self, d: Dims, x: Tensor, first: Tensor, second: Tensor, routing: Tensor) -> Tensor:
        """The map is squared between the layers."""
        return cond_conv2d.core(cond_conv2d.core(x, first, routing) ** 2, second, routing)

    @mutant(sparse=True)
    def last_weight_of_last_image_left_out(
        self, d: Dims, x: Tensor, first: Tensor, second: Tensor, routing: Tensor
    ) -> Tensor:
        """For the last image, the last output of the last pair is missing."""
        whole = self.right(d, x=x, first=first, second=second, routing=routing)
        last = self.right(d, x=x[-1:], first=first[-1:], second=second[-1:, -1:], routing=routing[-1:, -1:])
        return whole - F.pad(last, (0, 0, 0, 0, d.Co - 1, 0, d.B - 1, 0))

    @equivalent("the sum over the experts of one layer may be taken before that over the other")
    def second_layer_mixed_first(
        self, d: Dims, x: Tensor, first: Tensor, second: Tensor, routing: Tensor
    ) -> Tensor:
        """Every expert of the first layer is followed by the mixture of the second layer."""
        outputs = [
            weight[:, None, None, None]
            * cond_conv2d.core(pointwise_conv2d.core(x, expert[..., 0, 0]), second, routing)
            for weight, expert in zip(routing.t(), first, strict=True)
        ]
        return torch.stack(outputs).sum(0)


def mixed_products(x: Tensor, first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Σ_jk weights[b, j, k] · second[j] · first[k] · x[b]; weights [B, E, E]."""
    products = torch.einsum("jom,kmc->jkoc", second[..., 0, 0], first[..., 0, 0]).flatten(0, 1)
    outputs = torch.stack([pointwise_conv2d.core(x, product) for product in products])
    return torch.einsum("be,ebohw->bohw", weights.flatten(1), outputs)


def outputs_of_experts(d: Dims, x: Tensor, experts: Tensor) -> Tensor:
    """Convolve with every expert, [E, B, Co, H', W']."""
    return torch.stack([conv2d.core(x, kernel, stride=stride_of(d)) for kernel in experts])


def stride_of(d: Dims) -> int:
    """Return the stride, one unless the shape names it."""
    return int(d.get("stride", 1))


def first_of(d: Dims, routing: Tensor) -> Tensor:
    """Return the routing [E] whose whole weight lies on the first expert."""
    return torch.eye(d.E, dtype=routing.dtype)[0]


def without_last_tap(experts: Tensor) -> Tensor:
    """Set the last tap of every expert's last kernel to zero, for its last channel."""
    kept = torch.ones(experts.shape, dtype=experts.dtype)
    kept[:, -1, -1, -1, -1] = 0
    return kept * experts


def mix(experts: Tensor, routing: Tensor) -> Tensor:
    """Mix one kernel per image, [B, Co, C/G, K, K]."""
    return torch.einsum("be,eocuv->bocuv", routing, experts)


def fold(x: Tensor) -> Tensor:
    """Fold the batch into the channels, [1, B·C, H, W]."""
    return x.reshape(1, -1, *x.shape[2:])


def unfolded(d: Dims, folded: Tensor, kernels: Tensor) -> Tensor:
    """Convolve a folded map with kernels [B·Co, ·, K, K], and unfold the output."""
    output = conv2d.core(folded, kernels, stride=stride_of(d))
    return output.reshape(d.B, d.Co, *output.shape[2:])
