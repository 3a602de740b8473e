"""Standard output and error that are full or closed: the exit status says what happened."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Engine, command

FULL_OR_CLOSED = ["2>/dev/full", "2>&-", ">/dev/full 2>/dev/full", ">&- 2>&-"]


def status(words: list[str], streams: str) -> int:
    """Run a command with its streams redirected; give its exit status."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {streams}', "sh", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=PATIENCE_S, check=False,
    ).returncode  # fmt: skip


@pytest.mark.parametrize("streams", FULL_OR_CLOSED)
def test_a_runtimes_failure_is_one(streams: str, tmp_path: Path) -> None:
    """Of minicontainer-oci, whatever becomes of its message."""
    oci = [*command("minicontainer-oci"), "--root", str(tmp_path)]
    assert status([*oci, "state", "nosuch"], streams) == 1
    assert status([*oci, "--bogus"], streams) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")
@pytest.mark.parametrize("streams", FULL_OR_CLOSED)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sh", "-c", "exit 3"), 3),
        (("nosuch",), 127),
        (("/etc",), 126),
        (("--bogus", "true"), 125),
    ],
)
def test_runs_statuses_are_the_documented_ones(
    streams: str, words: tuple[str, ...], expected: int, busybox: Path, shared_engine: Engine
) -> None:
    """Of `minicontainer run`."""
    run = shared_engine.command("run", "--rm", "--rootfs", busybox, "--net", "none")
    assert status([*run, *words], streams) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")
def test_a_programs_output_that_cannot_be_written_is_a_failure(
    busybox: Path, shared_engine: Engine
) -> None:
    """Of `minicontainer run`, as of Docker's client: 1, and a line that names the stream."""
    run = shared_engine.command("run", "--rm", "--rootfs", busybox, "--net", "none")
    assert status([*run, "sh", "-c", "echo x >&2; exit 3"], "2>/dev/full") == 1
    done = subprocess.run(
        ["sh", "-c", '"$@" >/dev/full', "sh", *run, "sh", "-c", "echo x; exit 3"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "write /dev/stdout: no space left on device\n")


def test_an_output_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    """The control: what was asked for did not arrive."""
    assert status([*command("minicontainer-oci"), "--version"], ">/dev/full") == 1
    assert status([*command("minicontainer-oci"), "--version"], ">&1") == 0
