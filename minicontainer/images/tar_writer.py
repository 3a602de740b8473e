"""Write a tar archive that is the same, to the bit, whenever its files are the same.

Headers are ustar's; what has no room there (a long name, a fraction of a second, attributes) comes
in PAX records in front. Nothing else goes in: no names of users, no times of access.

See: tar(5); image-spec layer.md.
"""

from __future__ import annotations

import hashlib
import os
import stat

from minicontainer.images import tar_reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Writable(Protocol):
        """What an archive is written to."""

        def write(self, data: bytes, /) -> object:
            """Take all of *data*."""


_CHUNK = 1 << 20
_BLOCK = tar_reader.BLOCK
_KINDS = {
    stat.S_IFREG: tar_reader.REGULAR,
    stat.S_IFDIR: tar_reader.DIRECTORY,
    stat.S_IFLNK: tar_reader.SYMLINK,
    stat.S_IFCHR: tar_reader.CHARACTER,
    stat.S_IFBLK: tar_reader.BLOCK_DEVICE,
    stat.S_IFIFO: tar_reader.FIFO,
}
_MOST_IN_SEVEN = 0o7777777  # what seven octal digits hold
_MOST_IN_ELEVEN = 0o77777777777
_NAME, _PREFIX = 100, 155


def has_kind(mode: int) -> bool:
    """Say whether a file of this mode has a place in an archive: a socket has none."""
    return stat.S_IFMT(mode) in _KINDS


class TarWriter:
    """Writes entries one by one, and knows the digest of all that it has written.

    Args:
        out: takes the archive.
    """

    def __init__(self, out: Writable) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self.size = 0

    def add(
        self,
        name: bytes,
        status: os.stat_result,
        *,
        link: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None,
        content: int = -1,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Write a file.

        Args:
            name: from the archive's root; a directory gets its slash here.
            status: its mode, owner, time and device number.
            link: a symbolic link's target.
            xattrs: extended attributes to keep.
            content: a descriptor of a regular file, at its beginning. As many bytes are written as
                *status* says: what has grown meanwhile is cut off, what has shrunk gets zeros.
            owner: uid and gid, if not those of *status*.
        """
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        size = status.st_size if kind == tar_reader.REGULAR else 0
        name += b"/" if kind == tar_reader.DIRECTORY and not name.endswith(b"/") else b""
        self._header(name, link, kind, size, status, xattrs or {}, owner)
        if size:
            self._content(content, size)

    def add_link(self, name: bytes, target: bytes, status: os.stat_result) -> None:
        """Write a hard link to a file that is in the archive."""
        self._header(name, target, tar_reader.LINK, 0, status, {})

    def add_empty(self, name: bytes) -> None:
        """Write an empty file that has no owner and no time: a whiteout."""
        self._header(name, b"", tar_reader.REGULAR, 0, None, {})

    def finish(self) -> tuple[str, int]:
        """Write the archive's end; give its digest and its length in bytes."""
        self._write(bytes(2 * _BLOCK))
        return f"sha256:{self._digest.hexdigest()}", self.size

    # -- inside ---------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self.size += len(data)
        self._out.write(data)

    def _content(self, fd: int, size: int) -> None:
        left = size
        while left:
            data = os.read(fd, min(_CHUNK, left))
            if not data:
                data = bytes(min(_CHUNK, left))
            self._write(data)
            left -= len(data)
        self._write(bytes(-size % _BLOCK))

    def _header(
        self,
        name: bytes,
        link: bytes,
        kind: bytes,
        size: int,
        status: os.stat_result | None,
        xattrs: dict[bytes, bytes],
        owner: tuple[int, int] | None = None,
    ) -> None:
        records: dict[bytes, bytes] = {}
        prefix, short = _split(name)
        if not short:
            records[b"path"] = name
            short = name[:_NAME]
        if len(link) > _NAME:
            records[b"linkpath"] = link
        mode = uid = gid = mtime = major = minor = 0
        if status is not None:
            mode = stat.S_IMODE(status.st_mode)
            uid, gid = owner or (status.st_uid, status.st_gid)
            mtime, fraction = divmod(status.st_mtime_ns, 1_000_000_000)
            if fraction or not 0 <= mtime <= _MOST_IN_ELEVEN:
                records[b"mtime"] = _seconds(status.st_mtime_ns)
            if kind in (tar_reader.CHARACTER, tar_reader.BLOCK_DEVICE):
                major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        for key, value, most in (
            (b"uid", uid, _MOST_IN_SEVEN),
            (b"gid", gid, _MOST_IN_SEVEN),
            (b"size", size, _MOST_IN_ELEVEN),
        ):
            if value > most:
                records[key] = b"%d" % value
        records |= {b"SCHILY.xattr." + key: value for key, value in xattrs.items()}
        if records:
            data = b"".join(_record(key, records[key]) for key in sorted(records))
            label = b"PaxHeaders/" + short.rstrip(b"/").rpartition(b"/")[2]
            self._write(_block(label[:_NAME], b"", b"x", len(data), (0o644, 0, 0, 0, 0, 0), b""))
            self._write(data + bytes(-len(data) % _BLOCK))
        mtime = min(max(mtime, 0), _MOST_IN_ELEVEN)
        self._write(
            _block(short, link[:_NAME], kind, size, (mode, uid, gid, mtime, major, minor), prefix)
        )


def _block(
    name: bytes,
    link: bytes,
    kind: bytes,
    size: int,
    numbers: tuple[int, int, int, int, int, int],
    prefix: bytes,
) -> bytes:
    """Lay out one header."""
    mode, uid, gid, mtime, major, minor = numbers
    uid = uid if uid <= _MOST_IN_SEVEN else 0
    gid = gid if gid <= _MOST_IN_SEVEN else 0
    size = size if size <= _MOST_IN_ELEVEN else 0
    header = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime),
            b"        ",
            kind,
            link.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            b"%07o\0%07o\0" % (major, minor),
            prefix.ljust(_PREFIX, b"\0"),
            bytes(12),
        )
    )
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Split a name into ustar's two fields; empty ones if it does not fit."""
    if len(name) <= _NAME:
        return b"", name
    at = name.rfind(b"/", 0, min(_PREFIX + 1, len(name) - 1))
    if at > 0 and len(name) - at - 1 <= _NAME:
        return name[:at], name[at + 1 :]
    return b"", b""


def _record(key: bytes, value: bytes) -> bytes:
    """Write a PAX record: its length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def _seconds(time_ns: int) -> bytes:
    sign = b"-" if time_ns < 0 else b""
    seconds, fraction = divmod(abs(time_ns), 1_000_000_000)
    text = b"%s%d.%09d" % (sign, seconds, fraction)
    return text.rstrip(b"0").rstrip(b".")
