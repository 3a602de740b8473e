"""SIGKILL of each process: no container is lost, no exit status, and nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.conftest import cgroups_of, eventually, payload

if TYPE_CHECKING:
    from tests.engine.conftest import Daemon, Lab


def parent_of(pid: int) -> int:
    """Give the parent of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


def name_of(pid: int) -> str:
    """Give a process's name."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_the_processes_are_what_they_are_called(lab: Lab) -> None:
    """The first process's parent is the monitor, and that one's the spawner."""
    pid = lab.state(lab.start("sleep", "1000"))["Pid"]
    monitor = parent_of(pid)
    assert name_of(monitor) == "minic:monitor"
    assert name_of(parent_of(monitor)) == "minic:spawner"


def test_a_container_outlives_its_engine(daemon: Daemon) -> None:
    """The next engine finds it running, with its log, and hears of its end."""
    script = (
        "trap 'exit 9' TERM; echo before; while [ ! -e /go ]; do sleep 0.01; done; echo after; "
        "while :; do sleep 0.01; done"
    )
    made = daemon.run("sh", "-c", script)
    pid = daemon.inspect(made)["State"]["Pid"]
    daemon.kill()
    Path(f"/proc/{pid}/root/go").touch()
    daemon.start()
    state = daemon.inspect(made)["State"]
    assert (state["Status"], state["Pid"]) == ("running", pid)
    path = f"/containers/{made}/logs?stdout=1"
    eventually(lambda: b"after" in daemon.call("GET", path, raw=True)[1], "the log")
    assert payload(daemon.call("GET", path, raw=True)[1]) == b"before\nafter\n"
    assert daemon.call("POST", f"/containers/{made}/stop?t=60")[0] == 204
    assert daemon.inspect(made)["State"]["ExitCode"] == 9


def test_an_end_while_no_engine_is_there(daemon: Daemon) -> None:
    """The monitor keeps the exit status for the next one."""
    made = daemon.run("sh", "-c", "while [ ! -e /go ]; do sleep 0.01; done; exit 7")
    pid = daemon.inspect(made)["State"]["Pid"]
    monitor = parent_of(pid)
    daemon.kill()
    Path(f"/proc/{pid}/root/go").touch()
    eventually(lambda: not Path(f"/proc/{monitor}").exists(), "the monitor to end")
    assert not cgroups_of(made)
    daemon.start()
    state = daemon.inspect(made)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)
    assert state["FinishedAt"] > state["StartedAt"]


def test_a_killed_spawner_is_replaced(lab: Lab) -> None:
    """What runs goes on, and the next start finds another spawner."""
    first = lab.start("sleep", "1000")
    spawner = parent_of(parent_of(lab.state(first)["Pid"]))
    os.kill(spawner, signal.SIGKILL)
    os.waitid(os.P_PID, spawner, os.WEXITED | os.WNOWAIT)  # its connections are closed
    _, status = lab.run("sh", "-c", "exit 4")
    assert status == 4
    assert not Path(f"/proc/{spawner}").exists()  # the engine has waited for it
    assert lab.state(first)["Status"] == "running"
    lab.engine.containers.stop(first, 0)
    assert lab.state(first)["ExitCode"] == 137


def test_a_killed_monitor_takes_its_container_along(lab: Lab) -> None:
    """Nobody could wait for it or read its output any more; nothing of it stays."""
    made = lab.start("sh", "-c", "sleep 1000 & sleep 1000")
    pid = lab.state(made)["Pid"]
    waiting = lab.engine.containers.wait(made, "not-running")
    os.kill(parent_of(pid), signal.SIGKILL)
    assert waiting.result()["StatusCode"] == 137
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the container to end")
    eventually(lambda: not cgroups_of(made), "its cgroups to go")
    assert lab.state(made)["Status"] == "exited"
    lab.engine.containers.start(made)
    assert lab.state(made)["Status"] == "running"


def test_a_killed_first_process(lab: Lab) -> None:
    """It is an end like any other."""
    made = lab.start("sh", "-c", "sleep 1000 & sleep 1000")
    waiting = lab.engine.containers.wait(made, "not-running")
    os.kill(lab.state(made)["Pid"], signal.SIGKILL)
    assert waiting.result()["StatusCode"] == 137


def test_monitor_and_engine_killed_together(daemon: Daemon) -> None:
    """The next engine clears away what the monitor left, and says that the container ended."""
    made = daemon.run("sh", "-c", "sleep 1000 & sleep 1000")
    pid = daemon.inspect(made)["State"]["Pid"]
    monitor = parent_of(pid)
    daemon.kill()
    os.kill(monitor, signal.SIGKILL)
    # the kernel's work: nobody else is there
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the container to end")
    daemon.start()
    assert daemon.inspect(made)["State"]["Status"] == "exited"
    assert not cgroups_of(made)


def test_an_engine_killed_in_the_middle_of_starts(daemon: Daemon) -> None:
    """Whatever had been done: every container is either running or not, and nothing is left."""
    body = {"Rootfs": str(daemon.rootfs), "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": "none"}}  # fmt: skip
    made = [daemon.call("POST", "/containers/create", body)[1]["Id"] for _ in range(8)]
    script = "; ".join(
        f"curl -s -X POST --unix-socket {daemon.socket} http://x/containers/{one}/start &"[:-1]
        for one in made
    )
    starts = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL)
    eventually(lambda: any(cgroups_of(one) for one in made), "the first start")
    daemon.kill()
    starts.wait()
    daemon.start()
    for one in made:
        state = daemon.inspect(one)["State"]
        if state["Running"]:
            assert name_of(state["Pid"]) == "sleep"
        else:
            eventually(lambda one=one: not cgroups_of(one), "the half-made one to go")  # type: ignore[misc]  # one is bound at once
            assert daemon.call("POST", f"/containers/{one}/start")[0] == 204


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_restart_policies_count_across_engines(daemon: Daemon, policy: str) -> None:
    """A container that ended while no engine was there starts again; a stopped one only by
    `always`.
    """
    host = {"RestartPolicy": {"Name": policy}}
    running = daemon.run("sleep", "1000", host=host)
    stopped = daemon.run("sleep", "1000", host=host)
    daemon.call("POST", f"/containers/{stopped}/stop?t=0")
    pid = daemon.inspect(running)["State"]["Pid"]
    monitor = parent_of(pid)
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{monitor}").exists(), "the monitor to end")
    daemon.start()
    eventually(lambda: _status(daemon, running) == "running", "the restart")
    if policy == "always":
        eventually(lambda: _status(daemon, stopped) == "running", "the start")
    else:
        assert daemon.inspect(stopped)["State"]["Status"] == "exited"


def _status(daemon: Daemon, made: str) -> str:
    status: str = daemon.inspect(made)["State"]["Status"]
    return status


def test_an_end_for_which_no_thread_is_free_is_followed_later(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit of processes a container's end is noted at once, and cleared away when it can."""
    refused = threading.Event()
    start = threading.Thread.start

    def fail_once(thread: threading.Thread) -> None:
        if not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    made = lab.start("sleep", "1000")
    monkeypatch.setattr(threading.Thread, "start", fail_once)
    os.kill(lab.state(made)["Pid"], signal.SIGKILL)
    eventually(refused.is_set, "the end of the monitor")
    container = lab.engine.containers.find(made)
    eventually(lambda: container.monitor is None, "the end to be followed")
    assert lab.state(made)["ExitCode"] == 137
