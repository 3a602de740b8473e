"""Look at, read and write a container's files: the child's side, inside the container's root.

A path in a container is the container's choice: a link in it may point anywhere, and a program may
swap a directory for a link while the path is followed. So a process of its own enters the root by
chroot(2), as the one that unpacks layers does, and follows paths there. They stay inside.

    running     the root is /proc/PID/root: volumes and tmpfs are seen as the container sees them
    stopped     the overlay and the volumes are mounted in a mount namespace of this process alone;
                only to read, over a scratch layer that ends with it

See: CVE-2018-15664, CVE-2019-14271; Docker Engine API, "ContainerArchive".
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from minicontainer import jsontext
from minicontainer.contexts import suppress
from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.images import confinement
from minicontainer.images.changes import kept_xattrs
from minicontainer.images.directories import copy_attributes
from minicontainer.images.entry_paths import clean, shown
from minicontainer.images.merged import Layer, joined
from minicontainer.images.tar_reader import DIRECTORY, LINK, Entry, TarReader
from minicontainer.images.tar_writer import TarWriter, has_kind
from minicontainer.images.unpack import Unpacker
from minicontainer.kernel import files, mounts, namespaces, overlay, paths, process, procfs
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NO_LIMIT = 1 << 62
# Filesystems that are the kernel's own speech: not gone into, or `cp CONTAINER:/` would copy it.
_UNREAL = frozenset(
    (0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x1CD1, 0x19800202, 0x73636673, 0x64626720,
     0x74726163, 0xCAFE4A11)
)  # fmt: skip  # proc, sysfs, cgroup, cgroup2, devpts, mqueue, securityfs, debugfs, tracefs, bpf
# Go's os.FileMode, whose bits Docker sends.
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


class Bind(Record):
    """A volume of a stopped container."""

    source: str
    destination: str
    readonly: bool = False


class Request(Record):
    """What is to be done, in which root.

    Args:
        act: stat, get or put.
        path: in the container.
        place: the directory to mount a stopped container's files on; "" for a running one.
        lowers, upper, work: its overlay; without lowers the upper directory has all files.
        binds: its volumes.
        first_id: what uid 0 of a stopped container is on the host.
        user_namespace_of: the process whose user namespace is joined; 0 for none. Its overlay is
            mounted there, and knows no other ids.
        owner: of all that is put, instead of the archive's: uid and gid in the container.
        strict: a directory is not replaced by another kind of file, nor the other way round.
        readonly: a stopped container's root is, but for its volumes.
    """

    act: str
    path: str
    lowers: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    place: str = ""
    binds: tuple[Bind, ...] = ()
    first_id: int = 0
    user_namespace_of: int = 0
    owner: tuple[int, ...] = ()
    strict: bool = False
    readonly: bool = False


def main() -> None:
    """Do what the parent asks for, in one root."""
    directory, talk = map(int, sys.argv[1:3])
    request = Request.from_json(jsontext.parse(sys.argv[3]), "request")
    channel = confinement.channel_to_parent(talk)
    answer: dict[str, Any] = {"what": "done"}
    try:
        if request.place:
            top = _mount(request)
            os.close(directory)
            directory = top
        if request.user_namespace_of:
            _join_user_namespace(request.user_namespace_of)
        confinement.enter(directory)
        if request.act == "put":
            _put(request)
        else:
            found = _Found(request.path)
            confinement.tell(channel, {"what": "stat", **found.as_docker()})
            if request.act == "get":
                _get(request, found)
    except BaseException as error:  # the process ends here, and its parent says why
        answer = confinement.failure(error)
    with suppress(OSError):
        confinement.tell(channel, answer)
    os._exit(0)


def _join_user_namespace(pid: int) -> None:
    """Become root of a container's user namespace."""
    kind = namespaces.BY_TYPE["user"]
    with files.opened(namespaces.open_namespace(f"/proc/{pid}/ns/user", kind)) as fd:
        namespaces.setns(fd, kind)
    process.set_gid(0)
    process.set_uid(0)


# -- a stopped container --------------------------------------------------------------------------


def _mount(request: Request) -> int:
    """Mount a container's files where nobody else sees them; give a descriptor of their root."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    # Opened here: a descriptor from before would be of the namespace that was left.
    with files.opened(os.open(request.place, os.O_PATH | os.O_DIRECTORY)) as place:
        if request.lowers:
            top = _mount_overlay(request, place)
        else:
            top = mounts.open_tree(request.upper)
            mounts.move_mount(top, place, where=request.place)
    for bind in request.binds:
        _mount_bind(top, bind)
    if request.readonly:  # now that all places of binds are made; a link may lead back to the root
        mounts.mount_setattr(top, mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY))
    return top


def _mount_overlay(request: Request, place: int) -> int:
    lowers, upper, work = request.lowers, request.upper, request.work
    if request.act != "put":
        mounts.mount("tmpfs", work, "tmpfs", 0)
        lowers, upper, work = (upper, *lowers), f"{work}/upper", f"{work}/work"
        os.mkdir(upper)
        os.mkdir(work)
        flags = os.O_RDONLY | os.O_DIRECTORY
        source, scratch = os.open(lowers[0], flags), os.open(upper, flags)
        with files.opened(source), files.opened(scratch):
            copy_attributes(source, scratch)
    asked = overlay.Overlay(lowers=lowers, upper=upper, work=work)
    return overlay.mount(asked, place, where=request.place)


def _mount_bind(top: int, bind: Bind) -> None:
    try:
        tree = mounts.open_tree(bind.source, recursive=True)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return  # a bind whose source is gone: the next start would say so
        raise
    with files.opened(tree):
        if bind.readonly:
            attributes = mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY)
            mounts.mount_setattr(tree, attributes, recursive=True)
        is_directory = os.path.isdir(bind.source)
        target = paths.make_in_root(top, bind.destination, directory=is_directory)
        with files.opened(target):
            mounts.move_mount(tree, target, where=bind.destination)


# -- a path ---------------------------------------------------------------------------------------


class _Found:
    """A path in the root: the working directory is where it lies.

    A link at its end is not followed, unless a slash or a dot comes behind it.

    Args:
        path: as the client wrote it.
    """

    def __init__(self, path: str) -> None:
        self.path = absolute(path)
        directory, _, base = os.fsencode(self.path).rpartition(b"/")
        os.chdir(directory + b"/")
        self.base = b"" if base == b"." else base
        self.status = os.lstat(self.base or b".")

    @property
    def name(self) -> str:
        """The path's last part: what a copy of it is called."""
        return self.path.rstrip("/").rpartition("/")[2] or "/"

    def as_docker(self) -> dict[str, Any]:
        """Give Docker's ContainerPathStat, without Go's form of the time."""
        mode, target = self.status.st_mode, ""
        if stat.S_ISLNK(mode):
            target = os.path.realpath(self.path)
        bits = sum(go for bit, go in _GO_BITS.items() if mode & bit)
        return {
            "name": self.name,
            "size": self.status.st_size,
            "mode": mode & 0o777 | bits | _GO_TYPES.get(stat.S_IFMT(mode), 0),
            "mtime_ns": self.status.st_mtime_ns,
            "linkTarget": target,
        }


def absolute(path: str) -> str:
    """Clean a path as Docker does: `..` by text alone, a slash or dot at its end kept."""
    cleaned = os.path.normpath("/" + path.lstrip("/"))
    if path.endswith("/.") or path == ".":
        return cleaned.rstrip("/") + "/."
    if path.endswith("/") and cleaned != "/":
        return cleaned + "/"
    return cleaned


# -- reading --------------------------------------------------------------------------------------


class _Tree(Layer):
    """The root, from inside; /proc may be the container's, or nothing."""

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        """Read the attributes of a file or directory; of others nothing is kept."""
        found = {}
        with suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
            with files.opened(self.open(path, flags)) as fd:
                for name in os.listxattr(fd):
                    found[os.fsencode(name)] = os.getxattr(fd, name)
        return found


def _get(request: Request, found: _Found) -> None:
    """Write an archive of what a path leads to, named as the path is."""
    here = os.getcwdb().strip(b"/")
    name = os.fsencode("" if found.name == "/" else found.name)
    tree = _Tree("/")
    with open(1, "wb", closefd=False) as out:
        writer = _Writer(TarWriter(out), tree, request.first_id)
        is_directory = stat.S_ISDIR(found.status.st_mode)
        if is_directory and found.base:
            here = joined(here, found.base)
        writer.write_all(here if is_directory else joined(here, found.base), name)
        writer.finish()


class _Writer:
    """Writes files of the root into an archive, under another name.

    Args:
        first_id: what is taken from owners.
    """

    def __init__(self, archive: TarWriter, tree: _Tree, first_id: int) -> None:
        self._archive = archive
        self._tree = tree
        self._first_id = first_id
        self._links: dict[tuple[int, int], bytes] = {}

    def finish(self) -> None:
        """Write the archive's end."""
        self._archive.finish()

    def write_all(self, top: bytes, name: bytes) -> None:
        """Write a file, or a directory with all in it.

        Args:
            top: its path from the root;  name: what it is called in the archive.
        """
        stack = [(top, name or b"/")]
        first = True
        while stack:
            path, called = stack.pop()
            status = self._tree.lstat(path)
            if status is None or not has_kind(status.st_mode):
                continue
            with suppress(KernelError, FileNotFoundError):  # removed meanwhile
                self._write(path, called, status)
                if stat.S_ISDIR(status.st_mode) and (first or not self._is_unreal(path)):
                    base = b"" if called == b"/" else called
                    names = sorted(self._tree.names(path), reverse=True)
                    stack += [(joined(path, each), base + b"/" + each) for each in names]
            first = False

    def _is_unreal(self, path: bytes) -> bool:
        return procfs.filesystem_of(self._tree.directory(path)) in _UNREAL

    def _write(self, path: bytes, called: bytes, status: os.stat_result) -> None:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            first = self._links.setdefault((status.st_dev, status.st_ino), called)
            if first != called:
                self._archive.add_link(called, first, status)
                return
        owner = self._inside(status.st_uid), self._inside(status.st_gid)
        kept = kept_xattrs(self._tree.xattrs(path))
        if stat.S_ISREG(status.st_mode) and status.st_size:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with files.opened(self._tree.open(path, flags)) as fd:
                self._archive.add(called, status, xattrs=kept, content=fd, owner=owner)
            return
        link = self._tree.readlink(path) if stat.S_ISLNK(status.st_mode) else b""
        self._archive.add(called, status, xattrs=kept, link=link, owner=owner)

    def _inside(self, number: int) -> int:
        """Give an id as the container knows it; what it does not know stays as it is."""
        return number - self._first_id if number >= self._first_id else number


# -- writing --------------------------------------------------------------------------------------


class _Extraction(Unpacker):
    """Unpacks an archive below a directory of the root.

    Args:
        base: that directory, without links.
        request: owner and strictness.
    """

    is_layer = False

    def __init__(self, base: bytes, request: Request) -> None:
        super().__init__(_NO_LIMIT, _NO_LIMIT, False, lambda what, path, fd: None)
        self._base = base
        self._request = request

    def make(self, entry: Entry, reader: TarReader) -> None:
        """Make one file; names of whiteouts are names like others."""
        name = clean(entry.name)
        if not name and entry.kind == DIRECTORY:
            return  # the directory itself is there
        path = joined(self._base, name) if name else self._base
        if entry.kind == LINK:
            entry.link = joined(self._base, clean(entry.link))
        if self._request.owner:
            entry.uid, entry.gid = self._request.owner[:2]
        entry.uid += self._request.first_id
        entry.gid += self._request.first_id
        if self._request.strict:
            self._check_kind(path, entry)
        self.place(path, entry, reader)

    def _check_kind(self, path: bytes, entry: Entry) -> None:
        try:
            there = stat.S_ISDIR(os.lstat(b"/" + path).st_mode)
        except OSError:
            return
        if there and entry.kind != DIRECTORY:
            raise InvalidArgument(
                f'cannot overwrite directory "{shown(b"/" + path)}" with non-directory '
                f'"{shown(self._base_path())}"'
            )
        if entry.kind == DIRECTORY and not there:
            raise InvalidArgument(
                f'cannot overwrite non-directory "{shown(b"/" + path)}" with directory '
                f'"{shown(self._base_path())}"'
            )

    def _base_path(self) -> bytes:
        return b"/" + self._base


def _put(request: Request) -> None:
    """Unpack the archive at standard input into a directory that is there."""
    path = absolute(request.path)
    try:
        os.chdir(path)
    except NotADirectoryError:
        raise InvalidArgument("extraction point is not a directory") from None
    extraction = _Extraction(os.getcwdb().strip(b"/"), request)
    extraction.unpack(TarReader(0))
