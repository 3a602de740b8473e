"""pause and resume: all processes stand still, and run on."""

from __future__ import annotations

import time

from tests.conftest import wait_until

from .kernel import is_frozen
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
