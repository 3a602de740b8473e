"""A runtime to be tested: ours, or the one that --runtime names; and a look at what it leaves.

The tests know a runtime by its command line alone, so that another one (runc, first of all) judges
them: what that one fails, the test has wrong. What is ours alone is marked `ours`, with the reason.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import command

from .hooks import Hooks, Oci
from .kernel import descendants, end, mount_points, set_subreaper
from .runtime import Runtime, Spec
from .terminals import ConsoleSocket

_NUMBERS = itertools.count()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with its reason, what is ours alone when another runtime is tested."""
    if _program(config)[1]:
        return
    for item in items:
        for marker in item.iter_markers("ours"):
            item.add_marker(pytest.mark.skip(reason=f"ours alone: {marker.args[0]}"))


def _program(config: pytest.Config) -> tuple[tuple[str, ...], bool]:
    """Give the words that call the runtime, and whether it is ours."""
    named = config.getoption("--runtime")
    if not named:
        return tuple(command("minicontainer-oci")), True
    found = shutil.which(named)
    if found is None:
        raise pytest.UsageError(f"--runtime {named}: there is no such program")
    return (found,), Path(found).name == "minicontainer-oci"


@pytest.fixture(scope="session")
def default_config(pytestconfig: pytest.Config, everyones: Path) -> Spec:
    """The configuration that the runtime's own `spec` writes."""
    directory = everyones / "default"
    directory.mkdir()
    words = [*_program(pytestconfig)[0], "spec", "--bundle", str(directory)]
    subprocess.run(words, check=True, timeout=60)
    written: Spec = json.loads((directory / "config.json").read_text())
    return written


@pytest.fixture(scope="session")
def bundle_config(busybox: Path, default_config: Spec) -> Spec:
    """The configuration that bundles begin with: one root file system, read-only to them."""
    config = copy.deepcopy(default_config)
    config["root"] = {"path": str(busybox), "readonly": True}
    config["process"]["terminal"] = False
    return config


@pytest.fixture
def runtime(
    pytestconfig: pytest.Config, roots: tuple[Path, Path], bundle_config: Spec
) -> Iterator[Runtime]:
    """A runtime with a --root of the test's own.

    This process is a subreaper meanwhile, as containerd's shim is: what outlives the runtime's
    command becomes its child, and can't get lost. Afterwards all containers are deleted by force,
    and the host is as it was: mounts, cgroups, links, processes, state.
    """
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    program, is_ours = _program(pytestconfig)
    base = roots[0].parent
    tested = Runtime(
        program, base, bundle_config, is_ours, prefix=f"oci-{os.getpid()}-{next(_NUMBERS)}"
    )
    set_subreaper(True)
    others = set(descendants())
    before = tested.traces()
    try:
        yield tested
        for name in tested.containers():
            tested("delete", "--force", name)
        tested.expect_nothing_new(before)
    finally:
        for pid in set(descendants()) - others:
            end(pid)
        tested.reap()
        _sweep(tested, before)
        set_subreaper(False)


def _sweep(tested: Runtime, before: dict[str, set[str]]) -> None:
    """Keep what one test left from spoiling the next one."""
    for directory in sorted(tested.traces()["cgroups"] - before["cgroups"], reverse=True):
        Path(directory).rmdir()
    for place in sorted(mount_points() - before["mounts"], reverse=True):
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def oci(runtime: Runtime) -> Oci:
    """The runtime's commands, on this test's container."""
    return Oci(runtime)


@pytest.fixture
def hooks(oci: Oci) -> Hooks:
    """Hooks for that container."""
    directory = oci.runtime.base / "common"
    directory.mkdir()
    return Hooks(oci, directory)


@pytest.fixture
def console(roots: tuple[Path, Path]) -> Iterator[ConsoleSocket]:
    """A console socket that listens."""
    made = ConsoleSocket(roots[0].parent / "console.sock")
    yield made
    made.close()


@pytest.fixture
def masters() -> Iterator[list[int]]:
    """Terminals that are closed after the test."""
    made: list[int] = []
    yield made
    for fd in made:
        os.close(fd)


@pytest.fixture
def victim(runtime: Runtime) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host that no signal may reach."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    runtime.not_to_reap.add(process.pid)
    yield process
    assert process.poll() is None, "a process of the host was signalled"
    process.kill()
    process.wait()
