"""The events of a command are what strace(1) saw in the engine: the same calls, and no others.

strace follows the engine, its spawner, the monitors, and all that they fork. The calls that count
are listed in tests/isolation/strace.py. Each process is compared by itself: in which order two of
them run is the scheduler's choice.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator

import pytest

from minicontainer import steps
from tests.conftest import CHECKOUT
from tests.learn.traced import Operation, TracedEngine

Story = Callable[[list[steps.Event]], list[steps.Event]]

SLEEP = ("busybox", "sleep", "1000")


def _needs() -> None:
    if os.geteuid() != 0:
        pytest.skip("an engine needs root")
    for program in ("strace", "nft"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")


@pytest.fixture(scope="module")
def engine() -> Iterator[TracedEngine]:
    """Give an engine under strace, whose image is made already."""
    _needs()
    made = TracedEngine()
    try:
        made("run", "--rm", "--net", "none", "busybox", "true")
        yield made
    finally:
        made.close()


RUNS = {
    "by default": (),
    "without a network": ("--net", "none"),
    "limits and a port": ("-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "-p", "8080:80"),
    "user namespace": ("--userns", "private", "--net", "none"),
    "volumes": ("-v", "/usr/share:/data:ro", "-v", "named:/data2", "--tmpfs", "/scratch"),
    "reaper, another user": ("--init", "--user", "1000:1000", "--read-only"),
    "host's namespaces": ("--net", "host", "--pid", "host", "--ipc", "host", "--uts", "host"),
    "privileged": ("--privileged", "--net", "none"),
}


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_a_run(engine: TracedEngine, options: tuple[str, ...]) -> None:
    """From the create request to the last rule that is taken back; all actors are in it."""
    operation = Operation(engine, "run", "--rm", *options, "busybox", "true")
    assert {event.actor for event in operation.events} >= {"engine", "spawner", "monitor", "init"}
    operation.check()


def test_a_run_that_fails(engine: TracedEngine) -> None:
    """What was made for it is taken back: also that is told."""
    operation = Operation(engine, "run", "--rm", "busybox", "/no/program", status=127)
    assert any(event.call == "rmdir" for event in operation.events)
    operation.check()


def test_a_life(engine: TracedEngine) -> None:
    """Create, start, exec, update, stop with its patience at an end, start again, rm."""
    life = (
        ("create", "--name", "life", "-m", "64m", *SLEEP),
        ("start", "life"),
        ("exec", "life", "true"),
        ("exec", "--user", "1000", "-t", "life", "true"),
        ("update", "-m", "96m", "--memory-swap", "-1", "life"),
        ("kill", "-s", "CONT", "life"),
        ("stop", "-t", "0", "life"),
        ("start", "life"),
        ("rm", "-f", "life"),
    )
    for words in life:
        Operation(engine, *words).check()


def test_stop_and_rm_tell_what_is_taken_back(engine: TracedEngine) -> None:
    """Signals, cgroups, the link's rules, the directory: by monitor and engine."""
    engine("run", "-d", "--name", "ends", *SLEEP)
    stopped = Operation(engine, "stop", "-t", "0", "ends")
    calls = [(event.actor, event.call) for event in stopped.events if event.call]
    assert ("engine", "pidfd_send_signal") in calls
    assert ("monitor", "rmdir") in calls
    assert {event.step for event in stopped.events} >= {"kill", "remove-cgroup"}
    stopped.check()
    removed = Operation(engine, "rm", "ends")
    (moved,) = (event for event in removed.events if event.call)
    assert (moved.call, moved.step) == ("rename", "discard-directory")
    removed.check()


# -- controls ------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[list[steps.Event], int], list[steps.Event]]] = {
    "left out": lambda events, i: events[:i] + events[i + 1 :],
    "invented": lambda events, i: events[: i + 1] + events[i:],
    "another error": lambda events, i: [*events[:i], events[i].replace(errno=1), *events[i + 1 :]],
    "another argument": lambda events, i: [
        *events[:i], events[i].replace(args=("x",)), *events[i + 1 :],
    ],
    "another place": lambda events, i: [events[i], *events[:i], *events[i + 1 :]],
}  # fmt: skip


def test_a_false_event_of_any_actor_is_found(engine: TracedEngine) -> None:
    """The control: one event changed, of engine, spawner, monitor or init, does not pass."""
    operation = Operation(engine, "run", "--rm", "busybox", "true")
    kept = operation.events
    for actor in ("engine", "spawner", "monitor", "init"):
        calls = [i for i, event in enumerate(kept) if event.actor == actor and event.call]
        for name, change in CHANGES.items():
            if actor == "spawner" and name == "another place":
                continue  # it has one call
            operation.events = change(kept, calls[len(calls) // 2])
            with pytest.raises(AssertionError):
                operation.check()
    operation.events = kept
    operation.check()


# An engine that sends a signal nobody is told of, whenever it removes a container's directory.
SECRETIVE = """
import os, sys
sys.path[:0] = [sys.argv.pop(1)]
from minicontainer.engine import bundles
discard = bundles.discard_directory
def discard_directory(container, trash):
    os.kill(os.getpid(), 0)
    discard(container, trash)
bundles.discard_directory = discard_directory
from minicontainer.cli.main import main
sys.exit(main())
"""


def test_a_call_without_an_event_is_found() -> None:
    """The control: a call that is added to the engine, and not noted, does not pass."""
    _needs()
    secretive = TracedEngine((sys.executable, "-c", SECRETIVE, str(CHECKOUT)))
    try:
        made = Operation(secretive, "create", "--name", "c1", "--net", "none", "busybox")
        assert made.done.status == 0
        removed = Operation(secretive, "rm", "c1")
        with pytest.raises(AssertionError, match="kill"):
            removed.check()
    finally:
        secretive.close()
