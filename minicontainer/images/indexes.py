"""What a registry has under a name: an index of several platforms, or one image's manifest.

    index  ──► manifest (linux/amd64) ──► config, layers
           └─► manifest (linux/arm64) ──► config, layers

OCI and Docker have a media type each for both documents; their contents are the same.

See: OCI image-spec image-index.md; Docker "Image Manifest Version 2, Schema 2", manifest list.
"""

from __future__ import annotations

import hashlib

from minicontainer.errors import InvalidArgument, NotFound, Unsupported
from minicontainer.images import manifests
from minicontainer.images.config import parse_json
from minicontainer.images.image import INDEX_TYPES, MANIFEST_TYPES, OCI_CONFIG, OCI_LAYER
from minicontainer.images.manifests import Manifest
from minicontainer.images.platforms import Platform, acceptable
from minicontainer.images.references import check_digest, shown
from minicontainer.record import Record

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_IMAGE_CONFIGS = (OCI_CONFIG, _DOCKER_CONFIG, "application/octet-stream", "")
_LAYERS = {
    *(f"{OCI_LAYER}{ending}" for ending in ("", "+gzip", "+zstd")),
    *(f"{_DOCKER_LAYER}{ending}" for ending in ("", ".gzip", ".zstd")),
}
_KNOWN = (*INDEX_TYPES.values(), *MANIFEST_TYPES.values())
# Schema 1 is listed only to be refused by its name: a registry would answer 404 otherwise.
ACCEPT = ", ".join((*_KNOWN, _SCHEMA_1))
_MOST_LAYERS = 1000


class Entry(Record):
    """One manifest of an index."""

    digest: str
    size: int
    media_type: str = ""
    platform: Platform | None = None


class Index(Record):
    """A list of manifests, one for each platform."""

    manifests: tuple[Entry, ...]


def digest_of(content: bytes) -> str:
    """Give the digest of a document."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse(content: bytes, media_type: str, name: str) -> Manifest | Index:
    """Read what a registry has under a name.

    Args:
        content: the document's bytes.
        media_type: what its carrier says of it: the registry's Content-Type; "" for nothing.
        name: the image, for messages.
    Raises:
        InvalidArgument: it is neither manifest nor index. Unsupported: it is no image for us.
    """
    document = parse_json(content, f"manifest of {name}")
    kind = _kind(document, media_type.partition(";")[0].strip().lower(), name)
    if kind in MANIFEST_TYPES.values():
        manifest = manifests.parse(content, kind)
        _check_image(manifest, name)
        return manifest
    index = Index.from_json(document, f"index of {name}")
    for entry in index.manifests:
        check_digest(entry.digest)
    return index


def _kind(document: dict[str, object], carried: str, name: str) -> str:
    """Find a document's media type, in itself or as its carrier says."""
    if document.get("schemaVersion") == 1:
        raise Unsupported(
            f"{name} has a manifest of Docker's schema 1, which is not supported: its author has "
            "to push it again, as Docker's schema 2 or OCI"
        )
    own = document.get("mediaType")
    kind = own if isinstance(own, str) and own else carried
    if kind not in _KNOWN and not own:
        kind = INDEX_TYPES["oci"] if "manifests" in document else MANIFEST_TYPES["oci"]
    if kind not in _KNOWN:
        raise Unsupported(f"{name} is no image: its manifest is of the type {shown(kind)}")
    # A document that is an index to one reader and a manifest to the next: CVE-2021-41190.
    others = ("config", "layers") if kind in INDEX_TYPES.values() else ("manifests",)
    if any(field in document for field in others):
        raise InvalidArgument(f"manifest of {name} is manifest and index at once")
    return kind


def _check_image(manifest: Manifest, name: str) -> None:
    """Refuse what is in a registry and is no image, and layers that can't be read."""
    config = manifest.config.media_type
    if config not in _IMAGE_CONFIGS:
        raise Unsupported(f"{name} is no container image: its config is of type {shown(config)}")
    if len(manifest.layers) > _MOST_LAYERS:
        raise InvalidArgument(f"{name} has {len(manifest.layers)} layers, more than {_MOST_LAYERS}")
    for layer in manifest.layers:
        if layer.media_type not in _LAYERS:
            raise Unsupported(
                f"layer {layer.digest} of {name} is of type {shown(layer.media_type)}, which is "
                "not supported"
            )


def choose(index: Index, wanted: Platform, alone: bool) -> Entry:
    """Choose an index's manifest for a platform.

    Args:
        index: with the manifests.
        wanted: the platform.
        alone: the user named it, so no other architecture will do.
    Raises:
        NotFound: there is none, in Docker's words.
    """
    for platform in acceptable(wanted, alone):
        for entry in index.manifests:
            if entry.platform and entry.platform.same(platform):
                return entry
    for entry in index.manifests:
        if entry.platform is None and entry.media_type in _KNOWN:
            return entry  # it does not say its platform: the config will
    raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
