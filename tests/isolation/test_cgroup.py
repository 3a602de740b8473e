"""Cgroup namespaces, and the limits of the command line: cgroup_namespaces(7), cgroups(7).

The limits themselves, and both drivers, are tested in tests/cgroups; here an option must reach the
kernel's file, and have its effect on a program in a container.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from minicontainer.cgroups.cgroup import open_cgroup
from tests.conftest import Run, Running, wait_until

from .conftest import control_file, is_ours, leaks, status_of

MIB = 1 << 20
_WAIT = "echo ready; sleep 60"


def _groups(text: str) -> set[str]:
    """Give the paths in a /proc/PID/cgroup."""
    return {line.split(":", 2)[2] for line in text.splitlines()}


# ---- the namespace


def test_a_containers_group_is_the_root_it_sees(run: Run) -> None:
    """Inside it is /, outside it has its name."""
    assert _groups(run("cat /proc/self/cgroup").output) == {"/"}
    container = run.start(_WAIT)
    assert not is_ours(container.pid, "cgroup")
    outside = _groups(Path(f"/proc/{container.pid}/cgroup").read_text())
    assert outside == {container.state["cgroup"]}
    assert leaks(container.pid, "cgroup") == {}


def test_without_a_cgroup_namespace_it_sees_its_name(run: Run) -> None:
    """The control."""
    inside = _groups(run("cat /proc/self/cgroup", without="cgroup").output)
    assert all(group.startswith(f"{run.engine.cgroup}/") for group in inside)
    shared = run.start(_WAIT, without="cgroup").pid
    assert is_ours(shared, "cgroup")
    assert leaks(shared, "cgroup").keys() == {"cgroup tree"}


def test_it_sees_its_own_files_alone(run: Run) -> None:
    """/sys/fs/cgroup shows the container's own group: its limit, and its processes."""
    script = """
    cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null
    cat cgroup.procs pids/cgroup.procs 2>/dev/null
    """
    assert run(script, "--memory", "64m").output.split()[:2] == [str(64 * MIB), "1"]


# ---- memory

# One block of 200 MiB, filled.
_EAT = ("/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")


def test_a_program_over_its_memory_is_killed(run: Run) -> None:
    """137, and a line that says why."""
    result = run(_EAT, "--memory", "64m")
    assert result.status == 137
    assert "killed by the kernel: out of memory (limit 64 MiB" in result.errors


def test_without_the_limit_it_gets_it(run: Run) -> None:
    """The control; a kill for another reason is not told as this one either."""
    assert run(_EAT).status == 0
    killed = run("kill -9 $$ & exec sleep 60", "--init", "--memory", "64m")
    assert (killed.status, killed.errors) == (137, "")


def test_memory_and_swap_reach_the_kernel(run: Run) -> None:
    """--memory, --memory-swap, and none by default."""
    limited = run.start(_WAIT, "--memory", "64m", "--memory-swap", "64m")
    assert control_file(limited, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert leaks(limited.pid, "memory") == {}
    free = run.start(_WAIT)
    assert open_cgroup(str(free.state["cgroup"])).stats().memory.limit is None
    assert leaks(free.pid, "memory").keys() == {"limit"}


# ---- processes


def test_a_fork_bomb_stops_at_the_limit(run: Run) -> None:
    """And the host goes on making processes."""
    # a shell that can't fork ends; process 1 forks no more once the bomb has begun
    bomb = "sleep 600 & (while :; do sh -c 'bomb() { bomb | bomb & }; bomb; wait'; done) & "
    bomb += "echo ready; wait"
    container = run.start(bomb, "--pids-limit", "20")
    group = open_cgroup(str(container.state["cgroup"]))

    def met() -> bool:
        count = control_file(container, "pids.current", "pids.current")
        assert int(count) <= 20
        return "max 0" not in control_file(container, "pids.events", "pids.events").splitlines()

    wait_until(met, "the limit to be met")
    begun = time.monotonic()
    subprocess.run(["true"], check=True)
    assert time.monotonic() - begun < 5
    assert group.stats().pids.limit == 20
    assert leaks(container.pid, "pids-limit") == {}
    assert leaks(run.start(_WAIT).pid, "pids-limit").keys() == {"limit"}


_TEN = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 60 & done; echo ten"


def test_no_more_processes_than_allowed(run: Run) -> None:
    """fork(2) fails inside; and -1 is no limit."""
    limited = run(_TEN, "--pids-limit", "5")
    assert limited.output == ""
    assert "can't fork: Resource temporarily unavailable" in limited.errors
    assert run(_TEN).output == "ten\n"  # the control
    assert run(_TEN, "--pids-limit", "-1").output == "ten\n"


# ---- processors

_BUSY = "echo ready; while :; do :; done"


def _share(container: Running, usage_ns: int) -> float:
    """Say what part of the time a busy program ran, from the kernel's count, over *usage_ns*."""
    group = open_cgroup(str(container.state["cgroup"]))
    used, begun = group.stats().cpu.usage_ns, time.monotonic_ns()
    wait_until(lambda: group.stats().cpu.usage_ns >= used + usage_ns, "the program to have run")
    return (group.stats().cpu.usage_ns - used) / (time.monotonic_ns() - begun)


def test_a_busy_loop_gets_its_quota(run: Run) -> None:
    """Half a processor, a fifth more or less."""
    container = run.start(_BUSY, "--cpus", "0.5")
    assert 0.4 <= _share(container, 600_000_000) <= 0.6
    assert open_cgroup(str(container.state["cgroup"])).stats().cpu.throttled_periods > 5
    assert leaks(container.pid, "cpus") == {}


def test_without_the_quota_it_is_never_stopped(run: Run) -> None:
    """The control."""
    container = run.start(_BUSY)
    wait_until(lambda: _share(container, 300_000_000) > 0.6, "more than a quota's share")
    assert not open_cgroup(str(container.state["cgroup"])).stats().cpu.throttled_periods
    assert leaks(container.pid, "cpus").keys() == {"limit"}


def test_shares_reach_the_kernel(run: Run) -> None:
    """As they are on v1; on v2 as a weight that meets v2's default where they meet v1's."""
    for shares, weight in (("512", "59"), ("2", "1"), ("262144", "10000")):
        container = run.start(_WAIT, "--cpu-shares", shares)
        assert control_file(container, "cpu.shares", "cpu.weight") in (shares, weight)
    default = run.start(_WAIT)
    assert control_file(default, "cpu.shares", "cpu.weight") in ("1024", "100")


def test_it_runs_on_its_processors_alone(run: Run) -> None:
    """As the scheduler sees it, with the control."""
    limited = run.start(_WAIT, "--cpuset-cpus", "0")
    assert status_of(limited.pid)["Cpus_allowed_list"] == "0"
    free = run.start(_WAIT)
    own = status_of("self")["Cpus_allowed_list"]
    assert status_of(free.pid)["Cpus_allowed_list"] == own


def test_a_bad_limit_is_refused(run: Run) -> None:
    """By its option, before anything is made."""
    for option, value in (
        ("--memory", "12x"), ("--memory", "1m"), ("--cpus", "1000"), ("--cpus", "half"),
        ("--pids-limit", "many"), ("--cpu-shares", "1"), ("--cpuset-cpus", "99"),
    ):  # fmt: skip
        result = run("true", option, value)
        assert result.status == 125, option
        # Docker's own words name neither where a number is out of range
        dockers = ("Minimum memory limit allowed", "range of CPUs", "CPUs available", "shares")
        assert any(text in result.errors for text in (option, value, *dockers))
        assert result.errors.count("\n") == 1
