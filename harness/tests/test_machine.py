"""What machine this is, with the machine played by a test."""

from __future__ import annotations

import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.bench import case, machine
from harness.bench.case import Selection, plan_cases
from harness.bench.catalog import load_catalogue
from harness.paper.errors import NothingToMeasureError
from harness.tests.projects import make_project


class NVMLError(Exception):
    """What the interface raises."""


def fake_nvml(**functions: Callable[..., Any]) -> types.ModuleType:
    """Return a module in the place of NVML's interface."""
    module = types.ModuleType("pynvml")
    defaults: dict[str, Any] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 3,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetHandleByUUID": lambda name: {"GPU-b": 1}[name],
        "nvmlDeviceGetName": lambda handle: f"Card {'ABC'[handle]}".encode(),
        "nvmlSystemGetDriverVersion": lambda: "570.1",
    }
    vars(module).update({**defaults, **functions})
    return module


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that torch sees so many GPUs, that the environment shows these, and that NVML is this."""

    def pretend(count: int, shown: str | None = None, nvml: types.ModuleType | None = None) -> None:
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
        if shown is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)

    return pretend


def test_build_without_cuda_is_one_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch without CUDA is the reason, whatever the machine holds."""
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    assert machine.device_missing("cuda") == "this build of torch (2.13.0+cpu) has no CUDA"
    assert machine.device_missing("cpu") is None


def test_machine_without_gpu_is_one_reason(gpus: Callable[..., None]) -> None:
    """A machine without a GPU says so, and names the variable that may hide one."""
    gpus(0)
    assert machine.device_missing("cuda") == "no CUDA device was found"
    gpus(0, shown="")
    assert machine.device_missing("cuda") == "no CUDA device was found (CUDA_VISIBLE_DEVICES is '')"


def test_warning_driver_is_a_missing_device(
    gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that torch warns about is a reason and not a warning, which here would be an error."""
    gpus(0)

    def warn() -> int:
        __import__("warnings").warn("the driver is too old", stacklevel=1)
        return 0

    monkeypatch.setattr(torch.cuda, "device_count", warn)
    assert machine.device_missing("cuda") == "no CUDA device was found"


@pytest.mark.parametrize(
    ("count", "shown", "names"),
    [
        (3, None, ["Card A", "Card B", "Card C"]),
        (1, "2", ["Card C"]),
        (2, "GPU-b, 0", ["Card B", "Card A"]),
        (0, "", []),
    ],
)
def test_gpus_are_those_that_cuda_may_use(
    gpus: Callable[..., None], count: int, shown: str | None, names: list[str]
) -> None:
    """A GPU that the environment hides is no part of the machine that is measured."""
    gpus(count, shown, fake_nvml())
    assert machine.gpu_names() == names
    assert machine.identity()["gpus"] == names


def _raise(*_: object) -> None:
    raise NVMLError("no permission")


@pytest.mark.parametrize(
    "nvml", [None, fake_nvml(nvmlInit=_raise), fake_nvml(nvmlDeviceGetName=_raise), fake_nvml()]
)
def test_gpus_without_their_names(gpus: Callable[..., None], nvml: types.ModuleType | None) -> None:
    """Without NVML, or where it counts otherwise than CUDA does, GPUs are numbered."""
    gpus(2, None, nvml)
    assert machine.gpu_names() == ["CUDA device 0", "CUDA device 1"]


def test_driver_is_unknown_without_nvml(gpus: Callable[..., None]) -> None:
    """An absent interface makes the driver unknown, and a present one names it."""
    gpus(1, None, None)
    assert machine.identity()["driver"] is None
    gpus(1, None, fake_nvml())
    assert machine.identity()["driver"] == "570.1"


def test_cuda_is_skipped_with_one_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CUDA is absent every case on it is left out once, with one reason."""
    monkeypatch.setattr(case, "device_missing", lambda device: None if device == "cpu" else "it is absent")
    catalogue = load_catalogue([make_project(tmp_path).page.parent])
    plan = plan_cases(catalogue, Selection())
    assert [found.device for found in plan.cases] == ["cpu"]
    assert plan.left_out[0] == {"what": "every case on cuda", "reason": "it is absent"}
    assert sum("cuda" in entry["what"] for entry in plan.left_out) == 1


def test_cuda_is_planned_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU the same selection has the same cases on both devices."""
    monkeypatch.setattr(case, "device_missing", lambda device: None)
    catalogue = load_catalogue([make_project(tmp_path).page.parent])
    names = [str(found.id) for found in plan_cases(catalogue, Selection()).cases]
    assert names == [
        "scale/core/reference/tiny-one/float32/cpu/forward",
        "scale/core/reference/tiny-one/float32/cuda/forward",
    ]


def test_cuda_by_name_is_refused_where_it_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that was asked for by name is not skipped."""
    monkeypatch.setattr(case, "device_missing", lambda device: "it is absent")
    catalogue = load_catalogue([make_project(tmp_path).page.parent])
    with pytest.raises(NothingToMeasureError) as caught:
        plan_cases(catalogue, Selection(device="cuda"))
    assert str(caught.value) == "The device cuda was asked for, but it is absent: leave --bench-device out."


def test_untested_torch_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of torch is measured and named."""
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    assert machine.torch_notice() is None
    monkeypatch.setattr(torch, "__version__", "3.0.1")
    assert machine.torch_notice() == (
        "torch 3.0.1 has not been tested with sameop; tested are 2.11 and 2.13."
    )


def test_commit_tells_sources_apart(tmp_path: Path) -> None:
    """Two states of the pages are two commits, also where nobody uses git."""
    page = tmp_path / "page.py"
    page.write_text("first", encoding="utf-8")
    first = machine.commit_facts(tmp_path, [page])
    page.write_text("second", encoding="utf-8")
    second = machine.commit_facts(tmp_path, [page])
    assert first["commit"] == "none: not a git checkout"
    assert first["dirty"] is None
    assert first["sources_sha256"] != second["sources_sha256"]


def test_commit_of_a_checkout(tmp_path: Path) -> None:
    """In a checkout the commit is git's, and a changed file makes it dirty."""
    page = tmp_path / "page.py"
    page.write_text("first", encoding="utf-8")
    me = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
    for command in (["init", "-q"], ["add", "."], [*me, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = machine.commit_facts(tmp_path, [page])
    page.write_text("second", encoding="utf-8")
    dirty = machine.commit_facts(tmp_path, [page])
    assert (clean["dirty"], dirty["dirty"]) == (False, True)
    assert clean["commit"] == dirty["commit"]
    assert len(clean["commit"]) == 40


def test_facts_are_complete() -> None:
    """A reader of a number finds the machine, its libraries and how busy it was."""
    facts = machine.machine_facts()
    assert facts["libraries"]["torch"] == torch.__version__
    assert facts["identity"]["cpus"] >= facts["identity"]["usable_cpus"] >= 1
    assert set(facts) == {"identity", "libraries", "torch", "load_average"}
