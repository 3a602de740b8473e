"""Signals at any moment of a start: an end without a traceback, and nothing left behind.

The moments are spread over the time that a start takes here; which step each one meets is chance.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Engine, Result, Run, wait_until

from .conftest import Bundle, containers_in

TRIES = 30
INTERRUPTED = "minicontainer: interrupted before the container ran: nothing was left behind\n"


def interrupted(arguments: list[str], number: int, after_s: float) -> Result:
    """Start a command, send it a signal after a while, and wait for its end."""
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    time.sleep(after_s)  # not for something to happen, but for any moment to come
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE_S)
    return Result(process.returncode, output, errors)


def duration_s(arguments: list[str]) -> float:
    """Measure a start that nobody disturbs; the first one may have more to do."""
    for _ in range(2):
        begun = time.monotonic()
        subprocess.run(arguments, stdin=subprocess.DEVNULL, check=True, capture_output=True)
    return time.monotonic() - begun


def is_ours(errors: str) -> bool:
    """Say whether a traceback is of our code.

    For a few milliseconds the interpreter itself starts, and answers SIGINT as it does: no line of
    ours can change that, but for the very first ones, which do.
    """
    begins = ("startup.py", "<string>", "<frozen", "bin/minicontainer")
    frames = [line for line in errors.splitlines() if line.startswith('  File "')]
    return any(
        "minicontainer" in frame and not any(begin in frame for begin in begins) for frame in frames
    )


def check_interrupts(
    arguments: list[str], number: int, messages: tuple[str, ...], left: Callable[[], object]
) -> None:
    """Interrupt a command at moments from its beginning to its end."""
    whole = duration_s(arguments)
    for i in range(TRIES):
        done = interrupted(arguments, number, whole * i / TRIES)
        # without a frame, while it reads the program: a line about that, and KeyboardInterrupt
        of_python = "KeyboardInterrupt" in done.errors or "Fatal Python error" in done.errors
        if number == signal.SIGINT and of_python and not is_ours(done.errors):
            continue
        assert done.errors in messages
        # by the signal, before anything was begun; as a shell shows that; or as the program ended
        assert done.status in (-number, 128 + number, 0)
        if done.errors:
            assert done.status == 128 + number
        wait_until(lambda: not left(), "the end of what was made")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("options", [(), ("-t",), ("--init", "--userns", "private")], ids=" ".join)
def test_a_start_is_interrupted(run: Run, number: int, options: tuple[str, ...]) -> None:
    """What was made so far is taken back, or it was too late and the program ran.

    A signal that kills the command between start and stream leaves a container that runs; it
    removes itself.
    """
    check_interrupts(
        run.arguments(("/bin/true",), options), number, ("", INTERRUPTED),
        lambda: containers_in(run.data_root, run.exec_root),
    )  # fmt: skip


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_of_the_runtime_alone_is_interrupted(bundle: Bundle, number: int) -> None:
    """The same for minicontainer-oci, which has nothing to say about it."""
    check_interrupts(bundle.arguments(), number, ("",), bundle.left)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [(), ("-t", "--init"), ("--pid", "host")], ids=" ".join)
def test_what_a_killed_start_left_can_be_removed(run: Run, options: tuple[str, ...]) -> None:
    """Nobody can take back anything after SIGKILL: the container is there, in one piece or not."""
    arguments = run.arguments(("/bin/sleep", "60"), options)
    whole = duration_s(run.arguments(("/bin/true",), options))
    found_something = 0
    for i in range(TRIES):
        done = interrupted(arguments, signal.SIGKILL, whole * i / TRIES)
        assert (done.status, done.errors) == (-signal.SIGKILL, "")

        def all_is_removed() -> bool:
            # the engine may not have read the killed command's last request yet
            run.engine.remove_all()
            return not containers_in(run.data_root, run.exec_root)

        found_something += bool(containers_in(run.data_root, run.exec_root))
        wait_until(all_is_removed, "the removal")
    assert found_something > TRIES / 10, "the moments missed what they were for"


@pytest.fixture
def host_network() -> Iterator[tuple[str, ...]]:
    """Give the words that run a command in a network namespace that plays the host's."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    yield ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
    holder.communicate()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_connection_to_the_bridge_is_taken_back(
    run: Run, roots: tuple[Path, Path], host_network: tuple[str, ...], number: int
) -> None:
    """The link, the address that was lent, and with the last container the bridge and its rules."""
    base = roots[0].parent / "engine"
    base.mkdir(mode=0o711)
    engine = Engine(base, f"{run.engine.cgroup}-bridge", host_network)
    arguments = Run(run.rootfs, engine).arguments(("/bin/true",), ("--net", "bridge"))
    whole = duration_s(arguments)
    for i in range(TRIES):
        done = interrupted(arguments, number, whole * i / TRIES)
        assert done.status in (-number, 128 + number, 0)

    def all_is_taken_back() -> bool:
        engine.remove_all()
        look = "ls /sys/class/net; nft list ruleset"
        # with a mount of its own: sysfs shows the network namespace of whoever mounted it
        words = ("unshare", "--mount", "sh", "-c", f"mount -t sysfs sysfs /sys && {look}")
        there = subprocess.run([*host_network, *words], capture_output=True, text=True, check=True)
        files = [path for path in engine.exec_root.glob("network/**/*") if path.name != "lock"]
        return there.stdout == "lo\n" and not any(path.is_file() for path in files)

    wait_until(all_is_taken_back, "the links and rules to go")
    assert containers_in(engine.data_root, engine.exec_root) == []
    engine.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_running_program_gets_the_signal(run: Run, number: int) -> None:
    """And decides what it means; its exit status is the command's."""
    container = run.start(f"trap 'echo got it; exit 9' {number}; echo ready; sleep 60 & wait")
    container.process.send_signal(number)
    output, errors = container.process.communicate(timeout=PATIENCE_S)
    assert (container.process.returncode, output, errors) == (9, "got it\n", "")


def test_ctrl_c_on_the_terminal_ends_a_start_that_hangs(run: Run, tmp_path: Path) -> None:
    """The whole process group gets it, the half-made container's first process too."""
    os.mkfifo(tmp_path / "profile")
    # the command waits for its env file, before anything was made: a moment that can be held
    arguments = run.arguments(("true",), ("--env-file", str(tmp_path / "profile")))
    pid, master = pty.fork()
    if pid == 0:
        os.execv(arguments[0], arguments)
    waits = f"/proc/{pid}/wchan"
    wait_until(lambda: "fifo" in Path(waits).read_text() or "wait_for" in Path(waits).read_text(),
               "the fifo to be opened")  # fmt: skip
    os.write(master, b"\x03")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    assert status == -signal.SIGINT
    assert containers_in(run.data_root, run.exec_root) == []
