"""`--step` at a terminal: read, look from another terminal, go on, or undo all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minicontainer.learn import looks, narration, predictions
from tests.conftest import PATIENCE_S, wait_until
from tests.learn.conftest import Engine
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[..., Terminal]

RUN = ("run", "--net", "none", "--lang", "en")


@pytest.fixture
def at(engine: Engine) -> Iterator[Open]:
    """Type commands at terminals, which are closed at the end; no container is left."""
    terminals: list[Terminal] = []

    def open_one(*words: str) -> Terminal:
        terminals.append(Terminal(engine.words(*words)))
        return terminals[-1]

    yield open_one
    for terminal in terminals:
        assert not terminal.close(), terminal.seen
    if ids := engine("ps", "-aq").output.split():
        engine("rm", "-f", *ids)


def pid_in(text: str) -> int:
    """Find the process that the printed commands look at."""
    found = re.search(r"/proc/(\d+)/|-p (\d+)|-[Nt] (\d+)", text)
    assert found, text
    return int(next(filter(None, found.groups())))


def test_enter_takes_step_by_step(at: Open) -> None:
    """Each stop tells what comes and why; then what it did; the last one runs the program."""
    terminal = at(*RUN, "--rm", "--step", "busybox", "echo", "hello")
    told = terminal.expect("resolve-image> ")
    assert "Find an image to start a container from." in told
    assert "Enter takes this step; the name of a step runs to it" in told
    names: list[str] = []
    while not names or names[-1] != "run-program":
        terminal.type("\r")
        terminal.expect(" ms]")  # the heading
        names.append(re.findall(r"[a-z-]+", terminal.expect("> "))[-1])
    assert names.index("hand-to-monitor") < names.index("fork-init") < names.index("enter-rootfs")
    terminal.type("\r")
    assert terminal.end() == 0
    assert "hello" in terminal.seen


def test_the_container_can_be_inspected_once_there_is_one(at: Open, engine: Engine) -> None:
    """The engine's own steps say which it is, too: the printed command works as it stands."""
    terminal = at(*RUN, "--rm", "--until", "write-bundle", "busybox", "true")
    told = terminal.expect("write-bundle> ")
    (command,) = re.findall(r"# (\S+ .*inspect \w+)\r", told)
    *_, words = command.partition(" inspect ")
    assert engine("inspect", "-f", "{{.State.Status}}", words).output == "created\n"
    terminal.type("q\r")
    assert terminal.end() == 130


def test_the_namespaces_can_be_looked_at_once_there_is_a_process(at: Open) -> None:
    """fork-init makes them, and its commands need the process ID: the next stop shows them."""
    terminal = at(*RUN, "--rm", "--until", "fork-init", "busybox", "true")
    assert "lsns -p" not in terminal.expect("fork-init> ")
    terminal.type("\r")
    terminal.expect(" ms]")  # the heading of the next one
    assert re.search(r"# lsns -p \d+\r", terminal.expect("> "))
    terminal.type("q\r")
    assert terminal.end() == 130


def test_a_second_terminal_looks_in(engine: Engine, at: Open) -> None:
    """Every command that ? prints works as it stands, and shows the half-made container."""
    terminal = at(*RUN, "--rm", "--until", "start-program", "busybox", "true")
    before = terminal.expect("start-program> ")
    assert re.search(r"\d+[.] enter-rootfs +Change the root .* ms\r", before)  # a line
    terminal.type("?\r")
    terminal.expect("Look from another terminal:")
    shown = terminal.expect("start-program> ")
    pid = pid_in(shown)
    assert os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    commands = re.findall(r"^ +# (.+?)\r*$", shown, re.M)
    assert len(commands) == len(looks.LOOKS)
    client = " ".join(engine.words()[:1])
    for command in commands:
        if not shutil.which(command.split()[0]) and not command.startswith("minicontainer"):
            continue
        done = subprocess.run(
            ["sh", "-c", re.sub("^minicontainer", client, command)], capture_output=True, text=True,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert "Created" in engine("ps", "-a").output
    terminal.type("c\r")
    assert terminal.end() == 0


@pytest.mark.parametrize(
    "key", ["q\r", "й\r", "\x03", "\x04"], ids=["q", "Russian", "Ctrl-C", "Ctrl-D"]
)
@pytest.mark.parametrize("step", ["make-directory", "isolate-mounts", "connect-container"])
def test_giving_up_undoes_all(engine: Engine, at: Open, step: str, key: str) -> None:
    """One line, status 130, and the terminal is as it was; the container is gone, too."""
    terminal = at(*RUN, "--until", step, "busybox", "true")
    told = terminal.expect(f"{step}> ")
    terminal.type(key)
    assert terminal.end() == 130
    assert terminal.seen.endswith(
        f"minicontainer: aborted before {step}: everything was undone\r\n"
    )
    assert engine("ps", "-aq").output == ""
    if step == "isolate-mounts":
        assert not Path(f"/proc/{pid_in(told)}").exists()
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_up_as_well(engine: Engine, at: Open, number: int) -> None:
    """Sent to the client, not typed: the same, with the signal's status."""
    terminal = at(*RUN, "--until", "set-hostname", "busybox", "true")
    terminal.expect("set-hostname> ")
    os.kill(terminal.process.pid, number)
    assert terminal.end() == 128 + number
    assert "interrupted before the container ran: nothing was left behind" in terminal.seen
    assert termios.tcgetattr(terminal.slave) == terminal.before
    assert engine("ps", "-aq").output == ""


def test_a_client_that_is_killed_leaves_nothing(engine: Engine, at: Open) -> None:
    """The engine notices, and undoes."""
    terminal = at(*RUN, "--until", "set-hostname", "busybox", "true")
    pid = pid_in(terminal.expect("set-hostname> "))
    terminal.process.kill()
    wait_until(lambda: not engine("ps", "-aq").output, "the container's end")
    assert not Path(f"/proc/{pid}").exists()


def test_the_end_that_somebody_else_makes(engine: Engine, at: Open) -> None:
    """rm -f from another terminal: the prompt ends, and one line says why."""
    terminal = at(*RUN, "--name", "stepped", "--until", "set-hostname", "busybox", "true")
    terminal.expect("set-hostname> ")
    engine("rm", "-f", "stepped")
    assert terminal.end() == 125
    lines = terminal.seen.splitlines()
    assert lines[-1].endswith("aborted before set-hostname: everything was undone")
    assert sum("minicontainer: " in line for line in lines) == 1


def test_an_engine_that_is_killed(own_engine: Engine) -> None:
    """The command says so in one line; the monitor sees it too, and undoes the start."""
    terminal = Terminal(own_engine.words(*RUN, "--until", "set-hostname", "busybox", "true"))
    pid = pid_in(terminal.expect("set-hostname> "))
    own_engine.process.kill()
    assert terminal.end() == 125
    assert terminal.seen.splitlines()[-1] == (
        "minicontainer: the engine closed the connection in the middle of an answer"
    )
    wait_until(lambda: not own_engine.monitors(), "the end of monitor and init")
    assert not Path(f"/proc/{pid}").exists()
    assert os.listdir(own_engine.base / "exec/containers") in ([], [".filters"])
    assert termios.tcgetattr(terminal.slave) == terminal.before
    terminal.close()


def test_names_at_the_prompt(at: Open) -> None:
    """An unknown one, with the nearest; one that is behind; one to run to; one that never comes."""
    terminal = at(*RUN, "--until", "hand-to-monitor", "busybox", "true")
    terminal.expect("hand-to-monitor> ")
    terminal.type("enter-rotfs\r")
    assert "there is no step enter-rotfs: did you mean enter-rootfs?" in terminal.expect("> ")
    terminal.type("make-directory\r")
    assert "make-directory is behind: what was done is undone by q alone" in terminal.expect("> ")
    terminal.type("enter-rootfs\r")
    terminal.expect("enter-rootfs> ")
    terminal.type("set-domainname\r")
    assert terminal.end() == 0
    assert "no step set-domainname came: this container has none" in terminal.seen


def test_a_terminal_of_the_containers_own(at: Open) -> None:
    """With -it the prompt reads lines, and the program gets the keys after the last step."""
    terminal = at(*RUN, "-it", "--rm", "--until", "run-program", "busybox", "sh")
    terminal.expect("run-program> ")
    terminal.type("\r")
    terminal.type("echo $((6*7))\r")
    terminal.expect("42")
    terminal.type("exit 3\r")
    assert terminal.end() == 3


def test_create_and_start_have_steps_too(engine: Engine, at: Open) -> None:
    """A start that is given up leaves the container as it was."""
    terminal = at("create", "--name", "made", "--net", "none", "--step", "busybox", "true")
    terminal.expect("resolve-image> ")
    terminal.type("make-directory\r")
    terminal.expect("make-directory> ")
    terminal.type("\r")
    assert terminal.end() == 0
    terminal = at("start", "--until", "enter-rootfs", "made")
    terminal.expect("enter-rootfs> ")
    terminal.type("q\r")
    assert terminal.end() == 130
    assert "aborted before enter-rootfs: everything was undone" in terminal.seen
    terminal = at("start", "--until", "set-hostname", "made")
    terminal.expect("set-hostname> ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "aborted before set-hostname: everything was undone" in terminal.seen
    assert engine("start", "-a", "made").output == ""


def test_predictions_are_judged_by_the_kernel(at: Open) -> None:
    """What changed is right, what did not is wrong; the answer shows the values."""
    terminal = at(*RUN, "--rm", "--predict", "--until", "enter-rootfs", "busybox", "true")
    question = terminal.expect("\n? ")
    assert re.search(r"b  mounts +\d+", question)
    terminal.type("bz\r")
    assert "type letters from a to i" in terminal.expect("\n? ")
    terminal.type("b\r")
    terminal.expect("enter-rootfs> ")
    terminal.type("set-capabilities\r")
    judged = terminal.expect("set-capabilities   [")
    assert "Right\r" in judged
    assert "root directory: inode" in judged
    terminal.expect("\n? ")
    terminal.type("b\r")
    terminal.expect("set-capabilities> ")
    terminal.type("c\r")
    judged = terminal.expect("die-with-parent")
    assert "Wrong: you said mounts" in judged
    assert "capabilities:" in judged
    assert terminal.end() == 0


def test_in_russian(at: Open) -> None:
    """Steps and the words between them."""
    words = ("run", "--net", "none", "--rm", "--lang", "ru", "--until", "set-hostname")
    terminal = at(*words, "busybox", "true")
    told = terminal.expect("set-hostname> ")
    assert "Задать имя узла в пространстве имён UTS контейнера." in told
    assert "Посмотреть из другого терминала:" in told
    terminal.type("q\r")
    assert terminal.end() == 130
    assert "прервано перед шагом set-hostname: всё отменено" in terminal.seen


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--step",), "--step needs a terminal, and standard input is none: use --explain"),
        (("--predict",), "--step needs a terminal, and standard input is none: use --explain"),
    ],
)
def test_no_terminal(engine: Engine, words: tuple[str, ...], says: str) -> None:
    """One line, and nothing was made."""
    result = engine(*RUN, *words, "busybox", "true", status=125)
    assert result.errors == f"minicontainer: {says}\n"
    assert engine("ps", "-aq").output == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--until", "entr-rootfs"), "--until entr-rootfs: there is no step entr-rootfs: "
                                     "did you mean enter-rootfs?"),
        (("--step", "--json"), "--step and --json exclude each other: use --record to keep the "
                               "events"),
    ],
)  # fmt: skip
def test_what_is_refused(engine: Engine, at: Open, words: tuple[str, ...], says: str) -> None:
    """One line, status 125, and nothing was made."""
    terminal = at(*RUN, *words, "busybox", "true")
    assert terminal.end() == 125
    assert terminal.seen == f"minicontainer: {says}\r\n"
    assert engine("ps", "-aq").output == ""


def test_the_table_of_looks_names_real_steps() -> None:
    """Each command belongs to steps that exist."""
    named = {step for look in looks.LOOKS for step in look.steps}
    assert named <= set(narration.known_steps())


def test_a_look_at_this_very_process() -> None:
    """Looked at twice, nothing has changed; a process that has ended shows nothing."""
    state = predictions.look(os.getpid())
    assert state is not None
    assert predictions.changes(state, state) == {}
    changed = {**state, "ids": {**state["ids"], "users": "1 1 1 1"}}
    assert list(predictions.changes(state, changed)) == ["ids"]
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert predictions.look(ended.pid) is None
