"""google-benchmark: its Python package, which reports real and processor time of repetitions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.validation.peers.peer import Answer, Call, Estimate

# Its median is taken over repetitions, each of which is a mean.
_REPETITIONS = 10
# Every repetition makes as many calls as would have filled 1.4 times the time that was asked for.
_OVERSHOOT = 1.4
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


class GoogleBenchmark:
    """The median over ten repetitions of real time, and of processor time beside it."""

    name = "google-benchmark"
    distribution = "google-benchmark"
    processes = 1

    def load(self) -> None:
        """Import the tool."""
        import google_benchmark  # noqa: F401

    def measure(self, call: Call, seconds: float) -> Answer:
        """Run the one benchmark and read its aggregates from the report in JSON."""
        import google_benchmark

        def subject(state: Any) -> None:
            while state:
                call()

        google_benchmark.register(subject, name="subject")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            google_benchmark.main(
                [
                    "subject",
                    f"--benchmark_min_time={seconds / _REPETITIONS / _OVERSHOOT:.6f}s",
                    f"--benchmark_repetitions={_REPETITIONS}",
                    f"--benchmark_out={report}",
                    "--benchmark_out_format=json",
                ]
            )
            found = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
        (median,) = (entry for entry in found if entry.get("aggregate_name") == "median")
        unit = _SECONDS[median["time_unit"]]
        return {"real": median["real_time"] * unit, "cpu": median["cpu_time"] * unit}

    def combine(self, answers: Sequence[Answer]) -> Estimate:
        """Return the one process's real time, and its processor time beside it."""
        (answer,) = answers
        return Estimate(answer["real"], also={"cpu": answer["cpu"]})
