"""What a newcomer tries first with the network, in the busybox tree: wget, nslookup, nc, ping.

A network namespace plays the host: its lo carries a name server and a web server of the test.
"""

from __future__ import annotations

import http.server
import os
import shutil
import socketserver
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from minicontainer.kernel.namespaces import in_network
from tests.conftest import PATIENCE_S, NetworkNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed: it chroots")

_A_RECORD = 1


class NameServer(socketserver.BaseRequestHandler):
    """Answers 127.0.0.1 for every name that ends in .example, as in RFC 1035."""

    def handle(self) -> None:
        """Answer one question."""
        query, server = self.request
        end = query.index(b"\0", 12) + 5
        known = b"\7example\0" in query
        wants_address = query[end - 3] == _A_RECORD
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x7f\0\0\1" if known and wants_address else b""
        head = query[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\1"
        head += (b"\0\1" if answer else b"\0\0") + bytes(4)
        server.sendto(head + query[12:end] + answer, self.client_address)


class WebServer(http.server.BaseHTTPRequestHandler):
    """Serves one text."""

    def do_GET(self) -> None:
        """Send it."""
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def tree(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with a resolv.conf and the null device."""
    copy = tmp_path_factory.mktemp("rootfs") / "busybox"
    shutil.copytree(busybox, copy, symlinks=True)
    (copy / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    os.mknod(copy / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return copy


@pytest.fixture(scope="module")
def shell(tree: Path) -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """Run a script in the tree, in a network namespace with a name server and a web server."""
    namespace = NetworkNamespace()
    with open(namespace.path) as network, in_network(network.fileno()):
        servers = (
            socketserver.UDPServer(("127.0.0.1", 53), NameServer),
            http.server.ThreadingHTTPServer(("127.0.0.1", 80), WebServer),
        )
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--net={namespace.path}", "chroot", tree, "/bin/sh", "-c", script],
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()
    namespace.close()


@pytest.mark.parametrize("options", ["", "-T 5", "-T5", "-t 2 -T 1"])
def test_wget_fetches_by_name(
    shell: Callable[[str], subprocess.CompletedProcess[str]], options: str
) -> None:
    """With a timeout too: Debian 12's own ended with SIGSEGV."""
    done = shell(f"wget -q {options} -O - http://web.example/")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_wget_says_what_it_did_not_find(
    shell: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    """Status 1 and a line, and no crash."""
    done = shell("wget -T 5 -O - http://web.invalid/")
    assert done.returncode == 1
    assert "bad address 'web.invalid'" in done.stderr


def test_nslookup_asks_the_name_server(
    shell: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    """And shows the address; a name that is not there gives another status."""
    done = shell("nslookup web.example")
    assert done.returncode == 0
    assert "Name:\tweb.example\nAddress: 127.0.0.1" in done.stdout
    assert shell("nslookup web.invalid").returncode == 1


def test_nc_listens_and_connects(
    shell: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    """What the client sends comes back from a server that runs cat(1)."""
    done = shell(
        "nc -l -p 7000 -e cat & "
        "until echo hello | nc -w 5 127.0.0.1 7000 2>/dev/null; do sleep 0.01; done; wait"
    )
    assert done.stdout == "hello\n"


def test_ping_reaches_a_name(shell: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """One packet there and back."""
    assert "1 packets received" in shell("ping -c 1 web.example").stdout


def test_the_control_nobody_answers_elsewhere(tree: Path) -> None:
    """The servers are those of the namespace: without it the same look finds nothing."""
    done = subprocess.run(
        ["unshare", "--net", "chroot", tree, "wget", "-T", "5", "-O", "-", "http://web.example/"],
        capture_output=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 1
