"""asv (airspeed velocity): its sampling in two processes, and its statistics over both."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from harness.validation.peers.peer import Answer, Call, Estimate


class Asv:
    """``asv_runner``'s ``TimeBenchmark`` with what asv adds around it: two processes, one set of samples.

    asv itself wants a repository and takes at most ten samples of 10 ms; both limits are lifted here, so
    that it has the same time as every other tool. Its warm-up of 0.1 s in each process comes on top.
    """

    name = "asv"
    distribution = "asv"
    processes = 2

    def load(self) -> None:
        """Import what times and what summarises."""
        import asv_runner.benchmarks.time
        import asv_runner.statistics  # noqa: F401

    def measure(self, call: Call, seconds: float) -> Answer:
        """Return the samples of one of the two processes, in seconds per call."""
        from asv_runner.benchmarks.time import TimeBenchmark

        wanted = SimpleNamespace(repeat=(1, 1_000_000, seconds / self.processes), processes=self.processes)
        benchmark = TimeBenchmark("subject", call, [wanted])
        benchmark.redo_setup = lambda: None
        found = benchmark.run()
        return {"samples": found["samples"], "number": found["number"]}

    def combine(self, answers: Sequence[Answer]) -> Estimate:
        """Return the median of all samples and the interval that asv states for it."""
        from asv_runner.statistics import compute_stats

        samples = [sample for answer in answers for sample in answer["samples"]]
        value, stats = compute_stats(samples, answers[-1]["number"])
        return Estimate(value, stats["ci_99_a"], stats["ci_99_b"])
