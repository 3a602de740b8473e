"""Which name servers a container is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicontainer import steps
from minicontainer.engine import resolvers

STUB = "# by systemd-resolved\nnameserver 127.0.0.53\nsearch example.org\n"
REAL = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.org\n"


@pytest.mark.parametrize(
    ("host", "behind", "told"),
    [
        (REAL, "", REAL),
        (STUB, REAL, REAL),
        ("nameserver ::1\n", REAL, REAL),
        ("nameserver fe80::1%eth0\n", REAL, "nameserver fe80::1%eth0\n"),
        (REAL + STUB, "nameserver 192.0.2.1\n", REAL + STUB.replace("nameserver 127.0.0.53\n", "")),
        ("search example.org\n", REAL, "search example.org\n"),
        ("", "", ""),
    ],
)
def test_a_server_on_the_hosts_loopback_is_replaced(
    tmp_path: Path, host: str, behind: str, told: str
) -> None:
    """By those behind the stub, and only where the container has a loopback of its own."""
    files = [tmp_path / "host", tmp_path / "behind"]
    for path, text in zip(files, (host, behind), strict=True):
        path.write_text(text)
    assert resolvers.for_network(False, map(str, files)) == told
    assert resolvers.for_network(True, map(str, files)) == host


def test_it_is_said_when_no_server_can_be_reached(tmp_path: Path) -> None:
    """In one line, on what to do: the container's programs would only say "bad address"."""
    (tmp_path / "host").write_text(STUB)
    said: list[str] = []
    steps.tell_warnings_to(said.append)
    try:
        told = resolvers.for_network(False, [str(tmp_path / "host"), str(tmp_path / "missing")])
    finally:
        steps.tell_warnings_to(lambda message: None)
    assert told == STUB
    assert "loopback" in said[0]
