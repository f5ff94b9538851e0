"""What the routing of a mixture of kernels decides: which kernels may come out, and for which images."""

from collections.abc import Mapping

import torch
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..convolution import conv2d
from ..dynamic import cond_conv2d, dynamic_conv2d
from .kernel_mixtures import SHAPES, Mixture, Outputs, first_of, mix, outputs_of_experts, stride_of


class OneExpertIsStaticConvolution(Mixture):
    """A mixture whose whole weight lies on one expert, the same for all images, is static convolution.

    So is a mixture of a single expert under a softmax, which gives it the weight one whatever its logit.
    """

    name = "one-expert-is-static-convolution"
    operators = ("dynamic_conv2d", "conv2d")
    source = "Chen et al. 2020, CVPR, arXiv 1912.03458, section 3, for a single kernel in place of K"
    conditions = {
        "weight-one": "the weight of the expert is one, as a softmax gives it to a single one",
        "others-zero": "the other experts have no weight",
        "same-expert": "all images have the same expert",
    }
    shapes = (*SHAPES[:-1], SHAPES[-2].replace(E=1), SHAPES[-1])

    def given(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Put the weight one on the first expert, whatever the routing is."""
        return {**rest, "routing": first_of(d, routing).expand(d.B, -1)}

    def left(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """Mix the experts."""
        return dynamic_conv2d.core(x, experts, routing, stride=stride_of(d))

    def right(self, d: Dims, x: Tensor, experts: Tensor, **_: Tensor) -> Tensor:
        """Convolve with the first expert."""
        return conv2d.core(x, experts[0], stride=stride_of(d))

    @mutant(drops="weight-one", side="given")
    def any_weight(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """The weight of the expert is free, as a sigmoid makes it."""
        return {**rest, "routing": first_of(d, routing) * routing}

    @mutant(drops="others-zero", side="given")
    def other_experts_too(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """The other experts have weights of their own."""
        first = first_of(d, routing)
        return {**rest, "routing": first + (1 - first) * routing}

    @mutant(drops="same-expert", side="given")
    def expert_of_the_image(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Image b has the expert b mod E."""
        every = torch.eye(d.E, dtype=routing.dtype)
        return {**rest, "routing": every[[image % d.E for image in range(d.B)]]}

    @equivalent("CondConv mixes as dynamic convolution does", side="left")
    def mixed_by_cond_conv(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
        """CondConv mixes the experts."""
        return cond_conv2d.core(x, experts, routing, stride=stride_of(d))


class InfiniteTemperatureIsMeanKernel(Mixture):
    """At an infinite temperature a softmax mixture is the static convolution with the mean of its kernels.

    The limit is stated at its end point, softmax((1/τ)·z) with 1/τ = 0: whatever the logits z of an image,
    all weights are 1/E.
    """

    name = "infinite-temperature-is-mean-kernel"
    kind = "limit"
    operators = ("dynamic_conv2d", "conv2d")
    source = (
        "Chen et al. 2020, CVPR, arXiv 1912.03458, section 3, where a large temperature makes the attention "
        "near uniform in the first epochs"
    )
    conditions = {
        "no-coldness": "1/τ is zero",
        "softmax": "the weights come from a softmax; sigmoids are all one half there",
        "all-experts": "the mean is that of all experts",
    }
    # Numbers of experts whose reciprocals are exact in binary.
    shapes = (
        Dims(B=2, C=4, Co=6, H=3, W=4, K=5, G=2, E=4),
        Dims(B=2, C=4, Co=6, H=2, W=5, K=3, G=2, E=8),
        Dims(B=3, C=4, Co=6, H=7, W=6, K=3, G=2, E=2, stride=2),
        Dims(B=1, C=64, Co=64, H=14, W=14, K=1, G=1, E=4),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=2, K=1, G=1, E=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, and the logits of their routing."""
        free = super().variables(d)
        return {"x": free["x"], "experts": free["experts"], "logits": free["routing"]}

    def left(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor) -> Tensor:
        """Mix the experts, at the temperature's end."""
        return dynamic_conv2d.core(x, experts, torch.softmax(0 * logits, 1), stride=stride_of(d))

    def right(self, d: Dims, x: Tensor, experts: Tensor, **_: Tensor) -> Tensor:
        """Convolve with the mean kernel."""
        return conv2d.core(x, experts.mean(0), stride=stride_of(d))

    @mutant(drops="no-coldness", side="left")
    def finite_temperature(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor) -> Tensor:
        """The temperature is one."""
        return dynamic_conv2d.core(x, experts, torch.softmax(logits, 1), stride=stride_of(d))

    @mutant(drops="softmax", side="left")
    def sigmoid_routing(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor) -> Tensor:
        """The weights are sigmoids."""
        return dynamic_conv2d.core(x, experts, torch.sigmoid(0 * logits), stride=stride_of(d))

    @mutant(drops="all-experts")
    def last_expert_left_out(self, d: Dims, x: Tensor, experts: Tensor, **_: Tensor) -> Tensor:
        """The last expert is not in the mean, but in its number."""
        return conv2d.core(x, experts[:-1].sum(0) / d.E, stride=stride_of(d))

    @equivalent(
        "the mean of kernels is the mean of what they compute, a convolution being linear in its kernel"
    )
    def mean_of_outputs(self, d: Dims, x: Tensor, experts: Tensor, **_: Tensor) -> Tensor:
        """The outputs of all experts are averaged."""
        return outputs_of_experts(d, x, experts).mean(0)


class Hull(Mixture):
    """What mixtures with positive weights have in common: no term of a weighed sum has the wrong sign."""

    kind = "inequality"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, their logits, weights that stand for functions of them, a bound."""
        free = super().variables(d)
        shapes = {"x": free["x"], "experts": free["experts"], "logits": (d.B, d.E), "weights": (d.B, d.E)}
        return {**shapes, "bound": cond_conv2d.output(d)}

    def left(
        self, d: Dims, x: Tensor, experts: Tensor, weights: Tensor, bound: Tensor, **_: Tensor
    ) -> Tensor:
        """Take the mixture off the bound, which counts as often as all weights together."""
        total = weights.sum(1)[:, None, None, None]
        return total * bound - cond_conv2d.core(x, experts, weights, stride=stride_of(d))

    def right(
        self, d: Dims, x: Tensor, experts: Tensor, weights: Tensor, bound: Tensor, **_: Tensor
    ) -> Tensor:
        """Sum what each expert's output leaves of the bound, weighed.

        If the bound is the largest of these outputs and no weight is negative, no term is; if it is the
        smallest, no term is positive.
        """
        left_over = bound - outputs_of_experts(d, x, experts)
        return torch.einsum("be,ebohw->bohw", weights, left_over)

    @mutant()
    def bound_counted_once(
        self, d: Dims, x: Tensor, experts: Tensor, weights: Tensor, **rest: Tensor
    ) -> Outputs:
        """The bound counts once, whatever the weights sum to."""
        zero = torch.zeros_like(rest["bound"])
        return rest["bound"] + self.right(d, x=x, experts=experts, weights=weights, bound=zero)


class SoftmaxMixtureLiesBetweenItsExperts(Hull):
    """Every output of a softmax mixture lies between the smallest and the largest output of its experts.

    Its kernel lies in their convex hull: no weight is negative, and the weights e^z/Σe^z sum to one.
    """

    name = "softmax-mixture-lies-between-its-experts"
    operators = ("dynamic_conv2d", "cond_conv2d", "conv2d")
    source = (
        "Li et al. 2021, arXiv 2103.08756, section 1: “Chen et al. (2020c) replaced the sigmoid layer with a "
        "softmax function to compress the kernel space.”"
    )
    conditions = {
        "sums-to-one": "the routing of an image sums to one",
        "none-negative": "no weight is negative",
        "all-experts": "the outputs of all experts are compared",
    }

    def lesser(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """Return the smallest outputs, and the mixture."""
        return smallest_and_mixture(d, x, experts, torch.softmax(logits, 1))

    def greater(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """Return the mixture, and the largest outputs."""
        return mixture_and_largest(d, x, experts, torch.softmax(logits, 1))

    @mutant(drops="sums-to-one", side="lesser")
    def sigmoid_routing(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """The routing is made of sigmoids, as CondConv's is."""
        return smallest_and_mixture(d, x, experts, torch.sigmoid(logits))

    @mutant(drops="none-negative", side="lesser")
    def extrapolated(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """The routing sums to one, and goes as far beyond a softmax as that is from its neighbour."""
        routing = torch.softmax(logits, 1)
        return smallest_and_mixture(d, x, experts, 2 * routing - routing.roll(1, 1))

    @mutant(drops="all-experts", side="greater")
    def last_expert_not_compared(
        self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor
    ) -> Tensor:
        """The last expert's output is not compared."""
        mixture = dynamic_conv2d.core(x, experts, torch.softmax(logits, 1), stride=stride_of(d))
        return torch.stack([mixture, outputs_of_experts(d, x, experts[:-1]).amax(0)])


class SigmoidMixtureLiesBetweenScaledExperts(Hull):
    """Every output of a sigmoid mixture lies between Σ π times the smallest and the largest of its experts.

    Its kernel lies in their convex hull, scaled by Σ π, which is anything between nothing and the number of
    experts: unlike that of a softmax it may lie outside the hull itself.
    """

    name = "sigmoid-mixture-lies-between-scaled-experts"
    operators = ("cond_conv2d", "conv2d")
    source = (
        "Li et al. 2021, arXiv 2103.08756, section 1: “Yang et al. (2019) proposed the use of a sigmoid "
        "layer to generate attention scores”, and “a significantly large space for the convolution kernel”"
    )
    conditions = {
        "scaled": "the bounds are scaled by the sum of the image's routing",
        "none-negative": "no weight is negative",
    }
    corrects = "sigmoid-mixture-lies-between-scaled-experts-as-stated"

    def lesser(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """Return the scaled smallest outputs, and the mixture."""
        routing = torch.sigmoid(logits)
        smallest, mixture = smallest_and_mixture(d, x, experts, routing)
        return torch.stack([routing.sum(1)[:, None, None, None] * smallest, mixture])

    def greater(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """Return the mixture, and the scaled largest outputs."""
        routing = torch.sigmoid(logits)
        mixture, largest = mixture_and_largest(d, x, experts, routing)
        return torch.stack([mixture, routing.sum(1)[:, None, None, None] * largest])

    @mutant(drops="scaled", side="greater")
    def bounds_not_scaled(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """The mixture is at most the largest output itself."""
        return mixture_and_largest(d, x, experts, torch.sigmoid(logits))

    @mutant(drops="none-negative", side="lesser")
    def hyperbolic_routing(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """The mixture has the weights 2σ(z) − 1, which may be negative."""
        smallest, _ = self.lesser(d, x=x, experts=experts, logits=logits)
        routing = 2 * torch.sigmoid(logits) - 1
        return torch.stack([smallest, dynamic_conv2d.core(x, experts, routing, stride=stride_of(d))])


class SigmoidMixtureLiesBetweenItsExpertsAsStated(Claim):
    """Every output of a mixture, CondConv's as well, lies between the smallest and largest of its experts."""

    name = "sigmoid-mixture-lies-between-scaled-experts-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("cond_conv2d", "conv2d")
    source = (
        "Li et al. 2021, arXiv 2103.08756, eq. (1), which lets the routing of Yang et al. 2019 sum to one"
    )
    shapes = SHAPES

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, and their logits."""
        free = SigmoidMixtureLiesBetweenScaledExperts().variables(d)
        return {name: free[name] for name in ("x", "experts", "logits")}

    def lesser(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor) -> Tensor:
        """Return the smallest outputs, and the mixture."""
        return smallest_and_mixture(d, x, experts, torch.sigmoid(logits))

    def greater(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor) -> Tensor:
        """Return the mixture, and the largest outputs."""
        return mixture_and_largest(d, x, experts, torch.sigmoid(logits))


class AveragedRoutingServesEqualRoutings(Mixture):
    """One convolution of the whole batch, with its average routing, serves if all images have one routing.

    A batch of one image does. An average is taken with weights that sum to one, as 1/B for each image. Where
    the routings differ it is, in general, the routing of none of the images, whose kernels then differ too.
    """

    name = "averaged-routing-serves-equal-routings"
    operators = ("dynamic_conv2d", "conv2d")
    source = "github.com/kaijieshi7/Dynamic-convolution-Pytorch, issue 23, where the maintainer agrees to it"
    conditions = {
        "equal-routings": "all images of the batch have the same routing",
        "average": "the weights of the images sum to one",
    }
    shapes = (*SHAPES[:-1], SHAPES[0].replace(B=4), SHAPES[-1])
    corrects = "averaged-routing-serves-equal-routings-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, the routing, and how much each image counts."""
        return {**super().variables(d), "counts": (d.B,)}

    def given(self, d: Dims, routing: Tensor, counts: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Give all images the routing of the first, and let their weights sum to one."""
        return {**rest, "routing": routing[:1].expand_as(routing), "counts": to_one(counts)}

    def left(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, **_: Tensor) -> Tensor:
        """Mix a kernel for every image."""
        return dynamic_conv2d.core(x, experts, routing, stride=stride_of(d))

    def right(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, counts: Tensor) -> Tensor:
        """Mix one kernel, with the average routing, and convolve the batch with it."""
        return conv2d.core(x, mix(experts, counts[None] @ routing)[0], stride=stride_of(d))

    @mutant(drops="equal-routings", side="given")
    def routing_of_every_image(self, d: Dims, counts: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Every image has a routing of its own."""
        return {**rest, "counts": to_one(counts)}

    @mutant(drops="average", side="given")
    def sum_in_place_of_average(
        self, d: Dims, routing: Tensor, counts: Tensor, **rest: Tensor
    ) -> Mapping[str, Tensor]:
        """The routings are summed."""
        return {**rest, "routing": routing[:1].expand_as(routing), "counts": torch.ones_like(counts)}

    @mutant(side="given")
    def last_image_differs(
        self, d: Dims, routing: Tensor, counts: Tensor, **rest: Tensor
    ) -> Mapping[str, Tensor]:
        """The last image has a routing of its own."""
        first = routing[:1].expand_as(routing)
        return {**rest, "routing": torch.cat([first[:-1], routing[-1:]]), "counts": to_one(counts)}

    @equivalent("where all routings are one, it does not matter whose is taken")
    def routing_of_the_last_image(self, d: Dims, routing: Tensor, counts: Tensor, **rest: Tensor) -> Tensor:
        """The last image alone counts."""
        last = torch.eye(d.B, dtype=counts.dtype)[-1]
        return self.right(d, routing=routing, counts=last, **rest)


class AveragedRoutingAsStated(Claim):
    """The routing may be averaged over the batch, which avoids a grouped convolution and gives the same."""

    name = "averaged-routing-serves-equal-routings-as-stated"
    expected = "refuted"
    operators = ("dynamic_conv2d", "conv2d")
    source = (
        "github.com/kaijieshi7/Dynamic-convolution-Pytorch, issue 23: “I think we can use "
        "`torch.mean(attention_weight, dim=0)`”"
    )
    shapes = tuple(d for d in SHAPES if d.B > 1)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, the routing, and how much each image counts."""
        return AveragedRoutingServesEqualRoutings().variables(d)

    def given(self, d: Dims, counts: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Let the weights of the images sum to one, as those of a mean do."""
        return {**rest, "counts": to_one(counts)}

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Mix a kernel for every image."""
        return AveragedRoutingServesEqualRoutings().left(d, **given)

    def right(self, d: Dims, **given: Tensor) -> Tensor:
        """Mix one kernel, with the average routing."""
        return AveragedRoutingServesEqualRoutings().right(d, **given)


def smallest_and_mixture(d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
    """Return the smallest of the experts' outputs, and their mixture."""
    mixture = cond_conv2d.core(x, experts, routing, stride=stride_of(d))
    return torch.stack([outputs_of_experts(d, x, experts).amin(0), mixture])


def mixture_and_largest(d: Dims, x: Tensor, experts: Tensor, routing: Tensor) -> Tensor:
    """Return the mixture of the experts, and the largest of their outputs."""
    mixture = cond_conv2d.core(x, experts, routing, stride=stride_of(d))
    return torch.stack([mixture, outputs_of_experts(d, x, experts).amax(0)])


def to_one(numbers: Tensor) -> Tensor:
    """Replace the last of some numbers by what the others leave of one."""
    return torch.cat([numbers[:-1], 1 - numbers[:-1].sum(0, keepdim=True)])
