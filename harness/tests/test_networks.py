"""Networks as the commands print them: sums, published figures, and the time of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import Blueprint, Figure, Network
from harness.bench.catalog import Catalogue
from harness.doors.networks import describe_network
from harness.paper.errors import SameopError
from harness.paper.record import CaseId, Reading, Record, Status
from harness.paper.store import Header, Run
from harness.paper.units import Unit
from harness.tests.test_network import linear


def build(net: Blueprint) -> None:
    """Lay one layer twice, another once, and a bias."""
    with net.stage("stage1"):
        for width in (4, 4, 3):
            net.layer("linear", "", net.input(4, 6, 5), Co=width)
        net.other("bias", ((3,),))


def figure(printed: str) -> Figure:
    """Make a figure of that network's parameters, which are 47."""
    return Figure("net", "params", printed, "a paper", lambda books: books.network("net").params)


def catalogue(*figures: Figure) -> Catalogue:
    """Make a catalogue of the network and figures."""
    networks = {"net": Network("net", "a paper", build)}
    return Catalogue({"linear": linear}, networks=networks, figures=list(figures))


def test_without_a_name_they_are_listed() -> None:
    """The names alone."""
    assert describe_network(catalogue(), None, None) == {"networks": ["net"]}


def test_layers_and_sums() -> None:
    """The sums are those of the layers by their counts, and the published figure has its verdict."""
    found = describe_network(catalogue(figure("47"), figure("48")), "net", None)
    assert [layer["count"] for layer in found["layers"]] == [2, 1, 1]
    assert found["params"] == sum(layer["count"] * layer["params"] for layer in found["layers"]) == 47
    assert found["macs"] == sum(layer["count"] * layer["macs"] for layer in found["layers"])
    assert found["published"]["params"] == "47"
    assert found["published"]["verdict"] == "params matched; params not reproduced"
    assert describe_network(catalogue(), "net", None)["published"] is None


def test_unknown_name() -> None:
    """A sentence that says where the names are."""
    with pytest.raises(SameopError, match="No network is named 'nte'"):
        describe_network(catalogue(), "nte", None)


def test_a_mixer_needs_a_network() -> None:
    """A mixer or a run without a network would be forgotten in silence."""
    with pytest.raises(SameopError, match="no network: name one"):
        describe_network(catalogue(), None, "linear")
    with pytest.raises(SameopError, match="no network: name one"):
        describe_network(catalogue(), None, None, run())


def test_a_figure_that_was_read_leads() -> None:
    """What is only reported by others stands behind, whatever the order of the pages."""
    heard = replace(figure("48"), verified=False)
    found = describe_network(catalogue(heard, figure("47")), "net", None)
    assert found["published"]["params"] == "47"
    assert found["published"]["verdict"] == "params matched; params not reproduced"


def record(implementation: str, workload: str, seconds: float, direction: str = "forward") -> Record:
    """Make a record of one layer."""
    case = CaseId("linear", "core", implementation, workload, "float32", "cpu", direction)
    reading = Reading(Unit.SECONDS_PER_CALL, seconds, samples=(seconds,))
    return Record(case, Status.MEASURED, readings={"latency": reading})


def run(*records: Record) -> Run:
    """Make a run of these records."""
    header = Header(identity={}, machine={}, catalogue={}, plan=(), left_out=(), started="")
    return Run(Path("somewhere"), header, records=list(records))


def test_times_are_summed_by_multiplicity() -> None:
    """The fastest implementation counts, as often as its layer occurs; a layer without a time is named."""
    found = describe_network(
        catalogue(),
        "net",
        None,
        run(
            record("reference", "net/stage1", 0.5),
            record("matmul", "net/stage1", 0.25),
            record("matmul", "net/stage1", 9.0, "training"),
        ),
    )
    assert found["latency"]["seconds"] == 2 * 0.25
    assert found["latency"]["missing"] == ["linear/core/net/stage1_co3"]
    assert found["layers"][0]["seconds"] == 0.25
    assert found["layers"][1]["seconds"] is None
    assert "seconds" not in found["layers"][2]
