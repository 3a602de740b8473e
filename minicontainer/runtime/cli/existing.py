"""start, state, kill, delete, list, pause, resume: commands on containers that exist."""

from __future__ import annotations

import posix
import pwd
import sys

from minicontainer import jsontext
from minicontainer.errors import Error, InvalidArgument
from minicontainer.kernel import signals
from minicontainer.runtime.container import operations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minicontainer.runtime.cli.command_line import Asked
    from minicontainer.runtime.cli.main import Session
    from minicontainer.runtime.container.state import State, Store

_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def start(session: Session, asked: Asked) -> int:
    """Start a created container's program."""
    name = asked.only_argument()
    if session.environ.get("NOTIFY_SOCKET"):
        from minicontainer.runtime.cli import readiness  # few containers are services

        readiness.start_service(name, session)
    else:
        operations.start(name, session.store)
    return 0


def state(session: Session, asked: Asked) -> int:
    """Print a container's state."""
    found = operations.load(session.store, asked.only_argument())
    sys.stdout.write(jsontext.pretty(_described(found, session.store)) + "\n")
    return 0


def _described(found: State, store: Store) -> dict[str, Any]:
    """Return the state in the specification's form, with the fields that runc adds."""
    now = operations.status(found, store)
    return {
        "ociVersion": found.oci_version,
        "id": found.id,
        "pid": 0 if now == "stopped" else found.pid,
        "status": now,
        "bundle": found.bundle,
        "rootfs": found.rootfs,
        "created": found.created,
        "annotations": dict(found.annotations),
        "owner": _owner(store.directory(found.id)),
    }


def _owner(directory: str) -> str:
    """Return the name of the user who created a container: they own its directory."""
    try:
        return pwd.getpwuid(posix.stat(directory).st_uid).pw_name
    except (OSError, KeyError):
        return ""


def kill(session: Session, asked: Asked) -> int:
    """Send a signal to a container."""
    if not 1 <= len(asked.arguments) <= 2:
        raise InvalidArgument(f"expected ID and SIGNAL, got {len(asked.arguments)} arguments")
    name, word = (*asked.arguments, "SIGTERM")[:2]
    operations.kill(name, session.store, _signal_number(word), everyone=asked.has("all"))
    return 0


def _signal_number(word: str) -> int:
    """Read a signal: 15, TERM, SIGTERM, term; 0 only checks that a process is there."""
    name = word.upper()
    if word == "0" or (word.isdecimal() and int(word) in signals.VALID):
        return int(word)
    number = signals.NUMBERS.get(name if name.startswith("SIG") else f"SIG{name}")
    if number is None:
        raise InvalidArgument(f"unknown signal {word!r}: use a number, or a name such as TERM")
    return number


def delete(session: Session, asked: Asked) -> int:
    """Delete a container."""
    force = asked.has("force")
    if not asked.has("regex"):
        operations.delete(asked.only_argument(), session.store, force=force)
        return 0
    import re  # 7 ms, for this option alone

    try:
        pattern = re.compile(asked.only_argument("expression"))
    except re.error as error:
        raise InvalidArgument(f"--regex: {error}") from None
    status = 0
    for name in filter(pattern.search, session.store.names()):
        try:
            operations.delete(name, session.store, force=force)
        except Error as error:  # delete the others all the same
            session.fail(str(error))
            status = 1
    return status


def pause(session: Session, asked: Asked) -> int:
    """Freeze a container."""
    operations.pause(asked.only_argument(), session.store)
    return 0


def resume(session: Session, asked: Asked) -> int:
    """Let a paused container continue."""
    operations.resume(asked.only_argument(), session.store)
    return 0


def list_containers(session: Session, asked: Asked) -> int:
    """List the containers."""
    how = asked.value("format", "table")
    found = list(_known(session.store))
    if asked.has("quiet"):
        sys.stdout.write("".join(f"{row['id']}\n" for row in found))
    elif how == "json":
        sys.stdout.write(jsontext.dump(found) + "\n")
    elif how == "table":
        rows = [_COLUMNS, *(tuple(str(row[column]) for column in _COLUMNS) for row in found)]
        sys.stdout.write(table([tuple(map(str.upper, rows[0])), *rows[1:]]))
    else:
        raise InvalidArgument(f"--format: expected table or json, got {how!r}")
    return 0


def _known(store: Store) -> Iterator[dict[str, Any]]:
    for name in store.names():
        try:
            yield _described(operations.load(store, name), store)
        except Error:
            continue  # deleted meanwhile, or incomplete; `delete --force` still finds it


def table(rows: list[tuple[str, ...]]) -> str:
    """Format rows in columns, two blanks apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "".join(line + "\n" for line in lines)
