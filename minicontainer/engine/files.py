"""A container's files by their paths: `cp`, both ways.

A process inside the container's root follows the paths (`file_access`); this is its parent.

See: Docker Engine API, ContainerArchive, ContainerArchiveInfo, PutContainerArchive.
"""

from __future__ import annotations

import contextlib
import errno
import os

from minicontainer import jsontext
from minicontainer.engine import bundles, users
from minicontainer.engine.file_access import Bind, Request
from minicontainer.engine.log_files import timestamp
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

_MODULE = "minicontainer.engine.file_access"
_CHUNK = 1 << 18
_MISSING = (errno.ENOENT, errno.ENOTDIR)


def archive_stat(engine: Engine, container: Container, ref: str, path: str) -> Json:
    """Say what a path in a container is: Docker's ContainerPathStat.

    Args:
        ref: the container as the user named it.
    Raises:
        NotFound: there is nothing.
    """
    request = Request(act="stat", path=path)
    with contextlib.closing(_Access(engine, container, ref, request)) as access:
        return access.stat()


def archive_get(
    engine: Engine, container: Container, ref: str, path: str
) -> tuple[Json, Iterator[bytes]]:
    """Give what a path in a container leads to, as an archive; and first what it is.

    Raises:
        NotFound: there is nothing.
    """
    access = _Access(engine, container, ref, Request(act="get", path=path))
    with contextlib.ExitStack() as undo:
        undo.callback(access.close)
        status = access.stat()
        undo.pop_all()
    return status, access.output()


def archive_put(
    engine: Engine,
    container: Container,
    ref: str,
    path: str,
    stream: BinaryIO,
    no_overwrite_dir_non_dir: bool,
    copy_uid_gid: bool,
) -> None:
    """Unpack an archive into a directory of a container.

    Args:
        stream: the archive, plain or compressed.
        no_overwrite_dir_non_dir: refuse to put a file over a directory, or the other way round.
        copy_uid_gid: give all to the container's user; else the archive's owners count.
    Raises:
        NotFound: no such directory.
        Forbidden: the root or the volume is read-only.
        InvalidArgument: a bad archive; a file where a directory should be.
    """
    _check_writable(container, path)
    owner: tuple[int, ...] = ()
    if copy_uid_gid and container.config.user:
        identity = users.find(container.config.user, engine.directories_of(container))
        owner = identity.uid, identity.gid
    request = Request(act="put", path=path, owner=owner, strict=no_overwrite_dir_non_dir)
    # Nobody starts it meanwhile: an upper directory is for one mount at a time.
    with contextlib.ExitStack() as stack:
        if not container.state.is_running():
            stack.enter_context(container.operating)
        access = _Access(engine, container, ref, request)
        stack.callback(access.close)
        access.put(stream)
    engine.publish(container, "extract-to-dir")


def _check_writable(container: Container, path: str) -> None:
    """Refuse to write where the user wants nothing written; the kernel would say less clearly so.

    Raises:
        Forbidden: the volume there, or the root, is read-only.
    """
    place = os.path.normpath("/" + path.lstrip("/"))
    over = [
        mount
        for mount in container.mounts
        if f"{place}/".startswith(f"{mount['Destination'].rstrip('/')}/")
    ]
    if over:
        if not max(over, key=lambda mount: len(mount["Destination"]))["RW"]:
            raise Forbidden("mounted volume is marked read-only")
    elif container.config.host_config.readonly_rootfs and not container.state.is_running():
        raise Forbidden("container rootfs is marked read-only")


class _Access:
    """A process in a container's root.

    Args:
        request: what it shall do; where the root is, is found here.
    """

    def __init__(self, engine: Engine, container: Container, ref: str, request: Request) -> None:
        self._engine = engine
        self._container = container
        self._ref = ref
        self._request = request
        root = self._running_root()
        is_mapped = container.config.host_config.userns_mode == "private"
        if root < 0:
            root, request = self._stopped_root(request)
            request = request.replace(first_id=bundles.first_id_of(container))
        elif is_mapped:
            request = request.replace(user_namespace_of=container.state.pid)
        try:
            told = jsontext.dump(request.to_json())
            self._child = Child(_MODULE, root, (told,), speaks=True)
        finally:
            os.close(root)

    def _running_root(self) -> int:
        """Open the root of a container that runs; -1 if it does not."""
        state = self._container.state
        with self._container.changed:
            if not state.is_running():
                return -1
            try:
                return os.open(f"/proc/{state.pid}/root", os.O_RDONLY | os.O_DIRECTORY)
            except OSError:  # it ends just now
                return -1

    def _stopped_root(self, request: Request) -> tuple[int, Request]:
        directory = self._container.directory
        etc = (
            Bind(source=f"{directory}/{name}", destination=f"/etc/{name}")
            for name in ("hosts", "hostname", "resolv.conf")
        )
        binds = [
            *etc,
            *(
                Bind(
                    source=mount["Source"],
                    destination=mount["Destination"],
                    readonly=not mount["RW"],
                )
                for mount in self._container.mounts
                if mount["Type"] in ("bind", "volume") and mount["Source"]
            ),
        ]
        place = f"{directory}/rootfs"
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY), request.replace(
            lowers=() if self._container.copied else self._engine.lowers_of(self._container),
            upper=f"{directory}/upper",
            work=f"{directory}/work",
            place=place,
            readonly=request.act == "put" and self._container.config.host_config.readonly_rootfs,
            binds=tuple(sorted(binds, key=lambda bind: bind.destination.count("/"))),
        )

    def stat(self) -> Json:
        """Wait for what the path is."""
        self._child.close_stdin()
        found = self._receive()
        found["mtime"] = timestamp(found.pop("mtime_ns"))
        del found["what"]
        return found

    def output(self) -> Iterator[bytes]:
        """Give the archive; at its end, or when nobody wants it, the process is gone."""
        with contextlib.closing(self):
            while data := os.read(self._child.stdout, _CHUNK):
                yield data
            self._receive()

    def put(self, stream: BinaryIO) -> None:
        """Send the archive, and wait until it is unpacked."""
        self._child.feed(decompressed(stream))
        self._child.close_stdin()
        self._receive()

    def close(self) -> None:
        """End the process."""
        self._child.end()

    def _receive(self) -> Json:
        try:
            return self._child.receive()[0]
        except KernelError as error:
            raise self._explained(error) from None

    def _explained(self, error: KernelError) -> Error:
        path = self._request.path
        if error.errno == errno.ENOTDIR and path.endswith(("/", "/.")):
            return InvalidArgument(f"{path} in container {self._ref}: not a directory")
        if error.errno in _MISSING:
            return NotFound(f"Could not find the file {path} in container {self._ref}")
        if error.errno == errno.EROFS:
            return Forbidden("mounted volume or container rootfs is marked read-only")
        return error
