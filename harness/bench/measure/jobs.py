"""Jobs: what a worker process is asked to do, as both sides of the channel know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from harness.paper.record import CaseId


@dataclass(frozen=True)
class Job:
    """One task for a worker.

    task: what to do. case: what with; none for what concerns the machine alone. expected: the file that
    ``expect`` writes and that agreement reads. threads: of torch. cpus: the processors to stay on, all
    where there are none. options: what this task alone is told.
    """

    task: str
    case: CaseId | None = None
    expected: str = ""
    threads: int = 1
    cpus: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """Where the job runs."""
        return self.case.device if self.case else str(self.options.get("device", "cpu"))

    def with_options(self, **options: Any) -> Self:
        """Return the job with more options."""
        return replace(self, options={**self.options, **options})

    def as_request(self) -> dict[str, Any]:
        """Return the job as one line of a channel."""
        return asdict(self)

    @classmethod
    def of_request(cls, request: Mapping[str, Any]) -> Self:
        """Read a job back."""
        case = request["case"]
        found = {**request, "case": CaseId(**case) if case else None, "cpus": tuple(request["cpus"])}
        return cls(**found)
