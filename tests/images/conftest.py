"""Images made in the test, and a store to put them into."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

import pytest

from minicontainer.images import archives, loading
from minicontainer.images.config import chain_ids
from minicontainer.images.layers import LayerStore
from minicontainer.images.references import parse
from minicontainer.images.store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from minicontainer.images.image import Image
    from minicontainer.images.platforms import Platform
    from minicontainer.images.store_leases import Lease

    MakeImage = Callable[..., Image]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    """Give an empty store."""
    opened = ImageStore(str(tmp_path / "data"))
    yield opened
    opened.close()


def tar_of(files: dict[str, bytes]) -> bytes:
    """Make a tar of plain files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def sha256(content: bytes) -> str:
    """Give the digest of *content*."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# The media types of manifests, configs and layers.
TYPES = {
    family: tuple(f"application/{kind}" for kind in kinds)
    for family, kinds in {
        "oci": ("vnd.oci.image.manifest.v1+json", "vnd.oci.image.config.v1+json",
                "vnd.oci.image.layer.v1.tar+gzip"),
        "docker": ("vnd.docker.distribution.manifest.v2+json", "vnd.docker.container.image.v1+json",
                   "vnd.docker.image.rootfs.diff.tar.gzip"),
    }.items()
}  # fmt: skip


def add_image(
    store: ImageStore,
    *names: str,
    layers: tuple[bytes, ...] = (),
    config: dict[str, Any] | None = None,
    created: str = "2026-01-02T03:04:05.000000006Z",
    docker: bool = False,
    parent: str = "",
    repo_digests: tuple[str, ...] = (),
    history: list[dict[str, Any]] | None = None,
    unpacked_size: int = -1,
    lease: Lease | None = None,
    architecture: str = "amd64",
) -> Image:
    """Put an image into the store: its blobs, manifest and names."""
    layers = layers or (tar_of({"file": "+".join(names).encode()}),)
    manifest_type, config_type, layer_type = TYPES["docker" if docker else "oci"]
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": config or {},
        "history": history or [],
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
    }
    packed = [gzip.compress(layer, mtime=0) for layer in layers]
    raw = json.dumps(document).encode()

    def write(content: bytes) -> str:
        if lease is not None:
            lease.keep(sha256(content))
        return store.blobs.write(content)

    def described(content: bytes, media_type: str) -> dict[str, Any]:
        digest = write(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": described(raw, config_type),
        "layers": [described(layer, layer_type) for layer in packed],
    }
    return store.add(
        write(json.dumps(manifest).encode()),
        names=[parse(name) for name in names],
        repo_digests=[parse(name) for name in repo_digests],
        parent=parent,
        unpacked_sizes=dict.fromkeys(chain_ids(map(sha256, layers)), unpacked_size),
    )


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """Mount a disk that is soon full; for root alone."""
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class Place:
    """A store with its layers, in a directory."""

    def __init__(self, root: Path) -> None:
        self.layers = LayerStore(str(root))
        self.store = ImageStore(str(root), self.layers)

    def load(self, content: bytes, platform: Platform | None = None) -> list[str]:
        """Load an archive."""
        return loading.load(self.store, self.layers, io.BytesIO(content), platform=platform)

    def save(self, *names: str) -> bytes:
        """Save images."""
        return b"".join(archives.saved(self.store, names))

    def is_empty(self) -> bool:
        """Say whether there is nothing in it: no image, blob or layer."""
        return not (
            self.store.list()
            or any(self.store.blobs.digests())
            or self.layers.chain_ids()
            or os.listdir(os.path.join(self.store.root, "ingest"))
        )


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Place]:
    """Give an empty store."""
    place = Place(tmp_path / "target")
    yield place
    place.store.close()
