"""--systemd-cgroup: the cgroup is a scope of systemd's, and all commands work on it."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from minicontainer.cgroups import hierarchies
from tests.conftest import wait_until

from .kernel import cgroups_of, control_file, is_alive, is_frozen
from .runtime import WAITS, Change, Container, Program, Runtime, Spec

MIB = 1 << 20
SLICE = "minicontainer-test.slice"
ON_V2 = hierarchies.mounted().version == "v2"

with_systemd = pytest.mark.skipif(
    not os.path.isdir("/run/systemd/system"), reason="needs systemd as process 1"
)


def in_slice(name: str, **resources: Any) -> Change:
    """Make the change that puts a container into a scope, with limits."""

    def change(config: Spec) -> None:
        config["linux"]["cgroupsPath"] = f"{SLICE}:minicontainer:{name}"
        config["linux"]["resources"] |= resources

    return change


def create(runtime: Runtime, program: Program = WAITS, **resources: Any) -> Container:
    """Create a container in a scope of its name."""
    name = runtime.name()
    bundle = runtime.bundle(program, in_slice(name, **resources))
    words = ("--systemd-cgroup", "create", "--bundle", str(bundle), name)
    call = runtime.begin(runtime.words(*words))
    done = call.wait()
    assert (done.status, done.errors) == (0, "")
    return Container(runtime, name, bundle, call.stdout)


def scope_of(container: Container) -> str:
    """Name a container's scope."""
    return f"minicontainer-{container.id}.scope"


def show(unit: str, name: str) -> str:
    """Ask systemd for a property of a unit."""
    words = ["systemctl", "show", "--property", name, "--value", unit]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@with_systemd
def test_a_container_lives_in_a_scope(runtime: Runtime) -> None:
    """From its creation to its end; nothing is left of it."""
    container = create(runtime)
    path = f"/minicontainer.slice/{SLICE}/{scope_of(container)}"
    directories = set(cgroups_of(container.pid).values())
    assert all(directory.endswith(path) for directory in directories)
    assert show(scope_of(container), "ControlGroup") == path
    assert show(scope_of(container), "Delegate") == "yes"
    container.start()
    inside = container.sh("cat /proc/1/cgroup /proc/self/cgroup")
    assert len({line.partition(":")[2] for line in inside.splitlines()}) * 2 == len(
        inside.splitlines()
    )  # exec's process is in every group of the first one's
    runtime.ok("pause", container.id)
    assert is_frozen(container.pid)
    assert container.status == "paused"
    runtime.ok("resume", container.id)
    container.kill()
    runtime.ok("delete", container.id)
    assert show(scope_of(container), "LoadState") == "not-found"
    assert not any(os.path.exists(directory) for directory in directories)


@with_systemd
def test_limits_are_known_to_systemd(runtime: Runtime) -> None:
    """And so survive a reload; those of a later change too."""
    container = create(runtime, memory={"limit": 64 * MIB}, pids={"limit": 20}, cpu={"shares": 512})
    pid = container.pid
    assert (
        control_file(pid, "pids.max", "pids.max") == show(scope_of(container), "TasksMax") == "20"
    )
    runtime.ok("update", "--memory", "80m", "--pids-limit", "30", container.id)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    memory = "MemoryMax" if ON_V2 else "MemoryLimit"
    assert control_file(pid, "memory.limit_in_bytes", "memory.max") == str(80 * MIB)
    assert show(scope_of(container), memory) == str(80 * MIB)
    assert (
        control_file(pid, "pids.max", "pids.max") == show(scope_of(container), "TasksMax") == "30"
    )


@with_systemd
def test_it_starts_with_little_memory(runtime: Runtime) -> None:
    """As without systemd."""
    container = create(runtime, ("true",), memory={"limit": 4 * MIB})
    container.start()
    container.wait_stopped()


@with_systemd
def test_delete_by_force_stops_the_scope(runtime: Runtime) -> None:
    """With all that is in it."""
    container = create(runtime, "sleep 600 & echo ready; wait")
    container.start()
    container.wait_for("ready")
    pid = container.pid
    runtime.ok("delete", "--force", container.id)
    assert not is_alive(pid)
    assert show(scope_of(container), "LoadState") == "not-found"


@with_systemd
def test_a_container_that_is_killed_leaves_its_scope_to_systemd(runtime: Runtime) -> None:
    """It goes with the last process; delete finds nothing, and does not mind."""
    container = create(runtime)
    container.start()
    container.kill()
    wait_until(lambda: show(scope_of(container), "ActiveState") != "active", "the scope's end")
    runtime.ok("delete", container.id)


@with_systemd
def test_run_in_the_default_slice(runtime: Runtime) -> None:
    """Without cgroupsPath it is named after the runtime and the container."""
    name = runtime.name()
    bundle = runtime.bundle("cat /proc/self/cgroup")
    done = runtime("--systemd-cgroup", "run", "--bundle", str(bundle), name)
    assert (done.status, done.errors) == (0, "")
    assert show(f"minicontainer-{name}.scope", "LoadState") == "not-found"


@with_systemd
def test_a_scope_in_use_is_refused(runtime: Runtime) -> None:
    """And goes on as it was."""
    first = create(runtime)
    bundle = runtime.bundle(WAITS, in_slice(first.id))
    words = ("--systemd-cgroup", "create", "--bundle", str(bundle), runtime.name())
    runtime.refused(*words, says="exists")
    assert first.status == "created"
    assert show(scope_of(first), "ActiveState") == "active"


@with_systemd
def test_a_limit_that_makes_no_sense_leaves_no_scope(runtime: Runtime) -> None:
    """It is made around a process, and so goes with it."""
    name = runtime.name()
    bundle = runtime.bundle(WAITS, in_slice(name, cpu={"cpus": "999"}))
    runtime.refused("--systemd-cgroup", "create", "--bundle", str(bundle), name, says="999")
    assert show(f"minicontainer-{name}.scope", "LoadState") == "not-found"


@pytest.mark.parametrize("path", ["/a/b", "web", "a:b:c", "a.slice:b:../c", "a.slice/../b:c:d"])
def test_a_path_that_names_no_scope_is_refused(runtime: Runtime, path: str) -> None:
    """Before anything is made, with or without systemd."""

    def change(config: Spec) -> None:
        config["linux"]["cgroupsPath"] = path

    bundle = runtime.bundle(WAITS, change)
    words = ("--systemd-cgroup", "create", "--bundle", str(bundle), runtime.name())
    runtime.refused(*words, says=("cgroupsPath", "systemd"))


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="needs a host without systemd")
@pytest.mark.parametrize("option", [("--systemd-cgroup",), ("--cgroup-manager", "systemd")])
def test_without_systemd_one_line_says_so(runtime: Runtime, option: tuple[str, ...]) -> None:
    """And nothing is made."""
    if not runtime.is_ours and "--cgroup-manager" in option:
        pytest.skip("--cgroup-manager is crun's")
    bundle = runtime.bundle()
    words = (*option, "create", "--bundle", str(bundle), runtime.name())
    runtime.refused(*words, says="systemd")
