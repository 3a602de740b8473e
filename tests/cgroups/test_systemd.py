"""Scopes that systemd makes, looked at in their control files and by systemctl."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.cgroups import hierarchies, systemd_bus
from minicontainer.cgroups.cgroup import Cgroup, open_cgroup, open_scope
from minicontainer.cgroups.limits import Cpu, DeviceRule, Memory, Pids, Resources
from minicontainer.cgroups.systemd import SystemdCgroup
from minicontainer.errors import Conflict, InvalidArgument, Unsupported

from .conftest import wait_until

MIB = 1 << 20
SLICE = "minicontainer-test.slice"

with_systemd = pytest.mark.skipif(
    not os.path.isdir("/run/systemd/system"), reason="needs systemd as process 1"
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to make a scope around."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def scope() -> Iterator[SystemdCgroup]:
    """A scope that is still to be made."""
    made = open_scope(f"{SLICE}:minicontainer:{os.getpid()}")
    made.create()
    yield made
    made.kill()
    made.remove()
    assert show(made, "LoadState") == "not-found"
    mounted = hierarchies.mounted()
    for top in [h.mount_point for h in (*mounted.v1, mounted.unified) if h]:
        assert not os.path.exists(top + made.path)
    subprocess.run(["systemctl", "stop", SLICE], check=True)  # no scope of ours is left in it


def show(group: Cgroup, name: str) -> str:
    """Ask systemd for a property of a scope."""
    unit = group.path.rpartition("/")[2]
    words = ["systemctl", "show", "--property", name, "--value", unit]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def control_file(group: Cgroup, v1: str, v2: str) -> str:
    """Read a control file, wherever its controller is."""
    mounted = hierarchies.mounted()
    for hierarchy in mounted.v1:
        if v1.partition(".")[0] in hierarchy.controllers:
            return Path(hierarchy.mount_point + group.path, v1).read_text().strip()
    assert mounted.unified is not None
    return Path(mounted.unified.mount_point + group.path, v2).read_text().strip()


def groups_of(pid: int) -> set[str]:
    """List the paths of a process's groups."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {line.split(":", 2)[2] for line in lines}


@with_systemd
def test_a_scope_is_made_around_a_process(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """In its slice, delegated, in every hierarchy; and before that it is nowhere."""
    assert groups_of(sleeper.pid) == groups_of(os.getpid())  # the control
    assert scope.fd() is None
    assert scope.tasks_files() == ()
    scope.adopt(sleeper.pid, {})
    assert groups_of(sleeper.pid) == {scope.path}
    assert scope.path.startswith(f"/minicontainer.slice/{SLICE}/")
    assert show(scope, "ControlGroup") == scope.path
    assert (show(scope, "Slice"), show(scope, "Delegate")) == (SLICE, "yes")
    assert scope.processes() == (sleeper.pid,)
    if (fd := scope.fd()) is not None:
        os.close(fd)


LIMITS = Resources(
    memory=Memory(limit=64 * MIB),
    cpu=Cpu(quota=12345, period=50000, shares=512),
    pids=Pids(limit=50),
)


@with_systemd
def test_limits_hold_in_the_files_and_are_known_to_systemd(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """Those set before there is a group, and those changed after."""
    scope.limit(LIMITS)
    scope.adopt(sleeper.pid, {})
    assert control_file(scope, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert control_file(scope, "pids.max", "pids.max") == "50"
    assert control_file(scope, "cpu.cfs_quota_us", "cpu.max") in ("12345", "12345 50000")
    assert control_file(scope, "cpu.shares", "cpu.weight") in ("512", "59")
    memory = "MemoryMax" if scope.version == "v2" else "MemoryLimit"
    assert show(scope, memory) == str(64 * MIB)
    assert (show(scope, "TasksMax"), show(scope, "CPUQuotaPerSecUSec")) == ("50", "250ms")
    scope.limit(Resources(memory=Memory(limit=80 * MIB), pids=Pids(limit=-1)))
    assert control_file(scope, "memory.limit_in_bytes", "memory.max") == str(80 * MIB)
    assert show(scope, memory) == str(80 * MIB)
    assert (control_file(scope, "pids.max", "pids.max"), show(scope, "TasksMax")) == (
        "max", "infinity",
    )  # fmt: skip


@with_systemd
def test_limits_survive_a_reload_of_systemd(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """It writes then what it was told; what it was not told, as by hand, it takes away."""
    scope.limit(LIMITS)
    scope.adopt(sleeper.pid, {})
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert control_file(scope, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert control_file(scope, "pids.max", "pids.max") == "50"
    assert control_file(scope, "cpu.shares", "cpu.weight") in ("512", "59")


@with_systemd
def test_no_swap_and_idleness_are_known_to_systemd(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """From the beginning, and when idleness is taken back."""
    if scope.version != "v2":
        pytest.skip("v1 has no property for either")
    scope.limit(Resources(memory=Memory(limit=64 * MIB, swap=64 * MIB), cpu=Cpu(idle=1)))
    scope.adopt(sleeper.pid, {})
    assert (show(scope, "MemorySwapMax"), show(scope, "CPUWeight")) == ("0", "idle")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert control_file(scope, "", "cpu.idle") == "1"
    assert control_file(scope, "", "memory.swap.max") == "0"
    scope.limit(Resources(cpu=Cpu(idle=0)))
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert control_file(scope, "", "cpu.idle") == "0"
    scope.limit(Resources(cpu=Cpu(idle=1)))
    scope.limit(Resources(cpu=Cpu(idle=0, shares=512)))
    assert (control_file(scope, "", "cpu.weight"), show(scope, "CPUWeight")) == ("59", "59")


@with_systemd
def test_a_change_that_the_kernel_refuses_changes_nothing(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """Neither the files nor what systemd knows."""
    scope.limit(LIMITS)
    scope.adopt(sleeper.pid, {})
    with pytest.raises(InvalidArgument, match=r"cpu\.cpus"):
        scope.limit(Resources(pids=Pids(limit=9), cpu=Cpu(cpus="999")))
    assert (control_file(scope, "pids.max", "pids.max"), show(scope, "TasksMax")) == ("50", "50")


TRY = "head -c 1 /dev/zero >/dev/null && echo zero; head -c 1 /dev/full >/dev/null && echo full"


@with_systemd
def test_only_listed_devices_can_be_used(scope: SystemdCgroup) -> None:
    """Before a reload of systemd and after it; without the list both can."""
    shell = subprocess.Popen(
        ["sh", "-c", f"exec 2>&-; while read -r line; do {TRY}; echo .; done"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert shell.stdin is not None
    assert shell.stdout is not None

    def usable() -> list[str]:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write("try\n")
        shell.stdin.flush()
        return list(iter(lambda: shell.stdout.readline().strip(), "."))  # type: ignore[union-attr]  # a pipe

    try:
        assert usable() == ["zero", "full"]  # the control
        rules = [DeviceRule(allow=False)]
        rules += [DeviceRule(allow=True, type="c", major=1, minor=minor) for minor in (3, 5)]
        scope.allow_devices(rules)
        scope.adopt(shell.pid, {})
        assert usable() == ["zero"]
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        assert usable() == ["zero"]
    finally:
        shell.stdin.close()
        shell.stdout.close()
        shell.kill()
        shell.wait()


@with_systemd
def test_a_scope_that_exists_is_not_taken_over(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """One line that names it."""
    scope.adopt(sleeper.pid, {})
    second = open_scope(f"{SLICE}:minicontainer:{os.getpid()}")
    with pytest.raises(Conflict, match=rf"unit minicontainer-{os.getpid()}\.scope exists"):
        second.create()
    other = subprocess.Popen(["sleep", "600"])
    try:
        late = open_scope(scope.path)
        with pytest.raises(Conflict, match="exists already"):
            late.adopt(other.pid, {})
    finally:
        other.kill()
        other.wait()
    assert groups_of(sleeper.pid) == {scope.path}


@with_systemd
@pytest.mark.parametrize("other_slice", [SLICE, "minicontainer-other.slice"])
def test_taking_back_leaves_a_scope_of_that_name_alone(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes], other_slice: str
) -> None:
    """Systemd has one scope of a name, in whichever slice; it would kill all that is in it."""
    name = f"minicontainer-{os.getpid()}.scope"
    words = ["systemd-run", "--scope", f"--slice={other_slice}", f"--unit={name}", "sleep", "600"]
    other = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: show(scope, "ActiveState") == "active")
        with pytest.raises(Conflict, match="exists already"):
            scope.adopt(sleeper.pid, {})
        scope.kill()
        scope.remove()
        if other_slice != SLICE:  # whoever finds it later, by its path
            later = open_scope(scope.path)
            later.kill()
            later.remove()
        assert show(scope, "ActiveState") == "active"
        assert other.poll() is None
        subprocess.run(["systemctl", "stop", name], check=True)  # the control: so it would end
        assert other.wait() != 0
    finally:
        other.kill()
        other.wait()
        subprocess.run(["systemctl", "stop", other_slice], check=True)


@with_systemd
def test_what_is_left_of_a_failed_scope_makes_way(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """Systemd keeps a unit that failed, by the OOM killer say, until it is told to forget it."""
    scope.limit(Resources(memory=Memory(limit=16 * MIB, swap=16 * MIB)))
    hungry = subprocess.Popen(
        ["sh", "-c", "read -r line; x=a; while :; do x=$x$x; done"], stdin=subprocess.PIPE
    )
    scope.adopt(hungry.pid, {})
    hungry.communicate(b"go\n")
    wait_until(lambda: show(scope, "ActiveState") in ("failed", "inactive"))
    scope.create()
    scope.adopt(sleeper.pid, {})
    assert groups_of(sleeper.pid) == {scope.path}


@with_systemd
def test_annotations_name_further_properties(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """As engines write them; they win."""
    prefix = "org.systemd.property."
    annotations = {
        "other": "x", f"{prefix}TimeoutStopUSec": "uint64 7000000", f"{prefix}Description": "'hi'",
        f"{prefix}After": "['init.scope']",
    }  # fmt: skip
    scope.adopt(sleeper.pid, annotations)
    assert (show(scope, "TimeoutStopUSec"), show(scope, "Description")) == ("7s", "hi")
    assert "init.scope" in show(scope, "After").split()


@with_systemd
def test_a_property_that_systemd_does_not_have_is_named(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """By systemd's own words."""
    with pytest.raises(InvalidArgument, match=r"systemd refuses .*Nonsense"):
        scope.adopt(sleeper.pid, {"org.systemd.property.Nonsense": "true"})


@with_systemd
def test_removal_of_nothing_is_nothing(
    scope: SystemdCgroup, sleeper: subprocess.Popen[bytes]
) -> None:
    """A scope ends with its last process; and one that was never made has no end."""
    scope.remove()
    scope.create()
    scope.adopt(sleeper.pid, {})
    scope.kill()
    sleeper.wait()
    wait_until(lambda: show(scope, "ActiveState") == "inactive")
    scope.remove()
    scope.remove()


@with_systemd
@pytest.mark.parametrize("missing", ["_SYSTEM_BUS", "_PRIVATE"])
def test_either_way_to_systemd_will_do(
    scope: SystemdCgroup,
    sleeper: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    """The system bus, or systemd's own socket."""
    monkeypatch.setattr(systemd_bus, missing, "/nowhere")
    for _ in range(3):  # a short first call is what systemd overlooks
        scope.remove()
    scope.create()
    scope.adopt(sleeper.pid, {})
    assert groups_of(sleeper.pid) == {scope.path}
    scope.kill()
    scope.remove()


def test_without_systemd_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made."""
    monkeypatch.setattr(systemd_bus, "_BOOTED", "/nowhere")
    with pytest.raises(Unsupported, match=r"systemd is not running here .* leave --systemd-cgroup"):
        open_cgroup("system.slice:a:b", "systemd").create()
    with pytest.raises(Unsupported, match="systemd is not running here"):
        open_cgroup("/system.slice/a-b.scope", "systemd").remove()


def test_a_systemd_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the sockets that were tried."""
    monkeypatch.setattr(systemd_bus, "_BOOTED", str(tmp_path))
    monkeypatch.setattr(systemd_bus, "_PRIVATE", f"{tmp_path}/private")
    monkeypatch.setattr(systemd_bus, "_SYSTEM_BUS", f"{tmp_path}/bus")
    with pytest.raises(Unsupported, match=r"can't be reached by .*bus or .*private: No such file"):
        systemd_bus.SystemdBus()
