"""Terminals: on a console socket, or the caller's own."""

from __future__ import annotations

import os

import pytest

from tests.conftest import PATIENCE_S

from .runtime import Container, Runtime, Spec
from .terminals import ConsoleSocket, on_a_terminal, read_until, shown_in_a_file


def terminal(config: Spec) -> None:
    """Ask for a terminal of 100 columns and 50 lines."""
    config["process"]["terminal"] = True
    config["process"]["consoleSize"] = {"width": 100, "height": 50}


def on_a_socket(
    runtime: Runtime, console: ConsoleSocket, masters: list[int], script: str
) -> Container:
    """Create a container with its terminal's master sent to a socket."""
    container = runtime.create(script, terminal, "--console-socket", str(console.path))
    masters.append(console.receive())
    return container


@pytest.mark.oci("process.terminal")
def test_the_console_socket_gets_the_master(
    runtime: Runtime, console: ConsoleSocket, masters: list[int]
) -> None:
    """By SCM_RIGHTS, before create returns: unix(7)."""
    container = on_a_socket(runtime, console, masters, "tty; stty size; read word; echo got $word")
    (master,) = masters
    assert os.isatty(master)
    container.start()
    read_until(master, "50 100")
    os.write(master, b"something\n")
    read_until(master, "got something")
    container.wait_stopped()


@pytest.mark.oci("process.terminal", "process.consoleSize")
def test_the_terminal_is_the_containers(
    runtime: Runtime, console: ConsoleSocket, masters: list[int]
) -> None:
    """All three descriptors, its controlling terminal, and /dev/console."""
    script = (
        "for n in 0 1 2; do readlink /proc/self/fd/$n; done; test -c /dev/console && "
        "echo to the console > /dev/console; echo ctty > /dev/tty; echo end; sleep 600"
    )
    container = on_a_socket(runtime, console, masters, script)
    container.start()
    shown = read_until(masters[0], "end\r\n")
    assert shown.splitlines()[:3] == ["/dev/pts/0"] * 3
    assert "to the console" in shown
    assert "ctty" in shown


def test_ctrl_c_reaches_the_program(
    runtime: Runtime, console: ConsoleSocket, masters: list[int]
) -> None:
    """It is in the foreground of its own session."""
    script = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 1; done"
    container = on_a_socket(runtime, console, masters, script)
    container.start()
    read_until(masters[0], "ready")
    os.write(masters[0], b"\x03")
    read_until(masters[0], "interrupted")
    container.wait_stopped()


def test_run_detached_on_a_socket(
    runtime: Runtime, console: ConsoleSocket, masters: list[int]
) -> None:
    """The same for run --detach."""
    bundle = str(runtime.bundle("tty", terminal))
    words = ("run", "--detach", "--console-socket", str(console.path), "-b", bundle)
    runtime.ok(*words, runtime.name())
    masters.append(console.receive())
    read_until(masters[0], "/dev/pts/0")


def test_a_socket_that_is_not_there(runtime: Runtime) -> None:
    """Nothing is left of the attempt."""
    bundle = str(runtime.bundle("tty", terminal))
    for path in (runtime.base / "none.sock", runtime.base):
        words = ("create", "--console-socket", str(path), "-b", bundle)
        runtime.refused(*words, runtime.name(), says=("no such file", "refused", "socket"))


def test_a_terminal_and_no_socket(runtime: Runtime) -> None:
    """Nobody would have the master."""
    bundle = str(runtime.bundle("tty", terminal))
    runtime.refused("create", "-b", bundle, runtime.name(), says="console")
    runtime.refused("run", "--detach", "-b", bundle, runtime.name(), says=("console", "terminal"))


def test_a_socket_and_no_terminal(runtime: Runtime, console: ConsoleSocket) -> None:
    """Nobody would write to it."""
    words = ("create", "--console-socket", str(console.path), "-b", str(runtime.bundle()))
    runtime.refused(*words, runtime.name(), says="console")


def test_run_on_the_callers_terminal(runtime: Runtime, masters: list[int]) -> None:
    """What is typed gets in, what is shown gets out; and the exit status is the program's."""
    script = "test -t 0 && test -t 1 && test -t 2 && echo tty; read word; echo got $word; exit 7"
    bundle = str(runtime.bundle(script, terminal))
    process, master = on_a_terminal(runtime.words("run", "-b", bundle, runtime.name()))
    masters.append(master)
    read_until(master, "tty")
    os.write(master, b"something\n")
    read_until(master, "got something")
    assert process.wait(PATIENCE_S) == 7


def test_run_wants_a_terminal_where_there_is_none(runtime: Runtime) -> None:
    """Its input is a file here: it is refused, or goes without."""
    bundle = str(runtime.bundle("echo there", terminal))
    done = runtime("run", "-b", bundle, runtime.name())
    assert done.status >= 1 or "there" in done.output
    assert runtime.containers() == []


def test_lines_in_a_file_end_as_the_program_wrote_them(runtime: Runtime) -> None:
    """Of a terminal that shows what the container writes on none: who reads it wants no CR."""
    bundle = str(runtime.bundle("test -t 1 && echo there", terminal))
    words = runtime.words("run", "-b", bundle, runtime.name())
    assert shown_in_a_file(words, runtime.base / "shown") == b"there\n"
