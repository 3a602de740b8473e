"""A Swarm of one node, whose services' containers our runtime makes: docs/how-to/docker.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import wait_until

from .dockerd import WAITS, Docker
from .page import follow, sections

NEEDS = ("dockerd", "containerd", "docker", "iptables")


@pytest.fixture(autouse=True)
def _alone(docker: Docker) -> Iterator[None]:
    """Leave no Swarm to the next test, whatever became of this one."""
    yield
    docker("swarm", "leave", "--force")


def tasks(docker: Docker) -> list[str]:
    """List the containers that run."""
    return docker.must("ps", "--quiet").split()


def wait_for_tasks(docker: Docker, number: int) -> None:
    """Wait until so many containers run, and the Swarm's manager has been told so.

    A manager that scales a service while a task of it still reports writes the same record twice,
    and gives up: "failed to update task to REMOVE: update out of sequence".
    """

    def settled() -> bool:
        told = docker.must("service", "ls", "--format", "{{.Replicas}}")
        return told == f"{number}/{number}" and len(tasks(docker)) == number

    wait_until(settled, f"{number} tasks")


def test_a_service_of_three_replicas(docker: Docker) -> None:
    """Three containers that share nothing; scaled, and one replaced that was killed."""
    docker.must("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1")
    create = ("service", "create", "--detach", "--no-resolve-image", "--name", "web")
    docker.must(*create, "--replicas", "3", "--restart-delay", "0s", "busybox", *WAITS)
    wait_for_tasks(docker, 3)
    first, *others = tasks(docker)
    pids = [docker.pid(name) for name in (first, *others)]
    for kind in ("mnt", "pid", "net", "ipc", "uts"):
        assert len({docker.machine.namespace(pid, kind) for pid in (1, *pids)}) == 4

    docker.must("kill", first)
    wait_until(lambda: first not in tasks(docker), "the end of the one that was killed")
    wait_for_tasks(docker, 3)

    docker.must("service", "scale", "--detach", "web=5")
    wait_for_tasks(docker, 5)
    docker.must("service", "scale", "--detach", "web=1")
    wait_for_tasks(docker, 1)
    docker.must("service", "rm", "web")
    wait_until(lambda: not tasks(docker), "the service's end")
    docker.must("swarm", "leave", "--force")


@pytest.mark.timeout(180)
def test_the_page_can_be_followed(docker: Docker) -> None:
    """Every command that it gives, in its order."""
    followed = follow(docker.machine, sections("docker.md")["Swarm"])
    assert followed.status == 0, followed.output + followed.errors
