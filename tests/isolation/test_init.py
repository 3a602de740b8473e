"""Process 1: orphans and signals, with and without --init. pid_namespaces(7), wait(2)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tests.conftest import PATIENCE_S, Run, Running, wait_until

from .conftest import members_of, namespace_of, status_of

# A child whose parent ends first: an orphan, and process 1's to wait for. It ends itself when the
# shell has become `sleep`, which waits for nobody.
_ORPHAN = """
export SHELL_PID=$$
sh -c '(until grep -q sleep /proc/$SHELL_PID/comm; do :; done; echo ready) & exit 0'
exec sleep 600
"""


def _states(container: Running) -> dict[str, str]:
    """Give the states of the children of process 1, by name: proc_pid_stat(5)."""
    listed = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    found = {}
    for pid in listed:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # reaped meanwhile
            status = status_of(pid)
            found[status["Name"]] = status["State"][0]
    return found


def test_without_it_an_orphan_stays_a_zombie(run: Run) -> None:
    """The control: `sleep` waits for nobody."""
    container = run.start(_ORPHAN)
    wait_until(lambda: _states(container) == {"sh": "Z"}, "a zombie")


def test_with_it_orphans_are_reaped(run: Run) -> None:
    """What is left is the program."""
    container = run.start(_ORPHAN, "--init")
    wait_until(lambda: _states(container) == {"sleep": "S"}, "the zombie's end")


def test_the_program_is_process_2(run: Run) -> None:
    """And process 1 shows the name that Docker's has, and what it runs."""
    script = "echo $$; cat /proc/1/comm; tr '\\0' ' ' < /proc/1/cmdline"
    said = run(script, "--init").output
    assert said.startswith("2\ndocker-init\n/sbin/docker-init -- /bin/sh -c echo $$;")
    assert "docker-init" not in run(script).output
    assert run("echo $$", "--init").output != run("echo $$").output


def test_without_it_a_signal_is_ignored(run: Run) -> None:
    """The control: process 1 gets none that it has no handler for; the kernel drops it at once."""
    container = run.start("echo ready; exec sleep 600")
    wait_until(lambda: status_of(container.pid)["State"][0] == "S", "its sleep")
    os.kill(container.pid, signal.SIGTERM)
    status = status_of(container.pid)
    assert (status["State"][0], int(status["ShdPnd"], 16)) == ("S", 0)


def test_with_it_signals_are_passed_on(run: Run) -> None:
    """SIGTERM to the command ends the program as it would without a container."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        container = run.start("echo ready; exec sleep 600", "--init")
        container.process.send_signal(number)
        assert container.process.wait(PATIENCE_S) == 128 + number


def test_the_exit_status_is_the_programs(run: Run) -> None:
    """Or 128 and its signal's number."""
    assert run("exit 42", "--init").status == 42
    assert run("kill -9 $$", "--init").status == 137
    assert run(("/no/such",), "--init").status == 127
    assert run(("/etc",), "--init").status == 126


def test_it_ends_with_the_program(run: Run) -> None:
    """Whoever else is left in the namespace ends too."""
    container = run.start("sleep 600 & echo ready; exec sleep 600", "--init")
    namespace = namespace_of(container.pid, "pid")
    assert len(members_of(namespace)) == 3
    for pid in members_of(namespace) - {container.pid}:
        if "PPid" in status_of(pid) and status_of(pid)["PPid"] == str(container.pid):
            os.kill(pid, signal.SIGKILL)
            break
    assert container.process.wait(PATIENCE_S) == 137
    wait_until(lambda: not members_of(namespace), "the namespace's end")


def test_it_has_no_more_rights_than_the_program(run: Run) -> None:
    """Capabilities, filter and user are the container's before it waits."""
    container = run.start("echo ready; exec sleep 600", "--init", "--user", "user")
    status = status_of(container.pid)
    assert status["Uid"].split() == ["1000"] * 4
    assert int(status["CapEff"], 16) == 0
    assert status["Seccomp"] == "2"


def test_without_a_pid_namespace_it_reaps_all_the_same(run: Run) -> None:
    """As a subreaper: it is not process 1, but the nearest to adopt: PR_SET_CHILD_SUBREAPER."""
    container = run.start(_ORPHAN, "--init", without="pid")
    wait_until(lambda: _states(container) == {"sleep": "S"}, "the zombie's end")
