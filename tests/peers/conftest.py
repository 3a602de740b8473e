"""Engines that run their containers with our runtime, each on a machine of its own.

`--runtime runc` has the same tests judge another runtime: what that one fails, the test has wrong.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import command, leaving_nothing

from .dockerd import Docker
from .machine import Machine


@pytest.fixture(scope="session")
def runtime(pytestconfig: pytest.Config) -> str:
    """The runtime's program: ours as it is installed, or the one that --runtime names."""
    named = pytestconfig.getoption("--runtime")
    if named:
        return str(shutil.which(named))
    words = command("minicontainer-oci")
    if len(words) > 1:
        pytest.skip(
            "minicontainer-oci is not installed, and an engine needs one program: scripts/setup"
        )
    return words[0]


@pytest.fixture(scope="module")
def machine(
    request: pytest.FixtureRequest, runtime: str, busybox: Path, interpreter_mount: None
) -> Iterator[Machine]:
    """A machine for the engine of one file of tests, which names the programs that it NEEDS.

    When it is gone, the host is as it was.
    """
    if os.geteuid() != 0:
        pytest.skip("engines need root")
    for program in ("tini", *request.module.NEEDS):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: scripts/setup --tests")
    with leaving_nothing():
        name = Path(request.module.__file__).stem.removeprefix("test_")
        made = Machine(name, busybox, runtime)
        yield made
        made.stop()


@pytest.fixture(scope="module")
def docker(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    """An engine whose default runtime is ours, with a busybox image."""
    return Docker(machine, tmp_path_factory.mktemp("docker") / "log")
