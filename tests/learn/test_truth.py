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
from pathlib import Path

import pytest

from minicontainer.event import Event
from tests.conftest import CHECKOUT
from tests.learn.traced import Operation, TracedEngine

Story = Callable[[list[Event]], list[Event]]

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
    "terminal": ("-t", "--net", "none"),
    "terminal of another user": ("-t", "--user", "12:34", "--net", "none"),
    "reaper and terminal": ("--init", "-t", "--net", "none"),
    "ordinary user": (
        "--user", "1000", "--security-opt", "no-new-privileges", "--cap-drop", "ALL",
        "--cap-add", "NET_RAW", "--ulimit", "nofile=100:200", "--net", "none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_a_run(engine: TracedEngine, options: tuple[str, ...]) -> None:
    """From the create request to the last rule that is taken back; all actors are in it.

    With a user namespace the monitor creates the container itself.
    """
    operation = Operation(engine, "run", "--rm", *options, "busybox", "true")
    actors = {event.actor for event in operation.events}
    assert actors >= {"engine", "spawner", "monitor", "init"}
    assert ("creator" in actors) == ("--userns" not in options)
    operation.check()


FAILURES = {
    "no such program": ((), "/no/program", 127),
    "no interpreter": (("-v", "SCRIPT:/script"), "/script", 127),
    "no interpreter, reaper": (("--init", "-v", "SCRIPT:/script"), "/script", 127),
    "a limit too high": (("--ulimit", "nofile=3000000000"), "true", 125),
    "mount over a file's child": (("--tmpfs", "/bin/busybox/below"), "true", 125),
}


@pytest.mark.parametrize("case", FAILURES.values(), ids=FAILURES.keys())
def test_a_run_that_fails(
    engine: TracedEngine, tmp_path: Path, case: tuple[tuple[str, ...], str, int]
) -> None:
    """What was made for it is taken back: also that is told."""
    options, program, status = case
    script = tmp_path / "script"
    script.write_text("#!/bin/nonsense\n")
    script.chmod(0o755)
    given = [option.replace("SCRIPT", str(script)) for option in options]
    operation = Operation(engine, "run", "--rm", *given, "busybox", program, status=status)
    assert any(event.call == "rmdir" for event in operation.events)
    operation.check()


def test_joined_namespaces(engine: TracedEngine) -> None:
    """A joiner stands between: it enters what is there, and forks init."""
    Operation(engine, "run", "-d", "--name", "joined", "--ipc", "shareable", *SLEEP)
    join = [word for kind in ("net", "pid", "ipc") for word in (f"--{kind}", "container:joined")]
    operation = Operation(engine, "run", "--rm", *join, "busybox", "true")
    assert "joiner" in {event.actor for event in operation.events}
    operation.check()
    engine("rm", "-f", "joined")


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
    Operation(engine, "run", "-d", "--name", "ends", *SLEEP)  # strace has written all of it
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

CHANGES: dict[str, Callable[[list[Event], int], list[Event]]] = {
    "left out": lambda events, i: events[:i] + events[i + 1 :],
    "invented": lambda events, i: events[: i + 1] + events[i:],
    "another error": lambda events, i: [*events[:i], events[i].replace(errno=1), *events[i + 1 :]],
    "another argument": lambda events, i: [
        *events[:i], events[i].replace(args=("x",)), *events[i + 1 :],
    ],
    "another place": lambda events, i: [events[i], *events[:i], *events[i + 1 :]],
}  # fmt: skip


def test_a_false_event_of_any_actor_is_found(engine: TracedEngine) -> None:
    """The control: one event changed, of any process, does not pass."""
    operation = Operation(engine, "run", "--rm", "busybox", "true")
    kept = operation.events
    for actor in ("engine", "spawner", "monitor", "creator", "init"):
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
