"""Descriptors: a container gets its three streams and nothing else. close_range(2)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Run, wait_until

STREAMS = {"0", "1", "2"}


@pytest.fixture
def inherited() -> Iterator[tuple[int, ...]]:
    """Twenty descriptors of the host's root directory, as a careless caller leaves them open."""
    opened = tuple(os.open("/", os.O_RDONLY) for _ in range(20))
    yield opened
    for fd in opened:
        os.close(fd)


def _start(run: Run, script: str, fds: tuple[int, ...], *options: str) -> subprocess.Popen[str]:
    words = run.arguments(("/bin/sh", "-c", script), options)
    return subprocess.Popen(
        words, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _descriptors(pid: int | str) -> set[str]:
    return set(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["", "init"])
def test_inherited_descriptors_do_not_reach_the_program(
    run: Run, inherited: tuple[int, ...], options: tuple[str, ...]
) -> None:
    """Seen from outside, of every process in it; and the command itself holds them: the control."""
    running = _start(run, "echo ready; exec sleep 600", inherited, "--name", "fds", *options)
    try:
        assert running.stdout is not None
        running.stdout.readline()
        assert {str(fd) for fd in inherited} <= _descriptors(running.pid)
        first = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()[0]
        assert _descriptors(first) == STREAMS
        for child in Path(f"/proc/{first}/task/{first}/children").read_text().split():
            wait_until(lambda pid=child: _descriptors(pid) == STREAMS, "its program")  # type: ignore[misc]  # mypy can't infer a lambda's default
    finally:
        if first:
            os.kill(int(first), 9)
        running.communicate(timeout=PATIENCE_S)


def test_they_are_not_seen_from_inside(run: Run, inherited: tuple[int, ...]) -> None:
    """The fourth is the directory that ls(1) reads."""
    running = _start(run, "ls /proc/self/fd", inherited)
    assert running.communicate(timeout=PATIENCE_S)[0].split() == ["0", "1", "2", "3"]


def test_the_host_can_not_be_entered_through_one(run: Run, inherited: tuple[int, ...]) -> None:
    """A working directory that is a descriptor of the host: CVE-2024-21626."""
    look = "cd -P . 2>/dev/null; ls; cat etc/hostname"
    for fd in (*range(3, 12), *inherited):
        for suffix in ("", "/../../.."):
            running = _start(run, look, inherited, "-w", f"/proc/self/fd/{fd}{suffix}")
            output, errors = running.communicate(timeout=PATIENCE_S)
            if running.returncode == 125:
                assert errors.startswith("minicontainer: ")
            else:
                assert set(output.split()) - {"etc"} <= {
                    *os.listdir(run.rootfs),
                    *_container_name(output),
                }
                assert os.uname().nodename not in output.split()


def _container_name(output: str) -> list[str]:
    return output.split()[-1:]
