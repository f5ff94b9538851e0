"""The state of the machine as the kernel's files tell it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.bench.conditions.frequency import scaling, slowed_by_heat
from harness.bench.conditions.limits import cpu_quota, held_back, memory_limit
from harness.bench.conditions.load import busiest, load_average, read_processes, read_ticks
from harness.bench.conditions.memory import Memory, huge_pages, overcommit, read_memory
from harness.bench.conditions.processor import (
    Cache,
    caches,
    cores,
    hypervisor,
    instructions,
    memory_nodes,
)
from harness.bench.conditions.tree import Tree, to_bytes, to_cpus
from harness.tests.kernel_files import CPU, kernel_files, stat


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("", set()), (None, set()), ("a-b,2", {2}), ("3-1", set())],
)
def test_lists_of_processors(text: str | None, cpus: set[int]) -> None:
    """A list names ranges and single processors; what is neither is left out."""
    assert to_cpus(text) == cpus


@pytest.mark.parametrize(
    ("text", "size"),
    [("32K", 2**15), ("1M", 2**20), ("2G", 2**31), ("512", 512), ("K", None), ("", None), (None, None)],
)
def test_sizes(text: str | None, size: int | None) -> None:
    """A size carries its unit as a letter."""
    assert to_bytes(text) == size


def test_nothing_is_known_of_an_empty_tree(tmp_path: Path) -> None:
    """Where the kernel shows no files nothing is known, and nothing fails."""
    tree = Tree(tmp_path)
    assert (load_average(tree), read_ticks(tree), read_processes(tree)) == (None, {}, {})
    assert (instructions(tree), hypervisor(tree), cores(tree, {0}), caches(tree, 0)) == ([], None, [], [])
    assert (memory_nodes(tree, {0}), scaling(tree, {0}), slowed_by_heat(tree)) == ({}, None, None)
    assert (cpu_quota(tree), memory_limit(tree), held_back(tree)) == (None, None, None)
    assert (huge_pages(tree), overcommit(tree)) == (None, None)
    assert read_memory(tree) == Memory(None, None, None, None)


@pytest.mark.parametrize("name", ["proc/stat", "proc/cpuinfo", "proc/meminfo", "proc/self/cgroup"])
def test_rubbish_is_not_believed(tmp_path: Path, name: str) -> None:
    """A file in another form than expected is as good as none."""
    tree = kernel_files(tmp_path, {name: "cpu x y\n:::\n\x00 7 (", "proc/7/stat": "7 (a"})
    assert (read_ticks(tree), read_processes(tree), cpu_quota(tree)) == ({}, {}, None)
    assert read_memory(tree).total is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows these files")
def test_this_machine_is_read() -> None:
    """The files of a real kernel have the expected form."""
    tree = Tree()
    ticks = read_ticks(tree)
    assert ticks["cpu"].busy > 0
    assert ticks["cpu"].busy == pytest.approx(sum(t.busy for n, t in ticks.items() if n != "cpu"), rel=0.1)
    memory = read_memory(tree)
    assert memory.total is not None
    assert memory.available is not None
    assert 0 < memory.available <= memory.total
    assert read_processes(tree)


def test_busy_and_stolen_shares(tmp_path: Path) -> None:
    """Busy time is a share of all time; stolen time a share of the time in which there was work."""
    before = read_ticks(kernel_files(tmp_path, {"proc/stat": stat((100, 900, 0), (0, 1000, 0))}))
    after = read_ticks(kernel_files(tmp_path, {"proc/stat": stat((130, 970, 10), (0, 1000, 0))}))
    assert set(after) == {"cpu", "cpu0", "cpu1"}
    first, second = (after[name].since(before[name]) for name in ("cpu0", "cpu1"))
    assert (first.busy_share, first.stolen_share) == (30 / 110, 10 / 40)
    assert (second.busy_share, second.stolen_share) == (None, None)


def test_busiest_processes(tmp_path: Path) -> None:
    """Those that used the processor in between come most first; the name may hold parentheses."""

    def line(number: int, name: str, user: int, system: int) -> str:
        return f"{number} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {user} {system} 0 0 20 0"

    files = {
        "proc/7/stat": line(7, "a (b) c", 5, 5),
        "proc/8/stat": line(8, "idle", 1, 1),
        "proc/9/stat": line(9, "self", 0, 0),
        "proc/11/stat": line(11, "most", 0, 0),
    }
    before = read_processes(kernel_files(tmp_path, files))
    files["proc/7/stat"] = line(7, "a (b) c", 6, 5)
    files["proc/9/stat"] = line(9, "self", 50, 0)
    files["proc/11/stat"] = line(11, "most", 3, 4)
    files["proc/12/stat"] = line(12, "new", 3, 4)
    after = read_processes(kernel_files(tmp_path, files))
    found = [(one.number, one.name, one.ticks) for one in busiest(before, after, besides=(9,))]
    assert found == [(11, "most", 7), (7, "a (b) c", 1)]


_VERSION_2 = {"proc/self/cgroup": "0::/slice/box"}
_VERSION_1 = {"proc/self/cgroup": "3:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({**_VERSION_2, "sys/fs/cgroup/slice/box/cpu.max": "150000 100000"}, 1.5),
        ({**_VERSION_2, "sys/fs/cgroup/slice/box/cpu.max": "max 100000"}, None),
        (
            {
                **_VERSION_2,
                "sys/fs/cgroup/slice/box/cpu.max": "400000 100000",
                "sys/fs/cgroup/slice/cpu.max": "50000 100000",
            },
            0.5,
        ),
        # Inside of a container with a name space of its own the group is the root.
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0),
        (
            {
                **_VERSION_1,
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        # The folder of the group is not shown inside: the mount is the group.
        (
            {
                **_VERSION_1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": 5000,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 10000,
            },
            0.5,
        ),
        (
            {
                **_VERSION_1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 10000,
            },
            None,
        ),
    ],
)
def test_limits_of_containers(tmp_path: Path, files: dict[str, str | int], quota: float | None) -> None:
    """The tightest limit of the group and those above it holds, in both versions of control groups."""
    assert cpu_quota(kernel_files(tmp_path, files)) == quota


def test_how_often_a_container_was_held_back(tmp_path: Path) -> None:
    """The count is that of the process's own group."""
    counts = {
        "sys/fs/cgroup/slice/box/cpu.stat": "nr_periods 9\nnr_throttled 4",
        "sys/fs/cgroup/cpu.stat": "x 1",
    }
    assert held_back(kernel_files(tmp_path, {**_VERSION_2, **counts})) == 4


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (
            {
                **_VERSION_2,
                "sys/fs/cgroup/slice/box/memory.max": 2**30,
                "sys/fs/cgroup/slice/memory.max": "max",
            },
            2**30,
        ),
        ({**_VERSION_1, "sys/fs/cgroup/memory/memory.limit_in_bytes": 2**31}, 2**31),
        ({**_VERSION_1, "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712}, None),
    ],
)
def test_memory_of_containers(tmp_path: Path, files: dict[str, str | int], limit: int | None) -> None:
    """A limit of memory is found as that of the processor is; the largest number means none."""
    assert memory_limit(kernel_files(tmp_path, files)) == limit


def test_what_the_processor_is(tmp_path: Path) -> None:
    """Instructions and the hypervisor come from the flags, whose name differs between architectures."""
    tree = kernel_files(
        tmp_path, {"proc/cpuinfo": "processor : 0\nflags : fpu avx2 avx512f amx_tile hypervisor"}
    )
    assert instructions(tree) == ["AVX2", "AVX-512", "AMX"]
    assert hypervisor(tree) == "an unnamed hypervisor"
    assert hypervisor(kernel_files(tmp_path, {"sys/class/dmi/id/sys_vendor": "QEMU"})) == "QEMU"
    assert hypervisor(kernel_files(tmp_path, {"sys/hypervisor/type": "xen"})) == "xen"
    arm = kernel_files(tmp_path / "arm", {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd sve"})
    assert (instructions(arm), hypervisor(arm)) == (["NEON", "SVE"], None)


def test_cores_caches_and_nodes(tmp_path: Path) -> None:
    """Only usable processors count as siblings and as members of a node; instruction caches are left out."""
    files: dict[str, str | int] = {}
    for cpu in range(4):
        files[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = f"{cpu % 2},{cpu % 2 + 2}"
    for index, (kind, level, size) in enumerate(
        [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2048K"), ("Unified", 3, "36M")]
    ):
        folder = f"{CPU}/cpu0/cache/index{index}"
        files |= {f"{folder}/type": kind, f"{folder}/level": level, f"{folder}/size": size}
        files[f"{folder}/shared_cpu_list"] = "0-3" if level == 3 else "0,2"
    files |= {"sys/devices/system/node/node0/cpulist": "0-1", "sys/devices/system/node/node10/cpulist": "2-3"}
    tree = kernel_files(tmp_path, files)
    assert cores(tree, {0, 1, 2, 3}) == [{0, 2}, {1, 3}]
    assert cores(tree, {0, 1, 2}) == [{0, 2}, {1}]
    assert cores(tree, {0, 1}) == [{0}, {1}]
    pair, all_four = frozenset({0, 2}), frozenset(range(4))
    assert caches(tree, 0) == [
        Cache("L1d", 48 * 2**10, pair),
        Cache("L2", 2**21, pair),
        Cache("L3", 36 * 2**20, all_four),
    ]
    assert memory_nodes(tree, {0, 1, 2}) == {0: {0, 1}, 10: {2}}
    assert memory_nodes(tree, {3}) == {10: {3}}


def test_frequencies(tmp_path: Path) -> None:
    """Governor, driver and boost are told by different files on Intel and on others."""
    files: dict[str, str | int] = {f"{CPU}/cpufreq/boost": 1}
    for cpu, (governor, now) in enumerate([("powersave", 1_200_000), ("performance", 3_000_000)]):
        folder = f"{CPU}/cpu{cpu}/cpufreq"
        files |= {f"{folder}/scaling_governor": governor, f"{folder}/scaling_driver": "amd-pstate"}
        files |= {f"{folder}/scaling_cur_freq": now, f"{folder}/cpuinfo_max_freq": 3_800_000}
    tree = kernel_files(tmp_path, files)
    found = scaling(tree, {0, 1})
    assert found is not None
    assert (found.governors, found.driver) == (("performance", "powersave"), "amd-pstate")
    assert (found.boost, found.now, found.most) == (True, (1_200_000, 3_000_000), 3_800_000)
    only = scaling(kernel_files(tmp_path, {f"{CPU}/intel_pstate/no_turbo": 1}), {1})
    assert only is not None
    assert (only.governors, only.boost) == (("performance",), False)
    heat = {f"{CPU}/cpu{cpu}/thermal_throttle/core_throttle_count": cpu + 1 for cpu in range(2)}
    assert slowed_by_heat(kernel_files(tmp_path, heat)) == 3


def test_memory(tmp_path: Path) -> None:
    """Sizes are bytes, and the chosen setting stands in brackets."""
    files: dict[str, str | int] = {
        "proc/meminfo": "MemTotal: 8 kB\nMemAvailable: 4 kB\nSwapTotal: 2 kB\nSwapFree: 1 kB",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        "proc/sys/vm/overcommit_memory": 2,
    }
    tree = kernel_files(tmp_path, files)
    assert read_memory(tree) == Memory(8192, 4096, 2048, 1024)
    assert read_memory(tree).swap_used == 1024
    assert (huge_pages(tree), overcommit(tree)) == ("madvise", 2)
