"""A scratch folder that is removed when its process ends, or at the latest by the next one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # no advisory locks on this platform: what a killed process leaves is left
    fcntl = None  # type: ignore[assignment]

_PREFIX = "sameop-"
_LOCK = "lock"


class Scratch:
    """A folder for the files of one process; expectations of large workloads take hundreds of megabytes.

    The kernel gives up a lock when its process ends, even by kill -9: a folder whose lock is free
    belongs to nobody.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX)
        self.path = Path(self._folder.name)
        # Under another name until it is held, so that nobody finds it free in between.
        unheld = self.path / "unheld"
        self._lock = unheld.open("wb")
        _hold(self._lock)
        unheld.rename(self.path / _LOCK)

    def close(self) -> None:
        """Remove the folder."""
        self._lock.close()
        self._folder.cleanup()


def remove_abandoned() -> None:
    """Remove the folders of this user whose process has ended."""
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Somebody else may remove it, or hold it, at this very moment.
        with contextlib.suppress(OSError):
            if _is_mine(folder) and _is_free(folder / _LOCK):
                shutil.rmtree(folder)


def _is_mine(folder: Path) -> bool:
    return not folder.is_symlink() and folder.stat().st_uid == os.getuid()


def _is_free(path: Path) -> bool:
    with path.open("rb") as lock:
        _hold(lock)
    return True


def _hold(lock: IO[bytes]) -> None:
    """Take the lock, or raise :class:`OSError` where another process has it."""
    if fcntl is not None:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
