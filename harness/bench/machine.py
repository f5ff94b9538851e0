"""What machine this is, in the facts that decide whether two runs may be compared."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_HARNESS = Path(__file__).parents[1]
TESTED_TORCH = ("2.11", "2.13")
_LIBRARIES = ("torch", "numpy", "triton", "pytest", "pytest-benchmark", "fvcore", "sameop")


def machine_facts() -> dict[str, Any]:
    """Return every fact about this machine that a reader of a number needs."""
    return {
        "identity": identity(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "torch": {
            "threads": torch.get_num_threads(),
            "blas": _blas(),
            "onednn": torch.backends.mkldnn.is_available(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def identity() -> dict[str, Any]:
    """Return the facts that must be equal before a run may be resumed or its times compared."""
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "memory_gib": _memory_gib(),
        "gpus": gpu_names(),
        "driver": _driver(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def usable_cpus() -> int:
    """Count the processors that this process may use; a container or a scheduler may hide some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit_facts(folder: Path, sources: Iterable[Path]) -> dict[str, Any]:
    """Return the commit of a project, whether its tree is dirty, and a digest of the sources that run.

    These are the pages and this harness itself, which decides how they are judged and timed.
    """
    digest = hashlib.sha256()
    machinery = [path for path in _HARNESS.rglob("*.py") if "tests" not in path.relative_to(_HARNESS).parts]
    for path in sorted({*sources, *machinery}):
        digest.update(path.read_bytes())
    commit = _git(folder, "rev-parse", "HEAD")
    return {
        "commit": commit or "none: not a git checkout",
        "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no")) if commit else None,
        "sources_sha256": digest.hexdigest(),
        "sameop": _version("sameop"),
    }


def torch_notice() -> str | None:
    """Return one sentence where this version of torch has not been tested."""
    found = ".".join(torch.__version__.split(".")[:2])
    if found in TESTED_TORCH:
        return None
    return (
        f"torch {torch.__version__} has not been tested with sameop; tested are {' and '.join(TESTED_TORCH)}."
    )


def device_missing(device: str) -> str | None:
    """Return the reason why a device cannot be measured here, or None."""
    if device == "cpu":
        return None
    if torch.version.cuda is None:
        return f"this build of torch ({torch.__version__}) has no CUDA"
    if _count_gpus():
        return None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "no CUDA device was found" + ("" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})")


def gpu_names() -> list[str]:
    """Name the GPUs that CUDA may use, through NVML, which is quick and leaves CUDA alone."""
    count = _count_gpus()
    names = _nvml(lambda nvml: [nvml.nvmlDeviceGetName(handle) for handle in visible_gpus(nvml)])
    if names is None or len(names) != count:
        return [f"CUDA device {number}" for number in range(count)]
    return [_text(name) for name in names]


def _count_gpus() -> int:
    with warnings.catch_warnings():
        # A driver that is absent or too old is reported as a missing device.
        warnings.simplefilter("ignore")
        return torch.cuda.device_count()


def visible_gpus(nvml: Any) -> list[Any]:
    """Return NVML's handles of the devices that the environment leaves to CUDA."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
    names = [name.strip() for name in asked.split(",") if name.strip()]
    return [
        nvml.nvmlDeviceGetHandleByIndex(int(name))
        if name.isdecimal()
        else nvml.nvmlDeviceGetHandleByUUID(name)
        for name in names
    ]


def _driver() -> str | None:
    found = _nvml(lambda nvml: nvml.nvmlSystemGetDriverVersion())
    return _text(found) if found else None


def _text(value: Any) -> str:
    # Older releases of the interface return bytes.
    return value.decode() if isinstance(value, bytes) else str(value)


def _nvml(query: Callable[[Any], Any]) -> Any:
    """Ask NVML; None where its Python interface or its library is absent, or has no answer."""
    try:
        with warnings.catch_warnings():
            # The older distribution of this module announces that it is deprecated.
            warnings.simplefilter("ignore")
            import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return query(pynvml)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _blas() -> str:
    settings = torch.__config__.show()
    return next(
        (name for name in ("mkl", "openblas", "accelerate") if f"BLAS_INFO={name}" in settings), "other"
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
