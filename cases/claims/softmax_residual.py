"""The residual form of dynamic convolution from its logits on, where only a softmax sums to one."""

from collections.abc import Mapping

from torch import Tensor

from harness import Dims, equivalent, mutant

from ..convolution import conv2d
from ..dynamic import dynamic_conv2d
from .kernel_mixtures import Mixture, Outputs, stride_of


class SoftmaxMixtureIsResidualForm(Mixture):
    """A mixture under a softmax π is conv(x, W₀) + conv(x, Σ π_k (W_k − W₀)), for any kernel W₀.

    An arbitrary function of the logits would not do: that the weights sum to one is what the softmax adds.
    """

    name = "softmax-mixture-is-residual-form"
    operators = ("dynamic_conv2d", "conv2d")
    source = (
        "Chen et al. 2020, CVPR, arXiv 1912.03458, section 3: the attention over kernels is a softmax; "
        "Li et al. 2021, ICLR, arXiv 2103.08756, section 3, for the residual form that follows"
    )
    conditions = {
        "softmax": "the weights are a softmax of the logits, and no sigmoids",
        "one-base-kernel": "the kernel W₀ that is added is the one that was subtracted",
    }
    shapes = tuple(d.replace(stride=1) for d in Mixture.shapes[:3])
    complete_shapes = (Dims(B=1, C=2, Co=1, H=1, W=2, K=1, G=1, E=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, the logits of the routing, and any kernel."""
        free = super().variables(d)
        return {
            "x": free["x"],
            "experts": free["experts"],
            "logits": free["routing"],
            "base": free["experts"][1:],
        }

    def left(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, **_: Tensor) -> Tensor:
        """Mix the experts."""
        return dynamic_conv2d.core(x, experts, logits.softmax(1), stride=stride_of(d))

    def right(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, base: Tensor) -> Tensor:
        """Add the mixture of the differences to the convolution with W₀."""
        return residual_form(d, x, base, experts - base, logits.softmax(1))

    @mutant(drops="softmax")
    def sigmoids_of_the_logits(
        self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, base: Tensor
    ) -> Tensor:
        """The residual is weighed by sigmoids, as in CondConv."""
        return residual_form(d, x, base, experts - base, logits.sigmoid())

    @mutant(drops="one-base-kernel")
    def first_expert_added(self, d: Dims, x: Tensor, experts: Tensor, logits: Tensor, base: Tensor) -> Tensor:
        """The first expert is added, but the differences are those from W₀."""
        return residual_form(d, x, experts[0], experts - base, logits.softmax(1))

    @mutant()
    def logits_of_another_image(self, d: Dims, logits: Tensor, **rest: Tensor) -> Outputs:
        """The residual takes the logits of the next image."""
        return self.right(d, logits=logits.roll(1, 0), **rest)

    @equivalent("a softmax does not change when the same number is added to all of its logits")
    def logits_moved_together(self, d: Dims, logits: Tensor, base: Tensor, **rest: Tensor) -> Outputs:
        """The first number of W₀ is added to all logits."""
        return self.right(d, logits=logits + base.flatten()[0], base=base, **rest)

    @equivalent("W₀ cancels, so it may be an expert and need not be their mean")
    def first_expert_as_base(self, d: Dims, experts: Tensor, base: Tensor, **rest: Tensor) -> Outputs:
        """W₀ is the first expert, and the differences are taken from it."""
        return self.right(d, experts=experts, base=experts[0], **rest)


def residual_form(d: Dims, x: Tensor, base: Tensor, differences: Tensor, routing: Tensor) -> Tensor:
    """conv(x, W₀) + conv(x, Σ π_k ΔW_k)."""
    static = conv2d.core(x, base, stride=stride_of(d))
    return static + dynamic_conv2d.core(x, differences, routing, stride=stride_of(d))
