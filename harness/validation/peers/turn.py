"""One turn of one peer: a fresh interpreter that imports everything, and forks a process for every case.

The process that a peer measures in is the one that sameop's workers are: torch and the pages imported, no
operator run before, the same settings, the same callable. Only what calls it differs.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.bench.measure.zygote import end_with_parent
from harness.validation.peers.roster import peer_named

Work = Callable[[], Mapping[str, Any]]


def main() -> int:
    """Read one turn from standard input, and let every process write its answer into the turn's folder."""
    turn = json.loads(sys.stdin.read())
    end_with_parent()
    if os.getppid() != turn["parent"]:
        return 1
    # After that: importing torch takes seconds, in which the parent may end.
    from harness.bench.catalog import load_catalogue
    from harness.validation.peers.prepared import measure

    peer = peer_named(turn["peer"])
    peer.load()
    catalogue = load_catalogue(Path(folder) for folder in turn["folders"])
    for number, case in enumerate(turn["cases"]):
        for process in range(peer.processes):
            path = Path(turn["answers"]) / f"{number}-{process}.json"
            _fork(partial(measure, peer, catalogue, case, turn["seconds"]), path)
    return 0


def _fork(work: Work, path: Path) -> None:
    child = os.fork()
    if child == 0:
        # os._exit on every path: the child must never return into the parent's loop.
        try:
            end_with_parent()
            unfinished = path.with_suffix(".partial")
            unfinished.write_text(json.dumps(_answer(work)), encoding="utf-8")
            unfinished.replace(path)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if not path.exists():
        reason = f"its process ended with status {os.waitstatus_to_exitcode(status)}"
        path.write_text(json.dumps({"failed": reason}), encoding="utf-8")


def _answer(work: Work) -> Mapping[str, Any]:
    try:
        return {"found": work()}
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"it raised {type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main())
