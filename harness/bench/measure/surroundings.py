"""Surroundings: the settings of a process that decide times and results, and that no page may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

_SETTINGS: Mapping[str, Callable[[], object]] = {
    "the number of threads": torch.get_num_threads,
    "the default dtype": torch.get_default_dtype,
    "whether gradients are recorded": torch.is_grad_enabled,
    "whether algorithms must be deterministic": torch.are_deterministic_algorithms_enabled,
}


class Surroundings:
    """The settings as they are when this is made."""

    def __init__(self) -> None:
        self._found = {name: read() for name, read in _SETTINGS.items()}

    def change(self) -> str | None:
        """Say in one sentence what was changed since, or None."""
        for name, read in _SETTINGS.items():
            before, after = self._found[name], read()
            if after != before:
                return (
                    f"It changed {name} from {before} to {after}, which decides what else is computed in "
                    "its process: a page has to leave that as it is, or to restore it."
                )
        return None
