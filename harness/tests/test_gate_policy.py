"""The policy of a gate: its file, its sentences, what holds for a case."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from harness.paper.errors import SameopError
from harness.paper.gate.policy import FILE_NAME, Policy, read_policy

FULL = """
margin = 0.01
detect = 0.03
sensitivity = 0.08
false_alarms = 0.01
wall_margin = 0.2
memory_margin = 0.05
baseline_margin = 0.2
insensitive_share = 0
processes = [5, 10]
seconds_per_case = 2
counts = "fail"
build = ["make -C native"]
paths = [".", "src"]
plant = 0.04

[[case]]
match = "involution/*"
reason = "Its map is larger than the caches."
detect = 0.05
threads = 2

[[case]]
match = "*/training"
reason = "Gradients are noisy."
detect = 0.06

[[accept]]
match = "involution/core/*"
up_to = 1.08
reason = "Exact now; review 12."
expires = 2030-01-31
"""


def write(folder: Path, text: str) -> Path:
    """Write a policy and return its path."""
    path = folder / FILE_NAME
    path.write_text(text)
    return path


def test_an_absent_file_means_the_defaults(tmp_path: Path) -> None:
    """A project needs no policy."""
    assert read_policy(tmp_path / FILE_NAME) == Policy()


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """Who names a file does not mean the defaults."""
    path = tmp_path / "other.toml"
    with pytest.raises(SameopError) as error:
        read_policy(path, is_optional=False)
    assert str(error.value) == f"The policy {path} does not exist: name a file, or leave the option out."


def test_every_key_is_read(tmp_path: Path) -> None:
    """What the file says is what holds."""
    policy = read_policy(write(tmp_path, FULL))
    assert (policy.margin, policy.detect, policy.sensitivity) == (0.01, 0.03, 0.08)
    assert (policy.processes, policy.paths, policy.build) == ((5, 10), (".", "src"), ("make -C native",))
    assert (policy.counts, policy.plant, policy.insensitive_share) == ("fail", 0.04, 0)
    assert (policy.wall_margin, policy.memory_margin, policy.baseline_margin) == (0.2, 0.05, 0.2)
    assert policy.accepts[0].expires == date(2030, 1, 31)


def test_the_last_matching_table_wins_key_by_key(tmp_path: Path) -> None:
    """A later table changes what it names and leaves the rest."""
    policy = read_policy(write(tmp_path, FULL))
    found = policy.for_case("involution/core/shifted/w/float32/cpu/training")
    assert (found.detect, found.threads, found.margin) == (0.06, 2, 0.01)
    assert found.reasons == ("Its map is larger than the caches.", "Gradients are noisy.")
    assert [accept.up_to for accept in found.accepts] == [1.08]
    other = policy.for_case("self_attention/core/sdpa/w/float32/cpu/forward")
    assert (other.detect, other.threads, other.reasons, other.accepts) == (0.03, 1, (), ())


def test_tables_that_contradict_each_other_in_one_case_are_refused() -> None:
    """Each table may be sound with the rest of the file and the two of them not."""
    policy = Policy.from_document(
        {
            "case": [
                {"match": "*", "reason": "First.", "margin": 0.015},
                {"match": "a*", "reason": "Second.", "detect": 0.01},
            ]
        },
        FILE_NAME,
    )
    assert policy.for_case("b").margin == 0.015
    with pytest.raises(
        SameopError, match=r"^In what the policy says of ab `margin` is 0\.015, `detect` 0\.01"
    ):
        policy.for_case("ab")


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    """Spaces and comments change nothing, a margin does; the document can be written as JSON."""
    plain = read_policy(write(tmp_path, "margin = 0.006\n"))
    spaced = read_policy(write(tmp_path, "# why\nmargin   =   0.006\n"))
    other = read_policy(write(tmp_path, "margin = 0.007\n"))
    full = read_policy(write(tmp_path, FULL))
    assert plain.digest == spaced.digest
    assert len({plain.digest, other.digest, full.digest, Policy().digest}) == 4
    assert full.as_json()["accepts"][0]["expires"] == "2030-01-31"


def test_idle_and_expired_lines_are_named(tmp_path: Path) -> None:
    """A line that does nothing is told and no error."""
    policy = read_policy(write(tmp_path, FULL))
    assert policy.remarks(["involution/core/shifted/training"], date(2030, 1, 31)) == []
    assert policy.remarks(["involution/module/forward"], date(2030, 2, 1)) == [
        "The policy's [[case]] '*/training' matches no case.",
        "The policy's [[accept]] 'involution/core/*' matches no case.",
        "The acceptance of 'involution/core/*' expired on 2030-01-31 and accepts nothing.",
    ]


_CASE = '[[case]]\nmatch = "*"\n'
_ACCEPT = '[[accept]]\nmatch = "*"\nup_to = 1.1\nexpires = 2030-01-01\n'
_SHARE = "a share between 0 and 1, such as 0.005"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("margn = 0.01", f"{FILE_NAME} has the unknown key 'margn': did you mean `margin`."),
        ("margin = 'wide'", f"`margin` in {FILE_NAME} is 'wide': give {_SHARE}."),
        ("margin = true", f"`margin` in {FILE_NAME} is True: give {_SHARE}."),
        ("margin = nan", f"`margin` in {FILE_NAME} is nan: give {_SHARE}."),
        ("margin = 1.0", f"`margin` in {FILE_NAME} is 1.0: give {_SHARE}."),
        ("margin = -0.1", f"`margin` in {FILE_NAME} is -0.1: give {_SHARE}."),
        (
            "margin = 0.02",
            f"In {FILE_NAME} `margin` is 0.02, `detect` 0.02 and `sensitivity` 0.05: "
            "each must be larger than the one before it, only the last two may be equal.",
        ),
        (
            "plant = 0.01",
            f"In {FILE_NAME} `plant` is 0.01 and `detect` 0.02: plant at least what is to be detected.",
        ),
        (
            "processes = [2, 12]",
            f"`processes` in {FILE_NAME} is [2, 12]: give a list of 2 to 5 stages with 3 to 200 processes "
            "each, such as [4, 12, 24].",
        ),
        ("counts = 'ignore'", f'`counts` in {FILE_NAME} is \'ignore\': give "explain" or "fail".'),
        (
            'paths = ["../other"]',
            f"`paths` in {FILE_NAME} is ['../other']: give a list of folders inside the project, "
            'such as ["."].',
        ),
        ("case = 3", f"`case` in {FILE_NAME} is 3: give tables, each headed [[case]]."),
        (_CASE + "margin = 0.006", f"{FILE_NAME}, [[case]] 1 has no `reason`: give one."),
        (
            _CASE + 'reason = " "\nmargin = 0.006',
            f"`reason` in {FILE_NAME}, [[case]] 1 is ' ': give a sentence.",
        ),
        (
            _CASE + 'reason = "Noise."',
            f"{FILE_NAME}, [[case]] 1 changes nothing: give one of margin, detect, sensitivity, wall_margin, "
            "memory_margin, baseline_margin, counts, threads, or remove it.",
        ),
        (
            _CASE + 'reason = "Noise."\nbuild = []',
            f"{FILE_NAME}, [[case]] 1 has the unknown key 'build': known are match, reason, margin, detect, "
            "sensitivity, wall_margin, memory_margin, baseline_margin, counts, threads.",
        ),
        (
            _CASE + 'reason = "Noise."\nmargin = 0.03',
            f"In {FILE_NAME}, [[case]] 1 `margin` is 0.03, `detect` 0.02 and `sensitivity` 0.05: "
            "each must be larger than the one before it, only the last two may be equal.",
        ),
        (_ACCEPT, f"{FILE_NAME}, [[accept]] 1 has no `reason`: give one."),
        (
            _ACCEPT.replace("1.1", "0.9") + 'reason = "Exact."',
            f"`up_to` in {FILE_NAME}, [[accept]] 1 is 0.9: give a ratio between 1 and 10, such as 1.08 for "
            "8 % slower.",
        ),
        (
            _ACCEPT.replace("2030-01-01", '"soon"') + 'reason = "Exact."',
            f"`expires` in {FILE_NAME}, [[accept]] 1 is 'soon': give a date without quotes, "
            "such as 2030-01-31.",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    """Every mistake is told with its place, what was found and what to give."""
    path = write(tmp_path, text)
    with pytest.raises(SameopError) as error:
        read_policy(path)
    assert str(error.value) == message


def test_what_is_no_toml_is_refused(tmp_path: Path) -> None:
    """So are bytes that are no text, and a folder."""
    path = write(tmp_path, "margin: 0.01\n")
    with pytest.raises(SameopError, match=r"is no TOML \(Expected '=' .*\): correct the file\.$"):
        read_policy(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SameopError, match="is no TOML"):
        read_policy(path)
    with pytest.raises(SameopError, match=r"cannot be opened \(.*\): name a readable file"):
        read_policy(tmp_path)
