"""The caches of the processor, as the kernel describes them."""

from __future__ import annotations

from pathlib import Path

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
# Where nothing is known: more than most desktops have.
_UNKNOWN_BYTES = 32 * 2**20
# Servers share caches of a gigabyte between tens of cores; overwriting one would take longer than a case.
_MOST_BYTES = 256 * 2**20
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def last_level_cache_bytes(folder: Path = _CACHES) -> int:
    """Return the size of the largest cache, at most 256 MiB; 32 MiB where the kernel does not tell."""
    sizes = [_bytes(path) for path in folder.glob("index*/size")]
    return min(max(filter(None, sizes), default=_UNKNOWN_BYTES), _MOST_BYTES)


def _bytes(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
        return int(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else int(text)
    except (OSError, ValueError):
        return None
