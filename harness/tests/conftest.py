"""What all tests of the harness have in common: one thread, and processes that compile nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.bench.threads import one_thread


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread: on tensors of some hundred elements two only wait for each other."""
    with one_thread():
        yield


@pytest.fixture(scope="package", autouse=True)
def _kept_bytecode() -> Iterator[None]:
    """Let processes keep what they compile, whatever this one does: a hundred of them read the same files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield
