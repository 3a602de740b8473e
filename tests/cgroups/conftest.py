"""A cgroup for each test, and programs that wait to be let go in it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from minicontainer.cgroups import hierarchies
from minicontainer.cgroups.cgroup import Cgroup, open_cgroup
from minicontainer.cgroups.v2 import V2Cgroup

_numbers = itertools.count(1)


class Start(Protocol):
    """Start a Python program in a cgroup."""

    def __call__(self, group: Cgroup, code: str) -> subprocess.Popen[str]:
        """Start *code* (os, sys and time are imported), and let it go once it is in *group*."""


@pytest.fixture(scope="session", autouse=True)
def _needs_root() -> None:
    if os.geteuid():
        pytest.skip("needs root: cgroups are made directly below the root of each hierarchy")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail a test that leaves a group; give the host its controllers back."""
    mounted = hierarchies.mounted()
    enabled = _enabled(mounted)
    yield
    top = mounted.unified.mount_point if mounted.unified else ""
    for controller in _enabled(mounted) - enabled:
        Path(top, "cgroup.subtree_control").write_text(f"-{controller}")
    assert leftovers() == []


def _enabled(mounted: hierarchies.Hierarchies) -> set[str]:
    if not mounted.unified:
        return set()
    return set(Path(mounted.unified.mount_point, "cgroup.subtree_control").read_text().split())


def leftovers() -> list[str]:
    """List the directories of groups that these tests made."""
    mounted = hierarchies.mounted()
    tops = [h.mount_point for h in (*mounted.v1, mounted.unified) if h]
    return [
        str(path) for top in tops for path in Path(top).glob(f"minicontainer-test-{os.getpid()}*")
    ]


def new_path() -> str:
    """Name a group that nobody has."""
    return f"/minicontainer-test-{os.getpid()}-{next(_numbers)}/group"


@pytest.fixture
def group() -> Iterator[Cgroup]:
    """Make a group as this host has it."""
    made = open_cgroup(new_path())
    made.create()
    yield made
    made.kill()
    made.remove()


def directory_of(group: Cgroup, controller: str) -> Path:
    """Name the directory of a group's that has a controller."""
    mounted = hierarchies.mounted()
    for hierarchy in mounted.v1:
        if controller in hierarchy.controllers:
            return Path(hierarchy.mount_point + group.path)
    assert mounted.unified is not None
    return Path(mounted.unified.mount_point + group.path)


def control_file(group: Cgroup, name: str) -> str:
    """Read a control file where the kernel has it; "" where there is none."""
    file = directory_of(group, name.partition(".")[0]) / name
    return file.read_text().strip() if file.exists() else ""


def drivers() -> list[str]:
    """Name the drivers to test: on a hybrid host v2's too, without controllers."""
    return ["mounted", "unified"] if hierarchies.mounted().version == "hybrid" else ["mounted"]


@pytest.fixture(params=drivers())
def either(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    """Make a group by each driver that works here."""
    unified = hierarchies.mounted().unified
    made: Cgroup
    if request.param == "unified" and unified:
        made = V2Cgroup(unified, new_path())
    else:
        made = open_cgroup(new_path())
    made.create()
    yield made
    made.kill()
    made.remove()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs; end those that are left."""
    started: list[subprocess.Popen[str]] = []

    def start_one(group: Cgroup, code: str) -> subprocess.Popen[str]:
        waiting = f"import os, sys, time\nsys.stdin.readline()\n{code}"
        program = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", waiting],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(program)
        group.add(program.pid)
        assert program.stdin is not None
        program.stdin.write("go\n")
        program.stdin.flush()
        return program

    yield start_one
    for program in started:
        program.kill()
        program.wait()
        for stream in (program.stdin, program.stdout):
            if stream:
                stream.close()


def wait_until(true: Callable[[], bool], timeout_s: float = 20) -> None:
    """Look until something is so."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def said(program: subprocess.Popen[str]) -> str:
    """Read the next line of a program's output."""
    assert program.stdout is not None
    return program.stdout.readline().strip()
