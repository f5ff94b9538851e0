"""Proving several claims at once, each in one of as many worker processes as there are processors."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from harness.bench.claims import Claim
from harness.bench.machine import usable_cpus
from harness.bench.measure.jobs import Job
from harness.bench.measure.workers import Worker, Workers
from harness.bench.proof.prover import prove
from harness.paper.errors import SameopError
from harness.paper.record import Status

# A process reads all pages before it proves anything, which takes as long as a few claims.
_WORTH_PROCESSES = 4
# The longest claims take some seconds; one that takes so long never ends.
_TIMEOUT_SECONDS = 900.0

Result = Mapping[str, Any]


class Proofs:
    """The results of claims by name, proved in the background while others are waited for.

    workers: the processes that prove, one claim after the other; none proves them here. brief: whether the
    smallest shape alone is looked at.
    """

    def __init__(self, workers: Workers | None, claims: Sequence[Claim], *, brief: bool = False) -> None:
        self._brief = brief
        self._waiting = deque(claims)
        self._results: dict[str, Future[Result]] = {}
        self._proving: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        if workers is not None and len(claims) >= _WORTH_PROCESSES:
            self._results = {claim.name: Future() for claim in claims}
            for lane in range(min(workers.at_once, len(claims))):
                thread = threading.Thread(target=self._prove_in, args=(workers, lane), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _prove_in(self, workers: Workers, lane: int) -> None:
        """Prove what is left, one claim after the other; a process that dies is replaced."""
        while self._waiting and not self._is_closed:
            try:
                with workers.hire("cpu", lane) as worker:
                    self._proving.append(worker)
                    self._prove_with(worker)
                    self._proving.remove(worker)
            except SameopError as error:
                self._give_up(error)

    def _prove_with(self, worker: Worker) -> None:
        while self._waiting and not self._is_closed:
            try:
                claim = self._waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            answer = worker.ask(
                Job("prove", options={"claim": claim.name, "brief": self._brief}).as_request()
            )
            if answer["status"] != Status.MEASURED:
                self._results[claim.name].set_exception(_died(claim, answer))
                return
            self._results[claim.name].set_result(answer["result"])

    def _give_up(self, error: SameopError) -> None:
        """Tell those who wait that no process can be had."""
        self._waiting.clear()
        for result in self._results.values():
            if not result.done():
                result.set_exception(error)

    def of(self, claim: Claim) -> Result:
        """Return the result of a claim in the shape of ``sameop prove --json``."""
        if claim.name not in self._results:
            self._results[claim.name] = Future()
            self._results[claim.name].set_result(prove(claim, brief=self._brief))
        return self._results[claim.name].result()

    def close(self) -> None:
        """End the processes that prove, whatever they are doing."""
        self._is_closed = True
        for worker in list(self._proving):
            worker.kill()
        for thread in self._threads:
            thread.join()
        self._threads.clear()


def _died(claim: Claim, answer: Result) -> SameopError:
    return SameopError(
        f"The claim {claim.name} could not be proved. {answer['reason']} "
        f"`sameop prove {claim.name}` proves it alone."
    )


@contextlib.contextmanager
def open_proofs(folders: Sequence[Path], claims: Sequence[Claim], *, brief: bool = False) -> Iterator[Proofs]:
    """Prove claims in the background until the context ends."""
    with contextlib.ExitStack() as stack:
        workers = None
        if len(claims) >= _WORTH_PROCESSES and usable_cpus() > 1:
            lanes = min(usable_cpus(), len(claims))
            workers = stack.enter_context(Workers(folders, 1, _TIMEOUT_SECONDS, zygotes=lanes))
            # Not in the threads that prove: the kernel ends a zygote with the thread that started it.
            workers.launch()
        with closing_proofs(Proofs(workers, claims, brief=brief)) as proofs:
            yield proofs


@contextlib.contextmanager
def closing_proofs(proofs: Proofs) -> Iterator[Proofs]:
    """End the processes of proofs with the context."""
    try:
        yield proofs
    finally:
        proofs.close()
