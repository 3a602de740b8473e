"""run: create, start, wait and delete in one command."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, wait_until

from .kernel import is_alive, parent_of
from .runtime import Runtime, Spec


@pytest.mark.parametrize("status", [0, 1, 3, 125, 126, 127, 255])
def test_the_exit_status_is_the_programs(runtime: Runtime, status: int) -> None:
    """The whole range."""
    assert runtime.run(f"exit {status}").status == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_the_exit_status_tells_the_signal(runtime: Runtime, number: int) -> None:
    """128 and its number, as a shell does."""

    def without_pids(config: Spec) -> None:
        # process 1 of a PID namespace does not die of its own signals
        spaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [one for one in spaces if one["type"] != "pid"]

    assert runtime.run(f"kill -{int(number)} $$", without_pids).status == 128 + number


def test_output_and_errors_are_the_callers(runtime: Runtime) -> None:
    """Each on its own descriptor."""
    done = runtime.run("echo out; echo err >&2")
    assert (done.status, done.output, done.errors) == (0, "out\n", "err\n")


def test_the_input_is_the_callers(runtime: Runtime) -> None:
    """Through a pipe, to its end."""
    ours, theirs = os.pipe()
    os.write(theirs, b"some\ninput\n")
    os.close(theirs)
    try:
        assert runtime.run("cat; echo end", stdin=ours).output == "some\ninput\nend\n"
    finally:
        os.close(ours)


def test_nothing_is_left(runtime: Runtime) -> None:
    """No name, no cgroup."""
    before = runtime.traces()
    assert runtime.run("true").status == 0
    runtime.expect_nothing_new(before)
    assert runtime.containers() == []


def test_nothing_is_left_of_the_programs_children(runtime: Runtime) -> None:
    """They end with process 1: pid_namespaces(7)."""
    before = runtime.traces()
    assert runtime.run("sleep 600 & sleep 600 & exit 4").status == 4
    runtime.expect_nothing_new(before)


def test_it_is_there_while_it_runs(runtime: Runtime) -> None:
    """Other commands find it; and kill ends it, which run tells."""
    name = runtime.name()
    words = runtime.words("run", "-b", str(runtime.bundle("echo ready; exec sleep 600")), name)
    call = runtime.begin(words)
    wait_until(call.stdout.read_text, "the program")
    assert '"running"' in runtime.ok("state", name)
    runtime.refused("delete", name)
    runtime.ok("kill", name, "KILL")
    assert call.wait().status == 137
    runtime.refused("state", name, says="does not exist")


def test_detached(runtime: Runtime) -> None:
    """The command returns; the container is the caller's child."""
    name, file = runtime.name(), runtime.base / "pid"
    words = ("run", "--detach", "-b", str(runtime.bundle()), "--pid-file", str(file), name)
    runtime.ok(*words)
    pid = int(file.read_text())
    assert is_alive(pid)
    assert parent_of(pid) == os.getpid()
    runtime.wait_for_execve(pid)
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00"
    assert runtime.containers() == [name]


def test_detached_andfinished(runtime: Runtime) -> None:
    """It stays until it is deleted."""
    name = runtime.name()
    runtime.ok("run", "-d", "-b", str(runtime.bundle(("true",))), name)
    wait_until(lambda: '"stopped"' in runtime.ok("state", name), "the container's end")
    runtime.ok("delete", name)


@pytest.mark.ours("runc 1.1.5's --keep leaves the state, but takes the cgroup away")
def test_kept(runtime: Runtime) -> None:
    """What remains of a container that has ended can still be looked at."""
    name = runtime.name()
    words = ("run", "--keep", "-b", str(runtime.bundle("exit 3")), name)
    assert runtime(*words).status == 3
    assert '"stopped"' in runtime.ok("state", name)
    runtime.ok("delete", name)


def test_a_pid_file_in_the_foreground(runtime: Runtime) -> None:
    """The number of the first process, as the host counts."""
    file = runtime.base / "pid"
    name = runtime.name()
    words = ("run", "-b", str(runtime.bundle()), "--pid-file", str(file))
    call = runtime.begin(runtime.words(*words, name))

    def is_there() -> bool:
        command = Path(f"/proc/{file.read_text()}/cmdline") if file.exists() else file
        return command.exists() and command.read_bytes() == b"sleep\x00600\x00"

    wait_until(is_there, "the program, by the number in the file")
    runtime.ok("kill", name, "KILL")
    assert call.wait().status == 137


def test_a_program_that_is_not_there(runtime: Runtime) -> None:
    """Nothing is left of the attempt."""
    words = ("run", "-b", str(runtime.bundle(("no-such-program",))), runtime.name())
    runtime.refused(*words, says="executable file not found in $PATH")


def test_no_subreaper_is_accepted(runtime: Runtime) -> None:
    """A flag of runc."""
    assert runtime.run("exit 3", lambda _: None, "--no-subreaper").status == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(runtime: Runtime, number: int) -> None:
    """The program decides what they mean."""
    script = f"trap 'echo got it; exit 9' {int(number)}; echo ready; sleep 600 & wait"
    words = runtime.words("run", "-b", str(runtime.bundle(script)), runtime.name())
    call = runtime.begin(words)
    wait_until(call.stdout.read_text, "the program")
    call.process.send_signal(number)
    done = call.wait()
    assert (done.status, done.output) == (9, "ready\ngot it\n")


@pytest.mark.parametrize(
    "number",
    [signal.SIGTSTP, signal.SIGRTMIN + 3, signal.SIGRTMAX,
     pytest.param(signal.SIGWINCH, marks=pytest.mark.ours("runc's is for a terminal, or lost"))],
)  # fmt: skip
def test_rare_signals_are_passed_on(runtime: Runtime, number: int) -> None:
    """systemd as process 1 has a meaning for many."""
    words = runtime.words("run", "-b", str(runtime.bundle(f"trap 'exit 5' {int(number)}; echo on; "
                          "while :; do sleep 0.01; done")), runtime.name())  # fmt: skip
    call = runtime.begin(words)
    wait_until(lambda: "on" in call.stdout.read_text(), "the program")
    call.process.send_signal(number)
    assert call.wait().status == 5


def test_as_many_signals_as_one_likes(runtime: Runtime) -> None:
    """It is the program that says what they mean: none of them is the one too many."""
    script = "i=0; trap 'i=$((i+1)); echo $i' TERM; echo on; until test $i = 5; do sleep 0.01; done"
    call = runtime.begin(runtime.words("run", "-b", str(runtime.bundle(script)), runtime.name()))
    for i in range(1, 6):
        wait_until(lambda i=i: call.stdout.read_text().count("\n") == i, "a word of it")  # type: ignore[misc]  # bound now
        call.process.send_signal(signal.SIGTERM)
    assert call.wait().status == 0


@pytest.mark.ours("runc leaves the container running")
def test_a_killed_run_takes_the_container_with_it(runtime: Runtime) -> None:
    """Nobody would know its exit status: PR_SET_PDEATHSIG(2const)."""
    name = runtime.name()
    call = runtime.begin(
        runtime.words("run", "-b", str(runtime.bundle("echo ready; sleep 600")), name)
    )
    wait_until(call.stdout.read_text, "the program")
    call.process.kill()
    call.wait()
    wait_until(lambda: '"stopped"' in runtime.ok("state", name), "the container's end")
    runtime.ok("delete", name)


def test_through_pipes(runtime: Runtime) -> None:
    """As a shell's pipeline has it: a megabyte in and out."""
    data = os.urandom(1 << 20)
    words = runtime.words("run", "-b", str(runtime.bundle("cat")), runtime.name())
    done = subprocess.run(words, input=data, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


@pytest.mark.ours("a pipe of runc's takes the place")
@pytest.mark.parametrize("closed", [0, 1, 2])
def test_with_a_closed_descriptor(runtime: Runtime, closed: int) -> None:
    """A caller may have closed its input or output: no file of the runtime may take that place."""
    marker = runtime.base / "marker"
    marker.mkdir()
    script = f"kind=$(stat -L -c %F /proc/$$/fd/{closed}); echo $kind > /out/file; exit 3"

    def out(config: Spec) -> None:
        config["mounts"].append(
            {"destination": "/tmp", "source": "tmpfs", "type": "tmpfs", "options": ["mode=1777"]}
        )
        config["mounts"].append(
            {"destination": "/tmp/out", "source": str(marker), "type": "bind", "options": ["bind"]}
        )

    bundle = str(runtime.bundle(script.replace("/out", "/tmp/out"), out))
    words = runtime.words("run", "-b", bundle, runtime.name())
    done = runtime.begin(["sh", "-c", f'exec "$@" {closed}>&-', "sh", *words]).wait()
    assert "Traceback" not in done.errors
    assert done.status == 3
    assert (marker / "file").read_text() in ("", "character special file\n")


def test_output_that_cannot_be_written(runtime: Runtime) -> None:
    """A full disk is no success."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            runtime.words("list"), stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode >= 1 or not runtime.is_ours


def test_a_program_reads_its_own_arguments(runtime: Runtime) -> None:
    """Nothing splits or changes them."""
    strange = ("a b", "", "*", "$HOME", "--root", "é\n", "'\"")
    done = runtime.run(("/bin/sh", "-c", 'printf "<%s>" "$@"', "sh", *strange))
    assert done.output == "".join(f"<{word}>" for word in strange)


def test_two_runs_beside_each_other(runtime: Runtime) -> None:
    """Two containers of one bundle know nothing of each other."""
    bundle = str(runtime.bundle("echo ready; exec sleep 600"))
    names = [runtime.name(), runtime.name()]
    calls = [runtime.begin(runtime.words("run", "-b", bundle, name)) for name in names]
    for call in calls:
        wait_until(call.stdout.read_text, "the program")
    assert runtime.containers() == sorted(names)
    for name, call in zip(names, calls, strict=True):
        runtime.ok("kill", name, "KILL")
        assert call.wait().status == 137


def test_waits_are_woken(runtime: Runtime) -> None:
    """An end is seen at once, whatever the program did to its output."""
    done = runtime.run("exec >&- 2>&- <&-; exit 6")
    assert done.status == 6
