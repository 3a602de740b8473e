"""Clients, and an engine for them: Docker's own daemon, and ours; see tests/engines.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import engines
from tests.engines import IMAGE, Clients

# What a container is that these tests look at: it runs until it is killed.
LABELS = ("--label", "a=b", "--label", "x=y")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what needs Docker's newest engine, or what comes with it, unless it is named."""
    needs = collection_path.name in ("test_as_docker.py", "test_compose.py")
    return True if needs and "dockerd28" not in (config.getoption("--engine") or ()) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have a test that takes `clients` run on each engine that `--engine` names."""
    if "clients" in metafunc.fixturenames:
        names = metafunc.config.getoption("--engine") or engines.USUAL
        metafunc.parametrize("clients", names, indirect=True, scope="module")


# of a module: the engine and what still runs in it must be gone before other tests look around
@pytest.fixture(scope="module")
def clients(
    request: pytest.FixtureRequest, busybox: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clients]:
    """Both clients, on each of the engines in turn; the image is there."""
    with engines.running(request.param, busybox, tmp_path_factory.mktemp("engine")) as found:
        yield found


@pytest.fixture
def web(clients: Clients) -> Iterator[str]:
    """A container that runs: its name."""
    clients.must("run", "-d", "--name", "web", *LABELS, "-v", "kept:/v", IMAGE, "sleep", "1000")
    yield "web"
    clients("docker", "rm", "--force", "web")
    clients("docker", "volume", "rm", "kept")
