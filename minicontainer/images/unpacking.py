"""From a layer's blob to its directory: unpack it, or find that the directory is here already.

The directory's name comes from the config, the blob's from the manifest, and a stranger wrote both.
Unpacking compares them. Where the directory is here already, nothing needs to be unpacked, so the
blob is hashed instead: an image must not get a blob with other files than it runs with here.
"""

from __future__ import annotations

import hashlib

from minicontainer.errors import InvalidArgument
from minicontainer.images.blobs import CHUNK
from minicontainer.images.compression import decompressed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from minicontainer.images.blobs import Readable
    from minicontainer.images.layers import LayerStore
    from minicontainer.images.store import ImageStore


def unpack(
    store: ImageStore,
    layers: LayerStore,
    digest: str,
    diff_id: str,
    chain_id: str,
    parent: str,
    kind: str | None = None,
    counted: Callable[[BinaryIO], Readable] = lambda file: file,
) -> int:
    """Unpack a layer, unless it is here; give the bytes of its files.

    Args:
        store: has the blob.
        layers: gets the files.
        digest: the blob's.
        diff_id: the digest that its content must have.
        chain_id: the layer's.
        parent: the chain ID of the layer below, or "".
        kind: the blob's compression, "" for none; None looks at its first bytes.
        counted: wraps the blob, to say how far it has been read.
    Raises:
        InvalidArgument: the blob has another content, or is damaged or hostile.
    """
    with store.blobs.open(digest) as file:
        watched = _Watched(counted(file))
        if not layers.has(chain_id):
            layers.unpack(chain_id, parent, diff_id, decompressed(watched, kind))
    if not watched.was_read:  # it was here, or another thread was faster
        check_content(store, digest, diff_id, kind)
    return layers.size(chain_id)


def check_content(store: ImageStore, digest: str, diff_id: str, kind: str | None = None) -> None:
    """Compare a blob's content with a diff ID, unless an image that is here has both.

    Raises:
        InvalidArgument: it is another one.
    """
    if store.has_layer(digest, diff_id):
        return
    hashed = hashlib.sha256()
    with store.blobs.open(digest) as file:
        content = decompressed(file, kind)
        while chunk := content.read(CHUNK):
            hashed.update(chunk)
    found = f"sha256:{hashed.hexdigest()}"
    if found != diff_id:
        raise InvalidArgument(
            f"the layer's content is {found}, and not {diff_id} as the image says: it is damaged, "
            "or was changed"
        )


class _Watched:
    """A stream that knows whether anybody has read it."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.was_read = False

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes."""
        self.was_read = True
        return self._source.read(size)
