"""Networks and published figures as the commands print them."""

from __future__ import annotations

from typing import Any

from harness.bench.catalog import Catalogue
from harness.bench.network import Layer
from harness.bench.published import Books, Figure
from harness.paper.errors import SameopError
from harness.paper.store import Run


def describe_network(
    catalogue: Catalogue, name: str | None, mixer: str | None, run: Run | None = None
) -> dict[str, Any]:
    """Return what ``sameop network --json`` prints: the names, or one network layer by layer.

    With a run, the operators' time in it is summed. Raises :class:`SameopError` for an unknown name and
    for a mixer that cannot be used.
    """
    if name is None and (mixer is not None or run is not None):
        raise SameopError(
            "A mixer or a run was named, but no network: name one, as in `sameop network swin_t`."
        )
    if name is None:
        return {"networks": list(catalogue.networks)}
    assembly = catalogue.books.network(f"{name}+{mixer}" if mixer else name)
    base = catalogue.networks[name.partition("+")[0]]
    layers = [_describe_layer(layer) for layer in assembly.layers]
    return {
        "name": assembly.name,
        "source": base.source,
        "note": base.note,
        "params": assembly.params,
        "macs": assembly.macs,
        "convention": base.convention,
        "published": _published(catalogue.figures, catalogue.books, assembly.name),
        "layers": layers,
        **({"latency": _add_times(layers, run)} if run else {}),
    }


def _describe_layer(layer: Layer) -> dict[str, Any]:
    return {
        "operator": layer.operator,
        "scope": layer.scope,
        "workload": layer.workload,
        "dims": dict(layer.dims) if layer.dims is not None else None,
        "count": layer.count,
        "params": layer.params,
        "macs": layer.macs,
        "elementwise": layer.elementwise,
    }


def _add_times(layers: list[dict[str, Any]], run: Run) -> dict[str, Any]:
    """Add to every operator's layer its time of a forward call in float32, and sum them by multiplicity.

    Of several implementations the fastest counts. Norms, activations and shortcuts are no operators here
    and have no time; a layer that the run does not have is named.
    """
    times = _fastest(run)
    missing = []
    for layer in layers:
        if layer["scope"] is None:
            continue
        key = layer["operator"], layer["scope"], layer["workload"]
        layer["seconds"] = times.get(key)
        if key not in times:
            missing.append("/".join(key))
    measured = [layer for layer in layers if layer.get("seconds") is not None]
    return {
        "run": str(run.folder),
        "seconds": sum(layer["count"] * layer["seconds"] for layer in measured),
        "macs": sum(layer["count"] * layer["macs"] for layer in measured),
        "missing": missing,
    }


def _fastest(run: Run) -> dict[tuple[str, str, str], float]:
    times: dict[tuple[str, str, str], float] = {}
    for record in run.latest.values():
        case, latency = record.case, record.readings.get("latency")
        if latency is None or latency.value is None or (case.dtype, case.direction) != ("float32", "forward"):
            continue
        key = case.operator, case.scope, case.workload
        times[key] = min(latency.value, times.get(key, latency.value))
    return times


def _published(figures: list[Figure], books: Books, name: str) -> dict[str, Any] | None:
    """Gather what sources print about a network; the first of each quantity that was read by us leads."""
    about = [figure for figure in figures if figure.subject == name]
    found = [figure.check(books) for figure in sorted(about, key=lambda figure: not figure.verified)]
    if not found:
        return None
    leading = {figure["quantity"]: figure["printed"] for figure in reversed(found)}
    return {
        "params": leading.get("params"),
        "macs": leading.get("macs"),
        "source": "; ".join(dict.fromkeys(figure["source"] for figure in found)),
        "verdict": "; ".join(f"{figure['quantity']} {figure['verdict']}" for figure in found),
        "figures": found,
    }
