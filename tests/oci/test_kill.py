"""kill: a signal for the first process, or for all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.isolation.conftest import status_of

from .kernel import descendants, is_alive
from .runtime import Container, Runtime, Spec

# It takes four signals by their names; `wait` is what a signal interrupts
TRAPS = (
    'for name in TERM HUP USR1 USR2; do trap "echo got $name" $name; done; '
    "sleep 600 & child=$!; "
    # until it is what it will be: the look for what is left compares names
    "until read name < /proc/$child/comm && [ $name = sleep ]; do :; done; "
    "echo ready; while :; do wait $child; done"
)
# What engines get to see for a container that has ended.
FINISHED = ("container not running", "no such process", "process already finished")


def without_pid_namespace(config: Spec) -> None:
    """Let the container's processes be the host's, which process 1 does not take with it."""
    spaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [one for one in spaces if one["type"] != "pid"]


@pytest.fixture
def trapping(runtime: Runtime) -> Container:
    """A container whose program tells the signals it gets."""
    return runtime.start(TRAPS)


@pytest.mark.parametrize(
    ("word", "got"),
    [
        ("15", "TERM"), ("TERM", "TERM"), ("SIGTERM", "TERM"), ("term", "TERM"),
        ("sigterm", "TERM"), ("1", "HUP"), ("SIGUSR1", "USR1"), ("12", "USR2"),
    ],
)  # fmt: skip
def test_names_and_numbers(runtime: Runtime, trapping: Container, word: str, got: str) -> None:
    """As kill(1) takes them; engines send numbers."""
    runtime.ok("kill", trapping.id, word)
    trapping.wait_for(f"got {got}")


def test_term_is_the_signal_when_none_is_named(runtime: Runtime, trapping: Container) -> None:
    """As kill(1) has it."""
    runtime.ok("kill", trapping.id)
    trapping.wait_for("got TERM")


@pytest.mark.parametrize("word", ["SIGNO", "KILLED", "65", "1000", "1.5", "9 9"])
def test_a_signal_that_is_none(runtime: Runtime, trapping: Container, word: str) -> None:
    """Said by name; nothing was sent."""
    runtime.refused("kill", trapping.id, word, says="signal")
    assert trapping.output() == "ready\n"


@pytest.mark.ours("runc takes -1 for an option, and nothing for TERM")
@pytest.mark.parametrize("words", [("-1",), ("",), ("--", "-1"), ("--", "-9")], ids=" ".join)
def test_a_number_that_no_signal_has(
    runtime: Runtime, trapping: Container, words: tuple[str, ...]
) -> None:
    """kill(2) would understand something else by it."""
    runtime.refused("kill", *words[:-1], trapping.id, words[-1])
    assert trapping.output() == "ready\n"


def test_a_created_container(runtime: Runtime) -> None:
    """It has a process, which ends."""
    container = runtime.create("echo begun")
    runtime.ok("kill", container.id, "9")
    container.wait_stopped()
    assert container.output() == ""


@pytest.mark.parametrize("word", ["TERM", "INT", "HUP", "QUIT"])
def test_a_created_container_ends_by_less_than_kill(runtime: Runtime, word: str) -> None:
    """Though it is process 1, which the kernel spares what it has no handler for."""
    container = runtime.create("echo begun")
    runtime.ok("kill", container.id, word)
    container.wait_stopped()
    assert container.output() == ""


def test_what_ends_a_created_container_does_not_end_a_program(runtime: Runtime) -> None:
    """It is process 1 and has no handler, and nothing of those that it had before."""
    container = runtime.start()
    status = status_of(container.pid)
    ours = ~(0b11 << 31)  # 32 and 33 are libc's own: what make(1) starts ignores them
    assert [int(status[name], 16) & ours for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]
    runtime.ok("kill", container.id, "TERM")
    assert container.status == "running"


def test_afinished_container(runtime: Runtime) -> None:
    """containerd tells from the text that there is nothing to kill any more."""
    container = runtime.start(("true",))
    container.wait_stopped()
    for word in ("TERM", "9"):
        runtime.refused("kill", container.id, word, says=FINISHED)


def test_signal_0_asks_whether_it_runs(runtime: Runtime, trapping: Container) -> None:
    """Nothing is sent; with --all it may have ended: kill(2)."""
    runtime.ok("kill", trapping.id, "0")
    trapping.kill()
    runtime.refused("kill", trapping.id, "0", says=("not running", "already finished"))
    runtime.ok("kill", "--all", trapping.id, "0")


def test_an_unknown_container(runtime: Runtime) -> None:
    """The same, by other words."""
    runtime.refused("kill", runtime.name(), "9", says="does not exist")


def test_process_one_may_not_want_to_hear(runtime: Runtime) -> None:
    """The kernel keeps from process 1 what it has no handler for, save SIGKILL."""
    container = runtime.start()
    runtime.ok("kill", container.id, "TERM")
    assert container.status == "running"
    container.kill("SIGKILL")


def test_the_first_process_alone(runtime: Runtime) -> None:
    """Its children don't get the signal."""
    container = runtime.start(f"(trap 'echo child' USR1; while :; do sleep 1; done) & {TRAPS}")
    runtime.ok("kill", container.id, "USR1")
    container.wait_for("got USR1")
    assert "child" not in container.output()


def test_all(runtime: Runtime) -> None:
    """Every process of the container."""
    child = "trap 'echo child' USR1; echo up; while :; do sleep 600 & wait $!; done"
    container = runtime.start(f"({child}) & {TRAPS}")
    container.wait_for("up")
    container.wait_for("ready")
    runtime.ok("kill", "--all", container.id, "USR1")
    container.wait_for("child")
    container.wait_for("got USR1")


@pytest.mark.parametrize("option", ["--all", "-a"])
def test_all_of_a_container_that_shares_the_hosts_processes(runtime: Runtime, option: str) -> None:
    """Without a PID namespace they don't end with the first one."""
    container = runtime.start("sleep 600 & sleep 600 & echo ready; exec sleep 600",
                              without_pid_namespace)  # fmt: skip
    pid = container.pid
    members = [pid, *descendants(pid)]
    assert len(members) == 3
    runtime.ok("kill", option, container.id, "KILL")
    wait_until(lambda: not any(map(is_alive, members)), "the end of all")


@pytest.mark.ours("runc 1.1.5 looks only whether it is the host's")
def test_kill_in_a_pid_namespace_that_was_joined(runtime: Runtime) -> None:
    """As in a pod: its processes don't end with the first one, which is not process 1."""
    pod = runtime.start()
    pod_pid = pod.pid

    def join(config: Spec) -> None:
        for row in config["linux"]["namespaces"]:
            if row["type"] == "pid":
                row["path"] = f"/proc/{pod_pid}/ns/pid"

    script = "sleep 600 & sleep 600 & echo ready; exec sleep 600"
    container = runtime.start(script, join)
    members = [container.pid, *descendants(container.pid)]
    assert len(members) == 3
    runtime.ok("kill", container.id, "KILL")
    wait_until(lambda: not any(map(is_alive, members)), "the end of all")
    assert is_alive(pod_pid)


def test_all_when_the_first_has_ended(runtime: Runtime) -> None:
    """What it left behind is still in its cgroup."""
    before = set(descendants())
    container = runtime.start("sleep 600 & echo ready", without_pid_namespace)
    container.wait_stopped()
    left = [pid for pid in set(descendants()) - before if is_alive(pid)]
    assert len(left) == 1
    runtime.ok("kill", "--all", container.id, "KILL")
    wait_until(lambda: not is_alive(left[0]), "its end")


@pytest.mark.ours("runc 1.1.5 does so only with --all")
def test_kill_when_the_first_has_ended(runtime: Runtime) -> None:
    """Of what it left behind nothing goes on; then there is nobody to kill any more."""
    before = set(descendants())
    container = runtime.start("sleep 600 & echo ready", without_pid_namespace)
    container.wait_stopped()
    (left,) = [pid for pid in set(descendants()) - before if is_alive(pid)]
    assert any(text in container("kill", "TERM").errors for text in FINISHED)
    assert is_alive(left)
    assert container("kill", "KILL").status == 0
    assert not is_alive(left)
    assert any(text in container("kill", "KILL").errors for text in FINISHED)


def test_delete_by_force_ends_what_the_first_left(runtime: Runtime) -> None:
    """The same, at deletion."""
    before = set(descendants())
    container = runtime.start("sleep 600 & sleep 600 & echo ready", without_pid_namespace)
    container.wait_stopped()
    left = [pid for pid in set(descendants()) - before if is_alive(pid)]
    assert len(left) == 2
    assert container("delete", "--force").status == 0  # runc waits for their end by warnings
    assert not any(map(is_alive, left))


def test_delete_by_force_ends_all_of_a_running_one(runtime: Runtime) -> None:
    """The first one and its children."""
    container = runtime.start("sleep 600 & echo ready; exec sleep 600", without_pid_namespace)
    members = [container.pid, *descendants(container.pid)]
    assert container("delete", "--force").status == 0
    wait_until(lambda: not any(map(is_alive, members)), "the end of all")


def test_nobody_else_gets_it(runtime: Runtime) -> None:
    """A container beside it, of the same bundle, and this process's own group."""
    first, second = runtime.start(), runtime.start()
    pid = second.pid
    runtime.ok("kill", "--all", first.id, "KILL")
    first.wait_stopped()
    assert is_alive(pid)
    assert Path(f"/proc/{os.getpid()}").exists()


def test_a_paused_container(runtime: Runtime) -> None:
    """SIGKILL works there too: on v1 only a thawed process dies of it."""
    container = runtime.start()
    pid = container.pid
    runtime.ok("pause", container.id)
    runtime.ok("kill", container.id, "KILL")
    wait_until(lambda: not is_alive(pid), "its end")
    assert container.status == "stopped"


def test_words_too_many(runtime: Runtime, trapping: Container) -> None:
    """One signal at a time."""
    assert runtime("kill", trapping.id, "USR1", "USR2", "HUP").status >= 1
    assert trapping.output() == "ready\n"
