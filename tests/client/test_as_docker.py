"""What Docker's client shows of our engine is what it shows of Docker's newest.

`make test-reference` runs these lines, each a script of a shell, on both engines at once. Output,
errors and status are the same, but for IDs, times and addresses.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import engines
from tests.conftest import PATIENCE_S
from tests.engines import Clients

# What another engine, or another call, has another one of.
MASKS = (
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short id>"),
    (r"\b(Less than a|About an?|\d+) (second|minute|hour)s?( ago)?", "<age>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.]*(Z| \+0000 UTC)", "<time>"),
    (r"runc create failed: ", ""),
    (r"\b172\.\d+\.0\.", "<network>."),
    (r"\b[\d.]+([kMG]i?)?B\b", "<size>"),
    (r" {2,}", "  "),  # columns are as wide as what is masked in them
)  # fmt: skip

SCRIPTS = (Path(__file__).parent / "as_docker.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def both(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Clients]]:
    """Docker 28 and our engine, side by side."""
    directory = tmp_path_factory.mktemp("engines")
    with (
        engines.running("dockerd28", busybox, directory) as theirs,
        engines.running("minicontainer", busybox, directory) as ours,
    ):
        yield [theirs, ours]


def said(clients: Clients, script: str) -> tuple[int, str, str]:
    """Run a script with Docker's client; give status, output and errors without what differs."""
    environ = dict(clients.environ, PATH=os.environ["PATH"])
    done = subprocess.run(
        ["bash", "-c", script], env=environ, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    return done.returncode, masked(done.stdout), masked(done.stderr)


def masked(text: str) -> str:
    """Hide what differs between two engines that do the same."""
    for pattern, shown in MASKS:
        text = re.sub(pattern, shown, text)
    return text


@pytest.mark.parametrize(
    "script", [line for line in SCRIPTS if line.strip() and not line.startswith("#")]
)
def test_our_engine_is_like_dockers(both: list[Clients], script: str) -> None:
    """Run it on both at once."""
    with ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.map(said, both, [script] * 2)
    assert ours == theirs
