"""The engine is killed in the middle of a request, and the next one knows what the user wanted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.engine.conftest import Daemon, cgroups_of, eventually
from tests.engine.test_crashes import parent_of

Json = Any
# ends by SIGTERM, but only when it may
SLOW = ("sh", "-c", "trap 'touch /asked; while [ ! -e /go ]; do sleep 0.01; done; exit 3' TERM; "
        "touch /ready; while :; do sleep 0.01; done")  # fmt: skip


def state_of(daemon: Daemon, made: str) -> dict[str, Any]:
    """Give a container's state."""
    state: dict[str, Any] = daemon.inspect(made)["State"]
    return state


def in_background(daemon: Daemon, method: str, path: str) -> threading.Thread:
    """Send a request whose answer may never come."""

    def ask() -> None:
        with contextlib.suppress(OSError):
            daemon.call(method, path, raw=True)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def inside(daemon: Daemon, made: str, name: str) -> Path:
    """Name a file of a container that runs."""
    return Path(f"/proc/{state_of(daemon, made)['Pid']}/root/{name}")


@pytest.mark.parametrize("policy", ["no", "always", "unless-stopped"])
def test_a_stop_that_was_cut_off(daemon: Daemon, policy: str) -> None:
    """The container ends by the signal that it has, and no policy starts it again."""
    made = daemon.run(*SLOW, host={"RestartPolicy": {"Name": policy}})
    wait_until(inside(daemon, made, "ready").exists, "the program")
    asking = in_background(daemon, "POST", f"/containers/{made}/stop?t=600")
    wait_until(inside(daemon, made, "asked").exists, "the signal")
    daemon.kill()
    asking.join()
    daemon.start()
    assert state_of(daemon, made)["Running"]
    waiting = in_background(daemon, "POST", f"/containers/{made}/wait")
    inside(daemon, made, "go").touch()
    waiting.join()
    state = state_of(daemon, made)
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)


@pytest.mark.parametrize(
    "request_", ["wait", "logs?follow=1&stdout=1", "stats", "attach?stream=1&stdout=1"]
)
def test_a_client_that_waits_hears_of_the_engines_end(daemon: Daemon, request_: str) -> None:
    """Its connection ends; it can ask the next engine."""
    made = daemon.run("sleep", "1000")
    method = "GET" if request_.startswith(("logs", "stats")) else "POST"
    asking = in_background(daemon, method, f"/containers/{made}/{request_}")
    daemon.kill()
    if request_.startswith("attach"):  # that client is the monitor's
        daemon.start()
        daemon.call("POST", f"/containers/{made}/kill")
    asking.join(60)
    assert not asking.is_alive()


def test_an_exec_outlives_the_engine(daemon: Daemon) -> None:
    """The program goes on to its end, and its parent with it; then nothing is left of both."""
    made = daemon.run("sleep", "1000")
    body = {"Cmd": ["sh", "-c", "touch /begun; while [ ! -e /go ]; do sleep 0.01; done; "
                    "touch /done"]}  # fmt: skip
    one = daemon.call("POST", f"/containers/{made}/exec", body)[1]["Id"]
    daemon.call("POST", f"/exec/{one}/start", {"Detach": True})
    wait_until(inside(daemon, made, "begun").exists, "the program")
    daemon.kill()
    daemon.start()
    assert daemon.call("GET", f"/exec/{one}/json")[0] == 404  # as with Docker
    inside(daemon, made, "go").touch()
    wait_until(inside(daemon, made, "done").exists, "the program's end")


def test_a_restart_that_waits(daemon: Daemon) -> None:
    """A policy's count goes on: no more starts than the user allowed, or one for each engine."""
    host = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}
    made = daemon.run("sh", "-c", "echo start; exit 1", host=host)
    wait_until(lambda: daemon.inspect(made)["RestartCount"] >= 1, "the first restart")
    daemon.kill()
    daemon.start()
    wait_until(lambda: state_of(daemon, made)["Status"] == "exited", "the last end")
    assert daemon.inspect(made)["RestartCount"] <= 3
    assert state_of(daemon, made)["ExitCode"] == 1


@pytest.mark.parametrize(
    ("policy", "stopped", "expected"),
    [("no", False, "exited"), ("on-failure", False, "running"), ("always", False, "running"),
     ("unless-stopped", False, "running"), ("always", True, "running"),
     ("unless-stopped", True, "exited"), ("on-failure", True, "exited")],
)  # fmt: skip
def test_a_reboot(daemon: Daemon, policy: str, stopped: bool, expected: str) -> None:
    """All processes are gone, and so is the exec root: the policies decide, as Docker's do."""
    made = daemon.run("sleep", "1000", host={"RestartPolicy": {"Name": policy}})
    if stopped:
        assert daemon.call("POST", f"/containers/{made}/stop?t=0")[0] == 204
    reboot(daemon, [] if stopped else [made])
    wait_until(lambda: state_of(daemon, made)["Status"] == expected, expected)
    if policy == "no":
        assert state_of(daemon, made)["ExitCode"] == 255
    assert daemon.inspect(made)["RestartCount"] == 0


def reboot(daemon: Daemon, running: list[str]) -> None:
    """Do to an engine's processes and files what a power cut does."""
    pids = [state_of(daemon, made)["Pid"] for made in running]
    daemon.kill()
    for pid in pids:
        os.kill(parent_of(pid), signal.SIGKILL)
        eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the container to end")  # type: ignore[misc]  # one is bound at once
    for made in running:
        for cgroup in cgroups_of(made):
            for below, _, _ in os.walk(cgroup, topdown=False):
                Path(below).rmdir()
    states = daemon.base / "exec/containers"
    kept = {".filters", *running}
    eventually(lambda: set(os.listdir(states)) <= kept, "the monitor of a stopped one to end")
    shutil.rmtree(daemon.base / "exec")
    daemon.start()


def test_a_paused_container_whose_monitor_is_killed(daemon: Daemon) -> None:
    """A frozen process can't die by itself on cgroup v1: the engine thaws it."""
    made = daemon.run("sleep", "1000")
    pid = state_of(daemon, made)["Pid"]
    assert daemon.call("POST", f"/containers/{made}/pause")[0] == 204
    os.kill(parent_of(pid), signal.SIGKILL)
    wait_until(lambda: state_of(daemon, made)["Status"] == "exited", "the end to be noted")
    assert state_of(daemon, made)["ExitCode"] == 137
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the container to end")
    assert not cgroups_of(made)
    assert daemon.call("POST", f"/containers/{made}/start")[0] == 204


def test_a_paused_container_stays_paused(daemon: Daemon) -> None:
    """Also for the next engine."""
    made = daemon.run("sleep", "1000")
    assert daemon.call("POST", f"/containers/{made}/pause")[0] == 204
    daemon.kill()
    daemon.start()
    assert state_of(daemon, made)["Status"] == "paused"
    assert daemon.call("POST", f"/containers/{made}/unpause")[0] == 204
    assert state_of(daemon, made)["Status"] == "running"


def test_a_container_with_rm_that_ends_while_no_engine_is_there(daemon: Daemon) -> None:
    """The next one removes it."""
    made = daemon.run("sleep", "1000", host={"AutoRemove": True})
    pid = state_of(daemon, made)["Pid"]
    monitor = parent_of(pid)
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{monitor}").exists(), "the monitor to end")
    daemon.start()
    assert daemon.call("GET", "/containers/json?all=1")[1] == []


def test_a_health_check_goes_on(daemon: Daemon) -> None:
    """The next engine checks too; a check that the killed one had started is not waited for."""
    body = {"Rootfs": str(daemon.rootfs), "Cmd": ["sleep", "1000"],
            "Healthcheck": {"Test": ["CMD-SHELL", "test -e /well"], "Interval": 10**7,
                            "Retries": 2},
            "HostConfig": {"NetworkMode": "none"}}  # fmt: skip
    made = daemon.call("POST", "/containers/create", body)[1]["Id"]
    assert daemon.call("POST", f"/containers/{made}/start")[0] == 204
    wait_until(lambda: state_of(daemon, made)["Health"]["Status"] == "unhealthy", "the check")
    daemon.kill()
    daemon.start()
    inside(daemon, made, "well").touch()
    wait_until(lambda: state_of(daemon, made)["Health"]["Status"] == "healthy", "the check")
