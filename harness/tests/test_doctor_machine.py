"""What the doctor says of processor, load, frequency, memory, clocks and counters."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import pytest

from harness.bench.conditions.load import Ticks
from harness.bench.conditions.tree import Tree
from harness.doors.doctor.clocks import examine_clocks, smallest_step
from harness.doors.doctor.counters import examine_counters
from harness.doors.doctor.finding import Finding
from harness.doors.doctor.frequency import examine_frequency, throttling
from harness.doors.doctor.load import examine_load, stolen_time
from harness.doors.doctor.memory import examine_memory
from harness.doors.doctor.processor import examine_processor
from harness.tests.kernel_files import CPU, kernel_files, stat

TWO = frozenset({0, 1})
FOUR = frozenset(range(4))


def said(findings: list[Finding]) -> dict[str, tuple[str, str | None]]:
    """Return what was found and the advice, by what was looked at; the level must fit."""
    for finding in findings:
        assert (finding["advice"] is None) == (finding["level"] == "fine")
    return {finding["what"]: (finding["found"], finding["advice"]) for finding in findings}


def test_nothing_known_is_said_to_be_unknown(tmp_path: Path) -> None:
    """On a system that shows no files every check still ends with a sentence."""
    tree = Tree(tmp_path)
    findings = examine_processor(tree, TWO, "Some CPU", 4, "DEFAULT")
    findings += examine_load(tree, TWO, sleep=lambda seconds: None)
    findings += examine_frequency(tree, TWO) + examine_memory(tree) + examine_clocks(tree)
    found = said(findings + examine_counters(tree, which=lambda name: None))
    assert found["processor"] == ("Some CPU: this process may run on 2 of 4 CPUs.", None)
    assert found["instructions"][0] == (
        "The system does not tell the vector instructions; torch's own loops use none of them."
    )
    assert found["caches"] == ("The system does not tell the sizes of the caches.", None)
    assert found["load"][0] == "The system does not tell its load."
    assert found["CPU use now"] == ("The system does not tell what its CPUs do.", None)
    assert found["memory"] == ("The system does not tell how much memory there is.", None)
    assert found["frequency scaling"][0] == "The clock of the processor is not shown by this system."
    assert found["virtual machine"] == ("No hypervisor shows itself.", None)
    assert found["performance events"][0] == "The kernel offers none."
    assert found["valgrind"] == (
        "It is not installed.",
        "Without it instruction counts are left out: install valgrind.",
    )


@pytest.mark.parametrize(
    ("quota", "found", "advice"),
    [
        (
            150_000,
            "A container limits this process to 1.5 of 2 usable CPUs, and has been stopped 3 times so far.",
            "Measure with at most 1 thread, or raise the limit: a process beyond it is stopped for tens of "
            "milliseconds.",
        ),
        (
            50_000,
            "A container limits this process to 0.5 of 2 usable CPUs, and has been stopped 3 times so far.",
            "Raise the limit to a whole CPU: every process is stopped for tens of milliseconds at a time.",
        ),
        (400_000, "No container limits the processor time below the usable CPUs.", None),
    ],
)
def test_container(tmp_path: Path, quota: int, found: str, advice: str | None) -> None:
    """A limit below the usable processors is said, and what it does to measurements."""
    files = {"sys/fs/cgroup/cpu.max": f"{quota} 100000", "sys/fs/cgroup/cpu.stat": "nr_throttled 3"}
    tree = kernel_files(tmp_path, files)
    assert said(examine_processor(tree, TWO, "", 2, ""))["CPU limit"] == (found, advice)


def test_threads_of_one_core(tmp_path: Path) -> None:
    """Siblings among the usable processors are named, and how to use one of each core."""
    files = {f"{CPU}/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 2},{cpu % 2 + 2}" for cpu in FOUR}
    tree = kernel_files(tmp_path, files)
    found, advice = said(examine_processor(tree, FOUR, "", 4, ""))["threads per core"]
    assert found == "The 4 usable CPUs are threads of 2 cores: CPUs 0,2 and CPUs 1,3."
    assert advice is not None
    assert advice.endswith("for measurements with several threads start with `taskset -c 0,1`.")
    alone = said(examine_processor(tree, TWO, "", 4, ""))["threads per core"]
    assert alone == ("Every usable CPU is a core of its own.", None)


@pytest.mark.parametrize(
    ("flags", "used", "found", "unused"),
    [
        (
            "avx2 avx512f",
            "AVX512",
            "The processor has AVX2 and AVX-512; torch's own loops use AVX-512.",
            None,
        ),
        (
            "avx2 avx512f",
            "AVX2",
            "The processor has AVX2 and AVX-512; torch's own loops use AVX2.",
            "AVX-512",
        ),
        ("avx2", "DEFAULT", "The processor has AVX2; torch's own loops use none of them.", "AVX2"),
        ("avx2", "AVX2", "The processor has AVX2; torch's own loops use AVX2.", None),
        (
            "avx2 avx512f amx_tile",
            "AVX512",
            "The processor has AVX2, AVX-512 and AMX; torch's own loops use AVX-512.",
            None,
        ),
    ],
)
def test_instructions(tmp_path: Path, flags: str, used: str, found: str, unused: str | None) -> None:
    """Where torch uses narrower instructions than there are, that is said."""
    tree = kernel_files(tmp_path, {"proc/cpuinfo": f"flags : {flags}"})
    told, advice = said(examine_processor(tree, TWO, "", 2, used))["instructions"]
    assert told == found
    assert (advice is None) == (unused is None)
    assert unused is None or f"torch leaves {unused} unused" in str(advice)


def test_caches_and_nodes(tmp_path: Path) -> None:
    """Caches come with who shares them; several memory nodes come with how to stay on one."""
    cache = f"{CPU}/cpu0/cache/index0"
    files = {
        f"{cache}/type": "Unified",
        f"{cache}/level": "3",
        f"{cache}/size": "32M",
        f"{cache}/shared_cpu_list": "0-7",
        "sys/devices/system/node/node0/cpulist": "0-1",
        "sys/devices/system/node/node1/cpulist": "2-3",
    }
    tree = kernel_files(tmp_path, files)
    found = said(examine_processor(tree, FOUR, "", 8, ""))
    assert found["caches"] == ("L3 32.0 MiB shared by 4 usable CPUs.", None)
    assert found["memory nodes"] == (
        "The usable CPUs belong to 2 NUMA nodes: node 0 holds CPUs 0-1 and node 1 holds CPUs 2-3.",
        "Memory of another node is slower: start with `numactl --cpunodebind=0 --membind=0` to stay on one.",
    )
    one = said(examine_processor(tree, TWO, "", 8, ""))["memory nodes"]
    assert one == ("All usable CPUs are equally near to the memory (one NUMA node).", None)


@pytest.mark.parametrize(("load", "busy"), [("0.40", False), ("0.60", True), ("64.00", True)])
def test_load_is_judged(tmp_path: Path, load: str, busy: bool) -> None:
    """A machine with work for more than a quarter of its processors is told to wait."""
    tree = kernel_files(tmp_path, {"proc/loadavg": f"{load} 1 1 1/2 3"})
    found, advice = said(examine_load(tree, TWO, sleep=lambda seconds: None))["load"]
    assert found == f"{load} processes wanted to run over the last minute, on 2 usable CPUs."
    assert advice == ("Other work disturbs times: end it, or wait." if busy else None)


def _process(number: int, name: str, ticks: int) -> dict[str, str]:
    return {f"proc/{number}/stat": f"{number} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0"}


@pytest.mark.parametrize(
    ("after", "process", "found"),
    [
        ([(100, 20, 0), (0, 20, 0)], 0, "All 2 usable CPUs are idle."),
        (
            [(115, 5, 0), (2, 18, 0)],
            15,
            "Just now CPU 0 is 75% busy and CPU 1 is 10% busy. Most is used by train (process 7).",
        ),
        (
            [(104, 16, 0), (0, 20, 0)],
            4,
            "Just now CPU 0 is 20% busy. Most is used by train (process 7).",
        ),
        (
            [(119, 1, 0), (0, 20, 0)],
            1,
            "Just now CPU 0 is 95% busy. Most is used by processes that cannot be seen from here.",
        ),
    ],
)
def test_what_uses_the_processors(
    tmp_path: Path, after: list[tuple[int, int, int]], process: int, found: str
) -> None:
    """Busy processors are named with who uses them, unless most of the use cannot be seen."""
    tree = kernel_files(tmp_path, {"proc/stat": stat((100, 0, 0), (0, 0, 0)), **_process(7, "train", 0)})

    def pass_time(seconds: float) -> None:
        kernel_files(tmp_path, {"proc/stat": stat(*after), **_process(7, "train", process)})

    told, advice = said(examine_load(tree, TWO, sleep=pass_time))["CPU use now"]
    assert told == found
    assert (advice is None) == ("idle" in found or "20%" in found)


@pytest.mark.parametrize(
    ("before", "after", "host", "found", "high"),
    [
        ({}, {}, None, "The system does not tell.", False),
        (Ticks(1, 1, 0), Ticks(9, 9, 0), None, "No hypervisor takes time from this machine.", False),
        (
            Ticks(500, 0, 0),
            Ticks(999, 0, 1),
            "QEMU",
            "The hypervisor gave others 0.2% of the processor time that was wanted during the measurement of "
            "noise, and 0.1% since the machine started.",
            False,
        ),
        (
            Ticks(900, 0, 0),
            Ticks(990, 0, 10),
            None,
            "The hypervisor gave others 10% of the processor time that was wanted during the measurement of "
            "noise, and 1.0% since the machine started.",
            True,
        ),
    ],
)
def test_stolen_time(
    before: Ticks | dict[str, Ticks],
    after: Ticks | dict[str, Ticks],
    host: str | None,
    found: str,
    high: bool,
) -> None:
    """Time that a hypervisor took is told for now and for ever; more than a hundredth calls for advice."""

    def whole(ticks: Ticks | dict[str, Ticks]) -> Mapping[str, Ticks]:
        return {"cpu": ticks} if isinstance(ticks, Ticks) else ticks

    told, advice = said([stolen_time(whole(before), whole(after), host)])["stolen time"]
    assert told == found
    assert (advice is not None) is high


def _clocked(governor: str, boost: int) -> dict[str, str | int]:
    folder = f"{CPU}/cpu0/cpufreq"
    return {
        f"{folder}/scaling_governor": governor,
        f"{folder}/scaling_driver": "acpi-cpufreq",
        f"{folder}/scaling_cur_freq": 2_100_000,
        f"{folder}/cpuinfo_max_freq": 3_800_000,
        f"{CPU}/cpufreq/boost": boost,
    }


@pytest.mark.parametrize(
    ("governor", "boost", "advice"),
    [
        ("performance", 0, None),
        ("performance", 1, "The clock under boost depends on heat and on the other cores"),
        ("powersave", 0, "Set the governor to performance for steadier times"),
    ],
)
def test_frequency_scaling(tmp_path: Path, governor: str, boost: int, advice: str | None) -> None:
    """Only a fixed clock is fine."""
    tree = kernel_files(tmp_path, _clocked(governor, boost))
    found, told = said(examine_frequency(tree, frozenset({0})))["frequency scaling"]
    state = "on" if boost else "off"
    assert found == (
        f"The governor is {governor} (driver acpi-cpufreq), boost is {state}, "
        "now 2.10 GHz of at most 3.80 GHz."
    )
    assert told is None if advice is None else str(told).startswith(advice)


def test_virtual_machine(tmp_path: Path) -> None:
    """In a virtual machine the clock cannot be seen, and the host is named where it is known."""
    files = {"proc/cpuinfo": "flags : hypervisor", "sys/class/dmi/id/sys_vendor": "QEMU"}
    found = said(examine_frequency(kernel_files(tmp_path, files), TWO))
    assert found["frequency scaling"][0] == "The clock of the processor is not shown in this virtual machine."
    assert found["virtual machine"][0] == (
        "This machine runs on QEMU: clock changes, heat and neighbours on the host are not visible."
    )


@pytest.mark.parametrize(
    ("before", "after", "found", "level"),
    [
        (None, None, "The system does not count how often heat slows the processor.", "missing"),
        (0, 0, "Heat has never slowed this processor since its start.", "fine"),
        (4, 4, "Heat has slowed the processor 4 times since its start.", "fine"),
        (
            4,
            6,
            "Heat has slowed the processor 6 times since its start, 2 of them during the measurement of "
            "noise.",
            "advice",
        ),
    ],
)
def test_throttling(before: int | None, after: int | None, found: str, level: str) -> None:
    """Heat calls for advice where it slowed the processor while it was watched."""
    finding = throttling(before, after)
    assert (finding["found"], finding["level"]) == (found, level)


def test_memory(tmp_path: Path) -> None:
    """Little free memory and a filled swap call for advice; a container's limit is told."""
    files: dict[str, str | int] = {
        "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n"
        "SwapTotal: 2097152 kB\nSwapFree: 0 kB",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
        "proc/sys/vm/overcommit_memory": 1,
    }
    found = said(examine_memory(kernel_files(tmp_path, files)))
    assert found["memory"] == ("16.0 GiB; 8.00 GiB are available.", None)
    assert found["swap"] == (
        "2.00 GiB of 2.00 GiB swap are in use.",
        "Memory that lies on the disk stalls calls: close programs.",
    )
    assert found["huge pages"][0].startswith("Large pages are handed out to everyone (setting always)")
    assert found["overcommit"][0].startswith("The kernel promises any amount of memory (setting 1)")
    found = said(examine_memory(kernel_files(tmp_path, {"sys/fs/cgroup/memory.max": 2**31})))
    assert found["memory"] == (
        "16.0 GiB, of which a container may use 2.00 GiB; 8.00 GiB are available.",
        "Large cases may run out of memory: close other programs.",
    )


def test_clocks(tmp_path: Path) -> None:
    """The smallest step that was seen is told; a slow source and coarse steps call for advice."""
    source = "sys/devices/system/clocksource/clocksource0/current_clocksource"
    tree = kernel_files(tmp_path, {source: "tsc"})

    def examined(tree: Tree, step: int) -> tuple[str, str | None]:
        moments = iter(range(0, 10**12, step))
        return said(examine_clocks(tree, moments.__next__, moments.__next__))["clocks"]

    found, advice = examined(tree, 100)
    assert found == (
        "The smallest steps seen: perf_counter by 100 ns and thread_time by 100 ns; the system takes its "
        "time from tsc."
    )
    assert advice is None
    assert (
        examined(tree, 10_000)[1] == "Times of single short calls are coarse here; blocks of calls are not."
    )
    slow = examined(kernel_files(tmp_path, {source: "hpet"}), 100)[1]
    assert str(slow).startswith("Reading hpet is slow")


def test_smallest_step() -> None:
    """Readings that repeat are no steps; a clock that stands still makes none."""
    moments = cycle([0, 0, 50, 70, 70, 71])
    assert smallest_step(moments.__next__) == pytest.approx(1e-9)
    assert smallest_step(lambda: 5) is None


def test_counters(tmp_path: Path) -> None:
    """Each counter that can be read is fine; each that cannot comes with the reason and what is lost."""
    files: dict[str, str | int] = {
        "sys/class/powercap/intel-rapl:0/name": "package-0",
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": 1000,
        "sys/class/powercap/intel-rapl:0/energy_uj": 12,
        "proc/sys/kernel/perf_event_paranoid": 2,
        "sys/bus/event_source/devices/cpu/type": 4,
    }
    tree = kernel_files(tmp_path, files)
    found = said(examine_counters(tree, which=lambda name: f"/bin/{name}"))
    assert found == {
        "energy of the CPU": ("The counter can be read: RAPL package-0.", None),
        "performance events": ("They can be counted (perf_event_paranoid is 2).", None),
        "valgrind": ("It is installed: /bin/valgrind.", None),
    }
    closed = kernel_files(tmp_path, {"proc/sys/kernel/perf_event_paranoid": 4})
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.unlink()
    counter.mkdir()
    found = said(examine_counters(closed, which=lambda name: None, administrator=False))
    found_energy, advice = found["energy of the CPU"]
    assert found_energy.startswith(f"{counter} cannot be read: ")
    assert advice == "Records of CPU cases hold this reason in the place of joules."
    assert found["performance events"][0] == (
        "They are for the administrator alone (perf_event_paranoid is 4)."
    )
    found = said(examine_counters(closed, administrator=True))
    assert found["performance events"] == ("They can be counted (perf_event_paranoid is 4).", None)
