"""Where a run comes from: its stable name, the machine, the commit, the options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from harness.paper.record import Facts
from harness.paper.store import Run

from .facts import Pairs, common_facts, list_facts, part_in
from .view import FactGroup


def name_run(run: Run) -> str:
    """Return a name that depends on what the run is a run of, not on the folder that holds it."""
    content = json.dumps(run.header.as_json(), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def describe_origin(run: Run) -> tuple[str, ...]:
    """Return the few words that stand below the title."""
    machine, commit = (run.header.identity.get(part, {}) for part in ("machine", "commit"))
    gpus = machine.get("gpus") or ()
    words = [machine.get("cpu"), *([gpus] if isinstance(gpus, str) else gpus)]
    words.append(f"torch {machine['torch']}" if machine.get("torch") else None)
    digest = str(commit.get("commit", ""))
    if digest and not digest.startswith("none"):
        words.append(f"commit {digest[:10]}" + (" with local changes" if commit.get("dirty") else ""))
    return tuple(str(word) for word in (*words, run.header.started) if word)


def list_provenance(run: Run) -> tuple[FactGroup, ...]:
    """Return every fact of the header in groups, and what all workers had in common."""
    return tuple(group for group in _groups(run) if group.facts)


def _groups(run: Run) -> Iterator[FactGroup]:
    header = run.header
    for part, facts in header.identity.items():
        yield FactGroup(part, list_facts(facts))
    loose = {}
    for name, facts in header.machine.items():
        if facts == header.identity.get("machine"):
            continue
        if isinstance(facts, dict):
            yield FactGroup(name, list_facts(facts))
        elif name not in header.identity.get("machine", {}):
            loose[name] = facts
    yield FactGroup("other", list_facts(loose))
    workers = [record.worker for record in run.latest.values() if record.worker]
    common = {key: value for key, value in common_facts(workers).items() if key != "kernels"}
    yield FactGroup("every worker", list_facts(common))
    yield FactGroup("libraries of the kernels", _list_builds(workers))
    yield FactGroup("run", (("name", name_run(run)), ("started", header.started)))


def _list_builds(workers: Sequence[Facts]) -> Pairs:
    """Name the builds of the libraries that any case ran in."""
    builds = [list_facts(part_in(part_in(worker, "kernels"), "builds")) for worker in workers]
    return tuple(dict.fromkeys(pair for pairs in builds for pair in pairs))
