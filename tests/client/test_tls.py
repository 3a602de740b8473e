"""The engine over TCP with TLS: both clients, with a certificate and without."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Result, command, wait_until
from tests.engines import CLIENTS
from tests.images.registry.certificates import Authority

BOTH = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An engine that wants certificates; the environment that names it, and has one."""
    if os.geteuid() != 0 or not shutil.which("docker"):
        pytest.skip("needs root, and docker, the client")
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    server, server_key = authority.issue("server")
    client, client_key = authority.issue("client")
    shutil.copy(authority.certificate, directory / "ca.pem")
    shutil.copy(client, directory / "cert.pem")
    shutil.copy(client_key, directory / "key.pem")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    engine = subprocess.Popen(
        [*command("minicontainer"), "daemon", "--host", f"tcp://127.0.0.1:{port}",
         "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec"),
         "--tlscacert", str(authority.certificate), "--tlscert", str(server),
         "--tlskey", str(server_key)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    found = {
        "PATH": os.environ["PATH"], "HOME": str(directory), "DOCKER_TLS_VERIFY": "1",
        "DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_CERT_PATH": str(directory),
    }  # fmt: skip
    wait_until(lambda: call(found, "docker", "version").status == 0, "the engine to answer")
    yield found
    engine.terminate()
    engine.wait(PATIENCE_S)


def call(environ: dict[str, str], client: str, *words: str, stdin: str = "") -> Result:
    """Run a command of a client."""
    done = subprocess.run(
        [*CLIENTS[client], *words], env=environ, input=stdin,
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@BOTH
def test_a_command(environ: dict[str, str], client: str) -> None:
    """With the certificate in Docker's place for it."""
    assert call(environ, client, "ps", "-q") == Result(0, "", "")


@BOTH
def test_input_ends_and_output_goes_on(environ: dict[str, str], client: str) -> None:
    """A half-closed TLS stream: much in, all of it out, and what comes after its end."""
    words = (
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "cat; echo over; exit 4",
    )
    text = "0123456789\n" * 100_000
    done = call(environ, client, *words, stdin=text)
    assert (done.status, done.output == f"{text}over\n", done.errors) == (4, True, "")


@BOTH
def test_without_a_certificate(environ: dict[str, str], client: str, tmp_path: Path) -> None:
    """The engine refuses; the client's files that are missing are named."""
    done = call({**environ, "DOCKER_CERT_PATH": str(tmp_path)}, client, "ps")
    assert done.status == 1
    assert f"open {tmp_path}/ca.pem: no such file or directory" in done.errors


@BOTH
def test_without_tls(environ: dict[str, str], client: str) -> None:
    """The engine says what is wrong, in the words of Go's server."""
    plain = {name: environ[name] for name in ("PATH", "HOME", "DOCKER_HOST")}
    done = call(plain, client, "ps")
    assert done.status == 1
    assert "Client sent an HTTP request to an HTTPS server." in done.errors
