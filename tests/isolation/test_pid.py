"""PID namespaces: pid_namespaces(7)."""

from __future__ import annotations

import os

from tests.conftest import Run


def test_a_container_sees_only_its_own_processes(run: Run) -> None:
    """A PID namespace with its own /proc shows process 1 and no other."""
    assert run("cd /proc && echo [0-9]*").output.split() == ["1"]


def test_without_a_pid_namespace_it_sees_the_hosts(run: Run) -> None:
    """The control: the same look, the isolation left out, finds this very test."""
    assert str(os.getpid()) in run("cd /proc && echo [0-9]*", without="pid").output.split()


def test_the_kernel_gives_it_another_namespace(run: Run) -> None:
    """The links under /proc/PID/ns name another namespace than this process's."""
    container = run.start("echo ready; sleep 60")
    assert os.readlink(f"/proc/{container.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
