"""The store's database: its tables, its connection, and how an older one is brought up to date.

See: sqlite.org "Write-Ahead Logging", "PRAGMA user_version".
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading

from minicontainer.errors import Error, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

BUSY_S = 30.0  # how long one writer waits for another process's

# Each entry brings a database from the version of its position to the next: never changed once
# it was released, only added to.
MIGRATIONS = (
    """
    CREATE TABLE images (
        id TEXT PRIMARY KEY, manifest TEXT NOT NULL, media_type TEXT NOT NULL,
        layout_manifest TEXT NOT NULL,      -- the manifest as OCI: what index.json points to
        layout_size INTEGER NOT NULL,
        size INTEGER NOT NULL, created TEXT NOT NULL, created_ns INTEGER NOT NULL,
        config TEXT NOT NULL, layers TEXT NOT NULL,
        parent TEXT NOT NULL, tagged_ns INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE names (
        repository TEXT NOT NULL, tag TEXT NOT NULL,
        image TEXT NOT NULL REFERENCES images(id),
        PRIMARY KEY (repository, tag)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX names_by_image ON names(image);
    CREATE TABLE repo_digests (
        repository TEXT NOT NULL, digest TEXT NOT NULL,
        image TEXT NOT NULL REFERENCES images(id),
        PRIMARY KEY (repository, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX repo_digests_by_image ON repo_digests(image);
    -- what an image needs: its blobs, and its layers' directories by chain ID
    CREATE TABLE needs (
        image TEXT NOT NULL REFERENCES images(id), kind TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (image, kind, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX needs_by_digest ON needs(kind, digest);
    -- who uses an image: it keeps the layers also when the image is gone
    CREATE TABLE holds (
        holder TEXT NOT NULL, image TEXT NOT NULL, chain_id TEXT NOT NULL,
        PRIMARY KEY (holder, image, chain_id)
    ) STRICT, WITHOUT ROWID;
    -- what somebody is still gathering, and no image needs yet
    CREATE TABLE leases (
        id TEXT PRIMARY KEY, purpose TEXT NOT NULL, owner TEXT NOT NULL,
        expires_ns INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE leased (
        lease TEXT NOT NULL REFERENCES leases(id), digest TEXT NOT NULL,
        PRIMARY KEY (lease, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX leased_by_digest ON leased(digest);
    -- what lost its last image, and goes unless somebody has leased it since
    CREATE TABLE garbage (
        kind TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (kind, digest)
    ) STRICT, WITHOUT ROWID;
    """,
)


class Database:
    """One connection to the database, for all threads of this process.

    Args:
        path: its file; it is made where it is missing.
    Raises:
        Unsupported: a newer minicontainer made it.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        with self._lock:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self.rows(f"PRAGMA {pragma}")
            self._migrate(path)

    def _migrate(self, path: str) -> None:
        with self.change():
            version = self.rows("PRAGMA user_version")[0][0]
            if version > len(MIGRATIONS):
                raise Unsupported(
                    f"{path} is of version {version}, and this minicontainer knows none above "
                    f"{len(MIGRATIONS)}: use a newer minicontainer"
                )
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                for statement in script.split(";"):  # executescript would commit first
                    self.run(statement)
                self.run(f"PRAGMA user_version={number}")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Give all rows of a query."""
        with self._lock, _named_errors():
            return self._connection.execute(query, values).fetchall()

    def run(self, statement: str, *values: Any) -> int:
        """Run a statement that changes rows; give their number."""
        with self._lock, _named_errors():
            return self._connection.execute(statement, values).rowcount

    @contextlib.contextmanager
    def change(self, durable: bool = True) -> Iterator[None]:
        """Make all changes inside at once, or none; other writers wait meanwhile.

        Args:
            durable: they are on the disk in the end, also after a power cut: fsync(2).
        """
        with self._lock:
            if self._connection.in_transaction:  # inside another change, which commits
                yield
                return
            if not durable:
                self.run("PRAGMA synchronous=NORMAL")
            # IMMEDIATE takes the write lock now: a reader that writes later may be refused
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            finally:
                if self._connection.in_transaction:  # it failed, and SQLite has not ended it
                    self.run("ROLLBACK")
                if not durable:
                    self.run("PRAGMA synchronous=FULL")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Say of SQLite's errors what they are about: `database or disk is full`."""
    try:
        yield
    except sqlite3.Error as error:
        raise Error(f"the image store's database: {error}") from error
