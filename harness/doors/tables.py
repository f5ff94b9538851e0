"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from harness.paper.units import format_seconds
from harness.paper.verdicts import Compared

if TYPE_CHECKING:
    from harness.bench.network import Network


def catalogue_tables(description: Mapping[str, Any]) -> list[Table]:
    """Return one table each for operators, claims and comparisons."""
    operators = _table("operators", "operator", "scopes", "implementations", "workloads", "source")
    for entry in description["operators"]:
        names = ", ".join(found["name"] for found in entry["implementations"])
        _add(
            operators,
            entry["name"],
            ", ".join(entry["scopes"]),
            names,
            len(entry["workloads"]),
            entry["source"],
        )
    claims = _table("claims", "claim", "kind", "statement")
    for entry in description["claims"]:
        _add(claims, entry["name"], entry["kind"], entry["statement"])
    comparisons = _table("comparisons", "comparison", "scope", "operators", "workloads")
    for entry in description["comparisons"]:
        shared = ", ".join(entry["workloads"])
        _add(comparisons, entry["name"], entry["scope"], ", ".join(entry["operators"]), shared)
    return [operators, claims, comparisons]


def comparison_table(rows: Sequence[Compared]) -> Table:
    """Return the table of two runs: times, their ratio with its interval, and the verdict."""
    table = _table("after ÷ before", "case", "before", "after", "ratio", "interval", "verdict", "because")
    for row in rows:
        interval = f"{row.low:.3f} to {row.high:.3f}" if row.low and row.high else ""
        ratio = f"{row.ratio:.3f}" if row.ratio else ""
        _add(table, row.case, _time(row.before), _time(row.after), ratio, interval, row.verdict, row.reason)
    return table


def doctor_table(findings: Sequence[Mapping[str, Any]]) -> Table:
    """Return what the doctor found, each with its advice below, and the summary under the table."""
    table = _table("doctor", "what", "found → advice")
    for finding in findings:
        advice = f"\n→ {finding['advice']}" if finding["advice"] else ""
        if finding["what"] == "summary":
            table.caption, table.caption_justify = Text(finding["found"]), "left"
        else:
            _add(table, finding["what"], f"{finding['found']}{advice}")
    return table


def traits_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Return the traits of operators: what is declared, and beside it what the program shows otherwise."""
    fields = ("space", "channels", "sharing", "dynamic", "low_rank", "degree")
    headings = (field.replace("_", " ") for field in fields)
    table = _table("traits", "operator", *headings, "probed at", "verdict")
    for entry in entries:
        sizes = " ".join(f"{name}={value}" for name, value in entry["dims"].items())
        _add(table, entry["operator"], *(_trait(entry, field) for field in fields), sizes, entry["verdict"])
    return table


def _trait(entry: Mapping[str, Any], field: str) -> str:
    declared, probed = ({name: _plain(value) for name, value in entry[side].items()} for side in _SIDES)
    if field in entry["contradicts"]:
        return f"declared {declared[field]}, probed {probed[field]}"
    return probed.get(field, "") if entry["probed"] else declared.get(field, "")


_SIDES = ("declared", "probed")


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)


def network_list(networks: Mapping[str, Network]) -> Table:
    """Return the table of the networks that can be assembled."""
    table = _table("networks", "network", "mixing layers", "source")
    for name, network in networks.items():
        _add(table, name, "can be replaced by --mixer" if network.mixes else "", network.source)
    return table


def network_table(document: Mapping[str, Any]) -> Table:
    """Return the layers of a network, their costs, and the sums."""
    latency = document.get("latency")
    columns = ("operator", "workload", "count", "parameters", "MACs", *(["time of one"] if latency else []))
    table = _table(document["name"], *columns)
    for layer in document["layers"]:
        sums = (_grouped(layer["count"] * layer[what]) for what in ("params", "macs"))
        time = [_time(layer.get("seconds"))] if latency else []
        _add(table, layer["operator"], layer["workload"], layer["count"], *sums, *time)
    time = [_time(latency["seconds"])] if latency else []
    _add(table, "total", "", "", _grouped(document["params"]), _grouped(document["macs"]), *time)
    return table


def figure_table(figures: Sequence[Mapping[str, Any]]) -> Table:
    """Return the published figures with what is counted."""
    title = "published figures"
    table = _table(title, "subject", "quantity", "printed", "counted", "verdict", "because", "source")
    for found in figures:
        because = [f"{term['reason']}: {term['value']:+,.0f}" for term in found["terms"]]
        if found["verdict"] == "not reproduced":
            because.append(f"differs by {found['difference']:+.2%}")
        because += [found["remark"]] if found["remark"] else []
        source = found["source"] + ("" if found["verified"] else " (not read by us)")
        _add(
            table,
            found["subject"],
            found["quantity"],
            found["printed"],
            _grouped(round(found["counted"])),
            found["verdict"],
            "; ".join(because),
            source,
        )
    return table


def formula_table(formulas: Sequence[Mapping[str, Any]]) -> Table:
    """Return the stated formulas with what is counted."""
    table = _table("stated formulas", "formula", "of", "stated", "counted", "verdict", "because", "source")
    for found in formulas:
        stated, counted = (
            ", ".join(_grouped(round(row[what])) for row in found["rows"]) for what in ("stated", "counted")
        )
        verdict = found["verdict"]
        if found["kind"] == "growth":
            verdict += " as an order of growth"
        _add(table, found["text"], found["about"], stated, counted, verdict, found["remark"], found["source"])
    return table


def relation_tables(document: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the rules, the operators, the derived edges and the drawn ones."""
    rules = _table("rules", "rule", "axis", "sentence")
    for kind in document["kinds"]:
        _add(rules, kind["name"], kind["axis"], kind["sentence"])
    nodes = _table("nodes", "operator", "traits, as probed", "no edge because")
    for node in document["nodes"]:
        _add(nodes, node["operator"], _traits(node["traits"]), node["flaw"] or "")
    # The values that are kept stand in the table of nodes.
    edges = _table("edges", "edge", "changes", "besides", "kept", "shown by")
    for edge in document["edges"]:
        title = f"{edge['source']} —{edge['kind']}→ {edge['target']}"
        changes = (_changes(edge[what]) for what in ("changed", "followed"))
        kept = ", ".join(name.replace("_", " ") for name in edge["kept"])
        _add(edges, title, *changes, kept, "\n".join(edge["claims"]))
    drawn = _table("drawn edges", "from", "label", "to", "verdict", "steps or reason", "remark", "source")
    for edge in document["drawn"]:
        because = edge["reason"] or "\n".join(map(_step, edge["edges"]))
        ends = edge["start"], edge["label"], edge["end"]
        _add(drawn, *ends, edge["verdict"], because, edge["remark"], edge["source"])
    return [rules, nodes, edges, drawn]


def _step(edge: Mapping[str, Any]) -> str:
    besides = _changes(edge["followed"])
    return f"{edge['source']} —{edge['kind']}→ {edge['target']}" + (f" ({besides})" if besides else "")


def _changes(changes: Mapping[str, Sequence[object]]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {_plain(before)} → {_plain(after)}"
        for name, (before, after) in changes.items()
    )


def _traits(traits: Mapping[str, object]) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in traits.items())


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


_NAMES = ("operator", "claim", "comparison", "network", "subject", "what")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        # Names are copied into commands: they stay on one line.
        table.add_column(column, overflow="fold", no_wrap=column in _NAMES)
    return table


def _add(table: Table, *cells: object) -> None:
    # Text, not str: names are data, and rich would read [brackets] in them as markup.
    table.add_row(*(Text(str(cell)) for cell in cells))


def _time(seconds: float | None) -> str:
    return "" if seconds is None else format_seconds(seconds)
