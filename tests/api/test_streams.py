"""Connections that become streams, streams that wait, and clients that leave them."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request

from minicontainer.api.relay import Bytes, Relay
from minicontainer.errors import Unsupported
from tests.api.conftest import Wire, receive_all, receive_until
from tests.api.fake_engine import FakeEngine, Source
from tests.conftest import wait_until

UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"
CREATE = {"Image": "busybox", "Cmd": ["true"]}
WEB = "POST /v1.50/containers/web/"


@pytest.fixture(autouse=True)
def _web(wire: Wire) -> None:
    wire.post("/containers/create?name=web", CREATE)
    wire.post("/containers/create?name=term", {**CREATE, "Tty": True})


def start(wire: Wire, line: str, headers: bytes = b"", rest: bytes = b"") -> socket.socket:
    """Send a request, and leave its connection open."""
    sock = wire.connect()
    sock.sendall(f"{line} HTTP/1.1\r\nHost: x\r\n".encode() + headers + b"\r\n" + rest)
    return sock


@pytest.mark.parametrize(
    ("name", "version", "kind"),
    [
        ("web", "v1.50", b"multiplexed-stream"),
        ("web", "v1.41", b"raw-stream"),
        ("term", "v1.50", b"raw-stream"),
    ],
)
def test_an_upgrade_hands_the_connection_over(
    wire: Wire, name: str, version: str, kind: bytes
) -> None:
    """101, then raw bytes in both directions; the end of the client's is no end of the server's."""
    line = f"POST /{version}/containers/{name}/attach?stream=1&stdin=1"
    with start(wire, line, UPGRADE) as sock:
        head = receive_until(sock, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        assert b"Content-Type: application/vnd.docker." + kind + b"\r\n" in head
        assert b"Upgrade: tcp\r\n" in head
        assert b"Api-Version: 1.50\r\n" in head
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"bye"


def test_the_body_of_a_request_is_no_input(wire: Wire) -> None:
    """dockerode sends its options as one, in a segment of its own; what follows it is input."""
    body = b'{"stream":true,"stdin":true}'
    for headers in (UPGRADE, b""):
        head = headers + b"Content-Length: %d\r\n" % len(body)
        with start(wire, WEB + "attach?stream=1&stdin=1", head) as sock:
            sock.sendall(body[:5])
            sock.sendall(body[5:])
            receive_until(sock, b"\r\n\r\n")
            sock.sendall(b"typed")
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == b"typedbye"


def test_bytes_that_come_with_the_request_are_not_lost(wire: Wire, engine: FakeEngine) -> None:
    """`docker run -i` sends its input without waiting for the answer."""
    with start(wire, WEB + "attach?stream=1&detachKeys=ctrl-a", UPGRADE, b"early\n") as sock:
        receive_until(sock, b"early\n")
        sock.sendall(b"late\n")
        receive_until(sock, b"late\n")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"bye"
    options = engine.containers.calls[-1][1]
    assert (options.stream, options.stdin, options.detach_keys) == (True, False, "ctrl-a")
    assert options.multiplex


def test_without_an_upgrade_the_answer_is_200(wire: Wire) -> None:
    """docker-py and older clients; no framing of HTTP follows."""
    with start(wire, WEB + "attach?stream=1", b"Content-Length: 0\r\n", b"x\n") as sock:
        head = receive_until(sock, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"chunked" not in head
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock).endswith(b"x\nbye")


def test_what_is_wrong_before_an_upgrade_has_a_status(wire: Wire, engine: FakeEngine) -> None:
    """A container that does not exist, or is paused."""
    with start(wire, "POST /containers/no/attach", UPGRADE) as sock:
        assert b"404" in receive_until(sock, b"No such container: no\r\n")
    engine.containers.created["web"]["State"]["Paused"] = True
    with start(wire, WEB + "attach", UPGRADE) as sock:
        assert b"409" in receive_until(sock, b"is paused, unpause")


def test_what_goes_wrong_after_an_upgrade_is_told_in_the_stream(
    wire: Wire, engine: FakeEngine
) -> None:
    """As a frame for standard error; before it, what goes wrong is a status."""

    def fail(ref: str, options: object, connection: Any) -> None:
        if options.logs:  # type: ignore[attr-defined]  # AttachOptions
            connection.accept()
        raise Unsupported("no such luck")

    engine.containers.attach = fail
    with start(wire, WEB + "attach", UPGRADE) as sock:
        assert b"501" in receive_until(sock, b"no such luck")
    with start(wire, WEB + "attach?logs=1", UPGRADE) as sock:
        receive_until(sock, b"\r\n\r\n")
        message = b"no such luck\r\n"
        assert receive_all(sock) == struct.pack(">BxxxI", 2, len(message)) + message


def test_the_status_of_a_wait_comes_at_once(wire: Wire, engine: FakeEngine) -> None:
    """`docker run` starts the container only when it has seen it."""
    with start(wire, WEB + "wait?condition=next-exit") as sock:
        head = receive_until(sock, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        engine.containers.waits[0].queue.put({"StatusCode": 7})
        assert b'{"StatusCode":7}\n' in receive_until(sock, b"0\r\n\r\n")
    assert wire.post("/containers/web/wait?condition=never").status == 400
    assert wire.post("/containers/no/wait").status == 404


@pytest.mark.parametrize(
    "line",
    [
        WEB + "wait",
        "GET /containers/web/logs?stdout=1&follow=1",
        "GET /containers/web/stats",
        "GET /events",
    ],
)
def test_a_client_that_leaves_ends_the_wait(wire: Wire, line: str) -> None:
    """Nothing happens in the container, and the source is closed all the same."""
    with start(wire, line) as sock:
        assert receive_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert Source.open_ones == 1
    wait_until(lambda: Source.open_ones == 0, "the source to be closed")


def test_events_come_as_they_happen(wire: Wire, engine: FakeEngine) -> None:
    """One object a line."""
    with start(wire, "GET /events?since=1&until=2.5") as sock:
        receive_until(sock, b"\r\n\r\n")
        for number in range(3):
            engine.events.sources[0].queue.put({"id": number})
            assert json.loads(receive_until(sock, b"\n\r\n").split(b"\r\n")[1]) == {"id": number}


def test_input_that_nobody_reads_costs_no_output() -> None:
    """The program has ended, its client sends on: what is still on its way comes through."""
    client, transport = socket.socketpair()
    near, far = socket.socketpair()
    output = os.urandom(100_000)  # more than one block
    far.sendall(output)
    far.close()
    client.sendall(b"unread")
    Relay(transport, near, Bytes(), b"").run()
    assert receive_all(client) == output


def test_a_websocket_carries_a_containers_streams(wire: Wire, engine: FakeEngine) -> None:
    """Raw bytes in binary messages; pings are answered, and the client's closing too."""
    with wire.connect() as sock:
        client = WSConnection(ConnectionType.CLIENT)
        path = "/v1.50/containers/web/attach/ws?stream=1"
        sock.sendall(client.send(Request(host="x", target=path)))
        events: list[object] = []

        def read_until(kind: type) -> None:
            while not any(isinstance(event, kind) for event in events):
                client.receive_data(sock.recv(65536) or None)
                events.extend(client.events())

        read_until(AcceptConnection)
        sock.sendall(client.send(BytesMessage(data=b"first\n")) + client.send(Ping(b"p")))
        read_until(Pong)
        read_until(BytesMessage)
        sock.sendall(client.send(CloseConnection(code=1000)))
        read_until(CloseConnection)
    said = [bytes(event.data) for event in events if isinstance(event, BytesMessage)]
    assert b"".join(said).startswith(b"first\n")
    assert not engine.containers.calls[-1][1].multiplex


@pytest.mark.parametrize("key", ["", "short", base64.b64encode(b"x" * 15).decode()])
def test_a_bad_websocket_handshake_is_refused(wire: Wire, key: str) -> None:
    """With 400, while that can still be said."""
    head = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n".encode()
    with start(wire, "GET /containers/web/attach/ws", head) as sock:
        assert b"400" in receive_until(sock, b"}\n")
    with start(wire, "GET /containers/web/attach/ws") as sock:
        assert b"400" in receive_until(sock, b"}\n")


def test_garbage_in_a_websocket_ends_it(wire: Wire) -> None:
    """A frame that is not masked breaks the protocol."""
    key = base64.b64encode(os.urandom(16))
    head = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + key + b"\r\n"
    with start(wire, "GET /containers/web/attach/ws?stream=1", head) as sock:
        receive_until(sock, b"\r\n\r\n")
        sock.sendall(b"\x82\x05hello" * 3)
        receive_all(sock)


def test_a_hundred_clients_at_once(wire: Wire) -> None:
    """Each gets its own answers."""
    failed: list[object] = []

    def work() -> None:
        try:
            for _ in range(3):
                assert wire.ask("GET", "/_ping").body == b"OK"
            with start(wire, WEB + "attach", UPGRADE, b"x\n") as sock:
                receive_until(sock, b"x\n")
        except (AssertionError, OSError) as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
