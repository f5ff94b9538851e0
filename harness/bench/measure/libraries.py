"""Libraries: which kernels of oneDNN and MKL ran, from what both print about themselves.

Both print to file descriptor 1, beneath Python. For one call it points to a file; whatever else was printed
is passed on.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_STANDARD_OUTPUT = 1
_ONEDNN = re.compile(
    r"onednn_verbose,v1,(?:[\d.]+,)?primitive,exec,(?P<engine>\w+),(?P<primitive>\w+),"
    r"(?P<implementation>[^,]+),(?P<direction>\w+),(?P<memory>[^,]*),[^,]*,(?P<auxiliary>[^,]*),[^,]*,"
    r"(?P<milliseconds>[\d.eE+-]+)$"
)
_ONEDNN_INFO = re.compile(r"onednn_verbose,v1,(?:[\d.]+,)?info,(?:cpu,isa:)?(?P<build>.*)$")
_ONEDNN_ANY = re.compile(r"(?:onednn|dnnl)_verbose,.*$")
_MKL = re.compile(r"MKL_VERBOSE (?P<routine>[A-Za-z]\w*)\(.*\) (?P<time>[\d.]+)(?P<unit>ns|us|ms|s) CNR:.*$")
_MKL_BUILD = re.compile(r"MKL_VERBOSE (?P<build>(?:Intel\(R\) )?(?:oneAPI |oneMKL|MKL).*)$")
_LAYOUT = re.compile(r"\b(?:src|dst):(?P<dtype>\w+):\w*:\w*:(?P<layout>\w*):")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_LONGEST_BUILD = 200

# Each library describes its build once in a process; a later call is told from here.
_builds: dict[str, str] = {}


@dataclass(frozen=True)
class Kernel:
    """One kernel of a library: how often it ran, and how long in all where the library says so."""

    library: str
    name: str
    calls: int
    seconds: float | None = None


@dataclass
class Told:
    """What the libraries told; complete once the listening has ended. reasons: why one told nothing."""

    kernels: list[Kernel] = field(default_factory=list)
    builds: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def listening() -> Iterator[Told]:
    """Let oneDNN and MKL print what they run, and read it. What the body raises is raised.

    The first time MKL takes up to a second for it, unless :func:`calibrate` was called before.
    """
    told = Told()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_captured_output(told))
        except Exception as error:  # what cannot be listened to costs its own evidence alone
            told.reasons.update(dict.fromkeys(_SWITCHES, f"standard output cannot be read: {error}"))
        else:
            told.reasons.update(_switch_on(stack))
        yield told


def calibrate() -> None:
    """Let MKL measure the frequency of its clock now: a process forked later need not.

    Before its first verbose line MKL busy-waits for the next full second, once in a process. It starts no
    thread and runs no routine, so a process that forks workers may do this; it sleeps until shortly before
    the second is full.
    """
    frequency = _clock_of_mkl()
    if frequency is None:
        return
    time.sleep(max(0.0, 0.99 - time.time() % 1))
    frequency()


def _clock_of_mkl() -> Callable[[], object] | None:
    """Find what MKL measures with, in the library that holds it in torch's own builds."""
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not torch.backends.mkl.is_available() or not path.exists():
        return None
    function = getattr(ctypes.CDLL(str(path)), "mkl_serv_get_clocks_frequency", None)
    if function is not None:
        function.restype = ctypes.c_double
    return function


@contextlib.contextmanager
def _captured_output(told: Told) -> Iterator[None]:
    """Read what is printed to file descriptor 1; what Python prints goes where it always goes."""
    streams = ctypes.CDLL(None)
    _flush(streams)
    with contextlib.ExitStack() as stack:
        kept = os.dup(_STANDARD_OUTPUT)
        stack.callback(os.close, kept)
        file = stack.enter_context(tempfile.TemporaryFile())
        os.dup2(file.fileno(), _STANDARD_OUTPUT)
        try:
            with _python_prints_to(kept):
                yield
        finally:
            _flush(streams)
            os.dup2(kept, _STANDARD_OUTPUT)
            file.seek(0)
            _understand(told, (line.decode(errors="replace").rstrip("\r\n") for line in file))


def _understand(told: Told, lines: Iterable[str]) -> None:
    told.kernels, builds, others = read(lines)
    _builds.update(builds)
    heard = {kernel.library for kernel in told.kernels}
    told.builds = {library: build for library, build in _builds.items() if library in heard}
    _pass_on(others)


@contextlib.contextmanager
def _python_prints_to(descriptor: int) -> Iterator[None]:
    """Keep a program that prints apart from the libraries, unless its output goes elsewhere anyway."""
    if _descriptor_of(sys.stdout) != _STANDARD_OUTPUT:
        yield
        return
    stream = open(os.dup(descriptor), "w", encoding="utf-8", errors="replace")  # noqa: SIM115
    with stream, contextlib.redirect_stdout(stream):
        yield


def _descriptor_of(stream: Any) -> int | None:
    # A stream in memory has none, a closed one raises, and there may be no stream at all.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return int(stream.fileno())
    return None


def _flush(streams: ctypes.CDLL) -> None:
    """Write out what C and Python hold back; a full disk is not this call's concern."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    streams.fflush(None)


def _pass_on(lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(_STANDARD_OUTPUT, text) :]


# The module of each library's switch, and the variables with which a user switches it on for good.
_SWITCHES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "oneDNN": ("torch.backends.mkldnn", ("ONEDNN_VERBOSE", "DNNL_VERBOSE")),
    "MKL": ("torch.backends.mkl", ("MKL_VERBOSE",)),
}


def _switch_on(stack: contextlib.ExitStack) -> dict[str, str]:
    """Let each library print until the stack ends; return the reasons of those that cannot."""
    reasons = {}
    for library, (name, variables) in _SWITCHES.items():
        switch = importlib.import_module(name)
        if not switch.is_available():
            reasons[library] = f"this torch is built without {library}"
        elif library == "MKL" and os.environ.get("MKL_VERBOSE_OUTPUT_FILE"):
            reasons[library] = "MKL prints to the file that MKL_VERBOSE_OUTPUT_FILE names: unset it"
        else:
            try:
                stack.enter_context(_switched_on(switch, variables))
            except Exception as error:  # an assertion, where the platform has no switch
                reasons[library] = f"its verbose mode cannot be switched on: {error}"
    return reasons


@contextlib.contextmanager
def _switched_on(switch: Any, variables: Iterable[str]) -> Iterator[None]:
    """Switch on for a while, then as the environment asked: a library does not tell how it was before."""
    verbose = switch.verbose(switch.VERBOSE_ON)
    verbose.__enter__()
    try:
        yield
    finally:
        verbose.__exit__(None, None, None)
        level = next(filter(None, map(os.environ.get, variables)), "0")
        if level.isdigit() and int(level):
            switch.verbose(int(level)).__enter__()


def read(lines: Iterable[str]) -> tuple[list[Kernel], dict[str, str], list[str]]:
    """Return the kernels, the builds, and the lines that no library printed, in that order."""
    calls: Counter[tuple[str, str]] = Counter()
    seconds: Counter[tuple[str, str]] = Counter()
    builds: dict[str, list[str]] = {"oneDNN": [], "MKL": []}
    others = []
    for line in lines:
        if found := _ONEDNN.search(line):
            kernel = "oneDNN", _name_of_primitive(found)
            _add(calls, seconds, kernel, float(found["milliseconds"]) * 1e-3)
        elif found := _MKL.search(line):
            _add(calls, seconds, ("MKL", found["routine"]), float(found["time"]) * _SECONDS[found["unit"]])
        elif found := _MKL_BUILD.search(line):
            builds["MKL"].append(found["build"])
        elif found := _ONEDNN_ANY.search(line):
            info = _ONEDNN_INFO.search(line)
            if info and (info["build"].startswith("oneDNN") or "cpu,isa:" in line):
                builds["oneDNN"].append(info["build"])
        # A program that ends its text with no new line stands before the library on one line.
        other = line[: found.start()] if found else line
        others.extend([other] if other or not found else [])
    kernels = [Kernel(*name, count, seconds[name]) for name, count in calls.items()]
    return kernels, {name: "; ".join(told)[:_LONGEST_BUILD] for name, told in builds.items() if told}, others


def _add(calls: Counter[tuple[str, str]], seconds: Any, kernel: tuple[str, str], taken: float) -> None:
    calls[kernel] += 1
    seconds[kernel] += taken


def _name_of_primitive(found: re.Match[str]) -> str:
    """Write ``convolution jit:avx512_core convolution_direct``, and a reorder with its two layouts."""
    parts = [found["primitive"], found["implementation"]]
    if found["primitive"] == "reorder":
        layouts = [" ".join(layout.groups()) for layout in _LAYOUT.finditer(found["memory"])]
        return " ".join([*parts, " → ".join(layouts)])
    parts += re.findall(r"alg:(\w+)", found["auxiliary"])
    return " ".join([*parts, *([found["direction"]] if found["direction"].startswith("backward") else [])])
