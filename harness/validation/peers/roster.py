"""Which tools there are."""

from __future__ import annotations

from collections.abc import Mapping

from harness.validation.peers.asv_samples import Asv
from harness.validation.peers.google_repetitions import GoogleBenchmark
from harness.validation.peers.peer import Peer
from harness.validation.peers.probe import Probe
from harness.validation.peers.pytest_rounds import PytestBenchmark
from harness.validation.peers.torch_timer import AdaptiveTorchTimer, TorchTimer

OURS = "sameop"
PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (TorchTimer(), PytestBenchmark(), Asv(), GoogleBenchmark(), AdaptiveTorchTimer())
}
# The four that the comparison is about; torch's adaptive timer is there for the asking.
USUAL = (OURS, "torch", "pytest-benchmark", "asv", "google-benchmark")


def peer_named(name: str) -> Peer:
    """Return a peer, or the probe."""
    return Probe() if name == Probe.name else PEERS[name]
