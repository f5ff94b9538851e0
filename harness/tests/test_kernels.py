"""Kernels: what one call ran, told by the profiler and by the libraries themselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import DeviceType

from harness.bench.measure import kernels, libraries
from harness.bench.measure.kernels import Ran, sentinel, watch_kernels
from harness.bench.measure.libraries import Kernel, calibrate, listening, read

ROOT = Path(__file__).parents[2]
ONEDNN = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx512_core,forward_training,"
    "src:f32:a:blocked:aBcd16b::f0 wei:f32:a:blocked:ABcd16b16a::f0 bia:undef::undef::: "
    "dst:f32:a:blocked:aBcd16b::f0,attr-scratchpad:user,alg:convolution_direct,mb2_ic64oc64_ih28,0.25"
)
REORDER = (
    "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:blk,undef,src:f32::blocked:abcd::f0 "
    "dst:f32::blocked:aBcd16b::f0,attr-scratchpad:user,,2x64x28x28,0.5"
)
MKL = "MKL_VERBOSE SGEMM(N,N,128,128,128,0x7ffe,0x55a7,128) 94.20us CNR:OFF Dyn:0 FastMM:1 TID:0  NThr:1"
MKL_BUILD = "oneMKL 2024.0 Update 2 Product build 20240605 for Intel(R) 64 architecture, Lnx 2.60GHz lp64"

needs_libraries = pytest.mark.skipif(
    not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()),
    reason="this torch is built without MKL or oneDNN",
)


@pytest.fixture(scope="module", autouse=True)
def calibrated() -> None:
    """Let MKL measure its clock once, as the process that forks workers does."""
    calibrate()


def names(ran: Ran) -> dict[str, int]:
    """Return the calls of every kernel in a library by library and name."""
    return {f"{kernel.library} {kernel.name}": kernel.calls for kernel in ran.kernels}


# One small image would be computed by torch itself.
x = torch.randn(2, 32, 14, 14)
matrix = torch.randn(64, 64)


@needs_libraries
@pytest.mark.parametrize(
    ("call", "library", "kernel", "operator"),
    [
        (lambda: F.conv2d(x, torch.ones(32, 32, 3, 3)), "oneDNN", "convolution ", "aten::mkldnn_convolution"),
        (
            lambda: F.conv2d(x, torch.ones(32, 1, 3, 3), groups=32),
            "oneDNN",
            "convolution ",
            "aten::mkldnn_convolution",
        ),
        (lambda: F.conv2d(x.double(), torch.ones(8, 32, 3, 3).double()), "MKL", "DGEMM", "aten::thnn_conv2d"),
        (lambda: matrix @ matrix, "MKL", "SGEMM", "aten::mm"),
        (lambda: torch.einsum("bij,bjk->bik", x[0], x[1]), "MKL", "SGEMM_BATCH", "aten::bmm"),
    ],
    ids=["dense", "depthwise", "float64", "matmul", "einsum"],
)
def test_the_kernel_in_the_library_is_named(
    call: Callable[[], object], library: str, kernel: str, operator: str
) -> None:
    """The evidence names the library, the kernel in it and the operator of torch that led there."""
    ran = watch_kernels(call, "cpu")
    found = [entry for entry in ran.kernels if entry.library == library]
    assert any(entry.name.startswith(kernel) and (entry.seconds or 0) > 0 for entry in found), names(ran)
    assert library in ran.libraries
    assert operator in ran.operators
    assert ran.builds[library].startswith("oneDNN v" if library == "oneDNN" else "oneMKL")
    assert ran.reasons == {}


@needs_libraries
def test_a_library_that_did_nothing_is_not_named() -> None:
    """An elementwise operator is torch's own loop, and so is a product that no library takes."""
    added = watch_kernels(lambda: matrix + matrix, "cpu")
    assert (added.libraries, added.native, added.kernels) == (("ATen",), ("aten::add",), ())
    whole = torch.ones(8, 8, dtype=torch.int64)
    assert watch_kernels(lambda: whole @ whole, "cpu").native == ("aten::mm",)
    product = watch_kernels(lambda: matrix @ matrix, "cpu")
    assert (product.libraries, product.native) == (("MKL",), ())


@needs_libraries
def test_a_library_that_cannot_be_heard_leaves_products_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MKL is silent for a reason, a product is not taken for torch's own."""
    monkeypatch.setenv("MKL_VERBOSE_OUTPUT_FILE", "somewhere")
    ran = watch_kernels(lambda: (matrix @ matrix) + matrix, "cpu")
    assert ran.reasons == {"MKL": "MKL prints to the file that MKL_VERBOSE_OUTPUT_FILE names: unset it"}
    assert ran.native == ("aten::add",)
    assert ran.operators["aten::mm"] == 1


def test_views_and_allocations_are_no_work() -> None:
    """Operators that compute nothing are called, and are in no library's account."""
    ran = watch_kernels(lambda: torch.empty(4, 4).t().reshape(2, 2, 4).transpose(0, 1), "cpu")
    assert "aten::transpose" in ran.operators
    assert (ran.native, ran.libraries) == ((), ())


def test_the_backend_of_attention_is_named() -> None:
    """Scaled dot product attention says which of its backends ran."""
    q = torch.randn(1, 2, 32, 16)
    ran = watch_kernels(lambda: F.scaled_dot_product_attention(q, q, q), "cpu")
    assert ran.attention == ("flash on the CPU",)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert watch_kernels(lambda: F.scaled_dot_product_attention(q, q, q), "cpu").attention == ("math",)


def test_a_loop_is_one_line() -> None:
    """What is kept grows with the distinct kernels, not with the calls."""
    one = watch_kernels(lambda: matrix @ matrix, "cpu")
    many = watch_kernels(lambda: [matrix @ matrix for _ in range(300)], "cpu")
    assert many.operators["aten::mm"] == 300
    assert many.operators.keys() == one.operators.keys()
    assert [kernel.calls for kernel in many.kernels] == [300 * kernel.calls for kernel in one.kernels]


def test_names_beyond_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound keeps the most frequent names and says how many it left out."""
    monkeypatch.setattr(kernels, "_MOST_NAMES", 2)
    ran = watch_kernels(lambda: [matrix.sin().sin().sin().cos().cos().tan()], "cpu")
    assert dict(ran.operators) == {"aten::sin": 3, "aten::cos": 2}
    assert ran.left_out == 1


def test_what_ran_is_written() -> None:
    """A record keeps plain values alone."""
    kernel = Kernel("MKL", "SGEMM", 2, 0.5)
    written = Ran(operators={"aten::mm": 2}, kernels=(kernel,), libraries=("MKL",)).as_json()
    assert written["kernels"] == ({"library": "MKL", "name": "SGEMM", "calls": 2, "seconds": 0.5},)
    assert written["operators"] == {"aten::mm": 2}


def test_the_sentinel() -> None:
    """A compiled case whose call shows no compiled region gives no number, and neither does an unseen one."""
    assert sentinel("eager", Ran()) is None
    assert sentinel("compiled", Ran(compiled_regions=1)) is None
    assert sentinel("compiled", Ran()) == (
        "The profiled call shows no Torch-Compiled Region: the implementation is declared as compiled "
        "and ran eagerly."
    )
    unseen = Ran(reasons={"profiler": "the profiler of this torch reports no events"})
    assert sentinel("compiled", unseen) == (
        "It cannot be told whether the compiled program ran: the profiler of this torch reports no events."
    )


# The compiler imports what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile with")
def test_a_compiled_function_shows_its_region_and_its_generated_kernels() -> None:
    """The compiled program is told from its eager twin, and the kernels generated for it are named."""

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x * 3) + 1

    compiled = torch.compile(function)
    compiled(matrix)
    ran = watch_kernels(lambda: compiled(matrix), "cpu")
    assert (ran.compiled_regions, ran.compiled_graphs) == (1, 1)
    assert "Inductor" in ran.libraries
    assert [kernel.calls for kernel in ran.kernels if kernel.name.startswith("cpp_fused")] == [1]
    assert sentinel("compiled", ran) is None
    eager = watch_kernels(lambda: function(matrix), "cpu")
    assert (eager.compiled_regions, "Inductor" in eager.libraries) == (0, False)
    assert sentinel("compiled", eager) is not None


def test_generated_kernels_are_put_back_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel is counted for one call alone, by its name in the program that was generated."""
    program = types.ModuleType("program")
    vars(program).update(cpp_fused_0=lambda value: value + 1, cpp_note="no kernel", call=lambda: None)
    before = dict(vars(program))
    compiler: Any = types.ModuleType("codecache")
    compiler.PyCodeCache = types.SimpleNamespace(modules=[program])
    monkeypatch.setitem(sys.modules, "torch._inductor.codecache", compiler)

    assert names(watch_kernels(lambda: vars(program)["cpp_fused_0"](1), "cpu")) == {"Inductor cpp_fused_0": 1}
    assert vars(program) == before

    def fail() -> None:
        raise ValueError("in the midst")

    with pytest.raises(ValueError, match=r"^in the midst$"):
        watch_kernels(fail, "cpu")
    assert vars(program) == before


@needs_libraries
def test_a_profiler_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the profiler the libraries still tell, and the sentinel withholds."""

    def refuse(activities: object) -> Any:
        raise RuntimeError("Can't start it: it runs already.\nException raised from …")

    monkeypatch.setattr(torch.profiler, "profile", refuse)
    ran = watch_kernels(lambda: matrix @ matrix, "cpu")
    assert (ran.operators, names(ran)) == ({}, {"MKL SGEMM": 1})
    assert ran.reasons == {"profiler": "torch's profiler cannot be started: Can't start it: it runs already."}
    assert sentinel("compiled", ran) is not None


class Event:
    """An event of the profiler on a GPU."""

    def __init__(self, name: str, nanoseconds: int, annotation: bool = False) -> None:
        self.name = lambda: name
        self.duration_ns = lambda: nanoseconds
        self.is_user_annotation = lambda: annotation
        self.device_type = lambda: DeviceType.CUDA


def test_kernels_of_a_device_are_added_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Device kernels have calls, seconds and the library that their names tell; ranges are none."""
    events = [
        Event("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float> >", 2000),
        Event("sm90_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize128x128x32", 5000),
        Event("sm90_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize128x128x32", 4000),
        Event("sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwckrsc_nchw", 1000),
        Event("triton_poi_fused_add_0", 500),
        Event("Memcpy DtoD (Device -> Device)", 100),
        Event("Torch-Compiled Region: 0/0", 9000, annotation=True),
    ]
    waited: list[bool] = []
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: contextlib.nullcontext())
    monkeypatch.setattr(kernels, "_events_of", lambda profile, reasons: events)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    ran = watch_kernels(lambda: None, "cuda")
    assert [(kernel.library, kernel.calls) for kernel in ran.kernels] == [
        ("cuBLAS", 2),
        ("ATen", 1),
        ("cuDNN", 1),
        ("Triton", 1),
        ("device", 1),
    ]
    assert ran.kernels[0].seconds == pytest.approx(9e-6)
    assert ran.libraries == ("ATen", "Triton", "cuBLAS", "cuDNN")
    assert waited == [True]


def test_lines_are_read_and_added_up() -> None:
    """Equal kernels are one; a reorder names its layouts; builds and other lines stand apart."""
    found, builds, others = read(
        [
            "onednn_verbose,v1,info,oneDNN v3.12.0 (commit 80afa71)",
            "onednn_verbose,v1,info,cpu,runtime:OpenMP,nthr:1",
            "onednn_verbose,v1,info,cpu,isa:Intel AVX-512",
            "onednn_verbose,v1,primitive,info,template:operation,engine,primitive",
            ONEDNN,
            ONEDNN,
            ONEDNN.replace("forward_training", "backward_data").replace("v1,", "v1,12.5,"),
            REORDER,
            f"MKL_VERBOSE {MKL_BUILD}",
            MKL,
            MKL.replace("94.20us", "1.00ms"),
        ]
    )
    assert found == [
        Kernel("oneDNN", "convolution jit:avx512_core convolution_direct", 2, 0.5e-3),
        Kernel("oneDNN", "convolution jit:avx512_core convolution_direct backward_data", 1, 0.25e-3),
        Kernel("oneDNN", "reorder jit:blk f32 abcd → f32 aBcd16b", 1, 0.5e-3),
        Kernel("MKL", "SGEMM", 2, 94.20 * 1e-6 + 1e-3),
    ]
    assert builds == {"oneDNN": "oneDNN v3.12.0 (commit 80afa71); Intel AVX-512", "MKL": MKL_BUILD}
    assert others == []


@pytest.mark.parametrize(
    ("line", "calls", "other"),
    [
        ("3 images left" + MKL, 1, ["3 images left"]),
        ("onednn_verbose,v1,primitive,exec,cpu,convolution,cut off", 0, []),
        ("MKL_VERBOSE is what I set", 0, ["MKL_VERBOSE is what I set"]),
        ("", 0, [""]),
        ("SGEMM(1) 2us", 0, ["SGEMM(1) 2us"]),
    ],
)
def test_a_program_that_prints_is_told_apart(line: str, calls: int, other: list[str]) -> None:
    """Only whole lines of a library count; everything else is handed back."""
    found, builds, others = read([line])
    assert (sum(kernel.calls for kernel in found), others, builds) == (calls, other, {})


def test_what_a_program_prints_goes_on_its_way(capfd: pytest.CaptureFixture[str]) -> None:
    """Text printed during the call arrives where it would have, and a forged line is not believed."""

    def call() -> torch.Tensor:
        print(MKL)  # noqa: T201
        os.write(1, b"written below Python\n")
        return matrix + 1

    assert watch_kernels(call, "cpu").kernels == ()
    assert capfd.readouterr().out == f"{MKL}\nwritten below Python\n"


_PROGRAM = f"""
import os
import torch
from harness.bench.measure.kernels import watch_kernels

number = torch.ones(2)

def call():
    print({MKL!r})
    os.write(1, b"written below Python\\n")
    return number + number

print("before")
ran = watch_kernels(call, "cpu")
print("after", len(ran.kernels), ran.native)
"""


def test_a_process_of_its_own_prints_as_it_would(tmp_path: Path) -> None:
    """Where Python prints to the descriptor that is read, its text still goes past the reader, in order."""
    log = tmp_path / "log"
    with log.open("wb") as stream:
        subprocess.run([sys.executable, "-P", "-c", _PROGRAM], stdout=stream, cwd=ROOT, check=True)
    assert log.read_text().splitlines() == [
        "before",
        MKL,
        "written below Python",
        "after 0 ('aten::add',)",
    ]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_everything_is_put_back_whatever_happens(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    """After an error the output, Python's stream and the libraries are as they were, and nothing is open."""
    stream, open_files = sys.stdout, len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    def fail() -> None:
        print("before the error")  # noqa: T201
        _ = matrix @ matrix
        raise error

    with pytest.raises(type(error)):
        watch_kernels(fail, "cpu")
    assert sys.stdout is stream
    assert not open_files or len(os.listdir("/proc/self/fd")) == open_files
    _ = matrix @ matrix
    os.write(1, b"afterwards\n")
    assert capfd.readouterr().out == "before the error\nafterwards\n"


def test_closed_output_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no standard output to read, both libraries have that reason, and the rest is told."""
    monkeypatch.setattr(libraries, "_STANDARD_OUTPUT", 4000)
    ran = watch_kernels(lambda: matrix + matrix, "cpu")
    assert set(ran.reasons) == {"oneDNN", "MKL"}
    assert ran.reasons["MKL"].startswith("standard output cannot be read: ")
    assert ran.operators == {"aten::add": 1}


def test_an_absent_switch_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that torch was built without, and one that cannot be switched, say so each for itself."""

    def refuse(level: int) -> Any:
        raise AssertionError("Failed to set MKLDNN into verbose mode.")

    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "verbose", refuse)
    with listening() as told:
        pass
    assert told.reasons == {
        "oneDNN": "its verbose mode cannot be switched on: Failed to set MKLDNN into verbose mode.",
        "MKL": "this torch is built without MKL",
    }


def test_a_switch_that_the_user_set_stays_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for the lines by an environment variable goes on getting them."""
    levels: list[tuple[str, int]] = []

    class Verbose:
        def __init__(self, level: int) -> None:
            self.level = level

        def __enter__(self) -> None:
            levels.append(("on", self.level))

        def __exit__(self, *_: object) -> None:
            levels.append(("off", self.level))

    for backend in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(backend, "is_available", lambda: True)
        monkeypatch.setattr(backend, "verbose", Verbose)
    monkeypatch.delenv("DNNL_VERBOSE", raising=False)
    monkeypatch.setenv("ONEDNN_VERBOSE", "2")
    monkeypatch.setenv("MKL_VERBOSE", "0")
    with listening():
        pass
    assert levels == [("on", 1), ("on", 1), ("off", 1), ("off", 1), ("on", 2)]


def test_calibration_waits_for_the_end_of_a_second_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """MKL's clock is measured shortly before a second is full; without MKL nothing is waited for."""
    slept: list[float] = []
    asked: list[bool] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "time", lambda: 12.25)
    monkeypatch.setattr(libraries, "_clock_of_mkl", lambda: lambda: asked.append(True))
    calibrate()
    assert slept == [pytest.approx(0.74)]
    assert asked == [True]
    monkeypatch.setattr(libraries, "_clock_of_mkl", lambda: None)
    calibrate()
    assert len(slept) == 1
