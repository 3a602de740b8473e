"""Commands at the same time: one of them wins, the others say so, and nobody falls over."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence

import pytest

from tests.conftest import Result

from .kernel import is_alive
from .runtime import Runtime, assert_one_line

MANY = 20


def at_once(runtime: Runtime, commands: Sequence[tuple[str, ...]]) -> list[Result]:
    """Start all commands, then wait for all; none may end with a traceback."""
    calls = [runtime.begin(runtime.words(*words)) for words in commands]
    return [runtime.finish(call) for call in calls]


@pytest.mark.ours("of runc's, one that loses may take the winner's state with it")
def test_creates_of_one_name(runtime: Runtime) -> None:
    """Exactly one gets it."""
    bundle, name = str(runtime.bundle()), runtime.name()
    done = at_once(runtime, [("create", "-b", bundle, name)] * MANY)
    winners = [one for one in done if one.status == 0]
    assert len(winners) == 1
    assert all("exist" in one.errors for one in done if one.status)
    assert runtime.containers() == [name]
    assert '"created"' in runtime.ok("state", name)
    runtime.ok("delete", "--force", name)


@pytest.mark.ours("runc's wait for ever at times, for the one that was faster")
def test_starts_of_one_container(runtime: Runtime) -> None:
    """Exactly one begins the program, once."""
    container = runtime.create("echo begun; exec sleep 600")
    done = at_once(runtime, [("start", container.id)] * MANY)
    assert [one.status for one in done].count(0) == 1, done
    container.wait_for("begun\n")
    assert container.status == "running"
    assert container.output() == "begun\n"


def test_deletes_of_one_container(runtime: Runtime) -> None:
    """By force all succeed: it is gone, as each of them wanted."""
    container = runtime.start()
    pid = container.pid
    done = at_once(runtime, [("delete", "--force", container.id)] * 10)
    if runtime.is_ours:  # one of runc's may find the others half way
        assert [one.status for one in done] == [0] * 10, done
    assert not is_alive(pid)
    runtime.ok("delete", "--force", container.id)
    assert runtime.containers() == []


def test_deletes_without_force(runtime: Runtime) -> None:
    """One deletes it; the others find nothing, or it half way."""
    container = runtime.start()
    container.kill()
    done = at_once(runtime, [("delete", container.id)] * 10)
    assert [one.status for one in done].count(0) >= 1
    assert runtime.containers() == []


def test_kill_delete_and_state(runtime: Runtime) -> None:
    """All that engines do at a container's end, at once."""
    for _ in range(3):
        container = runtime.start()
        name = container.id
        words = (
            ("kill", name, "KILL"), ("delete", "--force", name), ("state", name),
            ("kill", "--all", name, "TERM"), ("list",), ("ps", "--format", "json", name),
            ("pause", name), ("resume", name), ("list", "--format", "json"),
        )  # fmt: skip
        done = at_once(runtime, [*words, *words])
        for one in done:
            assert one.errors.count("\n") <= 1, one
        runtime.ok("delete", "--force", name)
        assert runtime.containers() == []


def test_start_and_delete(runtime: Runtime) -> None:
    """Whichever comes first."""
    for first, second in itertools.permutations([("start",), ("delete", "--force")]):
        container = runtime.create()
        at_once(runtime, [(*first, container.id), (*second, container.id)])
        runtime.ok("delete", "--force", container.id)
        assert runtime.containers() == []


def test_create_and_delete(runtime: Runtime) -> None:
    """What is being created may be refused to be deleted; in the end there is one, or none."""
    bundle = str(runtime.bundle())
    for _ in range(5):
        name = runtime.name()
        create, *_ = at_once(
            runtime, [("create", "-b", bundle, name)] + [("delete", "--force", name)] * 3
        )
        if create.status == 0 and name in runtime.containers():
            assert '"created"' in runtime.ok("state", name)
        runtime.ok("delete", "--force", name)
        assert runtime.containers() == []


def test_pause_and_resume(runtime: Runtime) -> None:
    """It is paused or not at the end, and can be deleted either way."""
    container = runtime.start()
    at_once(runtime, [("pause", container.id), ("resume", container.id)] * 5)
    assert container.status in ("paused", "running")


@pytest.mark.ours("runc names a file of /proc that is missing")
def test_exec_while_the_container_ends(runtime: Runtime) -> None:
    """Between the look at its status and the joining of its namespaces: said as what it is."""
    container, file = runtime.start(), runtime.base / "process.json"
    os.mkfifo(file)
    call = runtime.begin(runtime.words("exec", "--process", str(file), container.id))
    with file.open("w") as writer:  # it is read once the container was found running
        container.kill()
        json.dump({"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}, writer)
    done = runtime.finish(call)
    assert done.status == 255
    assert f"cannot exec in a stopped container: {container.id}" in done.errors
    assert_one_line(done.errors)


@pytest.mark.timeout(300)
def test_ten_containers_side_by_side(runtime: Runtime) -> None:
    """None is in another's way: all are created, started and deleted at once."""
    names = [runtime.name() for _ in range(10)]
    bundles = [str(runtime.bundle(f"echo {name}; exec sleep 600")) for name in names]
    steps: tuple[Sequence[tuple[str, ...]], ...] = (
        [("create", "-b", bundle, name) for bundle, name in zip(bundles, names, strict=True)],
        [("start", name) for name in names],
        [("delete", "--force", name) for name in names],
    )
    for i, commands in enumerate(steps):
        done = at_once(runtime, commands)
        assert [(one.status, one.errors) for one in done] == [(0, "")] * 10
        assert runtime.containers() == ([] if i == 2 else sorted(names))


def test_runs_side_by_side(runtime: Runtime) -> None:
    """Each has its own exit status and output."""
    commands = []
    for i in range(10):
        bundle = runtime.bundle(f"echo {i}; exit {i}")
        commands.append(("run", "-b", str(bundle), runtime.name()))
    done = at_once(runtime, commands)
    assert [(one.status, one.output) for one in done] == [(i, f"{i}\n") for i in range(10)]
    assert runtime.containers() == []
