"""delete: nothing is left of a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .kernel import cgroup_directories, cgroups_of, is_alive, is_frozen
from .runtime import Runtime, assert_one_line


def test_a_stopped_container(runtime: Runtime) -> None:
    """Its state and its cgroup, which stayed until now."""
    before = runtime.traces()
    container = runtime.start(("true",))
    container.wait_stopped()
    assert runtime.containers() == [container.id]
    assert cgroup_directories(container.id)
    assert runtime.ok("delete", container.id) == ""
    assert runtime.containers() == []
    assert not cgroup_directories(container.id)
    runtime.expect_nothing_new(before)


def test_a_running_container_is_refused(runtime: Runtime) -> None:
    """It might be the wrong one."""
    container = runtime.start()
    runtime.refused("delete", container.id, says="stopped")
    assert container.status == "running"


def test_a_paused_container_is_refused(runtime: Runtime) -> None:
    """It runs, in a way."""
    container = runtime.start()
    runtime.ok("pause", container.id)
    runtime.refused("delete", container.id, says="stopped")
    assert container.status == "paused"


def test_a_created_container(runtime: Runtime) -> None:
    """It goes without force: it did nothing yet."""
    container = runtime.create()
    pid = container.pid
    runtime.ok("delete", container.id)
    assert not is_alive(pid)
    assert runtime.containers() == []


@pytest.mark.parametrize("option", ["--force", "-f"])
def test_a_running_container_by_force(runtime: Runtime, option: str) -> None:
    """Killed first; the program can't object."""
    container = runtime.start("trap '' TERM HUP INT; echo ready; sleep 600 & wait")
    pid = container.pid
    runtime.ok("delete", option, container.id)
    assert not is_alive(pid)
    assert runtime.containers() == []
    assert not cgroup_directories(container.id)


def test_a_paused_container_by_force(runtime: Runtime) -> None:
    """Thawed, or it could not die."""
    container = runtime.start()
    pid = container.pid
    runtime.ok("pause", container.id)
    assert is_frozen(pid)
    runtime.ok("delete", "--force", container.id)
    assert not is_alive(pid)
    assert not cgroup_directories(container.id)


def test_a_created_container_by_force(runtime: Runtime) -> None:
    """Engines do so when what follows create fails."""
    container = runtime.create()
    pid = container.pid
    runtime.ok("delete", "--force", container.id)
    assert not is_alive(pid)


def test_an_unknown_container(runtime: Runtime) -> None:
    """An error; with force none, for engines delete twice to be sure."""
    runtime.refused("delete", runtime.name(), says="does not exist")
    assert runtime.ok("delete", "--force", runtime.name()) == ""


def test_twice(runtime: Runtime) -> None:
    """The second finds nothing."""
    container = runtime.start()
    runtime.ok("delete", "--force", container.id)
    runtime.ok("delete", "--force", container.id)
    runtime.refused("delete", container.id, says="does not exist")


def test_cgroups_that_the_program_made(runtime: Runtime) -> None:
    """Below its own, with processes in them: they go as well."""
    container = runtime.start("sleep 600 & echo ready; exec sleep 600")
    directories = [path for path in cgroups_of(container.pid).values() if container.id in path]
    for directory in set(directories):
        below = Path(directory) / "below" / "deeper"
        below.mkdir(parents=True)
    runtime.ok("delete", "--force", container.id)
    assert not cgroup_directories(container.id)


def test_a_bundle_that_is_gone(runtime: Runtime) -> None:
    """What a container was made from is not needed any more."""
    container = runtime.start()
    (container.bundle / "config.json").unlink()
    container.bundle.rmdir()
    container.kill()
    runtime.ok("delete", container.id)


def test_a_broken_bundle(runtime: Runtime) -> None:
    """The same."""
    container = runtime.start()
    (container.bundle / "config.json").write_text("{")
    runtime.ok("delete", "--force", container.id)


def test_a_cgroup_that_is_gone(runtime: Runtime) -> None:
    """Someone tidied up: there is less to do."""
    container = runtime.start()
    container.kill()
    for directory in sorted(cgroup_directories(container.id), reverse=True):
        Path(directory).rmdir()
    runtime.ok("delete", container.id)


def test_the_neighbour_stays(runtime: Runtime) -> None:
    """A container whose name begins alike."""
    short, long = runtime.name(), ""
    long = f"{short}0"
    bundle = str(runtime.bundle())
    for name in (short, long):
        runtime.ok("create", "-b", bundle, name)
    runtime.ok("delete", "--force", short)
    assert runtime.containers() == [long]
    assert '"created"' in runtime.ok("state", long)


@pytest.mark.ours("crun's option")
def test_by_a_regular_expression(runtime: Runtime) -> None:
    """All whose names it matches, and no others."""
    one, two, other = (runtime.create() for _ in range(3))
    runtime.ok("delete", "--force", "--regex", f"^({one.id}|{two.id})$")
    assert runtime.containers() == [other.id]
    runtime.refused("delete", "--force", "--regex", "(", says="--regex")


@pytest.mark.ours("crun's option")
def test_one_that_can_not_be_deleted_keeps_no_other(runtime: Runtime) -> None:
    """The command tells of it, and goes on with those after it."""
    running, ended = runtime.start(), runtime.start("true")
    assert running.id < ended.id
    ended.wait_stopped()
    done = runtime("delete", "--regex", f"^({running.id}|{ended.id})$")
    assert done.status == 1
    assert f"cannot delete container {running.id} that is not stopped: running" in done.errors
    assert_one_line(done.errors)
    assert runtime.containers() == [running.id]


def test_no_name(runtime: Runtime) -> None:
    """It must be told which."""
    assert runtime("delete").status >= 1
    assert runtime("delete", "--force").status >= 1


def test_a_name_that_is_a_path(runtime: Runtime) -> None:
    """Nothing outside of --root is deleted, whatever is asked for."""
    outside = runtime.base / "outside"
    outside.mkdir()
    (outside / "file").touch()
    for name in ("../outside", "..", ".", "/", "", str(outside)):
        assert runtime("delete", "--force", name).status >= 0
        assert os.listdir(outside) == ["file"]
