"""exec with a terminal: on a console socket, or the caller's own."""

from __future__ import annotations

import json
import os

import pytest

from tests.conftest import PATIENCE_S

from .runtime import Runtime
from .terminals import ConsoleSocket, on_a_terminal, read_until, shown_in_a_file


@pytest.mark.parametrize("option", ["--tty", "-t"])
def test_on_the_callers_terminal(runtime: Runtime, masters: list[int], option: str) -> None:
    """What is typed gets in, what is shown gets out; and the exit status is the program's."""
    container = runtime.start()
    script = "test -t 0 && test -t 1 && test -t 2 && tty; read word; echo got $word; exit 7"
    words = runtime.words("exec", option, container.id, "sh", "-c", script)
    process, master = on_a_terminal(words)
    masters.append(master)
    read_until(master, "/dev/pts/")
    os.write(master, b"something\n")
    read_until(master, "got something")
    assert process.wait(PATIENCE_S) == 7


def test_lines_in_a_file_end_as_the_program_wrote_them(runtime: Runtime) -> None:
    """Though the program's own output is a terminal."""
    container = runtime.start()
    words = runtime.words("exec", "-t", container.id, "sh", "-c", "test -t 1 && echo there")
    assert shown_in_a_file(words, runtime.base / "shown") == b"there\n"


def test_on_a_console_socket(runtime: Runtime, console: ConsoleSocket, masters: list[int]) -> None:
    """As podman calls it: detached, with a file that describes the process."""
    container = runtime.start()
    file, pid_file = runtime.base / "process.json", runtime.base / "pid"
    script = "tty; read word; echo got $word; exit 8"
    file.write_text(
        json.dumps(
            {
                "terminal": True,
                "user": {"uid": 0, "gid": 0},
                "args": ["sh", "-c", script],
                "env": ["PATH=/bin"],
                "cwd": "/",
            }
        )
    )
    runtime.ok(
        "exec", "--pid-file", str(pid_file), "--process", str(file), "--detach", "--tty",
        "--console-socket", str(console.path), container.id,
    )  # fmt: skip
    masters.append(console.receive())
    read_until(masters[0], "/dev/pts/")
    os.write(masters[0], b"something\n")
    read_until(masters[0], "got something")
    assert runtime.exit_status(int(pid_file.read_text())) == 8


def test_a_terminal_detached_and_no_socket(runtime: Runtime) -> None:
    """Nobody would have the master."""
    container = runtime.start()
    runtime.refused(
        "exec", "--detach", "--tty", container.id, "true", says=("console", "terminal", "tty")
    )


def test_a_socket_that_is_not_there(runtime: Runtime) -> None:
    """The container runs on."""
    container = runtime.start()
    words = ("exec", "-d", "-t", "--console-socket", str(runtime.base / "none.sock"))
    runtime.refused(*words, container.id, "true", says=("no such file", "refused"))
    assert container.status == "running"
