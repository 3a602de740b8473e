"""The archives of cp: a tree here as a tar stream, and a tar stream unpacked here.

An archive comes from a container, whose files are anybody's: no entry is written outside of the
directory that was meant, neither by its name nor through a link that came before.

See: tar(5); openat(2) "O_NOFOLLOW".
"""

from __future__ import annotations

import io
import os
import stat
import tarfile

from minicontainer.cli.exits import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Rename = Callable[[str], str]

_BLOCK = 1 << 18
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Reader:
    """Blocks, read as a file; counts their bytes."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""
        self.count = 0

    def read(self, size: int) -> bytes:
        """Read *size* bytes, fewer at the end."""
        parts, wanted = [], size
        while wanted > 0:
            if not self._rest:
                self._rest = next(self._blocks, b"")
                if not self._rest:
                    break
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
        found = b"".join(parts)
        self.count += len(found)
        return found


class Counter:
    """Counts the bytes of blocks that pass."""

    def __init__(self) -> None:
        self.count = 0

    def counting(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass blocks on."""
        for block in blocks:
            self.count += len(block)
            yield block


def pack(directory: str, base: str, rename: Rename) -> Iterator[bytes]:
    """Give the tree *base* of a directory as a tar stream."""
    with tarfile.open(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT) as tar:
        top = os.path.join(directory, base)
        for path in _tree(top):
            below = os.path.relpath(path, top)
            name = base if below == "." else f"{base}/{below}"
            entry = tar.gettarinfo(path, arcname=rename(name))
            if entry is None:  # a socket
                continue
            if entry.islnk():
                entry.linkname = rename(os.path.relpath(os.path.join("/", entry.linkname), "/"))
            if not entry.isreg():
                yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
                continue
            with open(path, "rb") as file:
                yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
                yield from _content(file, entry.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tree(path: str) -> Iterator[str]:
    """Give a path and all below it, directories before what is in them."""
    yield path
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            yield from _tree(os.path.join(path, name))


def _content(file: io.BufferedReader, size: int) -> Iterator[bytes]:
    """Give as many bytes as the entry says, whatever becomes of the file meanwhile."""
    left = size
    while left > 0:
        block = file.read(min(_BLOCK, left)) or bytes(min(_BLOCK, left))
        left -= len(block)
        yield block
    if size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - size % tarfile.BLOCKSIZE)


def unpack(reader: Reader, directory: str, rename: Rename, keep_owner: bool) -> None:
    """Unpack a tar stream into a directory.

    Args:
        rename: gives an entry's name below the directory.
        keep_owner: give files to the owner that the archive names; else they are this user's.
    """
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    times: list[tuple[str, tarfile.TarInfo]] = []
    try:
        with tarfile.open(fileobj=reader, mode="r|") as tar:  # type: ignore[call-overload]  # read is all it needs
            for entry in tar:
                name = os.path.normpath(rename(entry.name))
                if name.startswith(("/", "../")) or name == "..":
                    raise Exit(f"{entry.name}: is outside of the copied tree")
                _unpack_entry(tar, entry, root, name, rename)
                _set_attributes(entry, root, name, keep_owner)
                if entry.isdir() and name != ".":
                    times.append((name, entry))
        for name, entry in reversed(times):  # what was written into them has changed their times
            os.utime(name, (entry.mtime, entry.mtime), dir_fd=root, follow_symlinks=False)
    except tarfile.TarError as error:
        raise Exit(f"the archive is damaged: {error}") from None
    finally:
        os.close(root)


def _unpack_entry(
    tar: tarfile.TarFile, entry: tarfile.TarInfo, root: int, name: str, rename: Rename
) -> None:
    parent, base = os.path.split(name)
    fd = _open_directory(root, parent)
    try:
        if entry.isdir():
            _make_directory(fd, base)
            return
        _make_room(fd, base, name)
        if entry.isreg():
            _write(tar, entry, fd, base)
        elif entry.issym():
            os.symlink(entry.linkname, base, dir_fd=fd)
        elif entry.islnk():
            linked = os.path.split(os.path.normpath(rename(entry.linkname)))
            source = _open_directory(root, linked[0])
            try:
                os.link(linked[1], base, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
            finally:
                os.close(source)
        elif entry.isfifo():
            os.mkfifo(base, entry.mode, dir_fd=fd)
        elif entry.isdev():
            kind = stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
            number = os.makedev(entry.devmajor, entry.devminor)
            os.mknod(base, kind | entry.mode, number, dir_fd=fd)
    finally:
        os.close(fd)


def _open_directory(root: int, path: str) -> int:
    """Open a directory below the root, one name after the other and through no link."""
    fd = os.dup(root)
    for name in path.split("/"):
        if name in ("", "."):
            continue
        try:
            deeper = os.open(name, _DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            os.mkdir(name, dir_fd=fd)
            deeper = os.open(name, _DIRECTORY, dir_fd=fd)
        except OSError as error:
            os.close(fd)
            raise Exit(f"can't copy into {path}: {error.strerror}") from None
        os.close(fd)
        fd = deeper
    return fd


def _make_directory(fd: int, name: str) -> None:
    if name in ("", "."):
        return
    try:
        os.mkdir(name, dir_fd=fd)
    except FileExistsError:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise Exit(f'cannot overwrite non-directory "{name}" with directory') from None


def _make_room(fd: int, name: str, shown: str) -> None:
    """Take away the file that stands where another shall be."""
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise Exit(f'cannot overwrite directory "{shown}" with non-directory')
    os.unlink(name, dir_fd=fd)


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, fd: int, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    content = tar.extractfile(entry)
    assert content is not None
    with open(os.open(name, flags, 0o600, dir_fd=fd), "wb") as file:
        while block := content.read(_BLOCK):
            file.write(block)


def _set_attributes(entry: tarfile.TarInfo, root: int, name: str, keep_owner: bool) -> None:
    """Set owner, mode and time; a link has no mode of its own."""
    if keep_owner:
        os.chown(name, entry.uid, entry.gid, dir_fd=root, follow_symlinks=False)
    if not entry.issym():
        os.chmod(name, entry.mode, dir_fd=root)
    if not entry.isdir():
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=root, follow_symlinks=False)
