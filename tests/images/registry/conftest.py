"""Registries, and a place to pull to."""

from __future__ import annotations

import shutil

import pytest

from minicontainer.images.layers import LayerStore
from minicontainer.images.pull import pull
from minicontainer.images.push import push
from minicontainer.images.registry import Patience, Settings
from minicontainer.images.store import ImageStore
from tests.images.registry.debian_registry import PROGRAM, DebianRegistry
from tests.images.registry.strict_registry import StrictRegistry, serving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from minicontainer.images.image import Image

# A registry of the tests answers at once or never.
PATIENCE = Patience(connect_s=5, stall_s=10, backoff_s=0.01, longest_wait_s=5)


class Host:
    """An empty data root, and what is done with it.

    Attributes:
        said: the messages of the last pull or push.
    """

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self.layers = LayerStore(str(root))
        self.store = ImageStore(str(root), self.layers)
        self.settings = settings
        self.said: list[dict[str, Any]] = []

    def pull(self, name: str, **more: Any) -> Image:
        """Pull an image here."""
        self.said = []
        more = {"settings": self.settings, "progress": self.said.append, **more}
        return pull(self.store, self.layers, name, **more)

    def push(self, name: str, **more: Any) -> str:
        """Push an image from here."""
        self.said = []
        return push(self.store, name, settings=self.settings, progress=self.said.append, **more)

    def file(self, image: Image, name: str) -> bytes:
        """Read a file of an image, from the uppermost layer that has it."""
        for directory in self.layers.lower_directories(image.chain_ids):
            try:
                with open(f"{directory}/{name}", "rb") as file:
                    return file.read()
            except FileNotFoundError:
                continue
        raise AssertionError(f"no layer has {name}")

    def statuses(self, identifier: str = "") -> list[str]:
        """List what was said, of one layer or of none, each once."""
        found = [x["status"] for x in self.said if x.get("id", "") == identifier and "status" in x]
        return list(dict.fromkeys(found))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give settings with a directory of certificates that the test may fill."""
    return Settings(certificates=(str(tmp_path / "certs.d"),), patience=PATIENCE)


@pytest.fixture
def host(tmp_path: Path, settings: Settings) -> Iterator[Host]:
    """Give an empty data root."""
    opened = Host(tmp_path / "data", settings)
    yield opened
    opened.store.close()


@pytest.fixture
def other_host(tmp_path: Path, settings: Settings) -> Iterator[Host]:
    """Give another one."""
    opened = Host(tmp_path / "other-data", settings)
    yield opened
    opened.store.close()


@pytest.fixture
def strict() -> Iterator[StrictRegistry]:
    """Give the registry that forgives nothing."""
    with serving() as registry:
        yield registry


@pytest.fixture
def real(tmp_path: Path) -> Iterator[DebianRegistry]:
    """Give Debian's registry, without TLS."""
    need_registry()
    registry = DebianRegistry(tmp_path / "registry")
    yield registry
    registry.stop()


def need_registry() -> None:
    """Skip the test where Debian's registry is not installed."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")


def need_skopeo() -> None:
    """Skip the test where skopeo is not installed."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
