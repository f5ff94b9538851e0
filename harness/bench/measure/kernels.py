"""Kernels: what one call really ran, as evidence beside its time."""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import torch
from torch._C import DispatchKey
from torch.profiler import DeviceType

from harness.bench.measure.clocks import Call
from harness.bench.measure.libraries import Kernel, Told, listening

# Distinct names, not calls: a loop of a thousand products is one of them.
_MOST_NAMES = 64
_LONGEST_NAME = 160
_CPU = DeviceType.CPU
_COMPILED = "Torch-Compiled Region"
_INDUCTOR_GRAPH = "## Call CompiledFxGraph"
_OPERATOR = re.compile(r"\w+::\w+")
_NO_WORK = {"empty", "empty_strided", "resize_", "set_", "_local_scalar_dense"}
# A library computes these, unless the sizes or the dtype are none that it takes.
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "addmv", "dot", "vdot", "_fft_r2c", "_fft_c2r", "_fft_c2c"}
_ATTENTION = {
    "_scaled_dot_product_flash_attention_for_cpu": "flash on the CPU",
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_efficient_attention": "memory-efficient",
    "_scaled_dot_product_cudnn_attention": "cuDNN",
    "_scaled_dot_product_attention_math": "math",
}
# The first that a kernel's name contains. cuDNN's convolutions are named after their direction.
_DEVICE_LIBRARIES = {
    "cuDNN": "cudnn|xmma_(fprop|dgrad|wgrad)",
    "FlashAttention": "flash_fwd|flash_bwd|flash::",
    "CUTLASS": "cutlass",
    "cuBLAS": "cublas|gemm|gemv|nvjet|splitKreduce",
    "cuFFT": "fft",
    "Triton": "^triton_",
    "ATen": "at::native",
}


@dataclass(frozen=True)
class Ran:
    """What one call ran.

    operators: every operator of torch that was called, with its calls. native: those that torch's own loops
    computed. kernels: what ran inside libraries and on the device. compiled_regions: how often a compiled
    program was entered; compiled_graphs: how often code of Inductor was called. attention: the backends of
    scaled_dot_product_attention. left_out: names beyond the bound. reasons: why a source told nothing.
    """

    operators: Mapping[str, int] = field(default_factory=dict)
    native: tuple[str, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    compiled_regions: int = 0
    compiled_graphs: int = 0
    attention: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    builds: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what ran as a record keeps it."""
        return asdict(self)


def sentinel(kind: str, ran: Ran) -> str | None:
    """Say why the number of an implementation of this kind must be withheld, or return None."""
    if kind != "compiled" or ran.compiled_regions:
        return None
    if "profiler" in ran.reasons:
        return f"It cannot be told whether the compiled program ran: {ran.reasons['profiler']}."
    return (
        f"The profiled call shows no {_COMPILED}: the implementation is declared as compiled and ran eagerly."
    )


def watch_kernels(call: Call, device: str) -> Ran:
    """Make one call and say what it ran. What the call raises is raised.

    It belongs behind the samples: a watched call is slower.
    """
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(listening() if device == "cpu" else contextlib.nullcontext(Told()))
        generated = stack.enter_context(_generated_kernels())
        profile = stack.enter_context(_profile(device, told.reasons))
        call()
        if device == "cuda":
            torch.cuda.synchronize()
    return _describe(_events_of(profile, told.reasons), generated, told, device)


@contextlib.contextmanager
def _profile(device: str, reasons: dict[str, str]) -> Iterator[torch.profiler.profile | None]:
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with contextlib.ExitStack() as stack:
        profile = None
        try:
            profile = stack.enter_context(torch.profiler.profile(activities=activities))
        except RuntimeError as error:  # somebody else profiles this process
            reasons["profiler"] = f"torch's profiler cannot be started: {str(error).splitlines()[0]}"
        yield profile


def _events_of(profile: torch.profiler.profile | None, reasons: dict[str, str]) -> list[Any]:
    results = profile.profiler.kineto_results if profile and profile.profiler else None
    if results is None:
        reasons.setdefault("profiler", "the profiler of this torch reports no events")
        return []
    return list(results.events())


@contextlib.contextmanager
def _generated_kernels() -> Iterator[Counter[str]]:
    """Count the calls of C++ kernels that Inductor generated; the profiler does not show them.

    Inductor's program looks each kernel up by its name in its own module.
    """
    counts: Counter[str] = Counter()
    compiler = sys.modules.get("torch._inductor.codecache")
    programs = list(getattr(getattr(compiler, "PyCodeCache", None), "modules", ()))
    kernels = [
        (vars(program), name, kernel)
        for program in programs
        for name, kernel in vars(program).items()
        if name.startswith("cpp_") and callable(kernel)
    ]
    for names, name, kernel in kernels:
        names[name] = _counted(counts, name, kernel)
    try:
        yield counts
    finally:
        for names, name, kernel in kernels:
            names[name] = kernel


def _counted(counts: Counter[str], name: str, kernel: Callable[..., object]) -> Callable[..., object]:
    def counted(*arguments: object, **options: object) -> object:
        counts[name] += 1
        return kernel(*arguments, **options)

    return counted


def _describe(events: list[Any], generated: Counter[str], told: Told, device: str) -> Ran:
    names = Counter(event.name() for event in events if event.device_type() == _CPU)
    operators = Counter({name: calls for name, calls in names.items() if _OPERATOR.fullmatch(name)})
    native = _native(operators, told) if device == "cpu" else []
    kernels = [
        *told.kernels,
        *(Kernel("Inductor", name, calls) for name, calls in generated.items()),
        *_device_kernels(event for event in events if event.device_type() != _CPU),
    ]
    kernels.sort(key=lambda kernel: (-(kernel.seconds or 0.0), kernel.library, kernel.name))
    return Ran(
        operators=dict(operators.most_common(_MOST_NAMES)),
        native=tuple(native[:_MOST_NAMES]),
        kernels=tuple(kernels[:_MOST_NAMES]),
        compiled_regions=_calls_of(_COMPILED, names),
        compiled_graphs=_calls_of(_INDUCTOR_GRAPH, names),
        attention=tuple(sorted(_ATTENTION[name] for name in map(_bare, operators) if name in _ATTENTION)),
        libraries=tuple(sorted(_libraries(operators, native, kernels))),
        builds=told.builds,
        left_out=sum(max(0, len(found) - _MOST_NAMES) for found in (operators, kernels)),
        reasons=told.reasons,
    )


def _calls_of(beginning: str, names: Mapping[str, int]) -> int:
    return sum(calls for name, calls in names.items() if name.startswith(beginning))


def _bare(operator: str) -> str:
    return operator.removeprefix("aten::")


def _native(operators: Iterable[str], told: Told) -> list[str]:
    """Return the operators that torch's own loops computed, in alphabetical order.

    A product that no library tells of is one of them; where several ran, one told of speaks for all. Where
    a library told nothing for a reason, its products are left out: nobody knows who computed them.
    """
    by_library = told.reasons or any(_is_product(kernel) for kernel in told.kernels)
    return sorted(
        name
        for name in operators
        if _has_loops(name) and not (by_library and _bare(name).rstrip("_") in _PRODUCTS)
    )


def _is_product(kernel: Kernel) -> bool:
    return not kernel.name.startswith(("reorder", "convolution"))


@cache
def _has_loops(operator: str) -> bool:
    """Whether torch computes an operator on the CPU by itself, and does not pass it on to others.

    Those have a kernel registered for the CPU and are neither a view nor an allocation.
    """
    namespace, _, name = operator.partition("::")
    if namespace != "aten" or name in _NO_WORK:
        return False
    # Registered once for every device.
    if name == "copy_":
        return True
    packet = getattr(torch.ops.aten, name, None)
    overloads = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    return any(_is_registered(overload) and not overload.is_view for overload in overloads)


def _is_registered(overload: Any) -> bool:
    # TorchScript's own overloads are unknown to the dispatcher, which raises.
    with contextlib.suppress(RuntimeError):
        return bool(overload.has_kernel_for_dispatch_key(DispatchKey.CPU))
    return False


def _device_kernels(events: Iterable[Any]) -> list[Kernel]:
    """Add up what ran on the device, by name: kernels, copies and fills."""
    calls: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for event in events:
        # A range that a program named is shown on the device too, and is no kernel.
        if not event.is_user_annotation():
            name = event.name().removeprefix("void ")[:_LONGEST_NAME]
            calls[name] += 1
            seconds[name] = seconds.get(name, 0.0) + event.duration_ns() * 1e-9
    return [Kernel(_device_library(name), name, count, seconds[name]) for name, count in calls.items()]


def _device_library(name: str) -> str:
    found = (library for library, pattern in _DEVICE_LIBRARIES.items() if re.search(pattern, name))
    return next(found, "device")


def _libraries(operators: Iterable[str], native: list[str], kernels: list[Kernel]) -> set[str]:
    found = {kernel.library for kernel in kernels if kernel.library != "device"}
    if native:
        found.add("ATen")
    if any(_bare(name) == "_nnpack_spatial_convolution" for name in operators):
        found.add("NNPACK")
    return found
