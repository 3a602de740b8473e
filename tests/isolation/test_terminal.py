"""Terminals: pty(7), ioctl_tty(2), credentials(7) "Sessions"."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import PATIENCE_S, Run, wait_until
from tests.terminal import Terminal

SHELL = ("/bin/sh",)


Open = Callable[..., Terminal]


@pytest.fixture
def opened(run: Run) -> Iterator[Open]:
    """Open terminals with a container in each; they are closed after the test."""
    made: list[Terminal] = []

    def open_one(
        words: tuple[str, ...] = SHELL, *options: str, rows: int = 24, columns: int = 80
    ) -> Terminal:
        arguments = run.arguments(words, ("-i", "-t", *options))
        made.append(Terminal(arguments, rows, columns))
        return made[-1]

    yield open_one
    for terminal in made:
        terminal.close()  # `run` removes the containers


def _say(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def test_a_container_has_a_terminal_of_its_own(opened: Open) -> None:
    """The first of its own devpts, on all three streams; /dev/console is the same one."""
    terminal = opened(
        _say("tty; tty <&1; tty <&2; stat -c %t:%T /dev/console /dev/pts/0; ls /dev/pts")
    )
    assert terminal.end() == 0
    lines = terminal.seen.split()
    assert lines[:3] == ["/dev/pts/0"] * 3
    assert lines[3:5] == ["88:0", "88:0"]
    assert lines[5:] == ["0", "ptmx"]


def test_without_the_option_it_has_none(run: Run) -> None:
    """The control."""
    result = run("tty; ls /dev/console; ls /dev/pts")
    assert result.output == "not a tty\nptmx\n"
    assert "/dev/console: No such file" in result.errors


def test_it_is_the_controlling_terminal(opened: Open) -> None:
    """/dev/tty opens, and the session is the container's: its leader is process 1."""
    terminal = opened(_say("echo to-the-terminal > /dev/tty; ps -o pid,sid,tty"))
    assert terminal.end() == 0
    assert "to-the-terminal" in terminal.seen
    assert ["1", "1", "136,0"] in [line.split()[:3] for line in terminal.seen.splitlines()]


def test_it_belongs_to_the_user(opened: Open) -> None:
    """As tty(1), mesg(1) and ssh expect; its group is tty."""
    terminal = opened(_say("stat -c %u:%g:%a /dev/pts/0; echo x > /dev/pts/0"), "--user", "user")
    assert terminal.end() == 0
    assert terminal.seen.split() == ["1000:5:620", "x"]


@pytest.mark.oci("process.consoleSize")
def test_the_window_size_is_there_from_the_first_moment(opened: Open) -> None:
    """The program's first look finds it, however fast it is."""
    for _ in range(5):
        terminal = opened(("/bin/stty", "size"), rows=43, columns=131)
        assert terminal.end() == 0
        assert terminal.seen.split() == ["43", "131"]


def test_a_change_of_the_window_is_passed_on(opened: Open) -> None:
    """With the signal that tells programs of it: SIGWINCH."""
    script = "trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.1; done"
    terminal = opened(_say(script))
    terminal.expect("ready")
    terminal.resize(50, 132)
    assert terminal.end() == 7
    assert "50 132" in terminal.seen


def test_keys_reach_the_program(opened: Open) -> None:
    """An interactive shell: its echo, its end by Ctrl-D, its exit status."""
    terminal = opened()
    terminal.type("echo $((6 * 7))\n")
    terminal.expect("42")
    terminal.expect("# ")  # while a command runs, the terminal itself would take the Ctrl-D
    terminal.type("(exit 5)\n")
    terminal.expect("# ")
    terminal.type("\x04")
    assert terminal.end() == 5


def _start_echo(terminal: Terminal) -> None:
    """Start a program that answers, at the shell's prompt; return when it is in the foreground.

    One step after the other: the shell's line editor reads ahead.
    """
    terminal.expect("# ")
    terminal.type("sh -c 'while read x; do echo got-$x; done'\n")
    assert "job control turned off" not in terminal.expect("done'\r\n")
    terminal.type("a\n")
    terminal.expect("got-a")


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["", "init"])
def test_ctrl_c_ends_the_foreground_process_alone(opened: Open, options: tuple[str, ...]) -> None:
    """The shell goes on."""
    terminal = opened(SHELL, *options)
    _start_echo(terminal)
    terminal.type("\x03")
    terminal.expect("# ")
    terminal.type("echo status $?\n")
    terminal.expect("status 130")
    terminal.type("exit 3\n")
    assert terminal.end() == 3


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["", "init"])
def test_jobs_can_be_stopped_and_brought_back(opened: Open, options: tuple[str, ...]) -> None:
    """Ctrl-Z, jobs, fg, and SIGTTIN: what there is on a controlling terminal alone."""
    terminal = opened(SHELL, *options)
    _start_echo(terminal)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("bg\n")
    terminal.expect("# ")

    def stopped_again() -> bool:
        """In the background it may not read from the terminal."""
        terminal.type("jobs\n")
        return "Stopped (tty input)" in terminal.expect("# ")

    wait_until(stopped_again, "the background job to be stopped")
    terminal.type("fg\n")
    terminal.expect('done"\r\n')
    terminal.type("b\n")
    terminal.expect("got-b")
    terminal.type("\x03")
    terminal.expect("# ")
    terminal.type("echo status $?\n")
    terminal.expect("status 130")
    terminal.type("exit 4\n")
    assert terminal.end() == 4


@pytest.mark.parametrize("script", ["exit 3", "kill -9 $$ & exec sleep 600"], ids=["exit", "kill"])
def test_the_outer_terminal_is_as_before(opened: Open, script: str) -> None:
    """Raw while the container runs, and then what it was: lines, echo, signals."""
    terminal = opened(_say(f"echo ready; read go; {script}"), "--init")
    terminal.expect("ready")
    wait_until(lambda: termios.tcgetattr(terminal.slave) != terminal.before, "raw mode")
    terminal.type("go\n")
    terminal.end()
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_it_is_as_before_after_a_failure(opened: Open) -> None:
    """A program that does not exist."""
    terminal = opened(("/no/such/program",))
    assert terminal.end() == 127
    assert "no such file or directory" in terminal.seen
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_it_is_as_before_after_a_signal(run: Run, opened: Open) -> None:
    """SIGTERM ends the command, as Docker's with a terminal; the container goes on."""
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    terminal = opened(_say(script), "--name", "goes-on")
    terminal.expect("ready")
    os.kill(terminal.process.pid, signal.SIGTERM)
    assert terminal.end() == 128 + signal.SIGTERM
    assert termios.tcgetattr(terminal.slave) == terminal.before
    look = run.engine.command("inspect", "--format", "{{.State.Running}}", "goes-on")
    shown = subprocess.run(look, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert shown.stdout == "true\n"


def test_a_terminal_without_input(run: Run) -> None:
    """-t alone: the program sees a terminal, and what it writes arrives in a pipe."""
    result = run("tty; exit 4", "-t")
    assert (result.status, result.output) == (4, "/dev/pts/0\n")


def test_input_that_is_no_terminal_is_refused(run: Run) -> None:
    """-i -t without one: in a line, with Docker's status."""
    result = run("true", "-i", "-t", stdin="x")
    assert result.status == 1
    assert "the input device is not a TTY" in result.errors


def test_all_output_arrives(opened: Open) -> None:
    """However much is written just before the end."""
    terminal = opened(_say("seq 1 5000"))
    assert terminal.end() == 0
    assert terminal.seen.split() == [str(number) for number in range(1, 5001)]


def test_the_console_speaks_again_after_silence(opened: Open) -> None:
    """Process 1 closes its three streams, the last open ends, and opens the terminal again."""
    terminal = opened(_say("exec 0<&- 1>&- 2>&-; sleep 0.3; echo late >/dev/console; sleep 0.1"))
    assert terminal.end() == 0
    assert "late" in terminal.seen


def test_in_the_background_of_its_terminal(run: Run) -> None:
    """timeout(1) puts a command there. It ends by the time limit, and without a traceback."""
    words = run.arguments(("sleep", "2"), ("-i", "-t"))
    terminal = Terminal(["sh", "-c", 'timeout 1 "$@"; exit $?', "sh", *words])
    try:
        assert terminal.end() == 124
        assert "Traceback" not in terminal.seen
        assert "rror" not in terminal.seen
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()
