"""The creator ends when the program runs; and whichever process is killed, nothing stays."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minicontainer.engine import bundles
from minicontainer.errors import Error
from tests.engine.conftest import PATIENCE_S, cgroups_of, eventually

if TYPE_CHECKING:
    from minicontainer.engine.container import Container
    from tests.engine.conftest import Lab

_MOST_PRIVATE_KIB = 2048


def children(pid: int) -> list[int]:
    """List the children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _found(lab: Lab, name: str) -> int:
    """Find a process of that name below the spawner, or give 0."""
    for monitor in children(lab.engine.supervisor.spawner.pid):
        for pid in (monitor, *children(monitor)):
            if _name(pid) == name:
                return pid
    return 0


def _at_work(lab: Lab) -> list[int]:
    """List the processes below the spawner that do not wait for the next start."""
    below = children(lab.engine.supervisor.spawner.pid)
    return [pid for pid in below if _name(pid) != "minic:waiting"]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("PPid:")[2].split()[0])


def _private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _disturbed(lab: Lab, kill: Callable[[], bool]) -> tuple[str, str]:
    """Start a container while *kill* looks for its victim; give its ID, and the error."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        made = lab.create("sleep", "1000")
        found = threading.Event()
        begun = threading.Event()

        def hunt(found: threading.Event = found, begun: threading.Event = begun) -> None:
            while not begun.is_set() and not found.is_set():
                if kill():
                    found.set()

        hunter = threading.Thread(target=hunt)
        hunter.start()
        try:
            lab.engine.containers.start(made)
        except Error as error:
            return made, str(error)
        finally:
            begun.set()
            hunter.join()
        lab.engine.containers.remove(made, force=True)  # the victim was gone before it was found
    raise AssertionError("never found in time")


def _killed(pid: int) -> bool:
    if pid:
        os.kill(pid, signal.SIGKILL)
    return bool(pid)


def _assert_nothing_is_left(lab: Lab, made: str) -> None:
    eventually(lambda: not cgroups_of(made), "the cgroups to go")
    eventually(lambda: not _at_work(lab), "the processes to end")
    assert not lab.engine.supervisor.state_store.has(made)
    assert not os.path.exists(lab.engine.supervisor.socket_of(lab.engine.containers.find(made)))
    assert lab.state(made)["Status"] == "created"
    lab.engine.containers.start(made)  # and it can still be started
    assert lab.state(made)["Running"]


def test_a_killed_creator_leaves_nothing(lab: Lab) -> None:
    """The monitor, which sees it end, takes back what it had made."""
    made, error = _disturbed(lab, lambda: _killed(_found(lab, "minic:creator")))
    assert "killed" in error
    _assert_nothing_is_left(lab, made)


def test_a_fault_of_the_creator_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody foresaw is no kill: the error says what it was."""
    made = lab.create("sleep", "1000")

    def write_nonsense(container: Container, _: object) -> None:
        bundles.write_file(f"{container.directory}/config.json", "{")

    with monkeypatch.context() as patched:
        patched.setattr(bundles, "write_bundle", write_nonsense)
        with pytest.raises(Error, match="JSONDecodeError: "):
            lab.engine.containers.start(made)
    _assert_nothing_is_left(lab, made)


def test_a_killed_monitor_takes_its_creator_along(lab: Lab) -> None:
    """And the engine clears away what both had made."""

    def kill() -> bool:
        creator = _found(lab, "minic:creator")
        return bool(creator) and _killed(_parent(creator))

    made, error = _disturbed(lab, kill)
    assert "killed" in error
    _assert_nothing_is_left(lab, made)


def test_a_killed_init_is_explained(lab: Lab) -> None:
    """Only the monitor, its parent, can read how it ended."""
    made, error = _disturbed(lab, lambda: _killed(_found(lab, "minic:init")))
    assert "was killed before its program ran: if the memory limit is small" in error
    _assert_nothing_is_left(lab, made)


def test_the_monitor_is_alone_with_its_container_and_small(lab: Lab) -> None:
    """The creator has ended and was waited for; the pages that it wrote to went with it."""
    pid = lab.state(lab.start("sleep", "1000"))["Pid"]
    monitor = _parent(pid)
    eventually(lambda: children(monitor) == [pid], "the creator to be waited for")
    assert _private_kib(monitor) <= _MOST_PRIVATE_KIB


def test_without_a_creator_it_would_be_larger(lab: Lab) -> None:
    """The control: a joined namespace takes another way, and the monitor does all by itself."""
    first = lab.start("sleep", "1000")
    joined = lab.start("sleep", "1000", host={"NetworkMode": f"container:{first}"})
    assert _private_kib(_parent(lab.state(joined)["Pid"])) > _MOST_PRIVATE_KIB


@pytest.mark.parametrize("status", [0, 3])
def test_an_exit_status_comes_from_a_taken_container(lab: Lab, status: int) -> None:
    """The monitor is init's parent though another process has forked it."""
    assert lab.run("sh", "-c", f"exit {status}")[1] == status


def test_a_network_that_fails_leaves_no_program(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A creator that does not ask runs the program at once: the network comes before it."""
    made = lab.create("sleep", "1000")

    def fail(*_: object) -> None:
        raise Error("the network is gone")

    with monkeypatch.context() as patched:
        patched.setattr(lab.engine.networks, "connect_container", fail)
        with pytest.raises(Error, match="the network is gone"):
            lab.engine.containers.start(made)
    _assert_nothing_is_left(lab, made)


def test_what_killed_a_start_is_told_though_its_network_is_connected(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that nobody reads what the engine says then (EPIPE)."""
    made = lab.create("sleep", "1000", host={"NetworkMode": "bridge"})

    def kill(*_: object) -> None:
        monitor = _parent(_found(lab, "minic:creator"))
        os.kill(monitor, signal.SIGKILL)
        eventually(lambda: not _at_work(lab), "its end, and its creator's")

    with monkeypatch.context() as patched:
        patched.setattr(lab.engine.networks, "connect_container", kill)
        with pytest.raises(Error, match="the container's monitor was killed before the program"):
            lab.engine.containers.start(made)
