"""The log driver journald, with a journal that runs on the engine's machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.engines import IMAGE, Clients

JOURNALD = Path("/lib/systemd/systemd-journald")
SOCKET = "/run/systemd/journal/socket"
DRIVER = ("--log-driver", "journald", "--network", "none")


@pytest.fixture(scope="module")
def journal(clients: Clients, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A journal; it ends with the machine."""
    if not JOURNALD.exists():
        pytest.skip("systemd-journald is missing")
    machine = clients.machine
    assert machine("mkdir", "-p", "/run/systemd/journal", "/run/log/journal").status == 0
    machine.start(tmp_path_factory.mktemp("journal") / "log", str(JOURNALD))
    wait_until(machine.path(SOCKET).exists, "the journal")


@pytest.mark.usefixtures("journal")
def test_lines_are_entries_and_are_read_back(clients: Clients) -> None:
    """With Docker's fields, and the labels that were chosen; a stream by its priority."""
    script = "echo out; echo err >&2; printf end"
    clients.must("run", "--name", "says", *DRIVER, "--log-opt", "labels=app", "--log-opt",
                 "tag=tagged", "--label", "app=web", IMAGE, "sh", "-c", script)  # fmt: skip
    entries: list[dict[str, str]] = []

    def written() -> bool:
        said = clients.machine("journalctl", "-q", "-o", "json", "CONTAINER_NAME=says").output
        entries[:] = [json.loads(line) for line in said.splitlines()]
        return len(entries) == 3

    wait_until(written, "the entries")
    assert {(one["MESSAGE"], one["PRIORITY"]) for one in entries} == {
        ("out", "6"), ("err", "3"), ("end", "6"),
    }  # fmt: skip
    for one in entries:
        assert (one["CONTAINER_TAG"], one["IMAGE_NAME"], one["APP"]) == ("tagged", IMAGE, "web")
        assert one["CONTAINER_ID_FULL"].startswith(one["CONTAINER_ID"])
    assert clients("docker", "logs", "says").errors == "err\n"
    assert clients.must("logs", "says").split() == ["out", "end"]
    assert clients.must("logs", "--tail", "1", "says").strip() in ("out", "end", "")
    clients.must("rm", "says")


@pytest.mark.usefixtures("journal")
def test_the_journal_is_followed(clients: Clients) -> None:
    """Until the container ends."""
    script = "echo one; sleep 1; echo two; sleep 1"
    clients.must("run", "-d", "--name", "goes", *DRIVER, IMAGE, "sh", "-c", script)
    assert clients.must("logs", "-f", "goes").split() == ["one", "two"]
    clients.must("rm", "-f", "goes")


@pytest.mark.usefixtures("journal")
def test_it_is_listed(clients: Clients) -> None:
    """By `info`, where there is a journal."""
    assert "journald" in json.loads(clients.must("info", "--format", "{{json .Plugins.Log}}"))
