"""Proving several claims at once, each in one of as many processes as there are processors."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.bench.catalog import Catalogue, load_catalogue
from harness.bench.claims import Claim
from harness.bench.machine import usable_cpus
from harness.bench.proof.prover import prove
from harness.paper.errors import SameopError

# A process reads all pages before it proves anything, which takes as long as a few claims.
_WORTH_PROCESSES = 4


class Proofs:
    """The results of claims by name, proved while others are waited for.

    folders: the case packages that the claims come from, which every process reads for itself. brief:
    whether the smallest shape alone is looked at.
    """

    def __init__(self, folders: Sequence[Path], claims: Sequence[Claim], *, brief: bool = False) -> None:
        self._brief = brief
        self._claims = {claim.name: claim for claim in claims}
        self._pool: ProcessPoolExecutor | None = None
        self._results: dict[str, Future[dict[str, Any]]] = {}
        self._processes: list[BaseProcess] = []
        processes = min(usable_cpus(), len(claims))
        if processes > 1 and len(claims) >= _WORTH_PROCESSES:
            # Spawned: a fork after torch ran with several threads hangs.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, context, _read_pages, (tuple(folders),))
            self._start(self._pool)

    def _start(self, pool: ProcessPoolExecutor) -> None:
        others = multiprocessing.active_children()
        try:
            with _interrupts_held_back():
                self._results = {name: pool.submit(_prove, name, self._brief) for name in self._claims}
                self._processes = [own for own in multiprocessing.active_children() if own not in others]
        except KeyboardInterrupt:
            self.close()
            raise

    def of(self, claim: Claim) -> dict[str, Any]:
        """Return the result of a claim in the shape of ``sameop prove --json``."""
        if claim.name not in self._results:
            self._results[claim.name] = Future()
            self._results[claim.name].set_result(prove(claim, brief=self._brief))
        try:
            return self._results[claim.name].result()
        except BrokenProcessPool:
            raise SameopError(
                f"A process that proved claims died before {claim.name} was done: "
                f"`sameop prove {claim.name}` proves it alone."
            ) from None

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        if self._pool is None:
            return
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


@contextlib.contextmanager
def open_proofs(folders: Sequence[Path], claims: Sequence[Claim], *, brief: bool = False) -> Iterator[Proofs]:
    """Prove claims in the background until the context ends."""
    proofs = Proofs(folders, claims, brief=brief)
    try:
        yield proofs
    finally:
        proofs.close()


_CATALOGUE: list[Catalogue] = []


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    # Ctrl-C reaches every process of a terminal. Those started here inherit the mask, from before their first
    # import on, and leave it to the one that started them to end them.
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read_pages(folders: Sequence[Path]) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        _CATALOGUE.append(load_catalogue(folders))


def _prove(name: str, brief: bool) -> dict[str, Any]:
    with contextlib.redirect_stdout(sys.stderr):
        return prove(_CATALOGUE[0].claims[name], brief=brief)
