"""Manifests: which config and which layers make an image.

Docker's schema 2 and OCI's have the same shape and other media types. The layout on disk points to
the OCI form, for `umoci` reads no other; what is pushed is the form that came.

See: OCI image-spec manifest.md; distribution manifest-v2-2.md.
"""

from __future__ import annotations

import json

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.images.config import parse_json
from minicontainer.images.image import INDEX_TYPES, MANIFEST_TYPES, OCI_CONFIG, OCI_LAYER
from minicontainer.images.references import check_digest
from minicontainer.record import NO_ENTRIES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
# Docker's types of layers, and OCI's of the same content.
_LAYER_TYPES = {
    f"{_DOCKER_LAYER}.gzip": f"{OCI_LAYER}+gzip",
    f"{_DOCKER_LAYER}.zstd": f"{OCI_LAYER}+zstd",
    _DOCKER_LAYER: OCI_LAYER,
}
_FOREIGN = ("foreign", "nondistributable")


class Descriptor(Record):
    """What a manifest says of a blob.

    See: OCI image-spec descriptor.md.
    """

    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] = NO_ENTRIES
    urls: tuple[str, ...] = ()


class Manifest(Record):
    """An image's manifest, of either format."""

    config: Descriptor
    layers: tuple[Descriptor, ...] = ()
    media_type: str = ""
    schema_version: int = 2
    annotations: dict[str, str] = NO_ENTRIES


def parse(raw: bytes, media_type: str = "") -> Manifest:
    """Read a manifest.

    Args:
        raw: its bytes.
        media_type: what the registry or the index called it; "" where nobody did.
    Raises:
        InvalidArgument: it is none. Unsupported: of schema 1, an index, or with foreign layers.
    """
    document = parse_json(raw, "manifest")
    if document.get("schemaVersion") == 1:
        raise Unsupported(
            "manifest: schema version 1 is not supported: push the image again with a newer tool"
        )
    if "manifests" in document:
        raise Unsupported("manifest: is an index of several platforms: choose one of them")
    manifest = Manifest.from_json(document, "manifest")
    kind = manifest.media_type or media_type or MANIFEST_TYPES["oci"]
    if kind in INDEX_TYPES.values() or kind not in MANIFEST_TYPES.values():
        raise Unsupported(f"manifest: the media type {kind!r} is not that of an image")
    for blob in (manifest.config, *manifest.layers):
        check_digest(blob.digest)
        if blob.size < 0:
            raise InvalidArgument(f"manifest: blob {blob.digest}: its size is below 0")
    for layer in manifest.layers:
        if any(word in layer.media_type for word in _FOREIGN):
            raise Unsupported(
                f"manifest: layer {layer.digest} is a foreign layer ({layer.media_type}): "
                "its content is not in the registry"
            )
    return manifest.replace(media_type=kind)


def make(config: Descriptor, layers: tuple[Descriptor, ...]) -> bytes:
    """Write an OCI manifest."""
    return _written(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPES["oci"],
            "config": _described(config, OCI_CONFIG),
            "layers": [_described(layer, layer.media_type) for layer in layers],
        }
    )


def as_oci(raw: bytes, manifest: Manifest) -> bytes:
    """Give the manifest in OCI's form: *raw* itself where it has that."""
    if manifest.media_type == MANIFEST_TYPES["oci"]:
        return raw
    layers = tuple(
        layer.replace(media_type=_LAYER_TYPES.get(layer.media_type, layer.media_type))
        for layer in manifest.layers
    )
    return make(manifest.config, layers)


def _described(blob: Descriptor, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _written(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
