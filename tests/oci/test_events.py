"""events: what a container has used, in the numbers of the kernel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minicontainer.cgroups import hierarchies
from tests.conftest import wait_until

from .kernel import cgroups_of, control_file
from .runtime import Container, Runtime


def stats(container: Container) -> dict[str, Any]:
    """Ask once."""
    answer = json.loads(container.runtime.ok("events", "--stats", container.id))
    assert answer["type"] == "stats"
    assert answer["id"] == container.id
    data: dict[str, Any] = answer["data"]
    return data


def test_stats(runtime: Runtime) -> None:
    """One line, and then the end."""
    container = runtime.start("sleep 600 & echo ready; exec sleep 600")
    data = stats(container)
    assert data["cpu"]["usage"]["total"] > 0
    assert data["pids"]["current"] == 2
    usage = int(control_file(container.pid, "memory.usage_in_bytes", "memory.current"))
    assert 0 < data["memory"]["usage"]["usage"] < 4 * usage + (1 << 20)


def test_stats_of_what_works(runtime: Runtime) -> None:
    """The numbers grow."""
    container = runtime.start("echo ready; while :; do :; done")
    before = stats(container)["cpu"]["usage"]["total"]
    wait_until(lambda: stats(container)["cpu"]["usage"]["total"] > before, "more of it")


def test_limits_are_told(runtime: Runtime) -> None:
    """The limit of processes as the kernel has it."""

    def limit(config: dict[str, Any]) -> None:
        config["linux"]["resources"]["pids"] = {"limit": 20}

    container = runtime.start(("sleep", "600"), limit)
    assert stats(container)["pids"]["limit"] == 20
    assert cgroups_of(container.pid)


def test_again_and_again(runtime: Runtime) -> None:
    """A line at each interval, until the container ends."""
    container = runtime.start()
    call = runtime.begin(runtime.words("events", "--interval", "100ms", container.id))
    wait_until(lambda: call.stdout.read_text().count("\n") >= 2, "two lines")
    for line in call.stdout.read_text().splitlines()[:2]:
        assert json.loads(line)["type"] == "stats"
    container.kill()
    if runtime.is_ours:  # runc's does not note it here
        call.wait()
    else:
        call.process.kill()
        call.wait()


@pytest.mark.ours("runc's goes on for ever")
def test_without_a_memory_controller(runtime: Runtime) -> None:
    """What else there is to tell is told, and a warning says what is not."""
    if hierarchies.mounted().version == "v2":
        pytest.skip("needs cgroup v1, whose controllers can be hidden one by one")
    container = runtime.start()
    script = 'umount /sys/fs/cgroup/memory && exec "$@"'
    words = runtime.words("events", "--interval", "50ms", container.id)
    call = runtime.begin(["unshare", "--mount", "sh", "-c", script, "sh", *words])
    wait_until(lambda: call.stdout.read_text().count("\n") >= 2, "two lines")
    for line in call.stdout.read_text().splitlines()[:2]:
        assert json.loads(line)["data"]["pids"]["current"] == 1
    container.kill()
    done = call.wait()
    assert done.status == 0
    assert "no memory controller" in done.errors


@pytest.mark.ours("runc's goes on for ever")
def test_a_container_that_is_deleted_meanwhile(runtime: Runtime) -> None:
    """At any moment, also while its numbers are read: that is an end, and no error."""
    for _ in range(5):
        container = runtime.start()
        call = runtime.begin(runtime.words("events", "--interval", "1ms", container.id))
        wait_until(call.stdout.read_text, "a line")
        runtime.ok("delete", "--force", container.id)
        done = call.wait()
        assert (done.status, done.errors) == (0, "")


@pytest.mark.parametrize("interval", ["x", "-1s", "0"])
def test_an_interval_that_is_none(runtime: Runtime, interval: str) -> None:
    """Said in a word."""
    container = runtime.start()
    done = runtime("events", f"--interval={interval}", container.id)
    assert done.status >= 1
    assert done.errors


def test_an_unknown_container(runtime: Runtime) -> None:
    """The usual words."""
    runtime.refused("events", "--stats", runtime.name(), says="does not exist")


def test_a_container_that_has_ended(runtime: Runtime) -> None:
    """It uses nothing any more."""
    container = runtime.start(("true",))
    container.wait_stopped()
    runtime.refused("events", "--stats", container.id, says=("not running", "stopped"))
