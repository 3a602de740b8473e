"""Clients in crowds, and clients that leave in the middle: the engine's threads and descriptors.

The look is into /proc of the engine's process: when its clients are gone, it has as many threads
and descriptors as before.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import PATIENCE_S, Daemon, eventually

END = b"\r\n\r\n"
HEAD = b" HTTP/1.1\r\nHost: x\r\n"
UPGRADE = HEAD + b"Connection: Upgrade\r\nUpgrade: tcp\r\n"
CHATTY = ("sh", "-c", "while :; do echo line; sleep 0.01; done")


def counts(daemon: Daemon) -> tuple[int, int]:
    """Count the engine's threads and descriptors."""
    process = Path(f"/proc/{daemon.process.pid}")
    return len(os.listdir(process / "task")), len(os.listdir(process / "fd"))


def settled(daemon: Daemon) -> tuple[int, int]:
    """Count them when the threads of earlier requests have ended."""
    lowest, same = counts(daemon), 0
    while same < 50:
        time.sleep(0.002)
        now = counts(daemon)
        same = same + 1 if now >= lowest else 0
        lowest = min(lowest, now)
    return lowest


def kinds(daemon: Daemon) -> Counter[str]:
    """Say what the engine's threads and descriptors are, for a message."""
    found: Counter[str] = Counter()
    process = Path(f"/proc/{daemon.process.pid}")
    for one in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            found[os.readlink(one).rpartition("/")[2].partition(":")[0]] += 1
    for task in (process / "task").iterdir():
        with contextlib.suppress(OSError):
            found[f"thread in {(task / 'wchan').read_text()}"] += 1
    return found


@contextlib.contextmanager
def coming_back(daemon: Daemon) -> Iterator[None]:
    """Compare the engine's threads and descriptors before and after."""
    for path in ("/_ping", "/containers/json?all=1", "/images/json", "/events?until=1"):
        daemon.call("GET", path, raw=True)  # what is opened once stays open
    before = settled(daemon)
    yield

    def is_back() -> bool:
        now = counts(daemon)
        return now[0] <= before[0] and now[1] <= before[1]

    eventually(is_back, f"{before} to come back: {counts(daemon)}, {kinds(daemon)}")
    assert daemon.call("GET", "/_ping", raw=True)[0] == 200


def connected(daemon: Daemon) -> socket.socket:
    """Connect as a client."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE_S)
    sock.connect(str(daemon.socket))
    return sock


def test_the_count_sees_a_client_that_stays(daemon: Daemon) -> None:
    """The control: a stream has a thread and a descriptor, until its client leaves."""
    with coming_back(daemon):
        before = settled(daemon)
        with connected(daemon) as sock:
            sock.sendall(b"GET /events" + HEAD + b"\r\n")
            assert sock.recv(12) == b"HTTP/1.1 200"
            assert counts(daemon)[0] > before[0]
            assert counts(daemon)[1] > before[1]


def test_a_hundred_clients_at_once(daemon: Daemon) -> None:
    """Each creates, inspects and removes a container, and hears of no other's."""
    body = {"Rootfs": str(daemon.rootfs), "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
    wrong: list[object] = []

    def client(number: int) -> None:
        try:
            name = f"crowd-{number}"
            status, made = daemon.call("POST", f"/containers/create?name={name}", body)
            assert status == 201, made
            shown = daemon.inspect(made["Id"])
            assert shown["Name"] == f"/{name}", shown
            status, _ = daemon.call("DELETE", f"/containers/{name}")
            assert status == 204
        except Exception as error:  # the thread ends here, and the test says why
            wrong.append(error)

    with coming_back(daemon):
        clients = [threading.Thread(target=client, args=(number,)) for number in range(100)]
        for one in clients:
            one.start()
        for one in clients:
            one.join(PATIENCE_S)
    assert wrong == []
    assert daemon.call("GET", "/containers/json?all=1")[1] == []


def test_clients_that_leave_in_a_stream(daemon: Daemon) -> None:
    """Of logs, stats, events, attach, wait and exec: when data flows, and when none does."""
    chatty, silent = daemon.run(*CHATTY), daemon.run("sleep", "1000")
    requests = [
        b"GET /events" + HEAD,
        *(
            head.format(one).encode() + end
            for one in (chatty, silent)
            for head, end in (
                ("GET /containers/{}/logs?follow=1&stdout=1", HEAD),
                ("GET /containers/{}/stats?stream=1", HEAD),
                ("POST /containers/{}/attach?stream=1&stdout=1", UPGRADE),
                ("POST /containers/{}/attach?stream=1&stdout=1&stdin=1", HEAD),
                ("POST /containers/{}/wait", HEAD),
            )
        ),
    ]
    with coming_back(daemon):
        for request in requests * 5:
            with connected(daemon) as sock:
                sock.sendall(request + b"\r\n")
                assert sock.recv(9) == b"HTTP/1.1 "


def test_clients_that_leave_an_exec(daemon: Daemon) -> None:
    """The program goes on, as with Docker; its streams are nobody's."""
    made = daemon.run("sleep", "1000")
    with coming_back(daemon):
        for _ in range(5):
            asked = {"Cmd": ["sh", "-c", "while [ ! -e /end ]; do sleep 0.01; done"],
                     "AttachStdout": True}  # fmt: skip
            one = daemon.call("POST", f"/containers/{made}/exec", asked)[1]["Id"]
            body = json.dumps({}).encode()
            head = f"POST /exec/{one}/start".encode() + UPGRADE
            with connected(daemon) as sock:
                sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                assert sock.recv(9) == b"HTTP/1.1 "
        pid = daemon.inspect(made)["State"]["Pid"]
        Path(f"/proc/{pid}/root/end").touch()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /containers/json",
        b"POST /containers/create" + HEAD + b"Content-Length: 1000\r\n\r\n{",
        b"POST /images/load" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n100\r\nabc",
        b"POST /images/load" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\ngarbage\r\n",
        b"POST /images/create?fromSrc=-" + HEAD + b"Content-Length: 99999\r\n\r\nno tar",
        b"POST /build" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        b"POST /containers/nobody/attach?stream=1" + UPGRADE + b"\r\n",
        b"POST /session" + HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /containers/nobody/attach/ws" + HEAD + b"Connection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 1\r\n\r\n",
    ],
)
def test_half_requests_and_garbage(daemon: Daemon, raw: bytes) -> None:
    """Whatever a client sends before it leaves costs nothing that stays."""
    with coming_back(daemon):
        for _ in range(20):
            with connected(daemon) as sock, contextlib.suppress(ConnectionError):
                sock.sendall(raw)
    left = [one.name for one in (daemon.base / "data").rglob("*") if "upload" in one.name]
    assert [name for name in left if name != "uploads"] == []


@pytest.mark.parametrize("start", [b"GET /_ping HTTP/1.1\r\nX: ", b"POST /containers/create" + HEAD
                                   + b"Content-Length: 1073741824\r\n\r\n"])  # fmt: skip
def test_a_gigabyte_that_nobody_wants(daemon: Daemon, start: bytes) -> None:
    """The engine cuts the connection off, and its memory does not grow."""
    block = b"a" * (1 << 20)
    with coming_back(daemon):
        before = memory_kb(daemon)
        with connected(daemon) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(start)
            for _ in range(1024):
                sock.sendall(block)
            raise AssertionError("the engine took it all")
        assert memory_kb(daemon) < before + 64 * 1024


def memory_kb(daemon: Daemon) -> int:
    """Give the resident memory of the engine."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_thousands_of_silent_connections(daemon: Daemon) -> None:
    """They keep nobody waiting, also when the engine has no descriptor left for more."""
    silent = []
    with coming_back(daemon):
        try:
            for _ in range(3000):  # each is closed below, also when one fails
                silent += [connected(daemon)]
            assert daemon.call("GET", "/_ping", raw=True)[0] == 200
        finally:
            for sock in silent:
                sock.close()
