"""PID namespaces: pid_namespaces(7)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.conftest import Run, wait_until

from .conftest import is_ours, leaks, members_of, namespace_of, status_of


def test_a_container_sees_only_its_own_processes(run: Run) -> None:
    """A PID namespace with its own /proc shows process 1 and no other."""
    assert run("cd /proc && echo [0-9]*").output.split() == ["1"]


def test_without_a_pid_namespace_it_sees_the_hosts(run: Run) -> None:
    """The control: the same look, the isolation left out, finds this very test."""
    assert str(os.getpid()) in run("cd /proc && echo [0-9]*", without="pid").output.split()


def test_the_kernel_gives_it_another_namespace(run: Run) -> None:
    """The links under /proc/PID/ns name another namespace than this process's."""
    pid = run.start("echo ready; sleep 60").pid
    assert not is_ours(pid, "pid")
    assert leaks(pid, "pid") == {}


def test_without_one_the_kernel_says_the_same(run: Run) -> None:
    """The control."""
    pid = run.start("echo ready; sleep 60", without="pid").pid
    assert is_ours(pid, "pid")
    assert leaks(pid, "pid").keys() == {"processes", "signals"}


def test_its_program_is_process_1(run: Run) -> None:
    """Two numbers: the host's, and in the namespace 1."""
    container = run.start("echo ready; sleep 60")
    assert status_of(container.pid)["NSpid"].split() == [str(container.pid), "1"]
    assert run("echo $$").output == "1\n"


def test_without_a_namespace_it_has_one_number(run: Run) -> None:
    """The control."""
    container = run.start("echo ready; sleep 60", without="pid")
    assert status_of(container.pid)["NSpid"].split() == [str(container.pid)]


def test_a_kill_from_inside_does_not_reach_the_host(
    run: Run, process: subprocess.Popen[bytes]
) -> None:
    """The host's number names nobody inside."""
    assert "No such process" in run(f"kill -9 {process.pid}").errors
    assert process.poll() is None


def test_without_a_namespace_the_kill_arrives(run: Run, process: subprocess.Popen[bytes]) -> None:
    """The control."""
    assert run(f"kill -9 {process.pid}", without="pid").status == 0
    assert process.wait() == -9


def test_process_1_is_immune_from_inside(run: Run) -> None:
    """Of its own namespace it gets only signals that it has a handler for, not even SIGKILL."""
    assert run("kill -9 1; kill -15 1; echo alive").output == "alive\n"


def test_the_others_end_with_process_1(run: Run) -> None:
    """The kernel kills the rest of the namespace."""
    container = run.start("sleep 600 & sleep 600 & echo ready; wait")
    namespace = namespace_of(container.pid, "pid")
    assert len(members_of(namespace)) == 3
    container.stop()
    wait_until(lambda: not members_of(namespace), "the namespace's end")


def test_a_namespace_can_be_another_containers(run: Run) -> None:
    """`container:NAME`: both see the same processes."""
    other = run.start("echo ready; sleep 4321")
    name = str(other.state["id"])
    assert "sleep 4321" in run("ps", "--pid", f"container:{name}").output
    joined = run.start("echo ready; sleep 60", "--pid", f"container:{name}")
    assert namespace_of(joined.pid, "pid") == namespace_of(other.pid, "pid")
    assert joined.pid != other.pid


def test_a_namespace_can_be_joined_by_path(run: Run) -> None:
    """`ns:PATH`: what setns(2) takes."""
    other = run.start("echo ready; sleep 4321")
    joined = run.start("echo ready; sleep 60", "--pid", f"ns:/proc/{other.pid}/ns/pid")
    assert namespace_of(joined.pid, "pid") == namespace_of(other.pid, "pid")


def test_without_joining_a_container_sees_nothing_of_another(run: Run) -> None:
    """The control."""
    run.start("echo ready; sleep 4321")
    assert "sleep 4321" not in run("ps").output


def test_a_container_that_joins_ends_alone(run: Run) -> None:
    """Its first process is not the namespace's: the other one lives on."""
    other = run.start("echo ready; sleep 600")
    joined = run.start("echo ready; sleep 600", "--pid", f"ns:/proc/{other.pid}/ns/pid")
    joined.stop()
    assert joined.process.returncode == 137
    assert Path(f"/proc/{other.pid}").exists()


def test_joining_nobody_is_refused(run: Run) -> None:
    """A name that no container has; a path that is no namespace."""
    nobody = run("true", "--pid", "container:nobody")
    assert (nobody.status, nobody.errors) == (
        125,
        "minicontainer: Error response from daemon: No such container: nobody\n",
    )
    no_path = run("true", "--pid", "ns:/nowhere")
    assert no_path.status == 125
    assert "open pid namespace /nowhere: No such file or directory" in no_path.errors
    wrong = run("true", "--pid", "ns:/proc/self/ns/uts")
    assert wrong.status == 125
    assert "it is not a pid namespace" in wrong.errors
