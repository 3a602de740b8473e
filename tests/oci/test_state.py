"""state: what the specification wants of it, and what it must never believe."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .kernel import descendants, end, is_alive, start_time
from .runtime import Container, Runtime, Spec


@pytest.mark.oci("annotations")
def test_all_fields(runtime: Runtime) -> None:
    """Those of the specification, and runc's: rootfs, created, owner."""

    def annotate(config: Spec) -> None:
        config["annotations"] = {"org.example.key": "value", "empty": ""}

    before = datetime.datetime.now(datetime.UTC)
    container = runtime.start(("sleep", "600"), annotate)
    state = container.state()
    assert state["ociVersion"].startswith("1.")
    assert state["id"] == container.id
    assert state["status"] == "running"
    assert Path(f"/proc/{state['pid']}/cmdline").read_bytes() == b"sleep\x00600\x00"
    assert state["bundle"] == str(container.bundle)
    assert state["rootfs"] == str(runtime.config["root"]["path"])
    created = datetime.datetime.fromisoformat(state["created"])
    assert before - datetime.timedelta(seconds=1) <= created
    assert created <= datetime.datetime.now(datetime.UTC)
    assert state["annotations"].items() >= {"org.example.key": "value", "empty": ""}.items()
    assert isinstance(state["owner"], str)


def test_the_statuses(runtime: Runtime) -> None:
    """created, running, paused, stopped; and no pid any more at the end."""
    container = runtime.create()
    assert container.status == "created"
    container.start()
    assert container.status == "running"
    runtime.ok("pause", container.id)
    assert container.status == "paused"
    runtime.ok("resume", container.id)
    assert container.status == "running"
    container.kill()
    assert container.state()["status"] == "stopped"
    assert container.state()["pid"] == 0


def test_a_zombie_is_stopped(runtime: Runtime) -> None:
    """Whether or not its parent has taken the exit status yet."""
    container = runtime.start()
    pid = container.pid
    runtime.not_to_reap.add(pid)
    end(pid)
    assert container.status == "stopped"
    assert Path(f"/proc/{pid}").exists()
    runtime.not_to_reap.clear()
    runtime.reap()
    assert not Path(f"/proc/{pid}").exists()
    assert container.status == "stopped"


def test_an_unknown_container(runtime: Runtime) -> None:
    """The words that containerd looks for; with a --root that is not there yet, and one that is."""
    runtime.refused("state", "unknown", says="does not exist")
    runtime.create()
    runtime.refused("state", "unknown", says="does not exist")


# ---- a state file that lies


def rewrite(container: Container, pid: int, started: int | None = None) -> None:
    """Put another process into a container's state file.

    Args:
        started: its start time; None leaves that of the container's own.
    """
    file = container.runtime.root / container.id / "state.json"
    document: dict[str, Any] = json.loads(file.read_text())
    of_pid, of_start = (
        ("pid", "pid_started") if "pid" in document else ("init_process_pid", "init_process_start")
    )
    of_start = "pidStarted" if "pidStarted" in document else of_start
    assert {of_pid, of_start} <= set(document)
    document[of_pid] = pid
    if started is not None:
        document[of_start] = started
    file.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "words", [("kill", "KILL"), ("kill", "TERM"), ("delete",), ("pause",)], ids=" ".join
)
def test_a_number_that_is_anothers_by_now(
    runtime: Runtime, victim: subprocess.Popen[bytes], words: tuple[str, ...]
) -> None:
    """The number has wrapped round: its start time tells that it is another process."""
    container = runtime.start()
    container.kill()
    rewrite(container, victim.pid)
    assert container.status == "stopped"
    container(words[0], *words[1:])
    assert victim.poll() is None
    if words[0] == "kill":
        runtime.refused(*words[:1], container.id, *words[1:], says="not running")


def test_delete_by_force_spares_it_too(runtime: Runtime, victim: subprocess.Popen[bytes]) -> None:
    """The container is deleted, and nobody else ended."""
    container = runtime.start()
    container.kill()
    rewrite(container, victim.pid)
    runtime.ok("delete", "--force", container.id)
    assert victim.poll() is None
    assert runtime.containers() == []


def test_the_right_process_with_a_wrong_start(runtime: Runtime) -> None:
    """As though the number had come to another one, of which nothing is known."""
    container = runtime.start()
    pid = container.pid
    rewrite(container, pid, start_time(pid) - 1)
    assert container.status == "stopped"
    runtime.refused("kill", container.id, "KILL", says="not running")
    assert is_alive(pid)
    end(pid)


@pytest.mark.parametrize("pid", [1, os.getpid(), 2**22, 2**31 - 1, 2**40, -1, -os.getpid()])
def test_numbers_of_all_kinds(runtime: Runtime, pid: int) -> None:
    """kill(2) takes negative ones for groups, and -1 for everyone: they may never get there."""
    container = runtime.start()
    own = container.pid
    rewrite(container, pid)
    done = runtime("kill", container.id, "TERM")
    assert done.status >= 1
    assert is_alive(own)
    end(own)
    assert own in descendants()
