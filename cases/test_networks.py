"""Networks: parameters counted two ways, workloads that are their layers, and figures of their papers."""

from pathlib import Path

import pytest

from harness import Dims, Workload
from harness.bench.catalog import load_catalogue
from harness.bench.network import Layer
from harness.bench.published import check_published
from harness.paper.errors import SameopError

CATALOGUE = load_catalogue([Path(__file__).parent])
NETWORKS = sorted(CATALOGUE.networks)
LETTERS = ("C", "H", "W", "T")
MIXERS = ("depthwise_conv2d", "involution", "self_attention", "sliding_attention2d", "dcd_conv2d")


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_counted_two_ways(name: str) -> None:
    """The operators' formulas give as many parameters as are allocated to run the network."""
    found = CATALOGUE.books.network(name)
    assert found.params == found.allocated > 0
    assert found.macs > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_have_names_of_their_own(name: str) -> None:
    """A workload's name stands for one layer of one operator."""
    names = [workload.name for _, workload in CATALOGUE.books.network(name).workloads()]
    assert len(names) == len(set(names))


def same_stage(layer: Layer, place: str) -> bool:
    """Tell whether a layer lies in the stage that a workload's name begins with."""
    stage = place.partition("_")[0]
    return layer.workload.partition("/")[2].partition("_")[0] == stage


NAMED = [
    pytest.param(operator.name, workload, id=f"{operator.name}/{scope.name}/{workload.name}")
    for operator in CATALOGUE.operators.values()
    for scope in operator.scopes.values()
    for workload in scope.workloads
    if workload.name.partition("/")[0] in CATALOGUE.networks and not workload.sweep
]


@pytest.mark.parametrize(("operator", "workload"), NAMED)
def test_a_workload_named_after_a_network_is_a_layer_of_it(operator: str, workload: Workload) -> None:
    """Some layer of that stage has the workload's channels, map and stride, and some its kernel or window."""
    network, _, place = workload.name.partition("/")
    near = [layer for layer, _ in CATALOGUE.books.network(network).workloads() if same_stage(layer, place)]
    assert near, f"{network} has no stage {place}"
    assert any(fits(layer, operator, workload.dims) for layer in near), [layer.dims for layer in near]
    sides = {dict(layer.dims or {}).get(letter) for layer in near for letter in ("K", "S")} - {None}
    if "K" in workload.dims and sides:
        assert workload.dims.K in {1, *sides}


def fits(layer: Layer, operator: str, wanted: Dims) -> bool:
    """Tell whether a layer has the channels, the map and the stride, as far as both name them."""
    dims = dict(layer.dims or {})
    # What a block has as its output is what its last layer has.
    letters = (*LETTERS, "Co") if layer.operator == operator else LETTERS
    same = all(dims[letter] == wanted[letter] for letter in letters if letter in dims and letter in wanted)
    return same and dims.get("stride", 1) == wanted.get("stride", 1)


@pytest.mark.parametrize("network", [name for name in NETWORKS if CATALOGUE.networks[name].mixes])
@pytest.mark.parametrize("mixer", MIXERS)
def test_mixing_layers_can_be_replaced(network: str, mixer: str) -> None:
    """The replaced network is assembled, has the replacement and no longer its own mixer."""
    found = CATALOGUE.books.network(f"{network}+{mixer}")
    assert found.params == found.allocated
    assert any(layer.operator == mixer for layer in found.layers)
    own = CATALOGUE.books.network(network)
    assert (found.params, found.macs) != (own.params, own.macs)


def refusal(name: str) -> str | None:
    """Return why a network cannot be assembled, or None."""
    try:
        CATALOGUE.books.network(name)
    except SameopError as error:
        return str(error)
    return None


@pytest.mark.parametrize("network", ["swin_t", "volo_d1", "twins_svt_s"])
@pytest.mark.parametrize("mixer", sorted(CATALOGUE.operators))
def test_every_operator_is_a_mixer_or_refused_in_a_sentence(network: str, mixer: str) -> None:
    """Whatever the shapes, the network is assembled or one sentence says why it cannot be."""
    name = f"{network}+{mixer}"
    reason = refusal(name)
    if reason is None:
        found = CATALOGUE.books.network(name)
        assert found.params == found.allocated
    else:
        assert reason.endswith(".")
        assert "\n" not in reason


REFUSED = {
    "swin_t+lightweight_conv1d": "works on sequences",
    "twins_svt_s+mlp": "makes .* of a map",
    "volo_d1+window_attention": "do not tile a map",
}


@pytest.mark.parametrize("name", REFUSED)
def test_mixers_that_do_not_fit_are_refused(name: str) -> None:
    """A mixer of sequences, one that pools the map, and windows that do not tile it."""
    with pytest.raises(SameopError, match=REFUSED[name]):
        CATALOGUE.books.network(name)


def test_published_figures() -> None:
    """Four fifths of the figures that were read in their source are reached; formulas are as expected."""
    found = check_published(CATALOGUE.books, CATALOGUE.figures, CATALOGUE.formulas)
    unexpected = [row["text"] for row in found["formulas"] if row["verdict"] != row["expected"]]
    assert not unexpected
    assert found["as_expected"], found["summary"]


def test_what_does_not_hold_says_why() -> None:
    """A formula that is expected to differ explains itself."""
    for formula in CATALOGUE.formulas:
        assert formula.expected == "holds" or formula.remark, formula.text
