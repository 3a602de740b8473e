"""The images of this host: names, digests, and what they need, in SQLite beside the blobs.

The blobs are files (`blobs.py`), the layers directories (`layers.py`); which of them an image needs
is in the database. A change is one transaction. What a removed image needed alone becomes garbage
in the same transaction, and its files go after it: a process that is killed in between leaves
garbage that the next one removes, never an image whose files are gone.

`index.json` is made anew from the database within each change, so that other programs find the
names: `skopeo inspect oci:/var/lib/minicontainer/images:mongo:latest`.

See: OCI image-spec image-layout.md; docs/explanation/images.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from minicontainer.errors import Error, InvalidArgument, NotFound
from minicontainer.images import config, manifests
from minicontainer.images.blobs import Blobs
from minicontainer.images.image import Image, Layer
from minicontainer.images.layout import read_index, write_index
from minicontainer.images.references import DEFAULT_TAG
from minicontainer.images.references import parse as parse_reference
from minicontainer.images.store_garbage import Garbage
from minicontainer.images.store_leases import Lease, Leases
from minicontainer.images.store_lookup import Lookup
from minicontainer.images.store_removal import Removal
from minicontainer.images.store_schema import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from minicontainer.images.manifests import Manifest
    from minicontainer.images.references import Reference
    from minicontainer.images.store_garbage import LayerFiles
    from minicontainer.images.store_removal import InUse, Records


class ImageStore(Lookup):
    """The images below a data root; all methods can be called from any thread.

    Args:
        data_root: `/var/lib/minicontainer`; the images are in `images/` below it.
        layers: the unpacked layers, of which those go that no image needs; None for no layers.
    """

    def __init__(self, data_root: str, layers: LayerFiles | None = None) -> None:
        self.root = os.path.join(data_root, "images")
        self.blobs = Blobs(self.root)
        super().__init__(Database(os.path.join(self.root, "images.db")))
        self._garbage = Garbage(self._database, self.blobs, layers)
        self._leases = Leases(self._database, self.blobs, self._garbage)
        self._removal = Removal(self, self._database)
        with self._database.change():
            self._recover(layers)
            # it may be newer than the database, of a change that was cut off
            write_index(self._database, self.blobs)
        self._garbage.remove()

    def _recover(self, layers: LayerFiles | None) -> None:
        """Make the images of a lost database again, of what `index.json` names."""
        if self._database.rows("SELECT 1 FROM images LIMIT 1"):
            return
        for digest, name in read_index(self.root):
            with contextlib.suppress(Error):  # one whose blobs are not all here is no image
                image = self._insert(digest, "", {}, "")
                if name:
                    self._name(image.id, parse_reference(name))
                if layers:
                    sizes = {chain_id: layers.size(chain_id) for chain_id in image.chain_ids}
                    self._insert(digest, "", sizes, "")

    def change(self) -> contextlib.AbstractContextManager[None]:
        """Make the changes of a block at once, or none of them."""
        return self._database.change()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # adding

    def add(
        self,
        manifest_digest: str,
        *,
        media_type: str = "",
        names: Iterable[Reference] = (),
        repo_digests: Iterable[Reference] = (),
        unpacked_sizes: Mapping[str, int] | None = None,
        parent: str = "",
    ) -> Image:
        """Make an image of a manifest whose blobs are all here.

        Args:
            manifest_digest: the manifest's; the blob is in the store.
            media_type: what the registry called it; "" where the manifest says so itself.
            names: the tags that it gets; other images lose them.
            repo_digests: references with a digest, where it came from.
            unpacked_sizes: bytes of each layer's files, by chain ID.
            parent: the ID of the image that it was made from.
        Raises:
            NotFound: a blob is missing. InvalidArgument: manifest and config don't fit each other.
        """
        with self._database.change():
            image = self._insert(manifest_digest, media_type, unpacked_sizes or {}, parent)
            for reference in names:
                self._name(image.id, reference)
            for reference in repo_digests:
                self.add_repo_digest(image.id, reference)
            write_index(self._database, self.blobs)
        return self.known(image.id)

    def _insert(
        self, manifest_digest: str, media_type: str, sizes: Mapping[str, int], parent: str
    ) -> Image:
        """Write an image's row, and what it needs; its names come after."""
        raw = self.blobs.read(manifest_digest)
        manifest = manifests.parse(raw, media_type)
        raw_config = self.blobs.read(manifest.config.digest)
        parsed = config.parse(raw_config)
        layers = _layers(manifest, parsed.diff_ids, sizes)
        for layer in layers:
            self.blobs.size(layer.digest)
        in_layout = manifests.as_oci(raw, manifest)
        created = parsed.created
        with self._database.change():
            layout_digest = self.blobs.write(in_layout)
            image_id = manifest.config.digest
            self._database.run(
                "INSERT INTO images VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET"
                " manifest=excluded.manifest, media_type=excluded.media_type,"
                " layout_manifest=excluded.layout_manifest, layout_size=excluded.layout_size,"
                " size=excluded.size, layers=excluded.layers",
                image_id,
                manifest_digest,
                manifest.media_type,
                layout_digest,
                len(in_layout),
                _whole_size(layers),
                created,
                config.nanoseconds(created),
                raw_config.decode(),
                json.dumps([layer.to_json() for layer in layers]),
                parent,
                0,
            )
            blobs = {manifest_digest, layout_digest, image_id, *(x.digest for x in layers)}
            self._garbage.set_needs(image_id, blobs, {layer.chain_id for layer in layers})
        return self.known(image_id)

    # names

    def tag(self, image_id: str, reference: Reference) -> None:
        """Give an image a name; another image that had it loses it.

        Raises:
            NotFound: there is no such image. InvalidArgument: the name has a digest.
        """
        if reference.digest:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        if reference.familiar_repository == "sha256":  # `sha256:abc` would be an ID, or this
            raise InvalidArgument(
                "refusing to create an ambiguous tag using digest algorithm as name"
            )
        with self._database.change():
            self.known(image_id)
            self._name(image_id, reference)
            write_index(self._database, self.blobs)

    def _name(self, image_id: str, reference: Reference) -> None:
        tag = reference.tag or DEFAULT_TAG
        query = "SELECT image FROM names WHERE repository=? AND tag=?"
        if self._database.rows(query, reference.repository, tag) == [(image_id,)]:
            return  # it has had that name before: the time when it got it stays
        self._database.run(
            "INSERT OR REPLACE INTO names VALUES (?,?,?)", reference.repository, tag, image_id
        )
        self._database.run("UPDATE images SET tagged_ns=? WHERE id=?", time.time_ns(), image_id)

    def untag(self, reference: Reference) -> None:
        """Take a name away, a tag's or a digest's; the image stays.

        Raises:
            NotFound: no image has it.
        """
        table, column, value = (
            ("repo_digests", "digest", reference.digest)
            if reference.digest
            else ("names", "tag", reference.tag or DEFAULT_TAG)
        )
        with self._database.change():
            gone = self._database.run(
                f"DELETE FROM {table} WHERE repository=? AND {column}=?",
                reference.repository,
                value,
            )
            if not gone:
                raise NotFound(f"No such image: {reference.familiar}")
            write_index(self._database, self.blobs)

    def add_repo_digest(self, image_id: str, reference: Reference) -> None:
        """Note that a registry has the image under a digest."""
        self._database.run(
            "INSERT OR REPLACE INTO repo_digests VALUES (?,?,?)",
            reference.repository,
            reference.digest,
            image_id,
        )

    # use

    def hold(self, image_id: str, holder: str) -> None:
        """Keep an image's layers for *holder*, a container's ID, until it lets go.

        After a power cut a hold may be gone: `hold_again`. Whoever removes the image writes to the
        same log, and so has the hold on the disk first.

        Raises:
            NotFound: there is no such image.
        """
        with self._database.change(durable=False):
            for chain_id in self.known(image_id).chain_ids or ("",):
                self._database.run(
                    "INSERT OR IGNORE INTO holds VALUES (?,?,?)", holder, image_id, chain_id
                )

    def release(self, holder: str) -> None:
        """Let go what *holder* held.

        After a power cut the holds may be there again: `release_others` then lets go of them.
        """
        with self._database.change(durable=False):
            chains = self._database.rows("SELECT chain_id FROM holds WHERE holder=?", holder)
            self._database.run("DELETE FROM holds WHERE holder=?", holder)
            loose = self._garbage.mark_unneeded(chain_id for (chain_id,) in chains if chain_id)
        if loose:
            self._garbage.remove()

    def release_others(self, holders: Container[str]) -> None:
        """Let go what was held for anyone but *holders*: containers that were never finished."""
        for (holder,) in self._database.rows("SELECT DISTINCT holder FROM holds"):
            if holder not in holders:
                self.release(holder)

    def hold_again(self, images: Mapping[str, str]) -> None:
        """Let those who hold nothing hold their image, unless it is gone: ID of image by holder."""
        holders = {holder for (holder,) in self._database.rows("SELECT holder FROM holds")}
        for holder, image_id in images.items():
            if holder not in holders:
                with contextlib.suppress(NotFound):
                    self.hold(image_id, holder)

    def use_counts(self) -> dict[str, int]:
        """Give the number of holders by image ID."""
        query = "SELECT image, count(DISTINCT holder) FROM holds GROUP BY image"
        return dict(self._database.rows(query))

    def lease(
        self, purpose: str, is_resumable: bool = True
    ) -> contextlib.AbstractContextManager[Lease]:
        """Keep what is being gathered for an image that does not exist yet.

            with store.lease("pull mongo") as lease:
                if not lease.keep(digest):      # it is kept from now on; False: download it
                    ...
                store.add(...)

        Args:
            purpose: what for, for people who look into the database.
            is_resumable: when the block ends by an error, what was gathered is kept for a day,
                for the next try; else it goes.
        """
        return self._leases.take(purpose, is_resumable)

    # removing

    def remove(
        self,
        text: str,
        force: bool = False,
        prune: bool = True,
        in_use: InUse = lambda image_id: (),
    ) -> Records:
        """Remove a name, and the image with its last name, by Docker's rules.

        Args:
            text: a name, an ID, or the beginning of one.
            force: remove it although it has several names or a stopped container.
            prune: remove parents without a name, too.
            in_use: gives the containers of an image: ID, and whether it runs.
        Returns:
            What was done, as Docker's API says it: `{"Untagged": …}`, `{"Deleted": …}`.
        Raises:
            NotFound: there is none. Conflict: in Docker's words.
        """
        records = self._removal.remove(text, force, prune, in_use)
        self._garbage.remove()
        return records

    def prune(
        self,
        wanted: Callable[[Image], bool],
        dangling: bool = True,
        in_use: InUse = lambda image_id: (),
    ) -> tuple[Records, int]:
        """Remove the images that no container uses.

        Args:
            wanted: says whether an image may go.
            dangling: remove only those without a name.
            in_use: as for `remove`.
        Returns:
            What was done, as `remove` says it, and the bytes freed on the disk.
        """
        records = self._removal.prune(wanted, dangling, in_use)
        self._leases.drop_abandoned()
        return records, self.collect_garbage()

    def collect_garbage(self) -> int:
        """Remove files that no image, container or lease needs; give the bytes freed."""
        self._leases.drop_expired()
        return self._garbage.collect()

    def forget(self, image_id: str) -> tuple[str, ...]:
        """Remove an image with all its names; give the chain IDs of layers that nobody has now."""
        with self._database.change():
            unneeded = self._garbage.drop_needs(image_id)
            for table in ("names", "repo_digests"):
                self._database.run(f"DELETE FROM {table} WHERE image=?", image_id)
            self._database.run("DELETE FROM images WHERE id=?", image_id)
            write_index(self._database, self.blobs)
        return unneeded


def _layers(
    manifest: Manifest, diff_ids: tuple[str, ...], sizes: Mapping[str, int]
) -> tuple[Layer, ...]:
    if len(manifest.layers) != len(diff_ids):
        raise InvalidArgument(
            f"the manifest has {len(manifest.layers)} layers, and the image config {len(diff_ids)}"
        )
    chain = config.chain_ids(diff_ids)
    return tuple(
        Layer(
            digest=blob.digest,
            size=blob.size,
            media_type=blob.media_type,
            diff_id=diff_id,
            chain_id=chain_id,
            unpacked_size=sizes.get(chain_id, -1),
        )
        for blob, diff_id, chain_id in zip(manifest.layers, diff_ids, chain, strict=True)
    )


def _whole_size(layers: tuple[Layer, ...]) -> int:
    return sum(x.size if x.unpacked_size < 0 else x.unpacked_size for x in layers)
