"""A process that reads or writes the files of one container: the child's side of `docker cp`.

    engine                              this process
    what and where ── arguments ──────► see the container's files as the container does
                                        enter them by chroot(2), give up all other rights
    tar ───────────── standard input ─► put: make files
                   ◄─ socket ────────── stat, get: what the path is; get: a pipe with a tar
                   ◄─ socket ────────── done, or what went wrong

The container's program may change links and directories meanwhile. It can lead this process to
other files of its own, and to no file of the host.

See: chroot(2); mount_namespaces(7); Docker Engine API, ContainerArchive.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys

from minicontainer.contexts import suppress
from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.images import confinement
from minicontainer.images.changes import kept_xattrs
from minicontainer.images.tar_reader import DIRECTORY, Entry, TarReader
from minicontainer.images.tar_writer import TarWriter, has_kind
from minicontainer.images.unpack import Unpacker
from minicontainer.kernel import mounts, namespaces, overlay, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

_NO_LIMIT = 1 << 62
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# The kernel's own files are no part of a container's.
_KERNELS_OWN = ("/proc", "/sys", "/dev")


# --- the container's files, as a root directory ---------------------------------------------------


def root_of_running(pid: int) -> int:
    """Open the root of a running container, with its volumes, in a mount namespace of our own."""
    namespace = next(one for one in namespaces.NAMESPACES if one.flag == namespaces.CLONE_NEWNS)
    fd = namespaces.open_namespace(f"/proc/{pid}/ns/mnt", namespace)
    namespaces.setns(fd, namespace)
    os.close(fd)
    namespaces.unshare(namespaces.CLONE_NEWNS)
    _make_private()
    for place in _KERNELS_OWN:
        with suppress(KernelError):  # it is not mounted, or locked by a user namespace
            mounts.umount2(place, mounts.MNT_DETACH)
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def root_of_stopped(place: str, lowers: list[str], writable: bool, binds: list[Json]) -> int:
    """Mount the layers and volumes of a stopped container, in a mount namespace of our own.

    Args:
        place: its directory for that.
        lowers: the layers, the uppermost first; the container's own first of all.
        writable: files shall be made.
        binds: source, target and whether it is read-only, outer directories first.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    _make_private()
    upper, *below = lowers
    layers = overlay.Overlay(lowers=tuple(lowers))
    if writable:
        work = os.path.join(os.path.dirname(upper), "work")
        layers = overlay.Overlay(lowers=tuple(below), upper=upper, work=work)
    at = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    root = overlay.mount(layers, at, where=place)
    for bind in binds:
        with suppress(KernelError):  # a source that is gone, or a place that nobody has made yet
            copy = mounts.open_tree(bind["source"])
            target = paths.open_in_root(root, bind["target"])
            mounts.move_mount(copy, target, where=bind["target"])
            os.close(copy)
            os.close(target)
    return root


def _make_private() -> None:
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)


# --- paths --------------------------------------------------------------------------------------


def resolved(path: str) -> str:
    """Follow the links of a path, except one at its very end; a slash at the end asks for that."""
    parent, _, base = ("/" + path.lstrip("/")).rpartition("/")
    return os.path.join(os.path.realpath(parent or "/"), base) if base else os.path.realpath(path)


def describe(path: str) -> Json:
    """Tell what a path is."""
    found = os.lstat(resolved(path))
    target = os.path.realpath(path) if stat.S_ISLNK(found.st_mode) else ""
    return {
        "what": "stat", "size": found.st_size, "mode": found.st_mode,
        "mtime_ns": found.st_mtime_ns, "target": target,
    }  # fmt: skip


# --- reading ------------------------------------------------------------------------------------


class _Pipe:
    """The archive's way to the engine."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes, /) -> None:
        """Write all of *data*."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def write_archive(path: str, out: _Pipe) -> None:
    """Write a file, or a directory with all that is in it, under its last name."""
    base = os.path.basename(os.path.normpath("/" + path)) or "/"
    name = os.fsencode("." if path.endswith("/.") else base)
    top = os.fsencode(resolved(path))
    writer = TarWriter(out)
    links: dict[tuple[int, int], bytes] = {}
    stack = [(top, name)]
    while stack:
        place, shown = stack.pop()
        try:
            found = os.lstat(place)
            _write_file(writer, place, shown, found, links)
            if stat.S_ISDIR(found.st_mode):
                names = sorted(os.listdir(place), reverse=True)
                stack += [(place + b"/" + one, shown.rstrip(b"/") + b"/" + one) for one in names]
        except (FileNotFoundError, NotADirectoryError):
            continue  # the container has removed it meanwhile
    writer.finish()


def _write_file(
    writer: TarWriter,
    place: bytes,
    shown: bytes,
    found: os.stat_result,
    links: dict[tuple[int, int], bytes],
) -> None:
    if not has_kind(found.st_mode):
        return
    if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
        first = links.setdefault((found.st_dev, found.st_ino), shown)
        if first != shown:
            writer.add_link(shown, first, found)
            return
    if stat.S_ISLNK(found.st_mode):
        writer.add(shown, found, link=os.readlink(place))
    elif stat.S_ISREG(found.st_mode):
        fd = os.open(place, _READ)
        try:
            now = os.fstat(fd)
            if stat.S_ISREG(now.st_mode):
                writer.add(shown, now, xattrs=_xattrs(fd), content=fd)
        finally:
            os.close(fd)
    else:
        writer.add(shown, found)


def _xattrs(fd: int) -> dict[bytes, bytes]:
    try:
        found = {os.fsencode(name): os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError:
        return {}
    return kept_xattrs(found)


# --- writing ------------------------------------------------------------------------------------


class Extractor(Unpacker):
    """Makes the files of an archive in a directory of a container.

    Args:
        owner: user and group of all files; None for those in the archive.
        keeps_kinds: a directory must not take a file's place, nor a file that of a directory.
    """

    def __init__(self, owner: tuple[int, int] | None, keeps_kinds: bool) -> None:
        super().__init__(_NO_LIMIT, _NO_LIMIT, False, lambda what, path, fd: None)
        self._owner = owner
        self._keeps_kinds = keeps_kinds

    def _make(self, entry: Entry, reader: TarReader) -> None:
        path = entry.name.strip(b"/")
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if self._keeps_kinds and path not in (b"", b"."):
            self._check_kind(path, entry.kind == DIRECTORY)
        super()._make(entry, reader)

    def _check_kind(self, path: bytes, is_directory: bool) -> None:
        try:
            found = os.lstat(b"/" + path)
        except OSError:
            return
        if stat.S_ISDIR(found.st_mode) != is_directory:
            shown = os.fsdecode(path)
            kinds = ("non-directory", "directory")
            raise InvalidArgument(
                f'cannot overwrite {kinds[not is_directory]} "{shown}" with '
                f'{kinds[is_directory]} "{shown}"'
            )


def enter_target(path: str) -> None:
    """Make a directory of the container the root of this process.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError:
        raise InvalidArgument("extraction point is not a directory") from None
    os.fchdir(fd)
    mounts.chroot(".")
    os.chdir("/")
    os.close(fd)


# --- the process --------------------------------------------------------------------------------


def _work(asked: Json, channel: socket.socket, root: int) -> Json:
    path = asked["path"]
    if asked["verb"] == "put":
        # The root of the container first: a link to an absolute path must stay in it.
        os.fchdir(root)
        mounts.chroot(".")
        os.chdir("/")
        enter_target(path)
        os.close(root)
        confinement.enter(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        owner = tuple(asked["owner"]) if asked["owner"] else None
        Extractor(owner, asked["keeps_kinds"]).unpack(TarReader(0))
        return {"what": "done"}
    confinement.enter(root)
    told = describe(path)
    if asked["verb"] == "stat":
        return told
    reader, writer = os.pipe2(os.O_CLOEXEC)
    socket.send_fds(channel, [confinement.packed(told)], [reader])
    os.close(reader)
    write_archive(path, _Pipe(writer))
    os.close(writer)
    return {"what": "done"}


def main() -> None:
    """Do what the engine's arguments say, and answer at the socket."""
    directory, talk = map(int, sys.argv[1:3])
    asked: Json = json.loads(sys.argv[3])
    channel = socket.socket(fileno=talk)
    os.close(directory)
    try:
        if asked["pid"]:
            root = root_of_running(asked["pid"])
        else:
            root = root_of_stopped(
                asked["place"], asked["layers"], asked["verb"] == "put", asked["binds"]
            )
        answer = _work(asked, channel, root)
    except BaseException as error:  # the process ends here, and the engine says why
        answer = confinement.failure(error)
    with suppress(OSError):
        channel.send(confinement.packed(answer))
    os._exit(0)
