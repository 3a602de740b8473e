"""Stories of an engine that is far away: over TCP, with TLS."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.learn import recording
from tests.conftest import CHECKOUT, PATIENCE_S, command
from tests.images.registry.certificates import Authority
from tests.learn.conftest import Engine

# An engine that closes a connection after a tenth of a second without requests.
IMPATIENT = """
import json, sys
sys.path[:0] = [sys.argv.pop(1)]
sys.argv += json.loads(sys.argv.pop(1))
from minicontainer.api import connection
connection.IDLE_S = 0.1
from minicontainer.cli.main import main
sys.exit(main())
"""
HOST = "tcp://127.0.0.1:2376"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[Engine, list[str]]]:
    """Give an impatient engine, and the beginning of a command line that reaches it by TLS."""
    authority = Authority(tmp_path)
    options = ["--host", HOST, "--log-level", "debug"]
    words = ["--host", HOST, "--tlsverify"]
    for listed, name in ((options, "server"), (words, "client")):
        certificate, key = authority.issue(name)
        listed += ["--tlscacert", str(authority.certificate), "--tlscert", str(certificate)]
        listed += ["--tlskey", str(key)]
    daemon = (sys.executable, "-c", IMPATIENT, str(CHECKOUT), json.dumps(options))
    engine = Engine(daemon=daemon)
    try:
        engine("run", "--rm", "--net", "none", "busybox", "true")
        inside = ["nsenter", "--net", "--target", str(engine.pid)]
        yield engine, [*inside, *command("minicontainer"), *words]
    finally:
        engine.close()


def test_a_run_outlasts_the_engines_patience(far: tuple[Engine, list[str]], tmp_path: Path) -> None:
    """The story ends when the client says so, though all its idle connections were closed.

    Such a connection takes a request without an error, and loses it.
    """
    engine, words = far
    kept = tmp_path / "kept"
    run = ("run", "--rm", "--net", "none", "--record", str(kept), "busybox", "sleep", "1")
    done = subprocess.run(
        [*words, *run], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    steps = [entry.event.step for entry in recording.read(str(kept)).entries]
    assert steps[-1] == "discard-directory"
    assert "DELETE /minicontainer/traces/" in engine.log.read_text()
