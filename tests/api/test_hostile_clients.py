"""Clients that break the rules: each costs its own connection, and nothing stays."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from minicontainer.api import connection
from minicontainer.api.listeners import Listener
from minicontainer.api.server import Server
from tests.api.conftest import Reply, Wire, receive_all, receive_until
from tests.api.fake_engine import FakeEngine
from tests.conftest import wait_until

PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"


def pour(sock: socket.socket, head: bytes, block: bytes, count: int) -> int:
    """Send *head*, then blocks until the server cuts the connection; give the blocks it took."""
    sock.sendall(head)
    for sent in range(count):
        try:
            sock.sendall(block)
        except OSError:
            return sent
    return count


def answer_of(sock: socket.socket) -> bytes:
    """Read what the server said before it cut the connection."""
    try:
        return receive_all(sock)
    except ConnectionResetError:
        return b""


def test_a_header_without_end_is_cut_off(wire: Wire) -> None:
    """A gigabyte of it would be sent; the server takes no more than it has a bound for."""
    with wire.connect() as sock:
        block = b"a" * 1024 * 1024
        assert pour(sock, b"GET / HTTP/1.1\r\nHost: x\r\nX: ", block, 1024) < 1024
        assert answer_of(sock)[:12] in (b"HTTP/1.1 431", b"")
    assert wire.ask("GET", "/_ping").status == 200


def test_a_header_that_is_just_too_long_has_its_status(wire: Wire) -> None:
    """The client can read why."""
    reply = Reply(wire.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000))
    assert reply.status == 431
    assert reply.headers["connection"] == "close"


def test_a_json_body_of_a_gigabyte_is_refused(wire: Wire) -> None:
    """413 as soon as the bound is passed."""
    head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with wire.connect() as sock:
        length = b"Content-Length: 1073741824\r\n\r\n"
        assert pour(sock, head + length, b" " * 1024 * 1024, 1024) < 1024
        assert answer_of(sock)[:12] in (b"HTTP/1.1 413", b"")
    reply = Reply(wire.send(head + b"Content-Length: 5000000\r\n\r\n" + b" " * 5_000_000))
    assert (reply.status, reply.message) == (413, "http: request body too large")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"G",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc",
        b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: t",
    ],
)
def test_half_a_request_costs_nothing(wire: Wire, server: Server, raw: bytes) -> None:
    """The client leaves in the middle: its thread and descriptor go."""
    for _ in range(20):
        with wire.connect() as sock:
            sock.sendall(raw)
    wait_until(lambda: server.connection_count == 0, "the connections to end")
    assert wire.ask("GET", "/_ping").status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS's hello, to a plain socket
        b"GET /_ping\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n\r\n",  # no Host
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(wire: Wire, raw: bytes) -> None:
    """With a 4xx or 5xx, and the connection is closed."""
    assert Reply(wire.send(raw)).status >= 400
    assert wire.ask("GET", "/_ping").status == 200


@pytest.mark.parametrize(
    ("path", "upgrade"), [("/_ping", b"tcp"), ("/containers/json", b"h2c"), ("/grpc", b"h2c")]
)
def test_an_upgrade_where_there_is_none_is_passed_over(
    wire: Wire, path: str, upgrade: bytes
) -> None:
    """The request is answered as any other."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n".encode()
    reply = Reply(wire.send(head + b"Upgrade: " + upgrade + b"\r\n\r\n"))
    assert reply.status in (200, 404)


def test_a_slow_header_has_a_deadline(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stays silent in the middle of a header does not keep its thread."""
    monkeypatch.setattr(connection, "HEADER_S", 0.2)
    with wire.connect() as sock:
        sock.sendall(b"GET /_ping HTTP/1.1\r\n")
        assert receive_all(sock) == b""


def test_a_silent_client_has_a_deadline(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two requests as well."""
    monkeypatch.setattr(connection, "IDLE_S", 0.2)
    with wire.connect() as sock:
        assert receive_all(sock) == b""


def test_a_client_without_a_thread_costs_nobody_else(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit of processes no thread can be started; later there is room again."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        with wire.connect() as sock:
            assert answer_of(sock) == b""
    assert wire.ask("GET", "/_ping").status == 200


def test_silent_clients_keep_nobody_waiting(wire: Wire, server: Server) -> None:
    """Two hundred connections that say nothing, and one that asks."""
    silent = [wire.connect() for _ in range(200)]
    wait_until(lambda: server.connection_count == 200, "the connections")
    assert wire.ask("GET", "/_ping").status == 200
    for sock in silent:
        sock.close()
    wait_until(lambda: server.connection_count == 0, "the connections to end")


def test_stop_ends_connections_that_wait(wire: Wire, server: Server) -> None:
    """An idle client and a stream do not hold the server up."""
    with wire.connect() as idle, wire.connect() as stream:
        idle.sendall(PING)
        receive_until(idle, b"\r\n\r\n")  # an unread request would reset the connection
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: server.idle_s() == 0, "the stream")
        server.stop(grace_s=0.1)
        receive_all(idle)
        receive_all(stream)


def test_stop_makes_up_no_answers(wire: Wire, server: Server) -> None:
    """A client that waits for a container's end hears nothing, and stop takes no time for it."""
    wire.post("/containers/create?name=web", {"Image": "busybox"})
    with wire.connect() as waits:
        waits.sendall(b"POST /containers/web/wait HTTP/1.1\r\nHost: x\r\n\r\n")
        receive_until(waits, b"\r\n\r\n")
        began = time.monotonic()
        server.stop(grace_s=60)
        assert time.monotonic() - began < 30
        assert b"StatusCode" not in receive_all(waits)


def test_a_socket_of_systemd_outlives_the_server(tmp_path: Path) -> None:
    """systemd keeps it, and gives it to the next server: a client that comes meanwhile waits."""
    path = tmp_path / "systemd.sock"
    with socket.socket(socket.AF_UNIX) as kept:
        kept.bind(str(path))
        kept.listen()
        for _ in range(2):
            server = Server(FakeEngine(), [Listener(kept.dup(), f"unix://{path}")])
            wire = Wire(str(path))
            with wire.connect() as early:
                early.sendall(PING)
                server.start()
                assert early.recv(12) == b"HTTP/1.1 200"
            server.stop(grace_s=0)
