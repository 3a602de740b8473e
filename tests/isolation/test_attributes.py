"""Attributes of the program's process, as the kernel tells of them from outside.

See: runtime-spec config.md "Linux Process"; sched_setattr(2), ioprio_set(2), set_mempolicy(2).
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.cgroups import hierarchies
from minicontainer.kernel import scheduling
from tests.conftest import PATIENCE_S, command
from tests.isolation.conftest import Bundles, Change, Spec, finished, status_of

WAIT = "echo ready; sleep 60"
SCHED_GETATTR, IOPRIO_GET = (315, 252) if os.uname().machine == "x86_64" else (275, 31)


class SchedAttr(ctypes.Structure):
    """Struct sched_attr, as sched_getattr(2) fills it."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def attributes_of(pid: int) -> SchedAttr:
    """Ask the kernel how a process is scheduled."""
    attr = SchedAttr()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(SCHED_GETATTR, pid, ctypes.byref(attr), ctypes.sizeof(attr), 0) == 0
    return attr


def scheduler_of(pid: int) -> tuple[int, int, int]:
    """Ask the kernel for a process's policy, nice value and flags."""
    attr = attributes_of(pid)
    return attr.policy, attr.nice, attr.flags


def io_priority_of(pid: int) -> tuple[int, int]:
    """Ask the kernel for a process's I/O class and the priority in it."""
    value = ctypes.CDLL(None).syscall(IOPRIO_GET, 1, pid)
    return value >> 13, value & 0x1FFF


def memory_policies_of(pid: int) -> set[str]:
    """Read the policies of a process's mappings: numa_maps of proc(5)."""
    lines = Path(f"/proc/{pid}/numa_maps").read_text().splitlines()
    return {line.split()[1] for line in lines}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"policy": "SCHED_BATCH", "nice": 7}, (3, 7, 0)),
        ({"policy": "SCHED_IDLE"}, (5, 0, 0)),
        ({"policy": "SCHED_OTHER", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (0, 3, 1)),
    ],
)
@pytest.mark.oci("process.scheduler.policy", "process.scheduler.nice", "process.scheduler.flags")
def test_the_scheduler(
    bundles: Bundles, asked: dict[str, object], expected: tuple[int, int, int]
) -> None:
    """Policy, nice value and flags of the program are what was asked for."""
    running = bundles.start(WAIT, lambda spec: spec["process"].update(scheduler=asked))
    assert scheduler_of(running.pid) == expected


def test_without_a_scheduler_it_is_the_callers(bundles: Bundles) -> None:
    """The control."""
    running = bundles.start(WAIT)
    assert scheduler_of(running.pid) == scheduler_of(os.getpid())


DEADLINE = {"runtime": 1_000_000, "deadline": 5_000_000, "period": 10_000_000}


@pytest.mark.parametrize(
    ("asked", "policy", "flags"),
    [
        pytest.param(
            {"policy": "SCHED_FIFO", "priority": 7}, 1, 0,
            marks=pytest.mark.oci("process.scheduler.priority"),
        ),
        pytest.param(
            {"policy": "SCHED_RR", "priority": 9}, 2, 0,
            marks=pytest.mark.oci("process.scheduler.priority"),
        ),
        pytest.param(
            {"policy": "SCHED_DEADLINE", **DEADLINE}, 6, 0,
            marks=pytest.mark.oci(
                "process.scheduler.runtime", "process.scheduler.deadline",
                "process.scheduler.period",
            ),
        ),
        pytest.param(
            {"policy": "SCHED_DEADLINE", **DEADLINE,
             "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"]}, 6, 0x6,
            marks=pytest.mark.oci("process.scheduler.flags"),
        ),
    ],
)  # fmt: skip
def test_a_real_time_scheduler(
    bundles: Bundles, asked: dict[str, object], policy: int, flags: int
) -> None:
    """Of cgroup v1 it needs time for such tasks, where the kernel has it given out by groups."""
    groups_have_it = any(
        os.path.exists(f"{hierarchy.mount_point}/cpu.rt_runtime_us")
        for hierarchy in hierarchies.mounted().v1
        if "cpu" in hierarchy.controllers
    )

    def change(spec: Spec) -> None:
        spec["process"]["scheduler"] = asked
        if groups_have_it:
            spec["linux"]["resources"]["cpu"] = {"realtimeRuntime": 50_000}

    attr = attributes_of(bundles.start(WAIT, change).pid)
    for name in ("priority", "runtime", "deadline", "period"):
        assert getattr(attr, name) == asked.get(name, 0), name
    assert (attr.policy, attr.flags) == (policy, flags)


def test_a_scheduler_that_the_kernel_refuses(bundles: Bundles) -> None:
    """SCHED_ISO has a number, and nothing behind it."""
    done = bundles("true", lambda spec: spec["process"].update(scheduler={"policy": "SCHED_ISO"}))
    assert done.status == 1
    assert "sched_setattr(0, {" in done.errors
    assert "Invalid argument" in done.errors


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"class": "IOPRIO_CLASS_BE", "priority": 6}, (2, 6)),
        ({"class": "IOPRIO_CLASS_IDLE"}, (3, 0)),
        ({"class": "IOPRIO_CLASS_RT", "priority": 2}, (1, 2)),
    ],
)
@pytest.mark.oci("process.ioPriority")
def test_the_io_priority(
    bundles: Bundles, asked: dict[str, object], expected: tuple[int, int]
) -> None:
    """Class and priority at disks."""
    running = bundles.start(WAIT, lambda spec: spec["process"].update(ioPriority=asked))
    assert io_priority_of(running.pid) == expected


def test_without_an_io_priority_it_is_the_callers(bundles: Bundles) -> None:
    """The control."""
    assert io_priority_of(bundles.start(WAIT).pid) == io_priority_of(os.getpid())


def numa_maps() -> None:
    """Skip where the kernel knows no memory nodes."""
    if not os.path.exists("/proc/self/numa_maps"):
        pytest.skip("this kernel has no memory nodes (CONFIG_NUMA)")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0-0"}, "interleave:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
         "prefer=static:0"),
        ({"mode": "MPOL_LOCAL"}, "local"),
    ],
)  # fmt: skip
@pytest.mark.oci("linux.memoryPolicy")
def test_the_memory_policy(bundles: Bundles, asked: dict[str, object], expected: str) -> None:
    """Every mapping of the program follows it; vDSO and the like have none."""
    numa_maps()
    running = bundles.start(WAIT, lambda spec: spec["linux"].update(memoryPolicy=asked))
    assert expected in memory_policies_of(running.pid)


def test_without_a_memory_policy_it_is_the_default(bundles: Bundles) -> None:
    """The control."""
    numa_maps()
    assert memory_policies_of(bundles.start(WAIT).pid) == {"default"}


def test_a_memory_node_that_is_not_there(bundles: Bundles) -> None:
    """The kernel says so."""
    numa_maps()

    def change(spec: Spec) -> None:
        spec["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "1000"}

    done = bundles("true", change)
    assert done.status == 1
    assert "set_mempolicy(2, 1000): Invalid argument" in done.errors


def linux32(spec: Spec) -> None:
    """Ask for the personality that tells of 32 bits."""
    spec["linux"]["personality"] = {"domain": "LINUX32"}


@pytest.mark.oci("linux.personality.domain")
def test_the_personality(bundles: Bundles) -> None:
    """A program that asks which machine this is hears of one with 32 bits."""
    running = bundles.start(WAIT, linux32)
    assert Path(f"/proc/{running.pid}/personality").read_text().strip() == "00000008"
    assert bundles("uname -m", linux32).output.strip() != os.uname().machine


def test_without_a_personality(bundles: Bundles) -> None:
    """The control."""
    running = bundles.start(WAIT)
    assert Path(f"/proc/{running.pid}/personality").read_text().strip() == "00000000"
    assert bundles("uname -m").output.strip() == os.uname().machine


@pytest.mark.oci("process.user")
def test_umask_and_additional_groups(bundles: Bundles) -> None:
    """As the kernel keeps them, and nothing of the caller's."""

    def change(spec: Spec) -> None:
        spec["process"]["user"] = {
            "uid": 5, "gid": 6, "umask": 0o027, "additionalGids": [7, 4294967294],
        }  # fmt: skip

    status = status_of(bundles.start(WAIT, change).pid)
    assert (status["Umask"], status["Groups"].split()) == ("0027", ["7", "4294967294"])
    assert (status["Uid"].split(), status["Gid"].split()) == (["5"] * 4, ["6"] * 4)


def test_without_them_umask_and_groups_are_plain(bundles: Bundles) -> None:
    """The control: a usual mask, and no group but the first."""
    status = status_of(bundles.start(WAIT).pid)
    assert (status["Umask"], status["Groups"].split()) == ("0022", [])


@pytest.mark.parametrize("score", [0, 1, 345, 1000])
@pytest.mark.oci("process.oomScoreAdj")
def test_the_oom_score(bundles: Bundles, score: int) -> None:
    """The kernel's own record, for each score (going below the caller's takes privilege)."""
    running = bundles.start(WAIT, lambda spec: spec["process"].update(oomScoreAdj=score))
    assert Path(f"/proc/{running.pid}/oom_score_adj").read_text().strip() == str(score)


def test_an_oom_score_that_is_not_permitted(bundles: Bundles) -> None:
    """Nobody may go below what it was, without the capability for it in the host's namespace."""
    if int(status_of(os.getpid())["CapEff"], 16) & 1 << 24:
        pytest.skip("needs a root without CAP_SYS_RESOURCE")

    def change(spec: Spec) -> None:
        spec["process"]["oomScoreAdj"] = -1000
        spec["process"]["user"] = {"uid": 0, "gid": 0}
        spec["linux"]["namespaces"].append({"type": "user"})
        maps = [{"containerID": 0, "hostID": 100_000, "size": 1000}]
        spec["linux"] |= {"uidMappings": maps, "gidMappings": maps}

    done = bundles("true", change)
    assert done.status == 1
    assert "process.oomScoreAdj -1000: lower than the caller's" in done.errors


# -- a program that exec starts -------------------------------------------------------------------

LOOK_AT_SELF = (
    "cat /proc/self/stat /proc/self/oom_score_adj /proc/self/personality; "
    "grep Cpus_allowed_list: /proc/self/status"
)
NICE, POLICY = 18, 40  # in /proc/PID/stat, from 0


def look_by_exec(bundles: Bundles, change: Change) -> list[str]:
    """Start a container, and another program in it; give the lines that this one prints."""
    running = bundles.start(WAIT, change)
    name = str(running.state["id"])
    done = subprocess.run(
        [*command("minicontainer-oci"), "--root", str(bundles.directory / "state"), "exec", name,
         "/bin/sh", "-c", LOOK_AT_SELF],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_exec_takes_the_containers_attributes(bundles: Bundles) -> None:
    """Those of config.json's process hold for later programs too, each set by itself."""

    def change(spec: Spec) -> None:
        linux32(spec)
        spec["process"] |= {
            "oomScoreAdj": 234,
            "scheduler": {"policy": "SCHED_BATCH", "nice": 4},
        }

    stat, score, personality, _ = look_by_exec(bundles, change)
    fields = stat.split()
    assert (fields[NICE], fields[POLICY]) == ("4", "3")
    assert (score, personality) == ("234", "00000008")


def on_processors(initial: int, final: int | None = None) -> Change:
    """Ask for exec's processors."""
    asked = {"initial": str(initial)} | ({} if final is None else {"final": str(final)})
    return lambda spec: spec["process"].update(execCPUAffinity=asked)


@pytest.fixture
def two_processors() -> tuple[int, int]:
    """The first and the last that this test may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("needs two processors")
    return allowed[0], allowed[-1]


@pytest.mark.oci("process.execCPUAffinity")
def test_exec_runs_on_the_processors_that_are_its_own(
    bundles: Bundles, two_processors: tuple[int, int]
) -> None:
    """The final ones; and all of them, where nothing is asked: the control."""
    first, last = two_processors
    *_, chosen = look_by_exec(bundles, on_processors(last, first))
    assert chosen.split()[1] == str(first)
    *_, every = look_by_exec(bundles, lambda _: None)
    assert scheduling.parse_list(every.split()[1], 8191) == os.sched_getaffinity(0)


@pytest.mark.oci("process.execCPUAffinity.initial")
def test_exec_keeps_the_initial_processors_without_final_ones(
    bundles: Bundles, two_processors: tuple[int, int]
) -> None:
    """Where its cgroup has a cpuset too: the kernel knows which ones the process chose itself."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 2):
        pytest.skip("needs Linux 6.2: before, a cpuset made a process forget what it had chosen")
    _, last = two_processors
    *_, chosen = look_by_exec(bundles, on_processors(last))
    assert chosen.split()[1] == str(last)


@pytest.fixture
def bound(two_processors: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Bind this process, and so what it starts, to the first of two; give both."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, two_processors[:1])
    yield two_processors
    os.sched_setaffinity(0, before)


def in_cpuset(cpus: str) -> Change:
    """Ask for a cpuset."""
    return lambda spec: spec["linux"]["resources"].update(cpu={"cpus": cpus})


def processors_of(pid: int) -> frozenset[int]:
    """List those that a process may use."""
    return scheduling.parse_list(status_of(pid)["Cpus_allowed_list"], 8191)


def test_the_callers_processors_bind_no_program(bundles: Bundles, bound: tuple[int, int]) -> None:
    """It has all that there are, and so has one that exec starts."""
    assert processors_of(os.getpid()) == {bound[0]}  # the control
    assert set(bound) <= processors_of(bundles.start(WAIT).pid)
    *_, by_exec = look_by_exec(bundles, lambda _: None)
    assert set(bound) <= scheduling.parse_list(by_exec.split()[1], 8191)


@pytest.mark.oci("linux.resources.cpu.cpus")
def test_a_cpuset_counts_and_not_the_callers_processors(
    bundles: Bundles, bound: tuple[int, int]
) -> None:
    """All of it, though the caller has one alone; and a part that the caller has not at all."""
    for cpus in (bound, bound[1:]):
        running = bundles.start(WAIT, in_cpuset(",".join(map(str, cpus))))
        assert processors_of(running.pid) == set(cpus)


@pytest.mark.oci("process.execCPUAffinity")
def test_exec_chooses_processors_before_and_after_it_joins_the_cgroup(
    bundles: Bundles, two_processors: tuple[int, int], tmp_path: Path
) -> None:
    """As strace(1) sees it; without the field all, and after it alone: the control."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    first, last = two_processors
    calls = "trace=sched_setaffinity,clone3,write"
    wanted = [f"[{last}]", "join", f"[{first}]"]
    for change, expected in (
        (on_processors(last, first), wanted), (lambda _: None, ["join", "all"]),
    ):  # fmt: skip
        running = bundles.start(WAIT, change)
        words = bundles.oci("exec", str(running.state["id"]), "/bin/true")
        traced = ["strace", "-f", "-y", "-e", calls, "-o", str(tmp_path / "trace"), *words]
        assert finished(traced).status == 0
        found = re.findall(
            r"sched_setaffinity\(0, \d+, (\[[\d .]+\])\)|(CLONE_INTO_CGROUP|/tasks>, \"0)",
            (tmp_path / "trace").read_text(),
        )
        told = ["all" if len(chosen) > 99 else chosen or "join" for chosen, _ in found]
        assert [word for word, _ in itertools.groupby(told)] == expected


# -- what can't be had ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        pytest.param(
            "personality", {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]},
            "linux.personality.flags: expected none",
            marks=pytest.mark.oci("linux.personality.flags"),
        ),
        pytest.param(
            "personality", {"domain": "BSD"}, "linux.personality.domain: expected one of LINUX",
            marks=pytest.mark.oci("linux.personality.domain"),
        ),
        pytest.param(
            "intelRdt", {"closID": "guaranteed", "enableMonitoring": True}, "linux.intelRdt: ",
            marks=pytest.mark.oci("linux.intelRdt"),
        ),
        pytest.param(
            "intelRdt", {"schemata": ["L3:0=ff"], "l3CacheSchema": "L3:0=ff",
                         "memBwSchema": "MB:0=70"}, "linux.intelRdt: ",
            marks=pytest.mark.oci("linux.intelRdt"),
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_had_is_refused(
    bundles: Bundles, field: str, value: dict[str, object], says: str
) -> None:
    """In one line; the program does not run, and nothing was made."""
    done = bundles("echo running", lambda spec: spec["linux"].update({field: value}))
    assert (done.status, done.output) == (1, "")
    assert says in done.errors
    assert done.errors.count("\n") == 1
