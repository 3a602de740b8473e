"""The engine's own cgroup, which keeps the one above: from the first start to the engine's end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minicontainer.engine.engine import Engine, Options
from minicontainer.engine.kept_group import KeptGroup
from tests.engine.conftest import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARENT = "minicontainer-kept"


def _groups() -> list[Path]:
    """List the parent of the containers' groups, in all hierarchies."""
    hierarchies = Path("/sys/fs/cgroup")
    return [path for path in (hierarchies / _PARENT, *hierarchies.glob(f"*/{_PARENT}"))
            if path.exists()]  # fmt: skip


def _below(group: Path) -> list[Path]:
    return [path for path in group.iterdir() if path.is_dir()]


@pytest.fixture
def own(roots: Path, busybox: Path) -> Iterator[Lab]:
    """An engine with a parent cgroup of its own."""
    made = Lab(Engine(str(roots / "data"), str(roots / "exec"), Options(cgroup_parent=_PARENT)),
               busybox)  # fmt: skip
    yield made
    if not made.engine.closed:
        made.close()


def test_the_parent_stays_between_containers_and_goes_with_the_engine(own: Lab) -> None:
    """An empty group, without a process, in each hierarchy."""
    assert not _groups()
    own.engine.containers.remove(own.run("true")[0])
    groups = _groups()
    assert groups
    for group in groups:
        [kept] = _below(group)
        assert kept.name.startswith("engine-")
        assert not (kept / "cgroup.procs").read_text()
    own.close()
    assert not _groups()


def test_without_it_the_parent_goes_with_its_last_container(own: Lab) -> None:
    """The control: nobody else keeps it."""
    own.engine.kept_group.make()
    own.engine.kept_group.remove()
    own.run("true")
    own.engine.containers.prune({})
    assert not _groups()


def test_what_a_killed_engine_has_left_goes_with_the_next(own: Lab, roots: Path) -> None:
    """It has the same name, by the engine's exec root."""
    own.engine.kept_group.make()
    own.engine.supervisor.close()
    assert _groups()
    KeptGroup(_PARENT, str(roots / "exec")).remove()
    assert not _groups()
