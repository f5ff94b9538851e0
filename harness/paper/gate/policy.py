"""The policy of a gate: what a change may cost, in one small file that is reviewed like code."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self, cast

from harness.paper.errors import SameopError
from harness.paper.gate.keys import (
    Key,
    check_table,
    is_number,
    is_sentence,
    is_whole,
    number,
    one_of,
    share,
    whole,
)

FILE_NAME = "sameop-gate.toml"

Counts = Literal["explain", "fail"]


@dataclass(frozen=True)
class Accept:
    """A reviewed line that lets cases be slower for a while.

    A slowdown is accepted while its estimate is at most ``up_to`` and the day is not past ``expires``. The
    estimate of a slowdown that lies exactly at ``up_to`` is above it half of the time: leave some room.
    """

    match: str
    up_to: float
    reason: str
    expires: date

    @property
    def place(self) -> str:
        """How sentences name the line."""
        return f"The acceptance of {self.match!r}"


@dataclass(frozen=True)
class CaseTable:
    """Settings of the cases whose ids match, with the reason for them."""

    match: str
    reason: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class CasePolicy:
    """What the policy says of one case; margins are shares. reasons: of the tables that changed something."""

    margin: float
    detect: float
    sensitivity: float
    wall_margin: float
    memory_margin: float
    baseline_margin: float
    counts: Counts
    threads: int = 1
    reasons: tuple[str, ...] = ()
    accepts: tuple[Accept, ...] = ()

    @property
    def baseline_sensitivity(self) -> float:
        """The slowdown that must be found against a stored baseline."""
        return 3 * self.baseline_margin

    @property
    def wall_detect(self) -> float:
        """The slowdown that the wall clock must not let through the first stage."""
        return 2 * self.wall_margin

    @property
    def wall_sensitivity(self) -> float:
        """The slowdown that must be found where the wall clock alone decides."""
        return 3 * self.wall_margin


@dataclass(frozen=True)
class Policy:
    """Everything that a gate's decisions depend on besides its numbers.

    margin: the slowdown that is nobody's business. detect: the one that the first stage must not let through.
    sensitivity: the one that the last stage must be able to find. false_alarms: the probability of a run that
    fails though no case is slower than the margin. wall_margin: likewise by the wall clock. memory_margin:
    the share of peak memory that may be added. insensitive_share: of cases, before the run is inconclusive.
    processes: pairs of fresh processes in each stage, the first of which only screens. counts: whether a rise
    of what one call does is explained or fails. build: commands that are run in both copies before anything
    is imported. paths: folders that each side imports from. plant: the slowdown that every run must find.
    baseline_margin: the slowdown against a stored baseline that is nobody's business; it stands for what two
    sessions on one machine differ by, which no number of either tells.
    """

    margin: float = 0.005
    detect: float = 0.02
    sensitivity: float = 0.05
    false_alarms: float = 0.001
    wall_margin: float = 0.10
    memory_margin: float = 0.02
    insensitive_share: float = 0.10
    # Few unchanged cases need the last two stages, so that these may be long: with them a spread of 1 % from
    # process to process still lets a slowdown of 2 % be found, and a spread of 3 % one of 5 %.
    processes: tuple[int, ...] = (4, 12, 24, 24)
    seconds_per_case: float = 5.0
    counts: Counts = "explain"
    build: tuple[str, ...] = ()
    paths: tuple[str, ...] = (".",)
    plant: float = 0.05
    # On a shared machine of two cores unchanged code, measured twice within minutes, differed by up to 25 %.
    baseline_margin: float = 0.10
    cases: tuple[CaseTable, ...] = ()
    accepts: tuple[Accept, ...] = ()

    def for_case(self, name: str) -> CasePolicy:
        """Return what holds for a case; of two tables that match, the later one wins."""
        tables = [table for table in self.cases if fnmatchcase(name, table.match)]
        settings = {key: getattr(self, key) for key in _COMMON}
        for table in tables:
            settings |= table.settings
        _check_order(settings, f"what the policy says of {name}")
        return CasePolicy(
            **settings,
            reasons=tuple(table.reason for table in tables),
            accepts=tuple(accept for accept in self.accepts if fnmatchcase(name, accept.match)),
        )

    def remarks(self, names: Iterable[str], today: date) -> list[str]:
        """Name the tables that match no case and the acceptances that have expired."""
        known = list(names)
        idle = [
            f"The policy's {kind} {table.match!r} matches no case."
            for kind, tables in (("[[case]]", self.cases), ("[[accept]]", self.accepts))
            for table in cast("Sequence[CaseTable | Accept]", tables)
            if not any(fnmatchcase(name, table.match) for name in known)
        ]
        expired = [
            f"{accept.place} expired on {accept.expires} and accepts nothing."
            for accept in self.accepts
            if accept.expires < today
        ]
        return idle + expired

    @property
    def digest(self) -> str:
        """The SHA-256 of what the policy says, however its file is written."""
        content = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a document."""
        found = asdict(self)
        for name in ("processes", "build", "paths"):
            found[name] = list(found[name])
        found["cases"] = [
            {"match": table.match, "reason": table.reason, **table.settings} for table in self.cases
        ]
        found["accepts"] = [
            {**asdict(accept), "expires": accept.expires.isoformat()} for accept in self.accepts
        ]
        return found

    @classmethod
    def from_document(cls, document: Mapping[str, Any], place: str) -> Self:
        """Check what a file says and return it; raises :class:`SameopError`."""
        check_table(document, _KEYS, place)
        settings = {key: value for key, value in document.items() if key not in ("case", "accept")}
        for name in ("processes", "build", "paths"):
            if name in settings:
                settings[name] = tuple(settings[name])
        plain = replace(cls(), **settings)
        _check_order(asdict(plain), place)
        cases = tuple(
            _case_table(plain, table, f"{place}, [[case]] {k}")
            for k, table in enumerate(document.get("case", ()), 1)
        )
        accepts = tuple(
            _accept(table, f"{place}, [[accept]] {k}")
            for k, table in enumerate(document.get("accept", ()), 1)
        )
        return replace(plain, cases=cases, accepts=accepts)


def read_policy(path: Path, is_optional: bool = True) -> Policy:
    """Read a policy; the defaults where the file is absent and optional.

    Raises :class:`SameopError` for a file that cannot be read or says what is not known.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if is_optional:
            return Policy()
        raise SameopError(
            f"The policy {path} does not exist: name a file, or leave the option out."
        ) from None
    except OSError as error:
        raise SameopError(
            f"The policy {path} cannot be opened ({error.strerror}): name a readable file."
        ) from None
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SameopError(f"The policy {path} is no TOML ({error}): correct the file.") from None
    return Policy.from_document(document, path.name)


def _case_table(plain: Policy, table: Mapping[str, Any], place: str) -> CaseTable:
    check_table(table, _CASE_KEYS, place)
    _require(table, ("match", "reason"), place)
    settings = {key: value for key, value in table.items() if key not in ("match", "reason")}
    if not settings:
        raise SameopError(f"{place} changes nothing: give one of {', '.join(_SETTINGS)}, or remove it.")
    _check_order({name: getattr(plain, name) for name in _COMMON} | settings, place)
    return CaseTable(table["match"], table["reason"], settings)


def _accept(table: Mapping[str, Any], place: str) -> Accept:
    check_table(table, _ACCEPT_KEYS, place)
    _require(table, tuple(_ACCEPT_KEYS), place)
    return Accept(**table)


def _require(table: Mapping[str, Any], names: Iterable[str], place: str) -> None:
    for name in names:
        if name not in table:
            raise SameopError(f"{place} has no `{name}`: give one.")


def _check_order(settings: Mapping[str, Any], place: str) -> None:
    """Refuse thresholds that contradict each other."""
    margin, detect, sensitivity = (settings[name] for name in ("margin", "detect", "sensitivity"))
    if not margin < detect <= sensitivity:
        raise SameopError(
            f"In {place} `margin` is {margin}, `detect` {detect} and `sensitivity` {sensitivity}: "
            "each must be larger than the one before it, only the last two may be equal."
        )
    if settings.get("plant", detect) < detect:
        raise SameopError(
            f"In {place} `plant` is {settings['plant']} and `detect` {detect}: "
            "plant at least what is to be detected."
        )


def _is_plan(value: Any) -> bool:
    return (
        isinstance(value, list) and 2 <= len(value) <= 5 and all(is_whole(count, 3, 200) for count in value)
    )


def _is_inside(value: Any) -> bool:
    path = PurePosixPath(value) if is_sentence(value) else PurePosixPath("/")
    return not path.is_absolute() and ".." not in path.parts


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(table, dict) for table in value)


def _list_of(fits: Any, least: int) -> Any:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(fits, value))


_SETTINGS: Mapping[str, Key] = {
    "margin": share("0.005"),
    "detect": share("0.02"),
    "sensitivity": share("0.05"),
    "wall_margin": share("0.1"),
    "memory_margin": share("0.02"),
    "baseline_margin": share("0.1"),
    "counts": one_of("explain", "fail"),
    "threads": whole(1, 1024),
}
# What every case has from the top level of the file; threads are a matter of single cases.
_COMMON = tuple(field.name for field in fields(Policy) if field.name in _SETTINGS)
_KEYS: Mapping[str, Key] = {
    **{name: _SETTINGS[name] for name in _COMMON},
    "false_alarms": number(0, 0.1, "a probability between 0 and 0.1, such as 0.001"),
    "insensitive_share": Key(
        lambda value: is_number(value) and 0 <= value <= 1, "a share from 0 to 1, such as 0.1"
    ),
    "processes": Key(_is_plan, "a list of 2 to 5 stages with 3 to 200 processes each, such as [4, 12, 24]"),
    "seconds_per_case": number(0, 3600, "seconds between 0 and 3600, such as 5.0"),
    "build": Key(_list_of(is_sentence, 0), 'a list of commands, such as ["make"]'),
    "paths": Key(_list_of(_is_inside, 1), 'a list of folders inside the project, such as ["."]'),
    "plant": share("0.05"),
    "case": Key(_are_tables, "tables, each headed [[case]]"),
    "accept": Key(_are_tables, "tables, each headed [[accept]]"),
}
_MATCH = Key(is_sentence, 'a pattern of case ids, such as "involution/*"')
_REASON = Key(is_sentence, "a sentence")
_CASE_KEYS: Mapping[str, Key] = {"match": _MATCH, "reason": _REASON, **_SETTINGS}
_ACCEPT_KEYS: Mapping[str, Key] = {
    "match": _MATCH,
    "up_to": number(1, 10, "a ratio between 1 and 10, such as 1.08 for 8 % slower"),
    "reason": _REASON,
    "expires": Key(
        lambda value: isinstance(value, date) and not isinstance(value, datetime),
        "a date without quotes, such as 2030-01-31",
    ),
}
