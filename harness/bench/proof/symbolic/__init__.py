"""Programs followed over symbols: polynomials in atoms, exponentials and quotients included."""

from harness.bench.proof.symbolic.certificate import certify_symbolically

__all__ = ["certify_symbolically"]
