"""Images made here: layers kept as blobs and unpacked, a config written, both put into the store.

`import`, `commit` and the embedded image are made this way.
"""

from __future__ import annotations

import hashlib
import json
import time

from minicontainer.images import manifests, platforms
from minicontainer.images.blobs import CHUNK
from minicontainer.images.compression import LONGEST_MAGIC, Gzipped, Prefixed, decompressed, kind_of
from minicontainer.images.config import chain_ids, rfc3339
from minicontainer.images.image import OCI_CONFIG, OCI_LAYER, Layer
from minicontainer.images.manifests import Descriptor
from minicontainer.images.unpacking import unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from minicontainer.images.blobs import Partial, Readable
    from minicontainer.images.image import Image
    from minicontainer.images.layers import LayerStore
    from minicontainer.images.platforms import Platform
    from minicontainer.images.references import Reference
    from minicontainer.images.store import ImageStore
    from minicontainer.images.store_leases import Lease


_AS_THEY_COME = ("gzip", "zstd")  # what a layer's media type can tell


def keep_layer(
    store: ImageStore,
    layers: LayerStore,
    lease: Lease,
    stream: Readable,
    below: Sequence[str] = (),
) -> Layer:
    """Keep a tar as a layer: its blob, compressed, and its files, unpacked.

    Args:
        store: where the blob goes.
        layers: where the files go.
        lease: keeps both until an image has them.
        stream: the tar, plain or compressed.
        below: the diff IDs of the layers below it, bottom first.
    Raises:
        InvalidArgument: it is no tar, or a hostile one. KernelError: ENOSPC on a full disk.
    """
    head = b""
    while len(head) < LONGEST_MAGIC and (more := stream.read(LONGEST_MAGIC - len(head))):
        head += more
    kind = kind_of(head)
    source: Readable = Prefixed(head, stream)
    hashed = hashlib.sha256()
    with store.blobs.new() as part:
        if kind in _AS_THEY_COME:
            content = decompressed(_Copied(source, part), kind)
            while chunk := content.read(CHUNK):
                hashed.update(chunk)
        else:
            kind = "gzip"
            packed = Gzipped()
            content = decompressed(source)
            while chunk := content.read(CHUNK):
                hashed.update(chunk)
                part.write(packed.add(chunk))
            part.write(packed.end())
        size = lease.commit(part)
    diff_id = f"sha256:{hashed.hexdigest()}"
    parent, chain_id = ("", *chain_ids((*below, diff_id)))[-2:]
    layer = Layer(
        digest=part.digest,
        size=size,
        media_type=f"{OCI_LAYER}+{kind}",
        diff_id=diff_id,
        chain_id=chain_id,
    )
    lease.keep(chain_id)
    size = unpack(store, layers, part.digest, diff_id, chain_id, parent)
    return layer.replace(unpacked_size=size)


class _Copied:
    """A stream that is written to a blob while it is read."""

    def __init__(self, source: Readable, part: Partial) -> None:
        self._source = source
        self._part = part

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes."""
        chunk = self._source.read(size)
        self._part.write(chunk)
        return chunk


def make_image(
    store: ImageStore,
    lease: Lease,
    document: dict[str, Any],
    layers: Sequence[Layer],
    names: Iterable[Reference] = (),
    parent: str = "",
) -> Image:
    """Make an image of layers that are here.

    Args:
        store: where it goes.
        lease: keeps its parts until it is there.
        document: its config, as the OCI specification has it; `rootfs` is filled in.
        layers: bottom first.
        names: what it is called.
        parent: the ID of the image that it was made from.
    """
    root = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    raw = json.dumps({**document, "rootfs": root}, separators=(",", ":")).encode()
    config = Descriptor(digest=_keep(store, lease, raw), size=len(raw), media_type=OCI_CONFIG)
    described = tuple(
        Descriptor(digest=layer.digest, size=layer.size, media_type=layer.media_type)
        for layer in layers
    )
    manifest = manifests.make(config, described)
    return store.add(
        _keep(store, lease, manifest),
        names=names,
        unpacked_sizes={x.chain_id: x.unpacked_size for x in layers if x.unpacked_size >= 0},
        parent=parent,
    )


def _keep(store: ImageStore, lease: Lease, content: bytes) -> str:
    lease.keep(f"sha256:{hashlib.sha256(content).hexdigest()}")
    return store.blobs.write(content)


def new_document(
    config: dict[str, Any],
    comment: str,
    created_by: str = "",
    created_ns: int = 0,
    platform: Platform | None = None,
) -> dict[str, Any]:
    """Give the config of an image with one layer.

    Args:
        config: how its containers start, in Docker's fields.
        comment: what its history says.
        created_by: the command that made it.
        created_ns: nanoseconds since 1970; 0 for now.
        platform: what it is for; None for this machine's.
    """
    created = rfc3339(created_ns or time.time_ns())
    step = {"created": created, "created_by": created_by, "comment": comment}
    target = platform or platforms.host()
    document = {
        "architecture": target.architecture,
        "os": target.os,
        "variant": target.variant,
        "created": created,
        "config": config,
        "history": [{key: value for key, value in step.items() if value}],
    }
    return {key: value for key, value in document.items() if value != ""}
