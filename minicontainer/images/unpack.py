"""Unpack a layer: the child's side, which handles the archive of a stranger.

    the parent                         this process
    decompress, digest ── pipe ──────► read headers, make files
    set trusted.* attributes ◄─ socket ─ directories, by descriptor, with what they need
                             ◄──────── done, or what went wrong

It is an interpreter of its own, because the parent has threads. Before it reads the first byte it
enters the layer's directory by chroot(2), gives up the network and all capabilities but those that
make files. Whatever an archive says, no path leads out of that directory. What must be done with
more rights the parent does, on descriptors: no path goes back to it.

Whiteouts become overlay's own: `.wh.name` a character device 0:0, `.wh..wh..opq` an attribute.

See: image-spec layer.md; overlayfs.rst "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from minicontainer.contexts import suppress
from minicontainer.errors import Error, InvalidArgument, KernelError
from minicontainer.images import confinement
from minicontainer.images.entry_paths import (
    LONGEST_STEP,
    change_directory,
    clean,
    open_real_directory,
    opened_parent,
    shown,
)
from minicontainer.images.tar_reader import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    LINK,
    REGULAR,
    SYMLINK,
    Entry,
    TarReader,
)
from minicontainer.kernel import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_META = b".wh..wh."  # aufs kept its own files under such names
_MOST_IDS = (1 << 32) - 2  # the id above means "leave it" to chown(2)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Attributes that overlay itself gives a meaning: an archive must not hide or redirect with them.
_OVERLAYS_OWN = (b"trusted.overlay.", b"user.overlay.")
_IGNORED_XATTR_ERRORS = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)
_NODES = {
    CHARACTER: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
    FIFO: stat.S_IFIFO,
}


class Limit(Error):
    """The archive asks for more than is allowed."""


class Unpacker:
    """Makes the files of one archive in the current root directory.

    The working directory is the one that the last file was made in: archives go through
    directories one after the other, and a plain name is resolved fastest.

    Args:
        most_entries, most_bytes: what a layer may have.
        has_parent: there are layers below, whose directories this one may add to.
        hand: sends a directory to the parent: what about it, its path, a descriptor.
    """

    # The root was empty, and names of whiteouts mean something. Where it was not, directories may
    # give what is made in them another owner and mode than its entry says.
    is_layer = True

    def __init__(
        self,
        most_entries: int,
        most_bytes: int,
        has_parent: bool,
        hand: Callable[[str, bytes, int], None],
    ) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._has_parent = has_parent
        self._hand = hand
        self.count = 0
        self.size = 0
        self._here: bytes | None = None  # the working directory, as archives name it
        # Directories get owner, mode, times and attributes at the end: set-group-ID or a default
        # ACL would change files made in them, and a file made in them their time.
        self._directories: dict[bytes, tuple[int, int, int, int, dict[bytes, bytes] | None]] = {}
        self._implied: dict[bytes, None] = {}
        self._opaque: dict[bytes, None] = {}

    def unpack(self, reader: TarReader) -> None:
        """Make all files of the archive.

        Raises:
            InvalidArgument: the archive is damaged, or tries to leave its directory.
            Limit: it has more than is allowed.
            KernelError: the kernel refuses: no space, no such right.
        """
        for entry in reader.entries():
            self.count += 1
            if self.count > self._most_entries:
                raise Limit(f"the layer has more than {self._most_entries} entries")
            try:
                self.make(entry, reader)
            except OSError as error:
                raise _explained(error, entry.name) from None
        reader.drain()
        self._finish()

    def make(self, entry: Entry, reader: TarReader) -> None:
        """Do what an entry says: make a file, or hide one."""
        path = clean(entry.name)
        parent, _, base = path.rpartition(b"/")
        if path.startswith(_META) or b"/" + _META in path:
            if base == OPAQUE:
                self._open_directory(parent)
                self._opaque[parent] = None
            return
        if base.startswith(WHITEOUT):
            self._whiteout(parent, base[len(WHITEOUT) :])
            return
        self.place(path, entry, reader)

    def place(self, path: bytes, entry: Entry, reader: TarReader) -> None:
        """Make a file.

        Args:
            path: where, from the root, in its clean form.
        """
        parent, _, base = path.rpartition(b"/")
        if entry.uid > _MOST_IDS or entry.gid > _MOST_IDS:
            raise InvalidArgument(f"{shown(entry.name)}: no such owner: {entry.uid}:{entry.gid}")
        if entry.kind == DIRECTORY:
            self._directory(path, parent, base, entry)
        elif base:
            self._open_directory(parent)
            self._make_file(base, entry, reader)
        else:
            raise InvalidArgument(f"{shown(entry.name)}: the root must be a directory")

    def _make_file(self, base: bytes, entry: Entry, reader: TarReader) -> None:
        if entry.kind == REGULAR:
            self._regular(base, entry, reader)
        elif entry.kind == LINK:
            self._link(base, entry)
        elif entry.kind == SYMLINK:
            self._symlink(base, entry)
        elif entry.kind in _NODES:
            self._node(base, entry)
        else:
            raise InvalidArgument(
                f"{shown(entry.name)}: unhandled tar header type {shown(entry.kind)}"
            )

    # -- where ----------------------------------------------------------------------------------

    def _open_directory(self, path: bytes) -> None:
        """Make a directory the working directory; what is missing of it, make."""
        if path == self._here:
            return
        self._here = None
        try:
            change_directory(path)
        except FileNotFoundError:
            self._make_missing(path)
        except NotADirectoryError:
            self._make_missing(path)
        self._here = path

    def _make_missing(self, path: bytes) -> None:
        """Go down to a directory step by step, and make those that no entry named."""
        os.chdir("/")
        done: list[bytes] = []
        for name in path.split(b"/"):
            done.append(name)
            if self.is_layer and name.startswith(WHITEOUT):
                raise InvalidArgument(f"{shown(path)}: a whiteout is no directory")
            try:
                os.chdir(name)
            except FileNotFoundError:
                self._new_implied(name, b"/".join(done))
            except NotADirectoryError:
                if not is_whiteout(os.lstat(name)):
                    raise
                os.unlink(name)
                self._opaque[b"/".join(done)] = None
                self._new_implied(name, b"/".join(done))

    def _new_implied(self, name: bytes, path: bytes) -> None:
        try:
            os.mkdir(name, 0o755)
        except FileExistsError:
            raise InvalidArgument(f"{shown(path)}: a link that leads nowhere") from None
        os.chdir(name)
        self._implied[path] = None

    def _clear(self, base: bytes) -> None:
        """Take away what is in an entry's place: a later entry wins."""
        found = os.lstat(base)
        if stat.S_ISDIR(found.st_mode):
            trees.remove_tree(base)
            self._here = None
        elif stat.S_ISLNK(found.st_mode):
            os.unlink(base)
            self._here = None  # it may have been reached through this link
        else:
            os.unlink(base)

    # -- one of each kind -----------------------------------------------------------------------

    def _directory(self, path: bytes, parent: bytes, base: bytes, entry: Entry) -> None:
        if base:
            self._open_directory(parent)
            try:
                os.mkdir(base, 0o700)
            except FileExistsError:
                found = os.lstat(base)
                if not stat.S_ISDIR(found.st_mode):
                    self._clear(base)
                    self._open_directory(parent)
                    os.mkdir(base, 0o700)
                    if is_whiteout(found):
                        self._opaque[path] = None  # what is below stays hidden
        self._implied.pop(path, None)
        self._directories.pop(path, None)
        # a tuple: a layer of nothing but directories is kept in memory until its end
        self._directories[path] = (
            entry.uid, entry.gid, entry.mode, entry.mtime_ns, entry.xattrs or None,
        )  # fmt: skip

    def _regular(self, base: bytes, entry: Entry, reader: TarReader) -> None:
        self.size += entry.real_size if entry.pieces is not None else entry.size
        if self.size > self._most_bytes:
            raise Limit(f"the layer's files have more than {self._most_bytes} bytes")
        try:
            fd = os.open(base, _NEW, entry.mode & 0o777)
        except FileExistsError:
            parent = self._here or b""
            self._clear(base)
            self._open_directory(parent)
            fd = os.open(base, _NEW, entry.mode & 0o777)
        try:
            if entry.pieces is not None:
                for offset, length in entry.pieces:
                    os.lseek(fd, offset, os.SEEK_SET)
                    reader.copy_content(lambda data: os.write(fd, data), length)
                os.ftruncate(fd, entry.real_size)
            elif entry.size:
                reader.copy_content(lambda data: os.write(fd, data), entry.size)
            if entry.uid or entry.gid or not self.is_layer:
                os.fchown(fd, entry.uid, entry.gid)
            if entry.mode & 0o7000 or not self.is_layer:
                os.fchmod(fd, entry.mode)  # after chown(2), which takes set-user-ID away
            if entry.xattrs:
                set_xattrs(fd, entry.xattrs)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _link(self, base: bytes, entry: Entry) -> None:
        target = clean(entry.link)
        place = self._here or b""
        if target == (place + b"/" + base if place else base):
            raise InvalidArgument(f"{shown(entry.name)}: a hard link to itself")
        try:
            with opened_parent(target) as (at, name):
                try:
                    os.link(name, base, src_dir_fd=at, follow_symlinks=False)
                except FileExistsError:
                    if os.path.samestat(os.lstat(base), os.lstat(name, dir_fd=at)):
                        return
                    self._clear(base)
                    self._open_directory(place)
                    os.link(name, base, src_dir_fd=at, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            raise InvalidArgument(
                f"{shown(entry.name)}: a hard link to {shown(entry.link)}, which this layer "
                "does not have"
            ) from None

    def _symlink(self, base: bytes, entry: Entry) -> None:
        try:
            os.symlink(entry.link, base)
        except FileExistsError:
            place = self._here or b""
            self._clear(base)
            self._open_directory(place)
            os.symlink(entry.link, base)
        self._dress(base, entry)

    def _node(self, base: bytes, entry: Entry) -> None:
        device = os.makedev(entry.major, entry.minor) if entry.kind != FIFO else 0
        mode = _NODES[entry.kind] | entry.mode & 0o777
        try:
            os.mknod(base, mode, device)
        except FileExistsError:
            place = self._here or b""
            self._clear(base)
            self._open_directory(place)
            os.mknod(base, mode, device)
        except PermissionError:
            return  # in a user namespace nobody makes devices: Docker leaves them out too
        self._dress(base, entry)

    def _dress(self, base: bytes, entry: Entry) -> None:
        """Give a file that can't be opened, or must not be, its owner, mode, attributes, times."""
        if entry.uid or entry.gid or not self.is_layer:
            os.lchown(base, entry.uid, entry.gid)
        if (entry.mode & 0o7000 or not self.is_layer) and entry.kind != SYMLINK:
            os.chmod(base, entry.mode)
        if entry.xattrs:
            set_xattrs(base, entry.xattrs)
        os.utime(base, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        """Hide a file of the layers below; one of this layer stays: layer.md "Whiteouts"."""
        if name in (b"", b".", b".."):
            raise InvalidArgument(f"a whiteout of {shown(name)!r} makes no sense")
        self._open_directory(parent)
        try:
            os.mknod(name, stat.S_IFCHR, 0)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name).st_mode):
                self._opaque[parent + b"/" + name if parent else name] = None

    # -- the end --------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Dress the directories; hand those to the parent that need what this process may not."""
        self._here = None
        for path, (uid, gid, mode, mtime_ns, xattrs) in self._directories.items():
            with suppress(FileNotFoundError, NotADirectoryError):
                fd = open_real_directory(path)
                try:
                    os.fchown(fd, uid, gid)
                    os.fchmod(fd, mode)
                    if xattrs:
                        set_xattrs(fd, xattrs)
                    os.utime(fd, ns=(mtime_ns, mtime_ns))
                finally:
                    os.close(fd)
        if b"" not in self._directories:
            self._implied[b""] = None
        for what, paths in (("implied", self._implied), ("opaque", self._opaque)):
            if what == "implied" and not self._has_parent:
                continue
            for path in paths:
                with suppress(FileNotFoundError, NotADirectoryError):
                    fd = open_real_directory(path)
                    self._hand(what, path, fd)
                    os.close(fd)


def is_whiteout(found: os.stat_result) -> bool:
    """Say whether a file is overlay's whiteout: a character device 0:0."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def set_xattrs(file: int | bytes, xattrs: dict[bytes, bytes]) -> None:
    """Set extended attributes, as far as the filesystem has them and this process may."""
    for name, value in xattrs.items():
        if name.startswith(_OVERLAYS_OWN):
            continue
        try:
            os.setxattr(file, name, value, follow_symlinks=isinstance(file, int))
        except OSError as error:
            if error.errno not in _IGNORED_XATTR_ERRORS:
                raise


def _explained(error: OSError, name: bytes) -> Error:
    """Say which entry the kernel refused, and whether that is the archive's fault."""
    text = error.strerror or str(error)
    if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EINVAL):
        return InvalidArgument(f"{shown(name)}: {text}")
    if isinstance(error, KernelError):
        return error
    return KernelError(error.errno, text, f"unpack {shown(name)}")


# -- the process ----------------------------------------------------------------------------------


def main() -> None:
    """Unpack the archive at standard input into the directory that the parent opened."""
    directory, talk, entries, size, has_parent = map(int, sys.argv[1:6])
    channel = confinement.channel_to_parent(talk)
    answer: dict[str, Any] = {}

    def hand(what: str, path: bytes, fd: int) -> None:
        named = os.fsdecode(path) if len(path) < LONGEST_STEP else ""
        confinement.tell(channel, {"what": what, "path": named}, fd)

    try:
        confinement.enter(directory)
        unpacker = Unpacker(entries, size, bool(has_parent), hand)
        unpacker.unpack(TarReader(0))
        answer = {"what": "done", "size": unpacker.size, "entries": unpacker.count}
    except BaseException as error:  # the process ends here, and its parent says why
        answer = confinement.failure(error, "limit" if isinstance(error, Limit) else "")
    with suppress(OSError):
        confinement.tell(channel, answer)
    os._exit(0)
