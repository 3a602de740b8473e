"""update: other limits for a container that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .kernel import cgroups_of, control_file
from .runtime import WAITS, Container, Runtime, Spec

MIB = 1 << 20


@pytest.fixture
def container(runtime: Runtime) -> Container:
    """A container with limits."""

    def limits(config: Spec) -> None:
        config["linux"]["resources"] |= {
            "memory": {"limit": 64 * MIB, "reservation": 32 * MIB},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000},
            "pids": {"limit": 20},
        }

    return runtime.start(WAITS, limits)


def read(container: Container, what: str) -> str:
    """Read a limit from the kernel, whichever version of cgroups has it."""
    v1, v2 = {
        "memory": ("memory.limit_in_bytes", "memory.max"),
        "reservation": ("memory.soft_limit_in_bytes", "memory.low"),
        "pids": ("pids.max", "pids.max"),
        "cpus": ("cpuset.cpus", "cpuset.cpus"),
    }[what]
    return control_file(container.pid, v1, v2)


def cpu(container: Container) -> tuple[str, str]:
    """Read the quota and the period."""
    pid = container.pid
    if "cpu" in cgroups_of(pid):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = (control_file(pid, name, "") for name in names)
        return quota, period
    quota, period = control_file(pid, "cpu", "cpu.max").split()
    return quota, period


@pytest.mark.parametrize(
    ("option", "value", "what", "now"),
    [
        ("--memory", str(96 * MIB), "memory", str(96 * MIB)),
        ("--memory", "80M", "memory", str(80 * MIB)),
        ("--memory-reservation", str(16 * MIB), "reservation", str(16 * MIB)),
        ("--pids-limit", "30", "pids", "30"),
        ("--pids-limit", "-1", "pids", "max"),
        ("--cpuset-cpus", "0", "cpus", "0"),
    ],
)
def test_one_limit(
    runtime: Runtime, container: Container, option: str, value: str, what: str, now: str
) -> None:
    """It changes, and the kernel says so; the others stay."""
    others = {name: read(container, name) for name in ("memory", "reservation", "pids")}
    others.pop(what, None)
    runtime.ok("update", option, value, container.id)
    assert read(container, what) == now
    assert {name: read(container, name) for name in others} == others
    assert cpu(container) == ("50000", "100000")


def test_quota_and_period(runtime: Runtime, container: Container) -> None:
    """Together and alone."""
    runtime.ok("update", "--cpu-period", "200000", "--cpu-quota", "150000", container.id)
    assert cpu(container) == ("150000", "200000")
    runtime.ok("update", "--cpu-quota", "20000", container.id)
    assert cpu(container) == ("20000", "200000")


def test_no_limit(runtime: Runtime, container: Container) -> None:
    """-1 takes one away."""
    runtime.ok("update", "--memory-swap", "-1", "--memory", "-1", container.id)
    assert read(container, "memory") in ("9223372036854771712", "max")


RESOURCES: dict[str, Any] = {
    "memory": {"limit": 128 * MIB, "reservation": 48 * MIB},
    "cpu": {"quota": 70000, "period": 100000},
    "pids": {"limit": 25},
}


def expect_resources(container: Container) -> None:
    """See that the kernel has those."""
    assert read(container, "memory") == str(128 * MIB)
    assert read(container, "reservation") == str(48 * MIB)
    assert read(container, "pids") == "25"
    assert cpu(container) == ("70000", "100000")


@pytest.mark.parametrize("option", ["-r", "--resources"])
def test_from_a_file(runtime: Runtime, container: Container, option: str) -> None:
    """As podman calls it."""
    file = runtime.base / "resources.json"
    file.write_text(json.dumps(RESOURCES))
    runtime.ok("update", option, str(file), container.id)
    expect_resources(container)


def test_from_the_input(runtime: Runtime, container: Container) -> None:
    """As containerd calls it."""
    runtime.ok("update", "--resources", "-", container.id, stdin=json.dumps(RESOURCES))
    expect_resources(container)


def test_a_created_container(runtime: Runtime) -> None:
    """Before its program begins."""
    container = runtime.create()
    runtime.ok("update", "--pids-limit", "30", container.id)
    assert read(container, "pids") == "30"


def test_a_paused_container_stays_paused(runtime: Runtime, container: Container) -> None:
    """What does not run can have other limits all the same."""
    runtime.ok("pause", container.id)
    runtime.ok("update", "--pids-limit", "30", container.id)
    assert read(container, "pids") == "30"
    assert container.status == "paused"


def test_an_unknown_container(runtime: Runtime) -> None:
    """The usual words."""
    runtime.refused("update", "--pids-limit", "30", runtime.name(), says="does not exist")


def test_a_container_that_has_ended(runtime: Runtime, container: Container) -> None:
    """There is nobody to limit."""
    container.kill()
    done = container("update", "--pids-limit", "30")
    assert done.status in (0, 1)
    assert runtime("update", "--pids-limit", "30", container.id).errors.count("\n") <= 1


@pytest.mark.parametrize(
    "options",
    [("--memory", "much"), ("--cpu-quota", "x"), ("--cpu-period", "-7"),
     ("--cpuset-cpus", "9999"), ("--cpuset-cpus", "x")],
    ids=" ".join,
)  # fmt: skip
def test_values_that_make_no_sense(
    runtime: Runtime, container: Container, options: tuple[str, ...]
) -> None:
    """Refused by us or by the kernel; the limits stay as they were."""
    runtime.refused("update", *options, container.id)
    assert read(container, "memory") == str(64 * MIB)
    assert read(container, "pids") == "20"
    assert cpu(container) == ("50000", "100000")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"memory": 7}', '{"pids": {"limit": "x"}}'])
def test_resources_that_are_none(runtime: Runtime, container: Container, text: str) -> None:
    """The same for a file."""
    runtime.refused("update", "-r", "-", container.id, stdin=text)
    assert read(container, "memory") == str(64 * MIB)


def test_a_file_that_is_not_there(runtime: Runtime, container: Container) -> None:
    """Said by its path."""
    file = str(runtime.base / "none.json")
    runtime.refused("update", "-r", file, container.id, says="no such file")


def test_the_limit_holds(runtime: Runtime, container: Container) -> None:
    """Not only a number in a file: no more processes than that."""
    runtime.ok("update", "--pids-limit", "3", container.id)
    done = container.exec("sh", "-c", "for i in 1 2 3 4 5; do sleep 5 & done")
    assert "fork" in done.errors
    events = Path(cgroups_of(container.pid).get("pids", cgroups_of(container.pid).get("", "")))
    assert "max 0" not in (events / "pids.events").read_text()
