"""A person at a terminal: the same keys with both clients, on both engines."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import termios
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, wait_until
from tests.engines import CLIENTS, IMAGE, Clients

BOTH = pytest.mark.parametrize("client", CLIENTS)
# Not a shell that edits its line: that draws it anew when keys come before the prompt.
# The size comes in a request of its own, and may come when the program runs already.
SIZED = "until stty size 2>/dev/null | grep -q '40 90'; do sleep 0.1; done"
ASKS = f"{SIZED}; echo ready; read answer; echo got $answer; tty; stty size; exit 5"
RUN = ("run", "--rm", "--network", "none")


@BOTH
def test_run_with_a_terminal(clients: Clients, client: str) -> None:
    """The program has one; its size is ours; its status is the command's; ours is as before."""
    terminal = clients.terminal(client, *RUN, "-it", IMAGE, "sh", "-c", ASKS)
    terminal.expect("ready")
    terminal.type("yes\n")
    terminal.expect("got yes")
    assert terminal.end() == 5
    assert "/dev/pts/0" in terminal.seen
    assert "40 90" in terminal.seen
    assert termios.tcgetattr(terminal.slave) == terminal.before
    terminal.close()


@BOTH
def test_the_window_is_followed(clients: Clients, client: str) -> None:
    """SIGWINCH here is SIGWINCH there."""
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done"
    terminal = clients.terminal(client, *RUN, "-it", IMAGE, "sh", "-c", script)
    terminal.expect("ready")
    rows = 50

    def followed() -> bool:
        nonlocal rows
        rows += 1  # again and again: Docker's client may not listen yet
        terminal.resize(rows, 100)
        with contextlib.suppress(BlockingIOError):
            terminal.seen += os.read(terminal.master, 65536).decode()
        return " 100" in terminal.seen

    os.set_blocking(terminal.master, False)
    wait_until(followed, "the size to be followed")
    terminal.close()


@BOTH
def test_keys_that_leave(clients: Clients, client: str) -> None:
    """The container goes on, the terminal is as before; other keys that begin alike are sent."""
    terminal = clients.terminal(client, "run", "-it", "--name", "left", "--network", "none",
                                "--detach-keys", "ctrl-x,y", IMAGE, "cat")  # fmt: skip
    try:
        wait_until(
            lambda: (
                clients("docker", "inspect", "-f", "{{.State.Running}}", "left").output == "true\n"
            ),
            "the container to run",
        )
        terminal.type("one\n")
        terminal.expect("one")
        terminal.type("\x18y")
        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before
        terminal.close()
        assert clients.must("inspect", "-f", "{{.State.Running}}", "left") == "true"
    finally:
        clients("docker", "rm", "-f", "left")


@BOTH
def test_control_c_reaches_the_program(clients: Clients, client: str) -> None:
    """As a key, in a terminal."""
    script = "trap 'echo told; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    terminal = clients.terminal(client, *RUN, "-it", IMAGE, "sh", "-c", script)
    terminal.expect("ready")
    terminal.type("\x03")
    terminal.expect("told")
    assert terminal.end() == 9
    terminal.close()


@BOTH
def test_exec_with_a_terminal(clients: Clients, web: str, client: str) -> None:
    """Another program, with a terminal of its own."""
    terminal = clients.terminal(client, "exec", "-it", web, "sh", "-c", ASKS)
    terminal.expect("ready")
    terminal.type("yes\n")
    terminal.expect("got yes")
    assert terminal.end() == 5
    assert "40 90" in terminal.seen
    terminal.close()


@BOTH
def test_attach_with_a_terminal(clients: Clients, client: str) -> None:
    """Keys reach a program that runs already, and its end is the command's."""
    script = "read answer; echo got $answer; exit 6"
    clients.must("run", "-dit", "--name", "web", "--network", "none", IMAGE, "sh", "-c", script)
    try:
        terminal = clients.terminal(client, "attach", "web")
        terminal.type("yes\n")
        terminal.expect("got yes")
        assert terminal.end() == 6
        assert termios.tcgetattr(terminal.slave) == terminal.before
        terminal.close()
    finally:
        clients("docker", "rm", "-f", "web")


@BOTH
def test_start_with_a_terminal(clients: Clients, client: str) -> None:
    """start -ai: from the first line on."""
    clients.must("create", "-it", "--name", "web", "--network", "none", IMAGE, "sh", "-c", ASKS)
    try:
        terminal = clients.terminal(client, "start", "-ai", "web")
        terminal.expect("ready")
        terminal.type("yes\n")
        terminal.expect("got yes")
        assert terminal.end() == 5
        terminal.close()
    finally:
        clients("docker", "rm", "-f", "web")


@BOTH
def test_input_ends_and_output_goes_on(clients: Clients, client: str) -> None:
    """A pipe's end closes the program's input, and all that it still writes is shown."""
    done = clients(
        client, *RUN, "-i", IMAGE, "sh", "-c", "cat; echo over; echo err >&2", stdin="a\nb\n"
    )
    assert (done.status, done.output, done.errors) == (0, "a\nb\nover\n", "err\n")


@BOTH
def test_nothing_of_much_is_lost(clients: Clients, client: str, tmp_path: Path) -> None:
    """Eight megabytes to the program and back, at once."""
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 32768)
    with data.open("rb") as file:
        done = subprocess.run(
            [*CLIENTS[client], *RUN, "-i", IMAGE, "cat"], stdin=file, env=clients.environ,
            capture_output=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == data.read_bytes()


@BOTH
def test_signals_are_passed_on(clients: Clients, client: str) -> None:
    """Without a terminal: SIGTERM to the client is SIGTERM to the program."""
    script = "trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [*CLIENTS[client], *RUN, IMAGE, "sh", "-c", script], env=clients.environ,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "told\n"
        assert process.wait(PATIENCE_S) == 9


@BOTH
def test_logs_are_followed(clients: Clients, client: str) -> None:
    """Line by line, stdout and stderr apart, until the container ends."""
    script = "echo one; echo two >&2; sleep 1; echo three"
    clients.must("run", "-d", "--name", "web", "--network", "none", IMAGE, "sh", "-c", script)
    try:
        done = clients(client, "logs", "-f", "web")
        assert (done.status, done.output, done.errors) == (0, "one\nthree\n", "two\n")
        last = clients(client, "logs", "--tail", "1", "-t", "web").output
        assert last.endswith("Z three\n")
    finally:
        clients("docker", "rm", "-f", "web")


def test_stats_are_redrawn(clients: Clients, web: str) -> None:
    """In place, at a terminal, until the user ends it."""
    terminal = clients.terminal("minicontainer", "stats", web)
    terminal.expect("CONTAINER ID")
    terminal.expect(web)
    terminal.expect("CONTAINER ID")
    terminal.type("\x03")
    terminal.end()
    terminal.close()
