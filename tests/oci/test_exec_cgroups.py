"""exec --cgroup: a program in a cgroup below the container's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kernel import cgroups_of
from .runtime import Container, Runtime
from .test_exec import detached


@pytest.fixture
def container(runtime: Runtime) -> Container:
    """A container that runs."""
    return runtime.start()


def test_in_a_cgroup_below_the_containers(runtime: Runtime, container: Container) -> None:
    """One that exists; on v1 a controller is named with it."""
    of_first = cgroups_of(container.pid)
    controller = "pids" if "pids" in of_first else ""
    below = Path(of_first[controller]) / "below"
    below.mkdir()
    pid = detached(container, "--cgroup", f"{controller}:below" if controller else "below")
    assert cgroups_of(pid)[controller] == str(below)


def test_in_a_cgroup_of_each_controller(runtime: Runtime, container: Container) -> None:
    """On v1 each has its own; those that are not named stay in the container's."""
    of_first = cgroups_of(container.pid)
    if not {"pids", "memory", "cpu"} <= of_first.keys():
        pytest.skip("needs cgroup v1: on v2 all controllers share one group")
    below = {name: Path(of_first[name]) / f"for-{name}" for name in ("pids", "memory")}
    for path in below.values():
        path.mkdir()
    pid = detached(container, "--cgroup", "pids:for-pids", "--cgroup", "memory:/for-memory")
    found = cgroups_of(pid)
    assert {name: found[name] for name in below} == {name: str(below[name]) for name in below}
    assert found["cpu"] == of_first["cpu"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pids:a", "pids:b"), ("pids is given twice", "no such file")),
        (("a", "b"), ("one of several", "missing <controller>")),
        ((":a",), (":a: expected a controller", "no such file")),
        (("nothing:a",), "nothing"),
        (("pids,:a",), ("pids,:a: expected a controller", "no such file")),
    ],
)
def test_cgroups_that_make_no_sense(
    runtime: Runtime, container: Container, words: tuple[str, ...], says: str | tuple[str, ...]
) -> None:
    """One twice, one without a controller beside others, and what is no controller."""
    options = [word for value in words for word in ("--cgroup", value)]
    runtime.refused("exec", *options, container.id, "true", says=says)


@pytest.mark.parametrize("path", ["nowhere", "../..", "../../..", "/../.."])
def test_in_a_cgroup_that_is_not_below(runtime: Runtime, container: Container, path: str) -> None:
    """Neither in one that is missing, nor outside of the container's."""
    controller = "pids:" if "pids" in cgroups_of(container.pid) else ""
    words = ("exec", "--cgroup", f"{controller}{path}", container.id, "true")
    assert runtime(*words).status >= 1
