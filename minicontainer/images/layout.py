"""`index.json` of the store's OCI image layout: the names of the images, for other programs.

`skopeo inspect oci:/var/lib/minicontainer/images:mongo:latest` finds an image by its annotation
`org.opencontainers.image.ref.name`. An image without a name has an entry without annotations, or
`umoci gc` would take its blobs for garbage.

See: OCI image-spec image-layout.md, image-index.md, annotations.md.
"""

from __future__ import annotations

import contextlib
import json
import os

from minicontainer.errors import InvalidArgument
from minicontainer.images import config
from minicontainer.images.image import INDEX_TYPES, MANIFEST_TYPES
from minicontainer.images.references import Reference
from minicontainer.record import NO_ENTRIES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.images.blobs import Blobs
    from minicontainer.images.store_schema import Database

REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"  # containerd's and Docker's


class IndexEntry(Record):
    """One manifest of `index.json`.

    See: OCI image-spec descriptor.md.
    """

    digest: str
    media_type: str = ""
    annotations: dict[str, str] = NO_ENTRIES


def write_index(database: Database, blobs: Blobs) -> None:
    """Write what the database says into `index.json`, unless it is there already."""
    rows = database.rows(
        "SELECT layout_manifest, layout_size, repository, tag FROM images"
        " LEFT JOIN names ON image = id ORDER BY repository, tag, id"
    )
    entries = []
    for digest, size, repository, tag in rows:
        if repository is None:
            entries.append(index_entry(digest, size))
        else:
            domain, _, path = repository.partition("/")
            name = Reference(domain=domain, path=path, tag=tag)
            entries.append(index_entry(digest, size, name, name.familiar))
    content = make_index(entries)
    with (
        contextlib.suppress(FileNotFoundError),
        open(os.path.join(blobs.root, "index.json"), "rb") as file,
    ):
        if file.read() == content:
            return
    blobs.write_file("index.json", content)


def read_index(root: str) -> list[tuple[str, str]]:
    """List the manifests of `index.json`, each with the full name of its image or ""."""
    try:
        with open(os.path.join(root, "index.json"), "rb") as file:
            found = config.parse_json(file.read(), "index.json").get("manifests")
    except (FileNotFoundError, InvalidArgument):
        return []
    entries = []
    for entry in found if isinstance(found, list) else ():
        with contextlib.suppress(InvalidArgument):
            read = IndexEntry.from_json(entry)
            entries.append((read.digest, read.annotations.get(FULL_NAME, "")))
    return entries


def make_index(entries: list[dict[str, Any]]) -> bytes:
    """Write an index of manifests."""
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPES["oci"], "manifests": entries}
    return json.dumps(index, separators=(",", ":")).encode()


def index_entry(
    digest: str, size: int, name: Reference | None = None, short_name: str = ""
) -> dict[str, Any]:
    """Make the entry of a manifest.

    Args:
        digest: the manifest's.
        size: its bytes.
        name: the image's, in full; None for none.
        short_name: what OCI tools call it.
    """
    entry: dict[str, Any] = {"mediaType": MANIFEST_TYPES["oci"], "digest": digest, "size": size}
    if name is not None:
        entry["annotations"] = {REF_NAME: short_name, FULL_NAME: name.canonical}
    return entry
