"""A disk without room, and a database that another process holds: one request fails, with a reason.

The engine stays, what was half made goes, and no exit status is lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.engine.conftest import PATIENCE_S, Daemon, cgroups_of, payload
from tests.engine.test_crashes import parent_of
from tests.engine.test_creator import children
from tests.engine.test_waiting import waiting_below

Json = Any
WAITS = ("sh", "-c", "rm -f /run/go; while [ ! -e /run/go ]; do sleep 0.01; done; exit 7")


@pytest.fixture
def small(roots: Path, busybox: Path) -> Iterator[Daemon]:
    """An engine whose data root is a file system of 8 MB."""
    data = roots / "data"
    data.mkdir()
    options = ("-t", "tmpfs", "-o", "size=8m,mode=711")
    subprocess.run(["mount", *options, "tmpfs", str(data)], check=True)
    try:
        made = Daemon(roots, busybox)
        yield made
        (data / "filler").unlink(missing_ok=True)
        made.close()
    finally:
        subprocess.run(["umount", str(data)], check=True)


def fill(daemon: Daemon) -> None:
    """Leave no room."""
    with (daemon.base / "data/filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


def body_of(daemon: Daemon, *program: str, **host: Json) -> Json:
    """Write a create request."""
    return {"Rootfs": str(daemon.rootfs), "Cmd": list(program),
            "HostConfig": {"NetworkMode": "none", "Tmpfs": {"/run": ""}, **host}}  # fmt: skip


def end(daemon: Daemon, made: str) -> None:
    """Let the program end, and wait for that."""
    pid = daemon.inspect(made)["State"]["Pid"]
    Path(f"/proc/{pid}/root/run/go").touch()
    wait_until(lambda: not daemon.inspect(made)["State"]["Running"], "the end")


def test_a_full_disk(small: Daemon) -> None:
    """What can't be kept is refused; what runs goes on, and its exit status is kept."""
    running = small.run(*WAITS, host={"Tmpfs": {"/run": ""}})
    created = small.call("POST", "/containers/create", body_of(small, "true"))[1]["Id"]
    fill(small)
    asked = body_of(small, "true", Binds=["kept:/kept"])
    status, answer = small.call("POST", "/containers/create", asked)
    assert status >= 500
    assert "full" in answer["message"] or "No space left" in answer["message"]
    status, answer = small.call("POST", f"/containers/{created}/start")
    assert status >= 500
    assert "No space left" in answer["message"]
    listed = small.call("GET", "/containers/json?all=1")[1]
    assert {one["Id"] for one in listed} == {running, created}
    assert set(os.listdir(small.base / "data/containers")) == {running, created}
    assert not cgroups_of(created)

    end(small, running)  # while there is no room
    assert small.inspect(running)["State"]["ExitCode"] == 7
    small.kill()
    (small.base / "data/filler").unlink()
    small.start()
    assert small.inspect(running)["State"]["ExitCode"] == 7
    assert small.call("POST", f"/containers/{created}/start")[0] == 204
    assert small.call("POST", "/containers/create", asked)[0] == 201


def test_a_disk_that_is_full_when_the_monitor_prepares(small: Daemon) -> None:
    """No program runs before its monitor has room for the exit status: the start fails."""
    pid = small.inspect(small.run("sleep", "1000"))["State"]["Pid"]
    spawner = parent_of(parent_of(pid))
    wait_until(lambda: len(waiting_below(spawner)) == 2, "the next monitor and its creator")
    monitor = waiting_below(spawner)[0]
    asked = body_of(small, "sleep", "1000")
    made = small.call("POST", "/containers/create", asked)[1]["Id"]
    os.kill(monitor, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as thread:
        try:
            begun = thread.submit(small.call, "POST", f"/containers/{made}/start")
            wait_until(lambda: are_set_up(children(monitor)), "a container that needs no disk")
            fill(small)
        finally:
            os.kill(monitor, signal.SIGCONT)
        status, answer = begun.result()
    assert status >= 500
    assert "No space left" in answer["message"]
    assert small.inspect(made)["State"]["Status"] == "created"
    assert not cgroups_of(made)


def are_set_up(pids: list[int]) -> bool:
    """Say whether one of these is a first process with its filter, one of the last steps."""
    with contextlib.suppress(OSError):
        return any("\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return False


def test_a_log_on_a_full_disk(small: Daemon) -> None:
    """The container goes on without its log, also where the log would be rotated."""
    chatty = "while [ ! -e /run/go ]; do echo line; done; exit 7"
    host = {"Tmpfs": {"/run": ""}, "LogConfig": {
        "Type": "json-file", "Config": {"max-size": "10k", "max-file": "3"}}}  # fmt: skip
    made = small.run("sh", "-c", chatty, host=host)
    fill(small)
    pid = small.inspect(made)["State"]["Pid"]
    before = written(pid)
    wait_until(lambda: written(pid) > before + 100_000, "the program to write")
    (small.base / "data/filler").unlink()
    end(small, made)
    assert small.inspect(made)["State"]["ExitCode"] == 7
    text = payload(small.call("GET", f"/containers/{made}/logs?stdout=1&tail=5", raw=True)[1])
    assert text == b"line\n" * 5


def written(pid: int) -> int:
    """Count what a process has written."""
    return int(Path(f"/proc/{pid}/io").read_text().partition("wchar: ")[2].split()[0])


def test_a_database_that_another_process_holds(daemon: Daemon) -> None:
    """A request that would change it fails; looking, stopping and ends work."""
    running = daemon.run(*WAITS, host={"Tmpfs": {"/run": ""}})
    with contextlib.closing(sqlite3.connect(daemon.base / "data/engine.db")) as database:
        database.isolation_level = None
        database.execute("BEGIN IMMEDIATE")
        status, answer = daemon.call("POST", "/containers/create", body_of(daemon, "true"))
        assert status >= 500
        assert "database is locked: another process holds it" in answer["message"]
        assert os.listdir(daemon.base / "data/containers") == [running]
        end(daemon, running)
        assert daemon.inspect(running)["State"]["ExitCode"] == 7
        daemon.kill()
        database.execute("ROLLBACK")
    daemon.start()
    assert daemon.inspect(running)["State"]["ExitCode"] == 7
    assert daemon.call("POST", "/containers/create", body_of(daemon, "true"))[0] == 201


def refused(*words: str | Path) -> str:
    """Start an engine that must refuse to; give what it says."""
    program = Path(sys.executable).parent / "minicontainer"
    done = subprocess.run(
        [program, "daemon", *words], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 125, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def roots_of(base: Path, data: str, run: str) -> list[str | Path]:
    """Write the options of an engine."""
    return ["--data-root", base / data, "--exec-root", base / run,
            "--host", f"unix://{base}/other.sock"]  # fmt: skip


def content(base: Path) -> dict[str, float]:
    """List what is below a directory, with the times of the last changes."""
    return {str(one): one.lstat().st_ctime for one in sorted(base.rglob("*"))}


@pytest.mark.parametrize(("data", "run"), [("data", "other"), ("other", "exec")])
def test_a_second_engine_on_the_same_root(daemon: Daemon, data: str, run: str) -> None:
    """It is refused, and changes nothing."""
    running = daemon.run("sleep", "1000")
    before = content(daemon.base)
    line = refused(*roots_of(daemon.base, data, run))
    shared = daemon.base / ("data" if data == "data" else "exec")
    assert line.endswith(f"another engine works on {shared}: stop it first")
    assert content(daemon.base) == before
    assert daemon.inspect(running)["State"]["Running"]


@pytest.mark.parametrize(
    ("content_of", "words"),
    [("newer", "was written by a newer minicontainer (schema 99"), ("noise", "not a database")],
)
def test_a_database_that_this_engine_does_not_know(
    roots: Path, content_of: str, words: str
) -> None:
    """The engine says so in one line, and leaves the file as it is."""
    path = roots / "data/engine.db"
    path.parent.mkdir()
    if content_of == "newer":
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(b"noise" * 1000)
    before = path.read_bytes()
    line = refused(*roots_of(roots, "data", "exec"))
    assert words in line
    assert str(path) in line
    assert path.read_bytes() == before
