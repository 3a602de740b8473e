"""What a registry has, looked at without pulling it: tags, digests, platforms."""

from __future__ import annotations

import os

import pytest

from minicontainer.engine.images import Images
from minicontainer.errors import NotFound
from minicontainer.images import remote
from minicontainer.images.references import parse
from minicontainer.images.registry import Settings
from tests.images.conftest import add_image, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.images.registry.debian_registry import DebianRegistry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks layers")


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    """Give the images of an engine."""
    made = Images(str(tmp_path / "data"))
    yield made
    made.close()


def pushed(images: Images, real: DebianRegistry, *tags: str) -> str:
    """Push an image under several tags, and remove it here; give the repository."""
    repository = f"{real.host}/team/app"
    for tag in tags:
        name = f"{repository}:{tag}"
        add_image(images.store, name, layers=(tar_of({"x": b"x"}),))
    list(images.push(repository, "", {}))
    for tag in tags:
        images.remove(f"{repository}:{tag}")
    assert not images.list(False, {})
    return repository


def test_a_pull_without_a_tag_takes_all(images: Images, real: DebianRegistry) -> None:
    """As a push does."""
    repository = pushed(images, real, "1", "2", "latest")
    assert remote.list_tags(parse(repository, default_tag="")) == ["1", "2", "latest"]
    statuses = [message.get("status", "") for message in images.pull(repository, "", "", {})]
    assert len([text for text in statuses if text.startswith("Digest: ")]) == 3
    (image,) = images.list(False, {})
    assert image["RepoTags"] == [f"{repository}:{tag}" for tag in ("1", "2", "latest")]


def test_a_registry_is_asked_what_a_name_means(images: Images, real: DebianRegistry) -> None:
    """Nothing is pulled."""
    repository = pushed(images, real, "1")
    found = images.distribution(f"{repository}:1", {})
    assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    assert found["Descriptor"]["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    digest = found["Descriptor"]["digest"]
    assert images.distribution(f"{repository}@{digest}", {}) == found
    assert not images.list(False, {})


def test_mirrors_of_docker_hub_are_asked_first(images: Images, real: DebianRegistry) -> None:
    """What the registry has is listed and described as it is pulled."""
    pushed(images, real, "1", "2")
    mirrored = Settings(mirrors=(f"http://{real.host}",))
    assert remote.list_tags(parse("team/app", default_tag=""), settings=mirrored) == ["1", "2"]
    assert remote.describe(parse("team/app:1"), settings=mirrored).size > 0


def test_what_is_not_there_is_not_found(images: Images, real: DebianRegistry) -> None:
    """In the words of a pull."""
    repository = pushed(images, real, "1")
    with pytest.raises(NotFound, match=r"manifest for .*:2 not found: manifest unknown"):
        images.distribution(f"{repository}:2", {})
    with pytest.raises(NotFound, match=r"repository .*/nosuch not found"):
        list(images.pull(f"{real.host}/nosuch", "", "", {}))
