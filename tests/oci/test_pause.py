"""pause and resume: all processes stand still, and run on."""

from __future__ import annotations

import contextlib
import signal
import time

import pytest

from tests.conftest import wait_until

from .kernel import descendants, is_alive, is_frozen
from .runtime import Runtime

COUNTS = "echo ready; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"


def test_the_processes_stand_still_and_run_on(runtime: Runtime) -> None:
    """The freezer says so, and the program's output too."""
    container = runtime.start(COUNTS)
    runtime.ok("pause", container.id)
    assert is_frozen(container.pid)
    assert container.status == "paused"
    before = container.output()
    time.sleep(0.1)  # not for something to happen, but for nothing to
    assert container.output() == before
    runtime.ok("resume", container.id)
    assert not is_frozen(container.pid)
    assert container.status == "running"
    wait_until(lambda: len(container.output()) > len(before), "more output")


def test_a_created_container(runtime: Runtime) -> None:
    """It may be paused, and does not start then."""
    container = runtime.create()
    runtime.ok("pause", container.id)
    assert container.status == "paused"
    runtime.ok("resume", container.id)
    assert container.status == "created"
    container.start()


def test_pause_twice(runtime: Runtime) -> None:
    """The second time there is nothing to do, and that is said."""
    container = runtime.start()
    runtime.ok("pause", container.id)
    runtime.refused("pause", container.id, says=("paused", "not running"))
    assert is_frozen(container.pid)


def test_resume_what_is_not_paused(runtime: Runtime) -> None:
    """The same."""
    container = runtime.start()
    runtime.refused("resume", container.id, says="not paused")
    assert container.status == "running"


def test_a_container_that_has_ended(runtime: Runtime) -> None:
    """Neither can be done."""
    container = runtime.start(("true",))
    container.wait_stopped()
    runtime.refused("pause", container.id)
    runtime.refused("resume", container.id, says="not paused")


def test_an_unknown_container(runtime: Runtime) -> None:
    """The usual words."""
    for command in ("pause", "resume"):
        runtime.refused(command, runtime.name(), says="does not exist")


def test_start_of_a_paused_container(runtime: Runtime) -> None:
    """It would hang: refused, or at once."""
    container = runtime.create("echo begun")
    runtime.ok("pause", container.id)
    runtime.refused("start", container.id)
    assert container.output() == ""


@pytest.mark.ours("runc's goes on waiting")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_exec_that_waits_for_it_ends(runtime: Runtime, number: int) -> None:
    """By a signal; and the program does not run when the container does again."""
    container = runtime.start()
    runtime.ok("pause", container.id)
    before = set(descendants())
    words = ("exec", "--ignore-paused", container.id, "sh", "-c", "echo through; exec sleep 77")
    call = runtime.begin(runtime.words(*words))

    def stands() -> bool:
        new = set(descendants()) - before - {call.process.pid}
        for pid in filter(is_alive, new):
            # it may still be on its way: in the root group, which has no such file, or gone
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if is_frozen(pid):
                    return True
        return False

    wait_until(stands, "a process in the paused container")
    call.process.send_signal(number)
    assert call.wait().status in (128 + number, -number)
    runtime.ok("resume", container.id)
    wait_until(lambda: not any(map(is_alive, set(descendants()) - before)), "its end")
    assert call.stdout.read_text() == ""
