"""cp: files between a container and this host, as one tar archive.

    FROM a container   GET archive?path=SRC   names are renamed on the way, then unpacked here
    TO a container     this tree as a tar     renamed on the way, then PUT archive?path=DIRECTORY

What DEST means depends on what is there, as with cp(1): see `place`.

See: Docker's `docker container cp` reference; Docker Engine API, ContainerArchive.
"""

from __future__ import annotations

import os
import stat

from minicontainer.cli import units
from minicontainer.cli.client import EngineError
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Asked, command, toggle
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.output import tell
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_GO_DIRECTORY, _GO_SYMLINK = 1 << 31, 1 << 27  # bits of Go's FileMode
_MOST_LINKS = 10


class Place(Record):
    """A path, and what is there."""

    path: str
    exists: bool = False
    is_directory: bool = False


def split(path: str) -> tuple[str, str]:
    """Give directory and base name; a path that ends in `/.` has the base name `.`."""
    clean = os.path.normpath(path)
    if path.rpartition("/")[2] == "." and clean != ".":
        return clean, "."
    return os.path.split(clean) if clean != "/" else ("/", "/")


def place(source: Place, target: Place) -> tuple[str, str, str]:
    """Say where an archive of *source* is unpacked, and which part of its names becomes which.

    Raises:
        Exit: a directory would replace a file, or DEST names a directory that is not there.
    """
    directory, base = split(target.path)
    _, old = split(source.path)
    if target.exists and target.is_directory:
        return target.path, "", ""
    if target.exists and source.is_directory:
        raise Exit("cannot copy directory")
    if not target.exists and not source.is_directory and _names_directory(target.path):
        raise Exit("no such directory")
    return directory or ".", "" if old == "/" else old, base


def _names_directory(path: str) -> bool:
    return path.endswith("/") or path.rpartition("/")[2] == "."


def renamed(name: str, old: str, new: str) -> str:
    """Rename an archive's entry."""
    return f"{new}/{name}".rstrip("/") if not old and new else name.replace(old, new, 1)


@command(
    "CONTAINER:SRC_PATH DEST_PATH|-  |  SRC_PATH|- CONTAINER:DEST_PATH",
    toggle("archive", "a", "keep owner and group"),
    toggle("follow-link", "L", "copy what a link in SRC_PATH points to"),
    toggle("quiet", "q", "do not say what was copied"),
    least=2,
    most=2,
)
def cp(asked: Asked) -> int:
    """Copy files/folders between a container and the local filesystem."""
    source, target = asked.args
    if not source or not target:
        raise Exit(f"{'source' if not source else 'destination'} can not be empty")
    (from_container, source), (to_container, target) = _parts(source), _parts(target)
    if from_container and to_container:
        raise Exit("copying between containers is not supported")
    if from_container:
        return _copy_from(asked, from_container, source, target)
    if to_container:
        return _copy_to(asked, source, to_container, target)
    raise Exit("must specify at least one container source")


def _parts(text: str) -> tuple[str, str]:
    """Cut CONTAINER:PATH; a local path has "" for the container."""
    container, colon, path = text.partition(":")
    if text.startswith(("/", ".")) or not colon:
        return "", text
    return container, path


def stat_of(header: str) -> dict[str, Any]:
    """Read what the engine tells of a path."""
    import base64

    from minicontainer import jsontext

    found: dict[str, Any] = jsontext.parse(base64.b64decode(header).decode())
    return found


def _container_stat(asked: Asked, container: str, path: str) -> dict[str, Any]:
    answer = asked.session.client.request("HEAD", path_of(container, "archive"), {"path": path})
    answer.read()
    return stat_of(answer.headers["x-docker-container-path-stat"])


def _link_target(path: str, found: dict[str, Any]) -> str:
    """Give the path that a link of a container points to."""
    target = found["linkTarget"]
    return target if target.startswith("/") else os.path.join(split(path)[0], target)


def _copy_from(asked: Asked, container: str, source: str, target: str) -> int:
    from minicontainer.cli import copy_archive

    rename = ""
    if asked.follow_link:
        found = _container_stat(asked, container, source)
        if found["mode"] & _GO_SYMLINK:
            rename, source = split(source)[1], _link_target(source, found)
    answer = asked.session.client.request("GET", path_of(container, "archive"), {"path": source})
    if target == "-":
        from minicontainer.cli.snapshots import write_archive  # only who pipes it on pays for it

        write_archive(answer, "")
        return 0
    found = stat_of(answer.headers["x-docker-container-path-stat"])
    origin = Place(path=source, exists=True, is_directory=bool(found["mode"] & _GO_DIRECTORY))
    directory, old, new = place(origin, _local_target(target))
    if rename and not new:
        old, new = split(source)[1], rename
    reader = copy_archive.Reader(answer.chunks())
    copy_archive.unpack(reader, directory, lambda name: renamed(name, old, new), asked.archive)
    if _is_told(asked):
        tell(f"Successfully copied {units.size(reader.count)} to {os.path.abspath(target)}")
    return 0


def _is_told(asked: Asked) -> bool:
    return not asked.quiet and os.isatty(2)


def _local_target(path: str) -> Place:
    """Look at DEST on this host, through links; its directory at least has to be there."""
    for _ in range(_MOST_LINKS):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            parent = split(path)[0] or "."
            if not os.path.isdir(parent):
                why = "is not a directory" if os.path.exists(parent) else "does not exist"
                shown = os.path.abspath(parent)
                raise Exit(f'invalid output path: directory "{shown}" {why}') from None
            return Place(path=path)
        if not stat.S_ISLNK(found.st_mode):
            return Place(path=path, exists=True, is_directory=stat.S_ISDIR(found.st_mode))
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise Exit(f"too many symbolic links: {path}")


def _copy_to(asked: Asked, source: str, container: str, path: str) -> int:
    from minicontainer.cli import copy_archive

    target = _container_target(asked, container, path)
    counted = copy_archive.Counter()
    body: Iterator[bytes]
    if source == "-":
        directory = target.path
        if not target.is_directory:
            raise Exit(f'destination "{container}:{path}" must be a directory')
        body = counted.counting(_standard_input())
    else:
        origin, name = _local_source(source, asked.follow_link)
        directory, old, new = place(origin, target)
        if name and not new:
            old, new = split(origin.path)[1], name
        where, base = split(origin.path)
        body = counted.counting(
            copy_archive.pack(where, base, lambda name: renamed(name, old, new))
        )
    query = {
        "path": directory,
        "noOverwriteDirNonDir": "true",
        "copyUIDGID": asked.archive and "true",
    }
    headers = {"Content-Type": "application/x-tar"}
    asked.session.client.request("PUT", path_of(container, "archive"), query, body, headers).read()
    if _is_told(asked):
        tell(f"Successfully copied {units.size(counted.count)} to {container}:{path}")
    return 0


def _standard_input() -> Iterator[bytes]:
    while block := os.read(0, 65536):
        yield block


def _container_target(asked: Asked, container: str, path: str) -> Place:
    """Look at DEST in the container, through a link; what is not there is no error yet."""
    try:
        found = _container_stat(asked, container, path)
        if found["mode"] & _GO_SYMLINK:
            path = _link_target(path, found)
            found = _container_stat(asked, container, path)
    except EngineError as error:
        if error.status != 404 or "no such container" in error.message.lower():
            raise
        return Place(path=path)
    return Place(path=path, exists=True, is_directory=bool(found["mode"] & _GO_DIRECTORY))


def _local_source(path: str, follow: bool) -> tuple[Place, str]:
    """Look at SRC on this host; give also the name that a followed link is copied under."""
    try:
        found = os.lstat(path.rstrip("/.") or path) if _names_directory(path) else os.lstat(path)
        name = ""
        if follow and stat.S_ISLNK(found.st_mode):
            name, path = split(path)[1], os.path.realpath(path)
            found = os.stat(path)
    except OSError as error:
        raise Exit(f"lstat {os.path.abspath(path)}: {(error.strerror or '').lower()}") from None
    if _names_directory(path) and not stat.S_ISDIR(found.st_mode):
        raise Exit("not a directory")
    return Place(path=path, exists=True, is_directory=stat.S_ISDIR(found.st_mode)), name
