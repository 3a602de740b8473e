"""--pidfd-socket: who started a process gets hold of it by a pidfd."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.conftest import wait_until

from .kernel import is_alive
from .runtime import WAITS, Runtime
from .terminals import ConsoleSocket

# ConsoleSocket receives any descriptor that is sent to it
pytestmark = pytest.mark.ours("runc 1.1.5 has no such option")


def kill_by(wanted: ConsoleSocket, pid: int) -> None:
    """End a process by the pidfd that was sent, once it is seen to be that process's."""
    pidfd = wanted.receive()
    try:
        info = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
        assert re.findall(r"^Pid:\t(\d+)$", info, re.M) == [str(pid)]
        assert is_alive(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
    wait_until(lambda: not is_alive(pid), "its end")


def test_of_a_container_that_is_created(runtime: Runtime, console: ConsoleSocket) -> None:
    """It is there when the command returns."""
    container = runtime.create(WAITS, lambda _: None, "--pidfd-socket", str(console.path))
    kill_by(console, container.pid)
    assert container.status == "stopped"


def test_of_a_container_that_runs(runtime: Runtime, console: ConsoleSocket) -> None:
    """By run, detached."""
    name, file = runtime.name(), runtime.base / "pid"
    options = ("--pid-file", str(file), "--pidfd-socket", str(console.path))
    runtime.ok("run", "--detach", *options, "-b", str(runtime.bundle(WAITS)), name)
    kill_by(console, int(file.read_text()))


def test_of_a_program_that_exec_starts(runtime: Runtime, console: ConsoleSocket) -> None:
    """Of that one, and the container's own lives on."""
    container = runtime.start()
    file = runtime.base / "pid"
    options = ("--detach", "--pid-file", str(file), "--pidfd-socket", str(console.path))
    runtime.ok("exec", *options, container.id, *WAITS)
    kill_by(console, int(file.read_text()))
    assert container.status == "running"


def test_a_socket_that_is_not_there(runtime: Runtime) -> None:
    """Nothing is made, and nothing started."""
    container = runtime.start()
    nowhere = str(runtime.base / "nowhere")
    words = ("--pidfd-socket", nowhere)
    runtime.refused("create", *words, "-b", str(runtime.bundle()), runtime.name(), says=nowhere)
    runtime.refused("exec", *words, container.id, "true", says=nowhere)
