"""Images as a registry has them: documents and blobs, of any media type."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile

import zstandard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
OCI_MANIFEST, OCI_INDEX = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"
DOCKER_MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"
DOCKER_INDEX = f"{DOCKER}.distribution.manifest.list.v2+json"
KINDS = {  # manifest, config, layer, by name
    "oci": (OCI_MANIFEST, f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"),
    "oci-zstd": (OCI_MANIFEST, f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+zstd"),
    "oci-plain": (OCI_MANIFEST, f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar"),
    "docker": (
        DOCKER_MANIFEST,
        f"{DOCKER}.container.image.v1+json",
        f"{DOCKER}.image.rootfs.diff.tar.gzip",
    ),
}


def digest(content: bytes) -> str:
    """Give the digest of *content*."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar_of(files: dict[str, bytes]) -> bytes:
    """Make a tar of plain files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def compressed(content: bytes, media_type: str) -> bytes:
    """Compress a layer as its media type says."""
    if media_type.endswith("gzip"):
        return gzip.compress(content, 1, mtime=0)
    return zstandard.compress(content) if media_type.endswith("zstd") else content


class Made:
    """An image: its manifest, and the blobs that it names.

    Args:
        layers: the tars, the lowest first.
        kind: a key of KINDS.
        architecture: in its config.
        layer_type: another media type than the kind's.
    """

    def __init__(
        self,
        *layers: bytes,
        kind: str = "oci",
        architecture: str = "amd64",
        layer_type: str = "",
        **config: Any,
    ) -> None:
        self.media_type, config_type, usual_type = KINDS[kind]
        layer_type = layer_type or usual_type
        self.blobs: dict[str, bytes] = {}
        self._config_type = config_type
        self._config = {"architecture": architecture, "os": "linux", "config": config}
        self._diff_ids = [digest(layer) for layer in layers]
        self.layers = [
            self._described(compressed(layer, layer_type), layer_type) for layer in layers
        ]
        self._finish()

    def add_layer(self, packed: bytes, diff_id: str, media_type: str) -> None:
        """Add a layer that is compressed already."""
        self._diff_ids.append(diff_id)
        self.layers.append(self._described(packed, media_type))
        self._finish()

    def _finish(self) -> None:
        rootfs = {"type": "layers", "diff_ids": self._diff_ids}
        self.config = json.dumps({**self._config, "rootfs": rootfs}).encode()
        self.document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self._described(self.config, self._config_type),
            "layers": self.layers,
        }
        self.manifest = json.dumps(self.document).encode()
        self.digest = digest(self.manifest)
        self.id = digest(self.config)

    digest_of = staticmethod(digest)

    def _described(self, content: bytes, media_type: str) -> dict[str, Any]:
        self.blobs[digest(content)] = content
        return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def index_of(*images: tuple[dict[str, str] | None, Made], media_type: str = OCI_INDEX) -> bytes:
    """Make an index of images with their platforms."""
    entries = []
    for platform, image in images:
        entry: dict[str, Any] = {
            "mediaType": image.media_type,
            "digest": image.digest,
            "size": len(image.manifest),
        }
        entries.append(entry | ({"platform": platform} if platform else {}))
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode()


def write_layout(image: Made, directory: Path, tag: str) -> None:
    """Write an image as an OCI image layout, for skopeo to read."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for content in (*image.blobs.values(), image.manifest):
        (blobs / digest(content).partition(":")[2]).write_bytes(content)
    entry = {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
