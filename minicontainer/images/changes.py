"""What a container has changed: its upper directory against the layers below.

    as a list     Docker's: kind 0 changed, 1 added, 2 deleted
    as an archive an OCI changeset, which unpacks to a layer that makes the same change

Both go by what the merged tree is, before and after, and not by what overlay has put into the upper
directory: a file that was opened for writing and left alone is there and is no change; a renamed
directory is an attribute there (redirect_dir), and is many files elsewhere.

See: image-spec layer.md "Representing Changes"; overlayfs.rst.
"""

from __future__ import annotations

import os
import stat

from minicontainer.contexts import suppress
from minicontainer.errors import KernelError
from minicontainer.images.merged import OVERLAY_XATTRS, Found, Merged, joined, walk
from minicontainer.images.tar_writer import TarWriter, has_kind
from minicontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from minicontainer.images.tar_writer import Writable

MODIFIED, ADDED, DELETED = 0, 1, 2
_CHUNK = 1 << 20
_WHITEOUT = b".wh."
# What an image keeps of a file's attributes; labels of a security module are the host's business.
_KEPT = (b"security.capability", b"user.", b"system.posix_acl_")


def changes(
    upper: str,
    lowers: Sequence[str],
    hidden: Collection[str] = (),
    *,
    copied: bool = False,
    first_id: int = 0,
) -> Iterator[tuple[int, str]]:
    """List what differs from the layers below, by path; changed directories before their files.

    Args:
        upper: the container's directory that takes its writes.
        lowers: the directories below, the uppermost first.
        hidden: absolute paths of mount points: an empty file or directory made for one, and the
            changed time of the directory that it is in, are no change of the container's.
        copied: the upper directory has all files, and is no layer: `copies`.
        first_id: what uid and gid 0 are in the upper directory, written in a user namespace.
    Returns:
        Pairs of MODIFIED, ADDED or DELETED and an absolute path.
    """
    with Merged((upper, *lowers), first_id) as merged:
        for change in _Comparison(merged, hidden, copied).sorted():
            if change.path:
                yield change.kind, "/" + os.fsdecode(change.path)


def write_changeset(
    upper: str,
    lowers: Sequence[str],
    out: Writable,
    hidden: Collection[str] = (),
    *,
    copied: bool = False,
    first_id: int = 0,
) -> tuple[str, int]:
    """Write the changes as an OCI layer; the same changes give the same bytes.

    Args:
        out: takes the archive, uncompressed.
        upper, lowers, hidden, copied, first_id: as of `changes`.
    Returns:
        The archive's digest and its length in bytes.
    """
    writer = TarWriter(out)
    with Merged((upper, *lowers), first_id) as merged:
        links: dict[tuple[int, int], bytes] = {}
        for change in _Comparison(merged, hidden, copied).sorted():
            if change.found is None:
                parent, _, base = change.path.rpartition(b"/")
                writer.add_empty(joined(parent, _WHITEOUT + base))
            else:
                _write_file(writer, merged, change.path or b".", change.found, links)
    return writer.finish()


def write_tree(directories: Sequence[str], out: Writable, *, first_id: int = 0) -> tuple[str, int]:
    """Write a whole tree of layers as one archive, as `docker export` does.

    Args:
        directories: the uppermost first.
        out: takes the archive.
        first_id: of the uppermost one, as of `changes`.
    Returns:
        The archive's digest and its length in bytes.
    """
    writer = TarWriter(out)
    links: dict[tuple[int, int], bytes] = {}
    with Merged(directories, first_id) as merged:
        for path, found in walk(merged):
            _write_file(writer, merged, path, found, links)
    return writer.finish()


def _write_file(
    writer: TarWriter,
    merged: Merged,
    path: bytes,
    found: Found,
    links: dict[tuple[int, int], bytes],
) -> None:
    status = found.status
    if not has_kind(status.st_mode):
        return
    layer = merged.layers[found.layer]
    regular = stat.S_ISREG(status.st_mode)
    if status.st_nlink > 1 and not found.is_directory:
        first = links.setdefault((found.layer, status.st_ino), path)
        if first != path:
            writer.add_link(path, first, status)
            return
    with suppress(FileNotFoundError):  # a running container has removed it meanwhile
        try:
            kept = kept_xattrs(layer.xattrs(found.path))
            if regular and status.st_size:
                with files.opened(merged.content(found)) as content:
                    writer.add(path, status, xattrs=kept, content=content)
                return
            link = layer.readlink(found.path) if stat.S_ISLNK(status.st_mode) else b""
        except KernelError:
            return
        writer.add(path, status, xattrs=kept, link=link)


def kept_xattrs(xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Pick those extended attributes that a layer keeps."""
    return {
        name: value
        for name, value in xattrs.items()
        if name.startswith(_KEPT) and not name.startswith(OVERLAY_XATTRS)
    }


class _Change:
    """One path that differs.

    Args:
        found: what is there now; None for what was deleted.
        only_time: nothing but a directory's time has changed.
    """

    __slots__ = ("found", "kind", "only_time", "path")

    def __init__(
        self, path: bytes, kind: int, found: Found | None, only_time: bool = False
    ) -> None:
        self.path = path
        self.kind = kind
        self.found = found
        self.only_time = only_time


class _Comparison:
    """The merged tree with and without its uppermost layer, compared.

    Args:
        merged: all layers, the upper directory first.
        hidden, copied: as of `changes`.
    """

    def __init__(self, merged: Merged, hidden: Collection[str], copied: bool) -> None:
        self._merged = merged
        self._copied = copied
        self._hidden = {os.fsencode(path).strip(b"/") for path in hidden}
        self._changes: dict[bytes, _Change] = {}
        self._unchanged: dict[bytes, Found] = {}  # directories, should something in them change
        # Of the upper directory's files with several names: which of those are unchanged.
        self._other_names: dict[int, list[tuple[bytes, Found]]] = {}
        self._compare_all()

    def sorted(self) -> list[_Change]:
        """Give the changes by path, each directory before what is in it."""
        return sorted(self._changes.values(), key=lambda change: change.path.split(b"/"))

    def _compare_all(self) -> None:
        before = self._merged.root(1) if len(self._merged.layers) > 1 else None
        now = self._merged.root()
        if self._copied:
            now = Found(0, b"", now.status, [(0, b"")])
        if before is not None:
            self._compare_directory(b"", now, before)
        stack: list[tuple[bytes, Found, Found | None]] = [(b"", now, before)]
        while stack:
            path, now, before = stack.pop()
            for name in self._candidates(now, before):
                self._compare(path, name, now, before, stack)
        self._keep_links()
        self._drop_times_of_mount_points()
        self._add_parents()

    def _candidates(self, now: Found, before: Found | None) -> set[bytes]:
        """List the names that can differ: where nothing but the upper is new, the upper's own."""
        old = list(before.places) if before else []
        new = list(now.places)
        if new == old:
            return set()
        if new and new[0][0] == 0 and new[1:] == old:
            return set(self._merged.layers[0].names(new[0][1]))
        return self._merged.names(new) | self._merged.names(old)

    def _compare(
        self,
        directory: bytes,
        name: bytes,
        in_now: Found,
        in_before: Found | None,
        stack: list[tuple[bytes, Found, Found | None]],
    ) -> None:
        path = joined(directory, name)
        now = self._merged.child(in_now.places, name)
        before = self._merged.child(in_before.places, name) if in_before else None
        if now is None or not has_kind(now.status.st_mode):
            if before is not None:
                self._changes[path] = _Change(path, DELETED, None)
            return
        if before is None:
            if self._was_made_for_mounts(path, now):
                return
            self._changes[path] = _Change(path, ADDED, now)
        elif now.is_directory and before.is_directory:
            self._compare_directory(path, now, before)
        elif self._differ(now, before):
            self._changes[path] = _Change(path, MODIFIED, now)
        elif now.layer == 0 and now.status.st_nlink > 1:
            self._other_names.setdefault(now.status.st_ino, []).append((path, now))
        if now.is_directory:
            stack.append((path, now, before if before and before.is_directory else None))

    def _compare_directory(self, path: bytes, now: Found, before: Found) -> None:
        same_time = now.status.st_mtime_ns == before.status.st_mtime_ns or not path
        if self._metadata(now) != self._metadata(before):
            self._changes[path] = _Change(path, MODIFIED, now)
        elif not same_time:
            self._changes[path] = _Change(path, MODIFIED, now, only_time=True)
        else:
            self._unchanged[path] = now

    def _metadata(self, found: Found) -> tuple[object, ...]:
        status = found.status
        xattrs = kept_xattrs(self._merged.layers[found.layer].xattrs(found.path))
        return status.st_mode, status.st_uid, status.st_gid, xattrs

    def _differ(self, now: Found, before: Found) -> bool:
        """Say whether two files that are no directories differ; by their content last."""
        new, old = now.status, before.status
        if (now.layer, now.path) == (before.layer, before.path):
            return False
        if (new.st_mtime_ns, new.st_rdev) != (old.st_mtime_ns, old.st_rdev):
            return True
        if new.st_size != old.st_size or self._metadata(now) != self._metadata(before):
            return True
        try:
            if stat.S_ISLNK(new.st_mode):
                return self._target(now) != self._target(before)
            return stat.S_ISREG(new.st_mode) and not self._same_content(now, before)
        except OSError:  # a running container has changed it meanwhile
            return True

    def _target(self, found: Found) -> bytes:
        return self._merged.layers[found.layer].readlink(found.path)

    def _same_content(self, now: Found, before: Found) -> bool:
        with (
            files.opened(self._merged.content(now)) as new,
            files.opened(self._merged.content(before)) as old,
        ):
            if os.path.samestat(os.fstat(new), os.fstat(old)):
                return True  # only its metadata was copied up
            while data := os.read(new, _CHUNK):
                if data != os.read(old, _CHUNK):
                    return False
            return True

    def _was_made_for_mounts(self, path: bytes, found: Found) -> bool:
        """Say whether a new file is an empty mount point, or a directory with nothing but such."""
        if not found.is_directory:
            return path in self._hidden and found.status.st_size == 0
        if path not in self._hidden and not any(p.startswith(path + b"/") for p in self._hidden):
            return False
        for name in self._merged.names(found.places):
            child = self._merged.child(found.places, name)
            if child and not self._was_made_for_mounts(joined(path, name), child):
                return False
        return True

    def _keep_links(self) -> None:
        """Where one name of a file has changed, take its others along: they stay one file."""
        changed = {
            change.found.status.st_ino
            for change in self._changes.values()
            if change.found and change.found.layer == 0 and not change.found.is_directory
        }
        for number, names in self._other_names.items():
            if number in changed:
                for path, found in names:
                    self._changes[path] = _Change(path, MODIFIED, found)

    def _drop_times_of_mount_points(self) -> None:
        for hidden in self._hidden:
            parent = hidden.rpartition(b"/")[0]
            change = self._changes.get(parent)
            inside = parent + b"/"
            if change and change.only_time and not any(p.startswith(inside) for p in self._changes):
                del self._changes[parent]

    def _add_parents(self) -> None:
        """A directory in which something has changed counts as changed."""
        for path in list(self._changes):
            parent = path.rpartition(b"/")[0]
            while parent and parent not in self._changes:
                found = self._unchanged.get(parent)
                if found is None:
                    break
                self._changes[parent] = _Change(parent, MODIFIED, found)
                parent = parent.rpartition(b"/")[0]
