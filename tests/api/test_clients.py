"""Clients that nobody here wrote: docker-py and the docker client."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import docker
import pytest

from minicontainer.api.listeners import TlsFiles, listen
from minicontainer.api.server import Server
from minicontainer.errors import Conflict, InvalidArgument
from tests.api.conftest import Wire, receive_all
from tests.api.fake_engine import FakeEngine


def test_docker_py_negotiates_and_reads(wire: Wire) -> None:
    """Version, list, errors by class."""
    client = docker.DockerClient(base_url=f"unix://{wire.path}", version="auto")
    try:
        assert client.api._version == "1.50"
        assert client.containers.list(all=True) == []
        with pytest.raises(docker.errors.NotFound, match="No such container: no"):
            client.containers.get("no")
    finally:
        client.close()


@pytest.mark.skipif(not shutil.which("docker"), reason="the docker client is not installed")
def test_the_docker_client_negotiates(wire: Wire) -> None:
    """It prints the server's version, and fails on what is not there in our words."""
    told = subprocess.run(
        ["docker", "-H", f"unix://{wire.path}", "version"], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert "1.50 (minimum version 1.24)" in told.stdout
    told = subprocess.run(
        ["docker", "-H", f"unix://{wire.path}", "start", "no"], capture_output=True, text=True
    )
    assert (told.returncode, "No such container: no" in told.stderr) == (1, True)


def test_tcp_is_for_clients_with_a_certificate(
    authority: Path, tls_files: TlsFiles, engine: FakeEngine
) -> None:
    """Also for a stream, whose bytes a thread carries; a client without one is refused."""
    server = Server(engine, listen("tcp://127.0.0.1:0", tls=tls_files))
    server.start()
    port = int(server.listeners[0].address.rpartition(":")[2])
    engine.containers.create({}, "web")
    context = ssl.create_default_context(cafile=f"{authority}/ca.pem")
    request = b"POST /containers/web/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    try:
        with pytest.raises((ssl.SSLError, OSError)), ask(port, context, b"") as sock:
            receive_all(sock)
        context.load_cert_chain(f"{authority}/client.pem", f"{authority}/client.key")
        with ask(port, context, request + b"Upgrade: tcp\r\n\r\nhello\n") as sock:
            data = b""
            while b"hello\n" not in data:
                data += sock.recv(1000)
            block = b"x" * 99_999 + b"\n"
            sock.sendall(block)
            received = 0
            while received < len(block):
                received += len(sock.recv(65536))
    finally:
        server.stop(grace_s=0)


def ask(port: int, context: ssl.SSLContext, request: bytes) -> ssl.SSLSocket:
    """Connect by TLS, and send a request."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock = context.wrap_socket(plain, server_hostname="127.0.0.1")
    sock.sendall(request)
    return sock


def test_tcp_without_certificates_is_refused() -> None:
    """Whoever reaches the port would be root."""
    with pytest.raises(InvalidArgument, match="needs TLS"):
        listen("tcp://127.0.0.1:0")


@pytest.mark.parametrize(
    "host", ["http://x", "unix://relative", "tcp://x", "tcp://:1", "fd://", ""]
)
def test_a_host_that_makes_no_sense_is_refused(host: str) -> None:
    """By its own text."""
    with pytest.raises(InvalidArgument):
        listen(host)


def test_a_socket_in_use_is_not_taken_and_a_stale_one_is(wire: Wire, tmp_path: Path) -> None:
    """An engine that was killed leaves its socket behind."""
    with pytest.raises(Conflict, match="already"):
        listen(f"unix://{wire.path}")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(f"{tmp_path}/stale.sock")
    stale.close()
    listen(f"unix://{tmp_path}/stale.sock")[0].close()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InvalidArgument, match="a file is there"):
        listen(f"unix://{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "precious"
