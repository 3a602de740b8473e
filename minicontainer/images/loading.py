"""Load: the images of an archive become images of the store, unpacked.

See: `docker load`; `archive_reader.py`.
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument
from minicontainer.images import config, manifests
from minicontainer.images.archive_reader import Archive
from minicontainer.images.compression import Prefixed, decompressed, gzipped, kind_of
from minicontainer.images.image import OCI_CONFIG, OCI_LAYER, short
from minicontainer.images.manifests import Descriptor
from minicontainer.images.unpacking import unpack
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

    from minicontainer.images.archive_reader import Found
    from minicontainer.images.blobs import Readable
    from minicontainer.images.image import Image
    from minicontainer.images.layers import LayerStore
    from minicontainer.images.platforms import Platform
    from minicontainer.images.store import ImageStore
    from minicontainer.images.store_leases import Lease

    Progress = Callable[[dict[str, Any]], object]

_CONFIG_LIMIT = 8 << 20  # bytes: it is held in memory
_OCI_ENDINGS = {"": "", "gzip": "+gzip", "zstd": "+zstd"}
_STEP = 1 << 20  # bytes between two messages of progress


def load(
    store: ImageStore,
    layers: LayerStore,
    stream: Readable,
    progress: Progress = lambda message: None,
    platform: Platform | None = None,
) -> list[str]:
    """Load the images of an archive.

    Args:
        store: where they go.
        layers: where their files go.
        stream: the archive: Docker's or OCI's, plain or compressed.
        progress: takes Docker's messages.
        platform: leave out images for others; None takes this machine's where there is a choice.
    Returns:
        Their names as users read them, or their IDs where they have none.
    Raises:
        InvalidArgument: it is no archive of images, or broken. Nothing is kept.
        KernelError: ENOSPC on a full disk. Nothing is kept.
    """
    loaded: list[str] = []
    with store.lease("load", is_resumable=False) as lease:
        loading = _Loading(store, layers, lease, progress)
        ready = [loading.prepare(found) for found in Archive(store, lease, stream).images(platform)]
        with store.change():  # all images of the archive, or none
            for each in ready:
                image = loading.add(each)
                loaded += [name.familiar for name in each.found.names] or [image.id]
    return loaded


class Ready(Record):
    """An image whose layers are unpacked, and that is not in the store yet.

    Args:
        found: what the archive says of it.
        manifest: the digest of its manifest, which is a blob of the store.
        sizes: bytes of each layer's files, by chain ID.
    """

    found: Found
    manifest: str
    sizes: dict[str, int]


class _Loading:
    """One load."""

    def __init__(
        self, store: ImageStore, layers: LayerStore, lease: Lease, progress: Progress
    ) -> None:
        self._store = store
        self._layers = layers
        self._lease = lease
        self._progress = progress

    def prepare(self, found: Found) -> Ready:
        """Unpack an image's layers, and make a manifest where the archive has none."""
        raw = self._store.blobs.read(found.config, _CONFIG_LIMIT)
        diff_ids = config.parse(raw).diff_ids
        if len(diff_ids) != len(found.layers):
            raise InvalidArgument(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, "
                f"got {len(found.layers)}"
            )
        sizes, described = self._unpack_all(found, diff_ids)
        manifest = found.manifest or self._make_manifest(found.config, len(raw), described)
        return Ready(found=found, manifest=manifest, sizes=sizes)

    def add(self, ready: Ready) -> Image:
        """Put an image into the store."""
        found = ready.found
        self._say_renamed(found)
        known = self._store.find(found.config)
        if known is not None and not found.manifest:  # it stays as its registry knows it
            for name in found.names:
                self._store.tag(known.id, name)
            return known
        return self._store.add(
            ready.manifest,
            media_type=found.media_type,
            names=found.names,
            unpacked_sizes=ready.sizes,
        )

    def _unpack_all(
        self, found: Found, diff_ids: tuple[str, ...]
    ) -> tuple[dict[str, int], list[Descriptor]]:
        sizes, described, parent = {}, [], ""
        for blob, diff_id, chain_id in zip(
            found.layers, diff_ids, config.chain_ids(diff_ids), strict=True
        ):
            digest, kind = self._as_layer(blob)
            self._lease.keep(chain_id)
            sizes[chain_id] = self._unpack(digest, diff_id, chain_id, parent)
            described.append(
                Descriptor(
                    digest=digest,
                    size=self._store.blobs.size(digest),
                    media_type=OCI_LAYER + _OCI_ENDINGS[kind],
                )
            )
            parent = chain_id
        return sizes, described

    def _as_layer(self, digest: str) -> tuple[str, str]:
        """Give a layer's blob and its compression; one that no media type tells is changed."""
        with self._store.blobs.open(digest) as file:
            head = file.read(8)
            kind = kind_of(head)
            if kind in _OCI_ENDINGS:
                return digest, kind
            content = decompressed(Prefixed(head, file), kind)
            with self._store.blobs.new() as part:
                part.write_all(gzipped(iter(lambda: content.read(_STEP), b"")))
                self._lease.commit(part)
        return part.digest, "gzip"

    def _unpack(self, digest: str, diff_id: str, chain_id: str, parent: str) -> int:
        total = self._store.blobs.size(digest)

        def counted(file: BinaryIO) -> Readable:
            return _Counted(file, total, short(diff_id), self._progress)

        return unpack(self._store, self._layers, digest, diff_id, chain_id, parent, counted=counted)

    def _make_manifest(self, digest: str, size: int, described: list[Descriptor]) -> str:
        configured = Descriptor(digest=digest, size=size, media_type=OCI_CONFIG)
        with self._store.blobs.new() as part:
            part.write(manifests.make(configured, tuple(described)))
            self._lease.commit(part)
        return part.digest

    def _say_renamed(self, found: Found) -> None:
        for name in found.names:
            before = self._store.find_by_name(name)
            if before is not None and before.id != found.config:
                self._progress(
                    {
                        "stream": f"The image {name.familiar} already exists, renaming the old one "
                        f"with ID {before.id} to empty string\n"
                    }
                )


class _Counted:
    """A layer's blob being read, with messages of how far it got."""

    def __init__(self, source: Readable, total: int, name: str, progress: Progress) -> None:
        self._source = source
        self._total = total
        self._name = name
        self._progress = progress
        self._read = self._told = 0

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes."""
        chunk = self._source.read(size)
        self._read += len(chunk)
        if self._read - self._told >= _STEP or self._told < self._read == self._total:
            self.tell()
        return chunk

    def tell(self) -> None:
        """Say how far it got."""
        self._told = self._read
        detail = {"current": self._read, "total": self._total}
        self._progress({"status": "Loading layer", "progressDetail": detail, "id": self._name})
