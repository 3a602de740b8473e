"""engine.db: what the engine must find again and change atomically.

Each kind of object (container, network, volume) has a table of the same form: an ID, a unique name,
and a JSON body. Write-ahead logging lets readers go on beside a writer; a crash at any point leaves
the old or the new row.

See: SQLite's "Write-Ahead Logging".
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading

from minicontainer import jsontext, steps
from minicontainer.errors import Conflict, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Body = dict[str, Any]

SCHEMA_VERSION = 1
_KINDS = ("containers", "networks", "volumes")


class Store:
    """The database of an engine; any thread may use it.

    Args:
        data_root: the directory of engine.db.
    Raises:
        Unsupported: it was written by a newer engine, is no database, or another process holds it.
    """

    def __init__(self, data_root: str) -> None:
        os.makedirs(data_root, mode=0o711, exist_ok=True)
        path = os.path.join(data_root, "engine.db")
        self._path = path
        self._lock = threading.Lock()
        with self._named_errors():
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        os.chmod(path, 0o600)  # environment variables may be secrets
        ((version,),) = self.execute("PRAGMA user_version")
        if version > SCHEMA_VERSION:
            raise Unsupported(
                f"{path} was written by a newer minicontainer (schema {version}, this one knows "
                f"{SCHEMA_VERSION}): use that one, or another --data-root"
            )
        self.execute("PRAGMA journal_mode = WAL")
        for kind in _KINDS:
            self.execute(
                f"CREATE TABLE IF NOT EXISTS {kind} "
                "(id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, body TEXT NOT NULL)"
            )
        if version != SCHEMA_VERSION:
            self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def table(self, kind: str) -> Table:
        """Give the table of containers, networks or volumes."""
        return Table(self, kind)

    def change(self, what: str, statement: str, *values: str, durable: bool = True) -> None:
        """Execute a statement that changes something.

        Args:
            what: its name, for `steps.reach`.
            durable: it is on the disk when this returns, also after a power cut: fsync(2).
        Raises:
            sqlite3.IntegrityError: an ID or a name is there already.
        """
        steps.reach(f"before {what}")
        with self._lock, self._named_errors():
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute(statement, values)
        steps.reach(f"after {what}")

    def execute(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        """Execute one statement, as a transaction of its own.

        Raises:
            sqlite3.IntegrityError: an ID or a name is there already.
            Unsupported: the disk is full, another process holds the database, …
        """
        with self._lock, self._named_errors():
            return self._db.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say of SQLite's errors what they are about: `database or disk is full`."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            hint = ": another process holds it: end that" if "locked" in str(error) else ""
            raise Unsupported(f"{self._path}: {error}{hint}") from error

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()


class Table:
    """The objects of one kind.

    Args:
        store: where they are;  kind: containers, networks or volumes.
    """

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self._kind = kind

    def insert(self, identifier: str, name: str, body: Body, durable: bool = True) -> None:
        """Add an object.

        Args:
            durable: a power cut does not take it away.
        Raises:
            Conflict: the ID or the name is taken.
        """
        statement = f"INSERT INTO {self._kind} (id, name, body) VALUES (?, ?, ?)"
        try:
            self._store.change(
                f"insert-{self._kind}", statement, identifier, name, jsontext.dump(body),
                durable=durable,
            )  # fmt: skip
        except sqlite3.IntegrityError:
            raise Conflict(f"the name {name!r} is already in use") from None

    def update(self, identifier: str, body: Body) -> None:
        """Replace an object's body; nothing happens when it is gone.

        A power cut may bring back the body before: what a container does now is not worth an fsync.
        Its end is kept by `exit.json` as well.
        """
        statement = f"UPDATE {self._kind} SET body = ? WHERE id = ?"
        self._store.change(
            f"update-{self._kind}", statement, jsontext.dump(body), identifier, durable=False
        )

    def rename(self, identifier: str, name: str) -> None:
        """Give an object another name.

        Raises:
            Conflict: the name is taken.
        """
        try:
            statement = f"UPDATE {self._kind} SET name = ? WHERE id = ?"
            self._store.change(f"rename-{self._kind}", statement, name, identifier)
        except sqlite3.IntegrityError:
            raise Conflict(f"the name {name!r} is already in use") from None

    def delete(self, identifier: str, durable: bool = True) -> None:
        """Remove an object; nothing happens when it is gone.

        Args:
            durable: a power cut does not bring it back.
        """
        statement = f"DELETE FROM {self._kind} WHERE id = ?"
        self._store.change(f"delete-{self._kind}", statement, identifier, durable=durable)

    def all(self) -> list[tuple[str, str, Body]]:
        """List all objects: ID, name, body."""
        rows = self._store.execute(f"SELECT id, name, body FROM {self._kind} ORDER BY rowid")
        return [(identifier, name, jsontext.parse(body)) for identifier, name, body in rows]
