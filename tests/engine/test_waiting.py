"""Processes that wait for the next start or exec: they are used, replaced, and end with the engine.

They are named `minic:waiting`: a monitor, its creator, and a parent for the program of an exec.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minicontainer.engine import connections, spawning
from minicontainer.errors import Error, Unsupported
from tests.engine.conftest import PATIENCE_S, eventually, payload
from tests.engine.test_crashes import name_of, parent_of

if TYPE_CHECKING:
    from minicontainer.record import Record
    from tests.engine.conftest import Daemon, Lab

_STARTS_AT_ONCE = 6


def waiting_below(parent: int) -> list[int]:
    """List the processes below another one that wait, those below them too; all in their order."""
    found = []
    with contextlib.suppress(OSError):
        for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with contextlib.suppress(OSError):
                found += [int(word)] if name_of(int(word)) == "minic:waiting" else []
            found += waiting_below(int(word))
    return found


def _are_there(pids: list[int]) -> bool:
    return any(Path(f"/proc/{pid}").exists() for pid in pids)


def _exec(lab: Lab, made: str) -> int:
    """Run a program in a container to its end; give the exit status."""
    asked = lab.engine.execs.create(made, {"Cmd": ["sh", "-c", "exit 3"]})["Id"]
    lab.engine.execs.start(asked, {}, None)
    eventually(lambda: not lab.engine.execs.inspect(asked)["Running"], "the exec to end")
    status: int = lab.engine.execs.inspect(asked)["ExitCode"]
    return status


def _with_all_waiting(lab: Lab) -> tuple[str, list[int]]:
    """Start a container, and run a program in it; give its ID, and who waits from then on."""
    made = lab.start("sleep", "1000")
    assert _exec(lab, made) == 3
    spawner = lab.engine.supervisor.spawner.pid
    eventually(
        lambda: len(waiting_below(spawner)) == 3, "a monitor, a creator and an exec's parent"
    )
    return made, waiting_below(spawner)


def test_they_end_with_the_engine(lab: Lab) -> None:
    """They see that their connection is closed; nobody else has a copy of its other end."""
    made, waiting = _with_all_waiting(lab)
    lab.engine.containers.remove(made, force=True)
    lab.engine.supervisor.close()
    eventually(lambda: not _are_there(waiting), "their end")


def test_they_end_with_a_killed_engine(daemon: Daemon) -> None:
    """A container that runs meanwhile keeps none of them."""
    pid = daemon.inspect(daemon.run("sleep", "1000"))["State"]["Pid"]
    spawner = parent_of(parent_of(pid))
    eventually(lambda: len(waiting_below(spawner)) == 2, "the next monitor and its creator")
    waiting = waiting_below(spawner)
    daemon.kill()
    eventually(lambda: not _are_there([spawner, *waiting]), "their end")
    assert Path(f"/proc/{pid}").exists()


def test_those_of_a_killed_spawner_are_used(lab: Lab) -> None:
    """They are the engine's, by their connections; its next spawner forks the next ones."""
    made, waiting = _with_all_waiting(lab)
    before = lab.engine.supervisor.spawner.pid
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)  # its connections are closed
    next_made = lab.start("sleep", "1000")
    assert parent_of(lab.state(next_made)["Pid"]) in waiting
    assert _exec(lab, made) == 3
    eventually(lambda: not _are_there([before]), "the end of the killed one")
    eventually(lambda: len(waiting_below(lab.engine.supervisor.spawner.pid)) == 3, "the next ones")


@pytest.mark.parametrize("victim", [0, 1, 2], ids=["monitor", "creator", "exec parent"])
def test_a_killed_one_is_replaced(lab: Lab, victim: int) -> None:
    """The next start and the next exec have another one."""
    made, waiting = _with_all_waiting(lab)
    os.kill(waiting[victim], signal.SIGKILL)
    eventually(lambda: not _are_there([waiting[victim]]), "its end")
    lab.start("sleep", "1000")
    assert _exec(lab, made) == 3


def test_they_keep_nothing_open_that_the_engine_inherited(lab: Lab) -> None:
    """A socket of systemd's would stay open as long as a container that was started with it."""
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)
    spawner = spawning.Spawner()
    os.close(writes)
    ready, _, _ = select.select([reads], [], [], PATIENCE_S)
    spawner.close()
    os.close(reads)
    assert ready  # an end of file: nobody has the other end any more


@pytest.mark.parametrize("more", [{}, {"Without": ["set-hostname"]}], ids=["creator", "monitor"])
def test_one_without_room_for_the_clients_starts_nothing(lab: Lab, more: dict[str, object]) -> None:
    """The kernel drops descriptors that find no room: the error says so, and no program has run."""
    _, waiting = _with_all_waiting(lab)
    made = lab.create("sleep", "1000", host=more)
    clients = [lab.attach(made) for _ in range(2)]
    open_ones = {int(name) for name in os.listdir(f"/proc/{waiting[0]}/fd")}
    most = max(open_ones) + 2
    gaps = most - len(open_ones)
    clients += [lab.attach(made) for _ in range(gaps)]
    _, hard = resource.prlimit(waiting[0], resource.RLIMIT_NOFILE)
    resource.prlimit(waiting[0], resource.RLIMIT_NOFILE, (most, hard))
    with pytest.raises(Error, match=r"Too many open files: raise the limit \(ulimit -n\)"):
        lab.engine.containers.start(made)
    assert lab.state(made)["Status"] == "created"
    assert [client.received() for client in clients] == [b""] * len(clients)
    lab.engine.containers.start(made)
    assert lab.state(made)["Running"]


def test_starts_at_once_leave_one_monitor(lab: Lab) -> None:
    """A thread that finds none has one forked for itself; one alone waits in the end."""
    made = [lab.create("sleep", "1000") for _ in range(_STARTS_AT_ONCE)]
    with ThreadPoolExecutor(_STARTS_AT_ONCE) as threads:
        list(threads.map(lab.engine.containers.start, made))
    assert all(lab.state(one)["Running"] for one in made)
    spawner = lab.engine.supervisor.spawner.pid
    eventually(lambda: len(waiting_below(spawner)) == 2, "a monitor and its creator to wait")


def test_a_start_does_not_need_the_next_process(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the next one can't be forked, the container that has one runs all the same."""
    lab.start("sleep", "1000")

    def refuse(*_: object) -> None:
        raise Unsupported("no process any more")

    monkeypatch.setattr(spawning.Spawner, "_fork_ahead", refuse)
    made = lab.start("sleep", "1000")
    assert lab.state(made)["Running"]


def test_a_step_is_left_out_though_nobody_follows(lab: Lab) -> None:
    """The monitor that waits for the start has not heard of `--without` before."""
    lab.start("sleep", "1000")
    made, _ = lab.run("hostname", host={"Without": ["set-hostname"]}, Hostname="chosen")
    assert payload(lab.logs(made)).decode().strip() == os.uname().nodename


@pytest.mark.parametrize("network", ["none", "bridge"])
@pytest.mark.parametrize("victim", [0, 1], ids=["monitor", "creator"])
def test_one_killed_before_it_took_its_container_is_replaced(
    lab: Lab, victim: int, network: str
) -> None:
    """Nothing was done when its task was left unread: another one does it, once.

    The creator reads it, and dies with its monitor.
    """
    _, waiting = _with_all_waiting(lab)
    spawner = lab.engine.supervisor.spawner.pid
    made = lab.create("sh", "-c", "echo once; sleep 1000", host={"NetworkMode": network})
    os.kill(waiting[1], signal.SIGSTOP)  # so that it takes no message
    with ThreadPoolExecutor(1) as thread:
        begun = thread.submit(lab.engine.containers.start, made)
        eventually(lambda: len(waiting_below(spawner)) == 5, "the next ones")
        os.kill(waiting[victim], signal.SIGKILL)
        begun.result()
    assert lab.state(made)["Running"]
    eventually(lambda: payload(lab.logs(made)) == b"once\n", "its output")
    eventually(lambda: not _are_there(waiting[:2]), "the end of those that waited")


def test_one_killed_before_it_took_its_exec_is_replaced(lab: Lab) -> None:
    """The program has another parent."""
    made, waiting = _with_all_waiting(lab)
    os.kill(waiting[2], signal.SIGSTOP)
    with ThreadPoolExecutor(1) as thread:
        begun = thread.submit(_exec, lab, made)
        eventually(
            lambda: len(waiting_below(lab.engine.supervisor.spawner.pid)) == 4, "the next one"
        )
        os.kill(waiting[2], signal.SIGKILL)
        assert begun.result() == 3


def test_a_killed_parent_of_an_exec_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error does not blame the container's monitor, which lives; and no descriptor is left."""
    made, waiting = _with_all_waiting(lab)
    asked = lab.engine.execs.create(made, {"Cmd": ["true"]})["Id"]
    before = len(os.listdir("/proc/self/fd"))

    def killed_too(_: object, message: Record, clients: list[int]) -> connections.Connection:
        ours, theirs = connections.pair()
        ours.send(message, clients)
        theirs.close()
        return ours

    monkeypatch.setattr(spawning.Spawner, "_fork_and_begin", killed_too)
    os.kill(waiting[2], signal.SIGSTOP)  # so that it takes no message
    with ThreadPoolExecutor(1) as thread:
        begun = thread.submit(lab.engine.execs.start, asked, {}, None)
        eventually(lambda: lab.engine.execs.find(asked).running, "the exec to begin")
        eventually(
            lambda: len(waiting_below(lab.engine.supervisor.spawner.pid)) == 4, "the next one"
        )
        os.kill(waiting[2], signal.SIGKILL)
        with pytest.raises(Error, match="the process that starts it was killed"):
            begun.result()
    del begun
    assert len(os.listdir("/proc/self/fd")) == before
    assert lab.state(made)["Running"]
