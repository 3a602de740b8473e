"""Finding images in the store's database, as Docker finds them.

See: `store.py`, which changes it.
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images.image import Image
from minicontainer.images.references import DEFAULT_TAG, is_digest
from minicontainer.images.references import parse as parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minicontainer.images.references import Reference
    from minicontainer.images.store_schema import Database

    Images = list[Image]  # inside the class, `list` is its method
    Names = dict[str, tuple[str, ...]]

_HEX = frozenset("0123456789abcdef")
_COLUMNS = "id, manifest, media_type, size, created, created_ns, layers, config, parent, tagged_ns"


class Lookup:
    """The images of a database, to be looked at."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> Images:
        """List all images, the youngest first."""
        return self._load("")

    def resolve(self, text: str) -> Image:
        """Find an image as Docker does: by name, by name and digest, by ID or its beginning.

        Raises:
            NotFound: `No such image: mongo:latest`. InvalidArgument: *text* is no reference.
        """
        if is_digest(text) or (len(text) == 64 and set(text) <= _HEX):
            image = self.find(text if is_digest(text) else f"sha256:{text}")
            if image is None:
                raise NotFound(f"No such image: {text}")
            return image
        try:
            reference = parse_reference(text)
        except InvalidArgument:
            # `sha256:6f5a…`, cut short, is no name
            if image := self._find_by_prefix(text):
                return image
            raise
        image = self.find_by_name(reference) or self._find_by_prefix(text)
        if image is None:
            raise NotFound(f"No such image: {reference.familiar}")
        return image

    def find(self, image_id: str) -> Image | None:
        """Find an image by its whole ID."""
        found = self._load("WHERE id = ?", image_id)
        return found[0] if found else None

    def find_by_name(self, reference: Reference) -> Image | None:
        """Find an image by a name; a digest counts more than a tag beside it."""
        if reference.digest:
            where = "WHERE id IN (SELECT image FROM repo_digests WHERE repository=? AND digest=?)"
            found = self._load(where, reference.repository, reference.digest)
        else:
            where = "WHERE id IN (SELECT image FROM names WHERE repository=? AND tag=?)"
            found = self._load(where, reference.repository, reference.tag or DEFAULT_TAG)
        return found[0] if found else None

    def layout_manifest(self, image_id: str) -> tuple[str, int]:
        """Give digest and size of an image's manifest in OCI's form, which index.json points to.

        Raises:
            NotFound: there is no such image.
        """
        query = "SELECT layout_manifest, layout_size FROM images WHERE id=?"
        for digest, size in self._database.rows(query, image_id):
            return digest, size
        raise NotFound(f"No such image: {image_id}")

    def has_layer(self, digest: str, diff_id: str) -> bool:
        """Say whether an image has a layer with this blob and this content: both were compared."""
        query = "WHERE id IN (SELECT image FROM needs WHERE kind='blob' AND digest=?)"
        return any(
            (layer.digest, layer.diff_id) == (digest, diff_id)
            for image in self._load(query, digest)
            for layer in image.layers
        )

    def _find_by_prefix(self, text: str) -> Image | None:
        digits = text.removeprefix("sha256:")
        if not digits or not set(digits) <= _HEX:
            return None
        # a range, for which the primary key serves; "g" comes after all digits
        found = self._load(
            "WHERE id >= ? AND id < ? LIMIT 2", f"sha256:{digits}", f"sha256:{digits}g"
        )
        return found[0] if len(found) == 1 else None

    def _load(self, where: str, *values: str) -> Images:
        query = f"SELECT {_COLUMNS} FROM images {where}"
        if "LIMIT" not in where:
            query += " ORDER BY created_ns DESC, id"
        with self._database.change():  # so that names and images are of one moment
            rows = self._database.rows(query, *values)
            ids = [row[0] for row in rows]
            names = self._names_of("repository || ':' || tag", "names", ids)
            digests = self._names_of("repository || '@' || digest", "repo_digests", ids)
        return [_image(row, names.get(row[0], ()), digests.get(row[0], ())) for row in rows]

    def _names_of(self, name: str, table: str, ids: Sequence[str]) -> Names:
        where, values = ("WHERE image = ?", ids) if len(ids) == 1 else ("", [])
        found: Names = {}
        for image, text in self._database.rows(
            f"SELECT image, {name} FROM {table} {where} ORDER BY 2", *values
        ):
            found[image] = (*found.get(image, ()), text)
        return found

    def known(self, image_id: str) -> Image:
        """Give an image by its whole ID.

        Raises:
            NotFound: there is no such image.
        """
        image = self.find(image_id)
        if image is None:
            raise NotFound(f"No such image: {image_id}")
        return image


def _image(row: tuple[Any, ...], names: tuple[str, ...], digests: tuple[str, ...]) -> Image:
    image_id, manifest, media_type, size, created, created_ns, layers, raw, parent, tagged = row
    return Image(
        id=image_id,
        manifest=manifest,
        media_type=media_type,
        names=names,
        repo_digests=digests,
        size=size,
        created=created,
        created_ns=created_ns,
        layers_json=layers,
        config_json=raw,
        parent=parent,
        tagged_ns=tagged,
    )
