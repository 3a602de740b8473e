"""A Swarm of one node, whose services' containers our runtime makes: docs/how-to/docker.md."""

from __future__ import annotations

import pytest

from tests.conftest import wait_until

from .dockerd import WAITS, Docker
from .page import follow, sections

NEEDS = ("dockerd", "containerd", "docker", "iptables")


def tasks(docker: Docker) -> list[str]:
    """List the containers that run."""
    return docker.must("ps", "--quiet").split()


def test_a_service_of_three_replicas(docker: Docker) -> None:
    """Three containers that share nothing; scaled, and one replaced that was killed."""
    docker.must("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1")
    create = ("service", "create", "--detach", "--no-resolve-image", "--name", "web")
    docker.must(*create, "--replicas", "3", "--restart-delay", "0s", "busybox", *WAITS)
    wait_until(lambda: len(tasks(docker)) == 3, "three tasks")
    first, *others = tasks(docker)
    pids = [docker.pid(name) for name in (first, *others)]
    for kind in ("mnt", "pid", "net", "ipc", "uts"):
        assert len({docker.machine.namespace(pid, kind) for pid in (1, *pids)}) == 4

    docker.must("kill", first)
    wait_until(lambda: len(tasks(docker)) == 3, "the one that was killed to be replaced")
    assert first not in tasks(docker)

    docker.must("service", "scale", "--detach", "web=5")
    wait_until(lambda: len(tasks(docker)) == 5, "five tasks")
    docker.must("service", "scale", "--detach", "web=1")
    wait_until(lambda: len(tasks(docker)) == 1, "one task")
    docker.must("service", "rm", "web")
    wait_until(lambda: not tasks(docker), "the service's end")
    docker.must("swarm", "leave", "--force")


@pytest.mark.timeout(180)
def test_the_page_can_be_followed(docker: Docker) -> None:
    """Every command that it gives, in its order."""
    followed = follow(docker.machine, sections("docker.md")["Swarm"])
    assert followed.status == 0, followed.output + followed.errors
