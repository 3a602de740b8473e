"""Files copied into and out of a container, whether it runs or not: the engine's side.

The work is done by a process that can reach this container's files only: `archive_process`.

See: Docker Engine API, ContainerArchive, ContainerArchiveInfo, PutContainerArchive; `docker cp`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from minicontainer import jsontext
from minicontainer.engine import users
from minicontainer.engine.container import moment
from minicontainer.errors import Error, Forbidden, InvalidArgument, KernelError, NotFound
from minicontainer.images.compression import decompressed
from minicontainer.images.confinement import Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine

    Json = dict[str, Any]

_BLOCK = 256 * 1024
# Go's bits of a file's mode, which clients read, beside the nine of rwx.
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(mode: int) -> int:
    """Write a file's mode as Go's FileMode."""
    bits = sum(theirs for ours, theirs in _GO_BITS if mode & ours)
    return _GO_KINDS.get(stat.S_IFMT(mode), 0) | bits | (mode & 0o777)


def stat_path(engine: Engine, container: Container, ref: str, path: str) -> Json:
    """Tell what a path in a container is."""
    with _child(engine, container, "stat", path) as child:
        told, _ = _received(child, ref, path)
        return _path_stat(path, told)


def get(engine: Engine, container: Container, ref: str, path: str) -> tuple[Json, Iterator[bytes]]:
    """Tell what a path is, and give it as a tar, in parts."""
    undo = contextlib.ExitStack()
    with contextlib.ExitStack() as on_error:
        child = on_error.enter_context(_child(engine, container, "get", path))
        told, pipe = _received(child, ref, path)
        undo = on_error.pop_all()
    engine.publish(container, "archive-path")
    return _path_stat(path, told), _parts(child, pipe, undo)


def _parts(child: Child, pipe: int, undo: contextlib.ExitStack) -> Iterator[bytes]:
    with undo, open(pipe, "rb", buffering=0) as archive:
        while data := archive.read(_BLOCK):
            yield data
        child.receive()  # or raise what went wrong


def owner_of(engine: Engine, container: Container) -> tuple[int, int] | None:
    """Give the container's own user and group; None where it runs as the image's default."""
    if not container.config.user:
        return None
    layers = (f"{container.directory}/upper", *engine.lowers_of(container))
    found = users.find(container.config.user, layers)
    return found.uid, found.gid


def put(
    engine: Engine,
    container: Container,
    ref: str,
    path: str,
    stream: BinaryIO,
    keeps_kinds: bool,
    owner: tuple[int, int] | None,
) -> None:
    """Unpack a tar, perhaps compressed, in a directory of a container.

    Args:
        ref: the container as the user named it.
        keeps_kinds: a directory must not take a file's place, nor a file that of a directory.
        owner: of all files; None for those in the archive.
    Raises:
        Forbidden: the place is read-only. NotFound, InvalidArgument: it is no directory.
    """
    _check_writable(container, path)
    more = {"keeps_kinds": keeps_kinds, "owner": owner}
    with contextlib.ExitStack() as undo:
        if not container.state.is_running():
            # Its layer is mounted for writing: it must not be started meanwhile.
            undo.enter_context(container.operating)
        child = undo.enter_context(_child(engine, container, "put", path, more))
        try:
            content = decompressed(stream)
            while data := content.read(_BLOCK):
                _write_all(child.stdin, data)
        except BrokenPipeError:
            pass  # it says why
        child.close_stdin()
        _received(child, ref, path)
    engine.publish(container, "extract-to-dir")


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _check_writable(container: Container, path: str) -> None:
    place = os.path.normpath("/" + path)
    over = [
        mount
        for mount in container.mounts
        if place == mount["Destination"] or place.startswith(mount["Destination"] + "/")
    ]
    if over:
        if not max(over, key=lambda mount: len(mount["Destination"])).get("RW", True):
            raise Forbidden("mounted volume is marked read-only")
    elif container.config.host_config.readonly_rootfs:
        raise Forbidden("container rootfs is marked read-only")


@contextlib.contextmanager
def _child(
    engine: Engine, container: Container, verb: str, path: str, more: Json | None = None
) -> Iterator[Child]:
    """Start the process for one request; end it whatever happens."""
    with container.changed:
        pid = container.state.pid if container.state.is_running() else 0
    asked = {
        "verb": verb,
        "path": path,
        "pid": pid,
        "place": f"{container.directory}/rootfs",
        "layers": [f"{container.directory}/upper", *engine.lowers_of(container)],
        "binds": _binds(container),
        **(more or {}),
    }
    directory = os.open(container.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        child = Child("minicontainer.engine.archive_process", directory, [jsontext.dump(asked)])
    finally:
        os.close(directory)
    try:
        yield child
    finally:
        child.end()


def _binds(container: Container) -> list[Json]:
    """List what is mounted over the files of a stopped container, outer directories first."""
    own = [
        {"source": f"{container.directory}/{name}", "target": f"/etc/{name}"}
        for name in ("hosts", "hostname", "resolv.conf")
    ]
    volumes = [
        {"source": mount["Source"], "target": mount["Destination"]}
        for mount in sorted(container.mounts, key=lambda mount: str(mount["Destination"]))
        if mount.get("Source")
    ]
    return own + volumes


def _received(child: Child, ref: str, path: str) -> tuple[Json, int]:
    """Hear what the process says, in Docker's words where it says no."""
    try:
        return child.receive()
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(f"Could not find the file {path} in container {ref}") from None
        if error.errno == errno.ELOOP:
            raise InvalidArgument(f"{path}: too many links") from None
        raise Error(f"{path}: {error}") from None


def _path_stat(path: str, told: Json) -> Json:
    name = os.path.basename(os.path.normpath("/" + path)) or "/"
    return {
        "name": "." if path.endswith("/.") else name,
        "size": told["size"],
        "mode": go_mode(told["mode"]),
        "mtime": moment(told["mtime_ns"]),
        "linkTarget": told["target"],
    }
