"""Containers and the life of Docker's daemon: it restarts, dies, has other users.

See: https://docs.docker.com/engine/daemon/live-restore/, …/engine/security/userns-remap/.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import wait_until

from .dockerd import WAITS, Docker

NEEDS = ("dockerd", "containerd", "docker", "iptables", "ps")


@pytest.fixture
def name(docker: Docker) -> Iterator[str]:
    """A name for a container that ends with the test."""
    yield "web"
    docker("rm", "--force", "web")


def test_a_container_goes_on_without_the_daemon(docker: Docker, name: str) -> None:
    """With --live-restore: its shim holds it, and the next daemon knows it again."""
    docker.restart("--live-restore")
    pid = docker.start(name, "busybox", *WAITS)
    docker.restart("--live-restore")
    assert docker.pid(name) == pid
    assert docker.must("exec", name, "echo", "there") == "there"
    docker.must("stop", "--time", "20", name)
    assert docker.must("logs", name) == "ready\ntold"


def test_a_container_ends_with_the_daemon(docker: Docker, name: str) -> None:
    """The control: it is stopped, and can be started again."""
    docker.restart()
    docker.start(name, "busybox", *WAITS)
    docker.restart()
    assert (docker.state(name)["Status"], docker.state(name)["ExitCode"]) == ("exited", 3)
    docker.must("start", name)
    assert docker.state(name)["Status"] == "running"


def test_a_daemon_that_was_killed_tidies_up(docker: Docker, name: str) -> None:
    """Its successor ends what it finds; no process and no state is in the way."""
    docker.restart()
    pid = docker.start(name, "busybox", *WAITS)
    docker.restart(signal="KILL")
    wait_until(lambda: docker.state(name)["Status"] == "exited", "the container's end")
    assert not docker.machine.path(f"/proc/{pid}").exists()
    docker.must("start", name)


def test_a_shim_that_was_killed_is_tidied_up_after(docker: Docker, name: str) -> None:
    """containerd has us delete the container by force: its processes, cgroups and state."""
    docker.restart()
    pid = docker.start(name, "busybox", *WAITS)
    container = docker.must("inspect", "--format", "{{.Id}}", name)
    shim = docker.status(name)["PPid"]
    docker.machine("kill", "-KILL", shim)
    wait_until(lambda: docker.state(name)["Status"] == "exited", "the container's end")
    assert not docker.machine.path(f"/proc/{pid}").exists()
    assert container not in [path.name for path in docker.machine.cgroups()]
    docker.must("start", name)
    assert docker.state(name)["Status"] == "running"


def test_root_is_somebody_else(docker: Docker, name: str) -> None:
    """With --userns-remap, in the container's program, its volumes and what exec starts."""
    etc = docker.machine.path("/etc")
    for file in ("subuid", "subgid"):
        (etc / file).write_text("nobody:100000:65536\n")
    docker.restart("--userns-remap", "nobody:nogroup")
    docker.import_image()
    docker.start(name, "-v", "kept:/kept", "busybox", *WAITS)
    docker.must("exec", name, "sh", "-c", "test $(id -u) = 0 && touch /kept/new")
    assert docker.status(name)["Uid"].split() == ["100000"] * 4
    where = docker.must("volume", "inspect", "--format", "{{.Mountpoint}}", "kept")
    assert docker.machine("stat", "-c", "%u:%g", f"{where}/new").output == "100000:100000\n"
    _, *rows = docker.must("top", name, "-o", "pid,uid").splitlines()
    assert {row.split()[1] for row in rows} == {"100000"}
    # the control: without it root is root
    done = docker.run("--userns", "host", "busybox", "cat", "/proc/self/uid_map")
    assert done.output.split()[:2] == ["0", "0"]
