"""Traits: what sorts operators in Han et al. 2021, arXiv 2106.04263, section 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Space = Literal["position", "window", "local", "global"]
Channels = Literal["own", "groups", "all", "irregular"]
Shared = Literal["positions", "channels", "groups"]
Dynamic = Literal["static", "per image", "per position"]
LowRank = Literal["space", "channels"]

VALUES: Mapping[str, tuple[str, ...]] = {
    "space": get_args(Space),
    "channels": get_args(Channels),
    "sharing": get_args(Shared),
    "dynamic": get_args(Dynamic),
    "low_rank": get_args(LowRank),
}


@dataclass(frozen=True)
class Traits:
    """How the outputs of an operator are connected to its inputs, its weights being taken as given.

    They speak of the core where the operator has one, else of its module, at stride one.

    space: an output at a position reads that position alone, the positions of its own cell of a
    partition (``window``), those at given offsets (``local``), or all of them.
    channels: it reads its own channel, those of its group, all, or others again (``irregular``).
    sharing: over what the weights are equal, as functions of whatever they are computed from: all
    positions, all channels, or the channels of a group (a head).
    dynamic: whether weights depend on the input, one set for an image or one for every position of it.
    low_rank: the axis along which the connections have less than full rank.
    degree: of the output in the input when the generator of the weights is linear (its softmax,
    sigmoid, ReLU and normalisation left out); None where the operator is no polynomial even then.
    """

    space: Space
    channels: Channels
    sharing: tuple[Shared, ...] = ()
    dynamic: Dynamic = "static"
    low_rank: tuple[LowRank, ...] = ()
    degree: int | None = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the traits as JSON has them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
