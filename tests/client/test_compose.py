"""Compose: two services with volumes, networks, a health check and a port.

The plugin comes with the reference, and is too young for this machine's C library: it runs among
the reference's files.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S
from tests.engines import FROM_REFERENCE, IMAGE, REFERENCE, Clients

PLUGIN = "/usr/libexec/docker/cli-plugins/docker-compose"
PROJECT = f"""
services:
  db:
    image: {IMAGE}
    command: sh -c 'echo kept >> /data/file; touch /tmp/ready; exec httpd -f -p 80 -h /data'
    volumes: [data:/data]
    networks: [back]
    stop_signal: SIGKILL
    healthcheck:
      test: [CMD, test, -e, /tmp/ready]
      interval: 200ms
      retries: 50
  web:
    image: {IMAGE}
    command: sh -c 'echo started in $$MODE mode; exec httpd -f -p 80 -h /srv'
    depends_on:
      db:
        condition: service_healthy
    ports: ["8077:80"]
    environment:
      MODE: fast
    networks: [back, front]
    stop_signal: SIGKILL
    volumes: ["./srv:/srv:ro"]
networks:
  back:
  front:
volumes:
  data:
"""

Compose = Callable[..., str]


@pytest.fixture
def compose(clients: Clients, tmp_path: Path) -> Iterator[Compose]:
    """Compose, in the directory of a project that is up; it is down afterwards."""
    if not (REFERENCE / PLUGIN[1:]).exists():
        pytest.skip(f"needs the reference at {REFERENCE}: make test-reference builds it")
    project = tmp_path / "shop"
    (project / "srv").mkdir(parents=True)
    (project / "srv" / "index.html").write_text("hello\n")
    (project / "compose.yaml").write_text(PROJECT)

    def call(*words: str) -> str:
        done = subprocess.run(
            [*FROM_REFERENCE, PLUGIN, "--ansi", "never", "--progress", "plain", *words],
            env=clients.environ, cwd=project, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    call("up", "--detach")
    yield call
    call("down", "--volumes", "--timeout", "0")


def test_two_services(clients: Clients, compose: Compose) -> None:
    """Started in order, seen, reached by port and by name, both ways."""
    shown = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]
    assert {(one["Service"], one["State"], one["Health"]) for one in shown} == {
        ("db", "running", "healthy"), ("web", "running", ""),
    }  # fmt: skip
    assert "started in fast mode" in compose("logs", "web")
    assert compose("exec", "-T", "web", "wget", "-qO-", "http://db/file") == "kept\n"
    assert compose("exec", "-T", "db", "wget", "-qO-", "http://web/") == "hello\n"
    assert compose("exec", "-T", "db", "wget", "-qO-", "http://shop-web-1/") == "hello\n"
    assert compose("port", "web", "80") == "0.0.0.0:8077\n"
    reached = clients.machine("busybox", "wget", "-qO-", "http://127.0.0.1:8077/")
    assert reached.output == "hello\n", reached.errors
    assert "httpd" in compose("top", "web")


def test_a_project_is_stopped_and_started(compose: Compose) -> None:
    """A volume is kept; a service runs another program; one is restarted by itself."""
    compose("stop", "--timeout", "0")
    assert compose("ps", "--format", "json") == ""
    compose("start")
    assert compose("exec", "-T", "db", "cat", "/data/file") == "kept\nkept\n"
    compose("restart", "--timeout", "0", "web")
    compose("pause", "web")
    compose("unpause", "web")
    assert compose("run", "--rm", "--no-deps", "web", "echo", "once") == "once\n"
    compose("up", "--detach", "--wait", "--force-recreate", "--timeout", "0")
    assert compose("exec", "-T", "db", "cat", "/data/file") == "kept\n" * 3


def test_nothing_of_a_project_stays(clients: Clients, compose: Compose) -> None:
    """Containers, networks, volumes."""
    compose("down", "--volumes", "--timeout", "0")
    left = [
        clients.must(kind, "ls", "-q", "--filter", "name=shop") for kind in ("network", "volume")
    ]
    assert [clients.must("ps", "-aq"), *left] == ["", "", ""]
