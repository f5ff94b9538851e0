"""Figures that sources print of whole networks, and terms that close a gap."""

from functools import partial

from harness import Books, Figure, Term

# It lists activations, which benchmark.py there has from fvcore alone: its MACs are fvcore's, with norms.
TIMM = "huggingface/pytorch-image-models, results/benchmark-infer-amp-nchw-pt240-cu124-rtx4090-dynamo.csv"
FVCORE = "as fvcore counts them"


def printed_params(
    network: str, printed: str, source: str, *terms: Term, verified: bool = True, remark: str = ""
) -> Figure:
    """Return the figure of the parameters that a source prints of a network."""
    return Figure(
        network,
        "params",
        printed,
        source,
        lambda books: books.network(network).params,
        terms,
        verified=verified,
        remark=remark,
    )


def printed_macs(
    network: str, printed: str, source: str, *terms: Term, verified: bool = True, remark: str = ""
) -> Figure:
    """Return the figure of the multiply-accumulates that a source prints of a network."""
    return Figure(
        network,
        "macs",
        printed,
        source,
        lambda books: books.network(network).macs,
        terms,
        verified=verified,
        remark=remark,
    )


def elementwise(network: str, reason: str, *kinds: str) -> Term:
    """Return the term of a source that counts elementwise operations of these kinds of layers."""
    return Term(reason, partial(_elementwise, network=network, kinds=kinds))


def _elementwise(books: Books, network: str, kinds: tuple[str, ...]) -> int:
    return sum(books.network(network).elementwise_of(kind) for kind in kinds)
