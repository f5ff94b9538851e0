"""How long and how precisely each preset measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from harness.bench.case import Preset
from harness.bench.measure.workers import Allocator

Scaling = Literal["off", "first", "on"]
SCALINGS: tuple[Scaling, ...] = ("off", "first", "on")


@dataclass(frozen=True)
class Settings:
    """What decides how a case is sampled.

    total_seconds: of the whole session, None where it may take as long as it takes. case_seconds: of one
    case at most. processes: the fewest and the most. precision: half the interval, as a share of the median,
    at which a case is done. warm_up_seconds and sample_seconds: in each process, at most. cold: whether calls
    are timed on cold caches too. scaling: which cases are timed on all processors too: none, the forward ones
    at the first workload of a scope, or all. instructions: whether they are counted under valgrind.
    timeout_seconds: after which a worker that does not answer is stopped. is_brief: whether claims are proved
    at their smallest shape alone. stretch_seconds: over about how long the processes of a case are spread, by
    measuring the workloads of so many seconds in turns.
    """

    total_seconds: float | None
    case_seconds: float
    processes: tuple[int, int]
    precision: float
    warm_up_seconds: float
    sample_seconds: float
    cold: bool = False
    scaling: Scaling = "off"
    instructions: bool = False
    threads: int = 1
    allocator: Allocator = "pinned"
    timeout_seconds: float = 300.0
    is_brief: bool = False
    # The speed of shared machines drifts within one to ten seconds: this is long beside it.
    stretch_seconds: float = 45.0

    def options(self) -> dict[str, object]:
        """Return what must be equal before a run may be resumed: all but how long to wait for a worker."""
        return {name: value for name, value in asdict(self).items() if name != "timeout_seconds"}

    @classmethod
    def of(cls, preset: Preset) -> Self:
        """Return what a preset stands for."""
        return cls(**_PRESETS[preset])

    def estimate_seconds(self, cases: int, claims: int) -> float:
        """Estimate how long a session takes, before it starts."""
        seconds = _START_SECONDS + claims * self.claim_seconds + cases * self.whole_case_seconds
        return min(seconds, self.total_seconds or seconds)

    @property
    def claim_seconds(self) -> float:
        """About how long a claim takes."""
        return _BRIEF_CLAIM if self.is_brief else _CLAIM

    @property
    def whole_case_seconds(self) -> float:
        """About how long a case takes, with what comes before and after its sampling."""
        sampling = self.processes[0] * (self.warm_up_seconds + self.sample_seconds)
        return min(sampling, self.case_seconds) + _BESIDE_A_CASE

    def within(self, case_seconds: float) -> Settings:
        """Return the settings for a case that may take so long: less sampling where time is short."""
        share = case_seconds / (self.processes[0] * 2)
        return replace(
            self,
            case_seconds=case_seconds,
            warm_up_seconds=min(self.warm_up_seconds, share),
            sample_seconds=min(self.sample_seconds, share),
        )


# As measured on two cores, claims two at once: starting up with the speed limit; a case beside its sampling;
# a claim at its smallest shape, and a claim in full.
_START_SECONDS, _BESIDE_A_CASE, _BRIEF_CLAIM, _CLAIM = 10.0, 1.0, 0.07, 0.4

_PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    # 3 minutes on two cores, less what writing the page and ending take.
    "quick": {
        "total_seconds": 172.0,
        "case_seconds": 4.0,
        "processes": (3, 6),
        "precision": 0.01,
        "warm_up_seconds": 0.2,
        "sample_seconds": 0.25,
        "is_brief": True,
    },
    # 30 minutes likewise.
    "standard": {
        "total_seconds": 1720.0,
        "case_seconds": 6.0,
        "processes": (3, 8),
        "precision": 0.01,
        "warm_up_seconds": 0.2,
        "sample_seconds": 0.25,
        "scaling": "first",
    },
    "full": {
        "total_seconds": None,
        "case_seconds": 20.0,
        "processes": (5, 15),
        "precision": 0.005,
        "warm_up_seconds": 0.5,
        "sample_seconds": 0.5,
        "cold": True,
        "scaling": "on",
    },
}
