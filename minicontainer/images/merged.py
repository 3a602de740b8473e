"""Layers seen as overlay shows them, without a mount: what hides what, and where each file lies.

    layer 0   bin/ (opaque)  bin/sh    etc/  etc/motd (0:0)
    layer 1                            etc/  etc/motd        etc/hosts
    merged    bin/           bin/sh    etc/                  etc/hosts

A directory of the merged tree has a *place* in each layer that adds to it. To look a name up, the
places are gone through from the top: a file ends it, a whiteout ends it, an opaque directory is the
last place, and a redirected one goes on somewhere else in the layers below.

The tree may be a running container's, which can swap a directory for a link at any moment. So every
path is opened below its layer's descriptor with no link on the way: openat2(2).

See: overlayfs.rst "redirect_dir", "Metadata only copy up".
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.contexts import ExitStack
from minicontainer.errors import Error, KernelError
from minicontainer.images.entry_paths import LONGEST_STEP
from minicontainer.kernel import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    # The number of a layer, 0 the uppermost, and a directory's path in it.
    Place = tuple[int, bytes]
    Places = Sequence[Place]

OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")
_INSIDE = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS | paths.RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Layer:
    """A directory whose files are only reached through its descriptor.

    Args:
        path: of the directory, on the host.
        first_id: what uid and gid 0 are on the disk, if a user namespace wrote the files.
    """

    def __init__(self, path: str, first_id: int = 0) -> None:
        self.path = path
        self._first_id = first_id
        try:
            self._root = os.open(path, _DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(error.errno, error.strerror, f"open({path})") from None
        self._last: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Close its descriptors."""
        self._forget()
        os.close(self._root)

    def directory(self, path: bytes) -> int:
        """Give a descriptor of a directory; it holds until the next one is asked for.

        Raises:
            KernelError: ENOENT, ENOTDIR, ELOOP (there is a link on the way).
        """
        if not path:
            return self._root
        if self._last is None or self._last[0] != path:
            fd = self.open(path, _DIRECTORY)
            self._forget()
            self._last = path, fd
        return self._last[1]

    def open(self, path: bytes, flags: int) -> int:
        """Open a file, in steps if the path is longer than the kernel takes at once."""
        at, rest = self._root, path
        while True:
            step, rest = _first_step(rest)
            fd = paths.openat2(
                at, os.fsdecode(step or b"."), flags if not rest else os.O_PATH, _INSIDE
            )
            if at != self._root:
                os.close(at)
            if not rest:
                return fd
            at = fd

    def lstat(self, path: bytes) -> os.stat_result | None:
        """Look at a file; None if there is none."""
        parent, _, base = path.rpartition(b"/")
        try:
            found = os.stat(base or b".", dir_fd=self.directory(parent), follow_symlinks=False)
            return _with_ids_from(found, self._first_id) if self._first_id else found
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise

    def names(self, path: bytes) -> list[bytes]:
        """List a directory; one that is gone by now has nothing."""
        try:
            return [os.fsencode(name) for name in os.listdir(self.directory(path))]
        except OSError as error:
            if error.errno in _MISSING:
                return []
            raise

    def readlink(self, path: bytes) -> bytes:
        """Read a symbolic link."""
        parent, _, base = path.rpartition(b"/")
        return os.readlink(base, dir_fd=self.directory(parent))

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        """Read a file's extended attributes; a link's own. What is gone by now has none."""
        try:
            fd = self.open(path, os.O_PATH | os.O_NOFOLLOW)
        except KernelError:
            return {}
        try:
            link = f"/proc/self/fd/{fd}"
            found = {}
            for name in os.listxattr(link):
                try:
                    found[os.fsencode(name)] = os.getxattr(link, name)
                except OSError:  # gone, or not for this process
                    continue
            return found
        except OSError:
            return {}
        finally:
            os.close(fd)

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None


class Found:
    """A file of the merged tree.

    Args:
        layer, path: where it lies.
        status: what lstat(2) says there.
        places: of a directory, all that it is merged from; () for anything else.
        below: the places in which a file under this one may be.
    """

    __slots__ = ("below", "layer", "path", "places", "status")

    def __init__(
        self, layer: int, path: bytes, status: os.stat_result, places: Places, below: Places = ()
    ) -> None:
        self.layer = layer
        self.path = path
        self.status = status
        self.places = places
        self.below = below

    @property
    def is_directory(self) -> bool:
        """Say whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)


class Merged:
    """Layers as one tree; a context manager.

    Args:
        directories: on the host, the uppermost first.
        first_id: of the uppermost one, as of `Layer`.
    """

    def __init__(self, directories: Iterable[str], first_id: int = 0) -> None:
        self.layers: list[Layer] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            for path in directories:
                self.layers.append(Layer(path, 0 if self.layers else first_id))
            undo.pop_all()

    def __enter__(self) -> Merged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors of all layers."""
        for layer in self.layers:
            layer.close()

    def root(self, first: int = 0) -> Found:
        """Give the root; of the layers from number *first* on alone."""
        places = [(number, b"") for number in range(first, len(self.layers))]
        status = self.layers[first].lstat(b"")
        assert status is not None
        return Found(first, b"", status, places)

    def names(self, places: Places) -> set[bytes]:
        """List what a directory may have; `child` says what it has."""
        found: set[bytes] = set()
        for number, path in places:
            found.update(self.layers[number].names(path))
        return found

    def child(self, places: Places, name: bytes) -> Found | None:
        """Look a name up in a directory."""
        top: Found | None = None
        merged: list[Place] = []
        rest = list(places)
        while rest:
            number, directory = rest.pop(0)
            path = joined(directory, name)
            status = self.layers[number].lstat(path)
            if status is None:
                continue
            if _is_whiteout(status):
                break
            if not stat.S_ISDIR(status.st_mode):
                if top is None:
                    return Found(number, path, status, (), [(n, joined(d, name)) for n, d in rest])
                break
            top = top or Found(number, path, status, merged)
            merged.append((number, path))
            told = overlays_own(self.layers[number].xattrs(path))
            if told.get(b"opaque") == b"y":
                break
            if told.get(b"redirect"):
                rest, name = self._redirected(number, rest, told[b"redirect"])
        return top

    def content(self, found: Found) -> int:
        """Open a regular file to read it; the data may lie below, if only metadata was copied up.

        Raises:
            KernelError: it is gone, or something else by now.
            Error: the data of a copied-up file is missing.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        below: Places = found.below
        number, path = found.layer, found.path
        for _ in range(len(self.layers)):
            told = overlays_own(self.layers[number].xattrs(path))
            if b"metacopy" not in told:
                fd = self.layers[number].open(path, flags)
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    return fd
                os.close(fd)
                break
            if told.get(b"redirect"):
                rest, name = self._redirected(
                    number, [(n, p.rpartition(b"/")[0]) for n, p in below], told[b"redirect"]
                )
                below = [(n, joined(d, name)) for n, d in rest]
            for at, (n, p) in enumerate(below):
                status = self.layers[n].lstat(p)
                if status is not None:
                    number, path, below = n, p, below[at + 1 :]
                    break
        raise Error(f"{os.fsdecode(found.path)}: its content is not in the layers")

    def _redirected(self, number: int, rest: Places, target: bytes) -> tuple[list[Place], bytes]:
        """Say where a renamed directory goes on: in which places, under which name."""
        if not target.startswith(b"/"):
            return list(rest), target  # renamed in its own directory
        places: Places = [(below, b"") for below in range(number + 1, len(self.layers))]
        *above, name = target.strip(b"/").split(b"/")
        for part in above:
            found = self.child(places, part)
            places = found.places if found else ()
        return list(places), name


def overlays_own(xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Pick what overlay has noted on a file: opaque, redirect, metacopy, …"""
    return {
        name[len(prefix) :]: value
        for name, value in xattrs.items()
        for prefix in OVERLAY_XATTRS
        if name.startswith(prefix)
    }


def joined(directory: bytes, name: bytes) -> bytes:
    """Join a directory's path and a name in it."""
    return directory + b"/" + name if directory else name


def _with_ids_from(found: os.stat_result, first_id: int) -> os.stat_result:
    """Give owner and group as the user namespace knows them that has *first_id* for 0."""
    values = list(found)
    for field in (stat.ST_UID, stat.ST_GID):
        if values[field] >= first_id:
            values[field] -= first_id
    more = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_rdev", "st_blocks", "st_blksize")
    return os.stat_result(values, {name: getattr(found, name) for name in more})


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _first_step(path: bytes) -> tuple[bytes, bytes]:
    """Split a path behind as many whole names as the kernel takes at once."""
    if len(path) <= LONGEST_STEP:
        return path, b""
    cut = path.rindex(b"/", 0, LONGEST_STEP)
    return path[:cut], path[cut + 1 :]


def walk(merged: Merged) -> Iterator[tuple[bytes, Found]]:
    """Yield all files of the merged tree but its root, by path, each directory before its own."""
    stack = [(b"", merged.root())]
    while stack:
        path, found = stack.pop()
        if path:
            yield path, found
        if found.is_directory:
            for name in sorted(merged.names(found.places), reverse=True):
                child = merged.child(found.places, name)
                if child is not None:
                    stack.append((joined(path, name), child))
