"""Leases: what a pull or a load is gathering is not garbage, though no image needs it yet.

A lease that ends with its image goes at once. One that ends by an error, or by the end of its
process, stays for a day: the next try finds the layers that are here already. A full disk is the
exception: what was gathered goes, or the disk would stay full.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

from minicontainer.errors import KernelError
from minicontainer.images.references import check_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.images.blobs import Blobs, Partial
    from minicontainer.images.store_garbage import Garbage
    from minicontainer.images.store_schema import Database

KEPT_NS = 24 * 3600 * 10**9


class Leases:
    """The leases of a store."""

    def __init__(self, database: Database, blobs: Blobs, garbage: Garbage) -> None:
        self._database = database
        self._blobs = blobs
        self._garbage = garbage

    @contextlib.contextmanager
    def take(self, purpose: str, is_resumable: bool) -> Iterator[Lease]:
        """Take a lease; it goes when the block ends without an error."""
        lease = Lease(self._database, self._blobs, os.urandom(16).hex())
        self._database.run(
            "INSERT INTO leases VALUES (?,?,?,?)",
            lease.id,
            purpose,
            _this_process(),
            time.time_ns() + KEPT_NS,
        )
        is_kept = is_resumable
        try:
            yield lease
            is_kept = False
        except KernelError as error:
            is_kept = is_resumable and error.errno != errno.ENOSPC
            raise
        finally:
            if is_kept:
                self._database.run("UPDATE leases SET owner='' WHERE id=?", lease.id)
            else:
                self._drop(lease.id)
                self._garbage.remove()

    def drop_expired(self) -> None:
        """Drop the leases whose day is over, unless their process still gathers."""
        self._drop_before(time.time_ns())

    def drop_abandoned(self) -> None:
        """Drop all leases that nobody gathers for."""
        self._drop_before(time.time_ns() + 2 * KEPT_NS)

    def _drop_before(self, time_ns: int) -> None:
        with self._database.change():
            for lease, owner in self._database.rows(
                "SELECT id, owner FROM leases WHERE expires_ns < ?", time_ns
            ):
                if not _is_alive(owner):
                    self._drop(lease)

    def _drop(self, lease: str) -> None:
        with self._database.change():
            for (digest,) in self._database.rows("SELECT digest FROM leased WHERE lease=?", lease):
                self._garbage.mark((("blob", digest), ("layer", digest)))
            self._database.run("DELETE FROM leased WHERE lease=?", lease)
            self._database.run("DELETE FROM leases WHERE id=?", lease)


class Lease:
    """What somebody is gathering; `ImageStore.lease` gives it."""

    def __init__(self, database: Database, blobs: Blobs, identifier: str) -> None:
        self._database = database
        self._blobs = blobs
        self.id = identifier

    def keep(self, digest: str) -> bool:
        """Keep a blob, here or still to come; say whether it is here.

        The chain ID of an unpacked layer is kept likewise; the answer is then about no blob.
        """
        check_digest(digest)
        # Garbage is removed inside such a change, too: what is here after this one stays.
        with self._database.change():
            self._database.run("INSERT OR IGNORE INTO leased VALUES (?,?)", self.id, digest)
            return self._blobs.has(digest)

    def commit(self, part: Partial) -> int:
        """Put a blob in its place whose digest nobody knew before, and keep it; give its size."""
        with self._database.change():  # not in the hands of a collector in between
            size = part.commit()
            self.keep(part.digest)
        return size


def _this_process() -> str:
    return f"{os.getpid()} {_start_of(os.getpid())}"


def _is_alive(owner: str) -> bool:
    pid, _, start = owner.partition(" ")
    return bool(start) and _start_of(int(pid)) == start


def _start_of(pid: int) -> str:
    """Give the time a process began, by which it is told from a later one of its number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""
