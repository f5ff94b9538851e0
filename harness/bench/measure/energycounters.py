"""Energy counters: what a GPU and the packages of a processor say they have used, in joules."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

POWERCAP = Path("/sys/class/powercap")


class CounterError(Exception):
    """Why a counter cannot be read, as a reason in a record."""


class EnergyCounter(Protocol):
    """A sum of energy since some moment. slowest_update_seconds: it stands still for no longer."""

    name: str
    means: str
    slowest_update_seconds: float

    def joules(self) -> float:
        """Return what was used so far, or raise :class:`CounterError`."""


class Nvml:
    """The total energy of the current CUDA device; the driver updates it every 20 to 100 ms."""

    name = "NVML total energy"
    means = "energy of the GPU above its idle power"
    slowest_update_seconds = 0.5

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError:
            raise CounterError("nvidia-ml-py is not installed") from None
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(_uuid())
        except pynvml.NVMLError as error:
            raise CounterError(f"NVML says: {error}") from None
        self.joules()

    def joules(self) -> float:
        """Return the joules since the driver was loaded."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) * 1e-3
        except self._nvml.NVMLError as error:
            raise CounterError(f"NVML says: {error}") from None


def _uuid() -> str:
    """Name the device as NVML does; the two count devices in different orders."""
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"


class Rapl:
    """The sum of the packages of a processor; Linux shows it as files, updated about every millisecond."""

    means = (
        "energy of the processor's packages above their idle power, of everything that ran on the machine: "
        "meaningful only where nothing else runs"
    )
    slowest_update_seconds = 0.05

    def __init__(self, powercap: Path = POWERCAP) -> None:
        # Domains within a package (core, dram) have a second number and are part of it, or are not the
        # processor; psys is the whole platform and contains the packages.
        domains = [
            path for path in sorted(powercap.glob("intel-rapl:*")) if _name(path).startswith("package")
        ]
        if not domains:
            raise CounterError(
                f"there is no RAPL counter at {powercap}/intel-rapl:*: "
                "the processor has none, or a virtual machine or container hides it"
            )
        self.name = f"RAPL {' + '.join(_name(path) for path in domains)}"
        self._packages = [_Package(path) for path in domains]

    def joules(self) -> float:
        """Return the joules of all packages since this counter was made."""
        return sum(package.joules() for package in self._packages)


class _Package:
    """One package, whose counter starts again from zero beyond its range."""

    def __init__(self, path: Path) -> None:
        self._path = path / "energy_uj"
        self._range = _read(path / "max_energy_range_uj")
        self._last = _read(self._path)
        self._sum = 0

    def joules(self) -> float:
        now = _read(self._path)
        self._sum += now - self._last + (self._range if now < self._last else 0)
        self._last = now
        return self._sum * 1e-6


def _name(domain: Path) -> str:
    try:
        return (domain / "name").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _read(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except PermissionError:
        raise CounterError(
            f"{path} may not be read by this user: run as root, or have an administrator allow it with "
            f"chmod a+r {path.parent.parent}/intel-rapl:*/{path.name}"
        ) from None
    except (OSError, ValueError) as error:
        raise CounterError(f"{path} cannot be read: {error}") from None
