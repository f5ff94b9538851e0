"""One thread for the tests of the pages, whose shapes are tiny."""

from collections.abc import Iterator

import pytest

from harness.bench.threads import one_thread


@pytest.fixture(autouse=True)
def single_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compute with one thread, except where the cases are measured."""
    if request.config.option.benchmark:
        yield
        return
    with one_thread():
        yield
