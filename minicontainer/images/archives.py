"""Archives of images: what `save` writes and `load` reads.

One tar is both of Docker's and of OCI's format, as Docker itself writes it since version 25:

    oci-layout, index.json     OCI's: the manifests, with the images' names as annotations
    manifest.json              Docker's: for each image its config, its layers and its names
    repositories               Docker's before 1.10: names and uppermost layers
    blobs/sha256/…             manifests, configs and layers, for both

Layers are written as they are in the store, compressed or not: all readers find that out.

See: OCI image-spec image-layout.md; moby image/spec/v1.3.md "Combined Image JSON + Filesystem
Changeset Format"; `archive_reader.py` for the other direction.
"""

from __future__ import annotations

import contextlib
import json
import tarfile

from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images import platforms
from minicontainer.images.blobs import CHUNK, LAYOUT
from minicontainer.images.image import Image
from minicontainer.images.layout import index_entry, make_index
from minicontainer.images.references import Reference, is_digest, parse
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from minicontainer.images.platforms import Platform
    from minicontainer.images.store import ImageStore

_BLOCK = tarfile.BLOCKSIZE


class Chosen(Record):
    """An image to be saved, and the names that it is saved under."""

    image: Image
    names: tuple[Reference, ...]


def save(store: ImageStore, names: Iterable[str], out: BinaryIO) -> None:
    """Write images to a tar; see `saved`."""
    for chunk in saved(store, names):
        out.write(chunk)


def saved(
    store: ImageStore, names: Iterable[str], platform: Platform | None = None
) -> Iterator[bytes]:
    """Give the tar of images, chunk by chunk.

    Args:
        store: where they are.
        names: names or IDs. A name without a tag means all tags of its repository.
        platform: what all of them must be for; None for any.
    Raises:
        NotFound: before the first chunk: there is no such image, or it is for another platform.
    """
    with contextlib.ExitStack() as undo:
        lease = undo.enter_context(store.lease("save", is_resumable=False))
        chosen = choose(store, names)
        for one in chosen:
            if platform and not platforms.fits(platforms.of(one.image.config), platform):
                raise NotFound(f"no suitable export target found for platform {platform}")
        blobs = _blobs_of(store, chosen)
        for digest in blobs:
            if not lease.keep(digest):
                raise NotFound(f"blob {digest} is not in the store")
        return _written(store, chosen, blobs, undo.pop_all())


def _written(
    store: ImageStore, chosen: list[Chosen], blobs: dict[str, int], held: contextlib.ExitStack
) -> Iterator[bytes]:
    with held:
        for name in ("blobs", "blobs/sha256"):
            yield _header(name, 0, tarfile.DIRTYPE)
        for digest, made_s in blobs.items():
            yield from _blob(store, digest, made_s)
        for name, content in _documents(store, chosen).items():
            yield _header(name, len(content)) + content + _padding(len(content))
        yield bytes(2 * _BLOCK)


def choose(store: ImageStore, names: Iterable[str]) -> list[Chosen]:
    """Find images and the names that were asked for; an ID alone asks for none.

    Raises:
        NotFound: there is no such image.
    """
    found: dict[str, Chosen] = {}
    for text in names:
        for image, name in _meant(store, text):
            before = found.setdefault(image.id, Chosen(image=image, names=()))
            if name is not None and name not in before.names:
                found[image.id] = before.replace(names=(*before.names, name))
    return list(found.values())


def _meant(store: ImageStore, text: str) -> list[tuple[Image, Reference | None]]:
    reference = None
    if not is_digest(text):
        with contextlib.suppress(InvalidArgument):  # 64 digits are an ID, and no name
            reference = parse(text, default_tag="")
    if reference is not None and not reference.tag and not reference.digest:
        tags = [
            (image, name)
            for image in store.list()
            for name in map(parse, image.names)
            if name.repository == reference.repository
        ]
        if tags:
            return [(image, name) for image, name in tags]
    image = store.resolve(text)
    by_name = reference is not None and reference.tag and reference.canonical in image.names
    return [(image, reference if by_name else None)]


def _blobs_of(store: ImageStore, chosen: list[Chosen]) -> dict[str, int]:
    """List the blobs to write, each once, and when they were made, in seconds since 1970.

    Layers, config and manifest of each image. What an image says of its time is true of its own
    layer, config and manifest; the layers below are older, and have 0.
    """
    found: dict[str, int] = {}
    for one in chosen:
        image, made_s = one.image, max(0, one.image.created_ns // 10**9)
        below = [layer.digest for layer in image.layers]
        own = [*below[-1:], image.id, store.layout_manifest(image.id)[0]]
        for digest in (*below[:-1], *own):
            found.setdefault(digest, made_s if digest in own else 0)
    return found


def _documents(store: ImageStore, chosen: list[Chosen]) -> dict[str, bytes]:
    entries, images = [], []
    repositories: dict[str, dict[str, str]] = {}
    for one in chosen:
        digest, size = store.layout_manifest(one.image.id)
        if not one.names:
            entries.append(index_entry(digest, size))
        layers = [path_of(layer.digest) for layer in one.image.layers]
        for name in one.names:
            # here Docker gives the tag alone as OCI's name
            entries.append(index_entry(digest, size, name, name.tag))
            if layers:
                tags = repositories.setdefault(name.familiar_repository, {})
                tags[name.tag] = layers[-1].rpartition("/")[2]
        images.append(
            {
                "Config": path_of(one.image.id),
                "RepoTags": [name.familiar for name in one.names] or None,
                "Layers": layers,
            }
        )
    return {
        "index.json": make_index(entries),
        "manifest.json": _json(images),
        "oci-layout": LAYOUT,
        "repositories": _json(repositories),
    }


def path_of(digest: str) -> str:
    """Name a blob's file in a layout: `blobs/sha256/…`."""
    return "blobs/" + digest.replace(":", "/")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _blob(store: ImageStore, digest: str, made_s: int) -> Iterator[bytes]:
    size = store.blobs.size(digest)
    yield _header(path_of(digest), size, made_s=made_s)
    with store.blobs.open(digest) as file:
        while chunk := file.read(CHUNK):
            yield chunk
    yield _padding(size)


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE, made_s: int = 0) -> bytes:
    """Make a file's header, with nothing in it that changes from one run to the next."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.mtime = size, kind, made_s
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
