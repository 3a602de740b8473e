"""An image as the store gives it: names, digests, layers, and its config."""

from __future__ import annotations

from functools import cached_property

from minicontainer import jsontext
from minicontainer.images import config
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.config import ImageConfig

MANIFEST_TYPES = {
    "oci": "application/vnd.oci.image.manifest.v1+json",
    "docker": "application/vnd.docker.distribution.manifest.v2+json",
}
INDEX_TYPES = {
    "oci": "application/vnd.oci.image.index.v1+json",
    "docker": "application/vnd.docker.distribution.manifest.list.v2+json",
}
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


class Layer(Record):
    """One layer of an image.

    Args:
        digest: its blob's, as a registry has it.
        size: bytes of that blob.
        media_type: how the blob is compressed.
        diff_id: the digest of its uncompressed tar.
        chain_id: the name of this layer with all below it: where it is unpacked.
        unpacked_size: bytes of its files; -1 where nobody has counted them.
    """

    digest: str
    size: int
    media_type: str
    diff_id: str
    chain_id: str
    unpacked_size: int = -1


class Image(Record):
    """An image in the store; a change of the store makes another value.

    Args:
        id: the digest of its config.
        manifest: the digest of its manifest, as it came: what is pushed.
        media_type: that manifest's type.
        names: its tags in full, `docker.io/library/mongo:latest`, sorted.
        repo_digests: where it came from or went to: `docker.io/library/mongo@sha256:…`, sorted.
        size: bytes of its files, all layers together.
        created: the time in its config, RFC 3339; "" where there is none.
        layers_json: its layers, bottom first, as JSON.
        config_json: its config, as it came.
        parent: the ID of the image that it was made from here; "" where it was not.
        tagged_ns: when it got its last name, in nanoseconds since 1970; 0 for never.
    """

    id: str
    manifest: str
    media_type: str
    names: tuple[str, ...]
    repo_digests: tuple[str, ...]
    size: int
    created: str
    created_ns: int
    layers_json: str
    config_json: str
    parent: str = ""
    tagged_ns: int = 0

    # The JSON texts are read when they are first asked for: a list of images needs neither.

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Give its layers, bottom first."""
        return tuple(map(Layer.from_json, jsontext.parse(self.layers_json)))

    @cached_property
    def labels(self) -> dict[str, str]:
        """Give its labels, without the rest of the config."""
        if '"Labels"' not in self.config_json:
            return {}
        inner = config.parse_json(self.config_json, "image config").get("config") or {}
        return inner.get("Labels") or {}

    @cached_property
    def config(self) -> ImageConfig:
        """Give what the config says."""
        return config.parse(self.config_json)

    @property
    def short_id(self) -> str:
        """Give the twelve digits that a user reads."""
        return short(self.id)

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """Name the unpacked layers, bottom first."""
        return tuple(layer.chain_id for layer in self.layers)


def short(digest: str) -> str:
    """Give the first twelve digits of a digest."""
    return digest.partition(":")[2][:12] or digest[:12]
