"""Figures that sources print of whole networks."""

from harness import Figure, Term


def printed_params(network: str, printed: str, source: str, *terms: Term, verified: bool = True) -> Figure:
    """Return the figure of the parameters that a source prints of a network."""
    return Figure(
        network,
        "params",
        printed,
        source,
        lambda books: books.network(network).params,
        terms,
        verified=verified,
    )


def printed_macs(network: str, printed: str, source: str, *terms: Term, verified: bool = True) -> Figure:
    """Return the figure of the multiply-accumulates that a source prints of a network."""
    return Figure(
        network,
        "macs",
        printed,
        source,
        lambda books: books.network(network).macs,
        terms,
        verified=verified,
    )
