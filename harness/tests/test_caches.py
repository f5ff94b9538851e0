"""The last level of the caches, as a made-up kernel describes it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.bench.measure.caches import last_level_cache_bytes

MIB = 2**20


def described(folder: Path, *sizes: str) -> Path:
    """Write the sizes of caches where the kernel would."""
    for number, size in enumerate(sizes):
        cache = folder / f"index{number}"
        cache.mkdir()
        (cache / "size").write_text(size, encoding="ascii")
    return folder


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        (("32K\n", "48K\n", "1024K\n", "33792K\n"), 33 * MIB),
        (("32K\n", "2M\n"), 2 * MIB),
        (("33792K\n", "32K\n"), 33 * MIB),
        (("4194304\n",), 4 * MIB),
        (("256M\n",), 256 * MIB),
        # Overwriting a gigabyte between two calls would take longer than the case.
        (("32K\n", "1G\n"), 256 * MIB),
    ],
)
def test_the_largest_cache_counts(tmp_path: Path, sizes: tuple[str, ...], found: int) -> None:
    """The largest is the one that a working set has to leave; more than 256 MiB is never overwritten."""
    assert last_level_cache_bytes(described(tmp_path, *sizes)) == found


@pytest.mark.parametrize("sizes", [(), ("",), ("K\n",), ("large\n",), ("0K\n",)])
def test_where_the_kernel_does_not_tell_it_is_32_mib(tmp_path: Path, sizes: tuple[str, ...]) -> None:
    """Virtual machines and other systems describe no caches, or none of any size."""
    assert last_level_cache_bytes(described(tmp_path, *sizes)) == 32 * MIB
    assert last_level_cache_bytes(tmp_path / "none") == 32 * MIB


def test_one_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    """What is known counts, whatever stands beside it."""
    assert last_level_cache_bytes(described(tmp_path, "nonsense", "3M\n")) == 3 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /sys")
def test_this_machine_has_a_cache() -> None:
    """Here it is something between what any processor has and what is ever overwritten."""
    assert MIB // 4 <= last_level_cache_bytes() <= 256 * MIB
