"""Garbage: what no image needs, no container holds and no lease keeps.

The table `needs` is the one list of what images need. A digest that leaves it becomes garbage in
the same transaction. The files go in a later one, which looks again: a lease may keep the digest by
then. So the order of events on the disk is always image first, files second.
"""

from __future__ import annotations

import contextlib
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from minicontainer.images.blobs import Blobs
    from minicontainer.images.store_schema import Database

    class LayerFiles(Protocol):
        """The directories of unpacked layers; `LayerStore` is one."""

        def chain_ids(self) -> tuple[str, ...]:
            """List them."""

        def size(self, chain_id: str) -> int:
            """Give the bytes of a layer's files."""

        def age_s(self, chain_id: str, now: float) -> float:
            """Give the seconds since a layer was unpacked."""

        def detach(self, chain_id: str) -> str:
            """Take a layer away under its name, at once."""

        def discard(self, directory: str) -> None:
            """Remove the files of one that was detached, in a time that grows with it."""


GRACE_S = 3600.0  # a blob that nobody knows may be of a program that is about to name it
_NEEDED = """
    EXISTS (SELECT 1 FROM needs WHERE needs.kind=garbage.kind AND needs.digest=garbage.digest)
    OR kind='layer' AND EXISTS (SELECT 1 FROM holds WHERE chain_id=garbage.digest)
"""
_LEASED = "EXISTS (SELECT 1 FROM leased WHERE leased.digest=garbage.digest)"


class Garbage:
    """What may go from a store."""

    def __init__(self, database: Database, blobs: Blobs, layers: LayerFiles | None) -> None:
        self._database = database
        self._blobs = blobs
        self._layers = layers

    def set_needs(self, image: str, blobs: Iterable[str], chain_ids: Iterable[str]) -> None:
        """Say what an image needs; what it needed before and no longer does is marked."""
        wanted = {("blob", digest) for digest in blobs} | {("layer", one) for one in chain_ids}
        with self._database.change():
            before = set(self._database.rows("SELECT kind, digest FROM needs WHERE image=?", image))
            self._database.run("DELETE FROM needs WHERE image=?", image)
            for kind, digest in wanted:
                self._database.run("INSERT INTO needs VALUES (?,?,?)", image, kind, digest)
            self.mark(before - wanted)

    def drop_needs(self, image: str) -> tuple[str, ...]:
        """Mark what only this image needed; give the layers among it."""
        with self._database.change():
            needed = self._database.rows("SELECT kind, digest FROM needs WHERE image=?", image)
            self._database.run("DELETE FROM needs WHERE image=?", image)
            self.mark(needed)
            layers = {digest for kind, digest in needed if kind == "layer"}
            left = self._database.rows(
                "SELECT digest FROM needs WHERE kind='layer' UNION SELECT chain_id FROM holds"
            )
            return tuple(sorted(layers - {digest for (digest,) in left}))

    def mark(self, digests: Iterable[tuple[str, str]]) -> None:
        """Mark blobs and layers, by kind and digest; `remove` looks whether they may go."""
        for kind, digest in digests:
            self._database.run("INSERT OR IGNORE INTO garbage VALUES (?,?)", kind, digest)

    def mark_unneeded(self, chain_ids: Iterable[str]) -> bool:
        """Mark the layers that no image needs and nobody holds; say whether there are any."""
        query = "SELECT 1 FROM needs WHERE kind='layer' AND digest=?1"
        query += " UNION ALL SELECT 1 FROM holds WHERE chain_id=?1"
        loose = [one for one in chain_ids if not self._database.rows(query, one)]
        self.mark(("layer", chain_id) for chain_id in loose)
        return bool(loose)

    def remove(self) -> int:
        """Remove the files of what is marked, unless it is kept; give the bytes freed."""
        freed = 0
        detached = []
        with self._database.change():
            self._database.run(f"DELETE FROM garbage WHERE {_NEEDED}")
            for kind, digest in self._database.rows(
                f"SELECT kind, digest FROM garbage WHERE NOT {_LEASED}"
            ):
                if kind == "blob":
                    freed += self._blobs.remove(digest)
                elif self._layers is not None:
                    detached.append(self._layers.detach(digest))
                self._database.run("DELETE FROM garbage WHERE kind=? AND digest=?", kind, digest)
        for directory in detached:  # now that nobody waits for the database
            assert self._layers is not None
            self._layers.discard(directory)
        return freed

    def collect(self) -> int:
        """Remove what is marked, and files that the database does not know; give the bytes."""
        now = time.time()
        with self._database.change():
            known = {digest for (digest,) in self._database.rows("SELECT digest FROM needs")}
            known |= {digest for (digest,) in self._database.rows("SELECT digest FROM leased")}
            known |= {digest for (digest,) in self._database.rows("SELECT chain_id FROM holds")}
            for digest in list(self._blobs.digests()):
                if digest not in known and self._age_s(digest, now) > GRACE_S:
                    self.mark((("blob", digest),))
            layers = self._layers
            for chain_id in layers.chain_ids() if layers else ():
                if layers and chain_id not in known and layers.age_s(chain_id, now) > GRACE_S:
                    self.mark((("layer", chain_id),))
        return self.remove() + self._blobs.sweep_ingest(24 * GRACE_S, now)

    def _age_s(self, digest: str, now: float) -> float:
        with contextlib.suppress(FileNotFoundError):
            return now - os.stat(self._blobs.path(digest)).st_mtime
        return 0.0
