"""Read a tar archive from a pipe: headers of every dialect that image layers are written in.

    block 0    header of "usr/bin/su": name, mode, owner, size, type, checksum
    block 1…   the file's content, filled up to 512 bytes
    …          in front of a header there may be others that say more about it:
               PAX records (type x), a long name (L) or link target (K), as GNU tar writes them
    the end    two blocks of zeros

Python's tarfile costs 50 µs an entry, as much as the kernel needs to make the file. This reader
costs about 6, takes no seek, and keeps names as bytes: a name need not be UTF-8.

See: tar(5); pax in POSIX.1-2008; "Storing Sparse Files" in the GNU tar manual.
"""

from __future__ import annotations

import os
import zlib

from minicontainer.errors import InvalidArgument, shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Where the data of a sparse file belongs: offset and length in bytes, ascending.
    SparseMap = list[tuple[int, int]]

BLOCK = 512
REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
_CONTIGUOUS, _OLD_REGULAR, _OLD_SPARSE = b"7", b"\0", b"S"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_WITHOUT_CONTENT = frozenset((LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))

_BUFFER = 1 << 20
_LONGEST_RECORDS = 1 << 20  # bytes of PAX records or of a long name; Go's archive/tar has the same
_MOST_PIECES = 1 << 16  # of a sparse file
_XATTR = b"SCHILY.xattr."
_END = bytes(BLOCK)
_ADLER = 65521


class Entry:
    """One file of an archive: a header and what the headers in front of it added."""

    __slots__ = (
        "gid", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "pieces", "real_size",
        "size", "uid", "xattrs",
    )  # fmt: skip

    name: bytes
    link: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int  # of the content in the archive
    mtime_ns: int
    major: int
    minor: int
    xattrs: dict[bytes, bytes]
    pieces: SparseMap | None  # None: not a sparse file
    real_size: int  # of a sparse file, holes included


class TarReader:
    """Reads entries one by one; between two of them, the content of the first.

    Args:
        fd: a pipe or file to read from.
    Raises:
        InvalidArgument: of every method: the archive is damaged, or goes over a limit.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._space = bytearray(_BUFFER)
        self._buffer = memoryview(self._space)
        self._at = 0  # the first byte that was read from the pipe and not yet taken
        self._end = 0  # behind the last one
        self._left = 0  # content of the current entry that nobody took, filling included
        self._content = 0  # the same without the filling

    def entries(self) -> Iterator[Entry]:
        """Yield the archive's entries; an entry's content must be copied before the next one."""
        extra: dict[bytes, bytes] = {}
        pieces: SparseMap = []
        while True:
            self._skip_content()
            header = self._header()
            if header is None:
                return
            kind = header[156:157]
            if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
                data = self._special(header)
                if kind == _PAX:
                    _read_records(data, extra, pieces)
                elif kind == _LONG_NAME:
                    extra[b"path"] = data.rstrip(b"\0")
                elif kind == _LONG_LINK:
                    extra[b"linkpath"] = data.rstrip(b"\0")
                continue  # global records are of no use to a layer: Docker passes over them too
            yield self._entry(header, kind, extra, pieces)
            extra, pieces = {}, []

    def copy_content(self, write: Callable[[memoryview], int], length: int) -> None:
        """Hand the next *length* bytes of the content to *write*, which takes some of each call."""
        self._left -= length
        self._content -= length
        while length:
            if self._at == self._end:
                self._fill()
            stop = min(self._end, self._at + length)
            taken = write(self._buffer[self._at : stop])
            self._at += taken
            length -= taken

    def drain(self) -> None:
        """Read what follows the archive's end, so that the writer of the pipe gets to its end."""
        while self._more():
            self._at = self._end

    # -- blocks ---------------------------------------------------------------------------------

    def _more(self) -> int:
        """Read from the pipe behind what is there; 0 at its end."""
        if self._at == self._end:
            self._at = self._end = 0
        got = os.readv(self._fd, [self._buffer[self._end :]])
        self._end += got
        return got

    def _fill(self) -> None:
        if not self._more():
            raise InvalidArgument("unexpected end of the archive: it is cut off")

    def _take(self, length: int) -> bytes:
        """Take some bytes that fit into the buffer."""
        if self._end - self._at < length:
            held = self._end - self._at
            self._space[:held] = self._space[self._at : self._end]
            self._at, self._end = 0, held
            while self._end < length:
                self._fill()
        start = self._at
        self._at += length
        return bytes(self._buffer[start : self._at])

    def _skip_content(self) -> None:
        left, self._left, self._content = self._left, 0, 0
        while left:
            if self._at == self._end:
                self._fill()
            step = min(self._end - self._at, left)
            self._at += step
            left -= step

    def _header(self) -> bytes | None:
        """Take the next header; None at the archive's end, which may lack its zeros."""
        if self._at == self._end and not self._more():
            return None
        header = self._take(BLOCK)
        if header == _END:
            return None
        # The sum of all bytes, those of the checksum itself taken for spaces. Adler-32 has that
        # sum in its lower half, modulo 65521, and is 20 times as fast as sum().
        told = _octal(header[148:156])
        plain = zlib.adler32(header[:148] + b"        " + header[156:]) & 0xFFFF
        if (told + 1) % _ADLER != plain and told != _signed_sum(header):
            raise InvalidArgument("invalid tar header: its checksum is wrong")
        return header

    def _special(self, header: bytes) -> bytes:
        """Take the content of a header that says more about the next one."""
        size = _number(header[124:136], "size")
        if size > _LONGEST_RECORDS - BLOCK:
            raise InvalidArgument(f"an extended tar header of {size} bytes is too long")
        return self._take(size + -size % BLOCK)[:size]

    # -- entries --------------------------------------------------------------------------------

    def _entry(
        self, header: bytes, kind: bytes, extra: dict[bytes, bytes], pieces: SparseMap
    ) -> Entry:
        entry = Entry()
        entry.name = _text(header[0:100])
        entry.link = _text(header[157:257])
        entry.mode = _number(header[100:108], "mode") & 0o7777
        entry.uid = _number(header[108:116], "uid")
        entry.gid = _number(header[116:124], "gid")
        entry.size = _number(header[124:136], "size")
        entry.mtime_ns = _number(header[136:148], "mtime", least=-(1 << 62)) * 1_000_000_000
        entry.xattrs = {}
        entry.pieces = None
        entry.real_size = 0
        if kind in (_OLD_REGULAR, _CONTIGUOUS):
            kind = DIRECTORY if entry.name.endswith(b"/") else REGULAR
        if header[257:263] == b"ustar\0" and header[345] and not extra.get(b"path"):
            entry.name = _text(header[345:500]) + b"/" + entry.name
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.major = _number(header[329:337], "device number")
            entry.minor = _number(header[337:345], "device number")
        if extra:
            _apply_records(entry, extra)
        if kind in _WITHOUT_CONTENT:
            # Some writers give a hard link the size of its file, and no content.
            entry.size = 0
        self._content = entry.size
        self._left = entry.size + -entry.size % BLOCK
        if kind == _OLD_SPARSE:
            self._read_old_map(entry, header)
            kind = REGULAR
        elif extra and (pieces or any(key.startswith(b"GNU.sparse.") for key in extra)):
            self._read_map(entry, extra, pieces)
        entry.kind = kind
        return entry

    def _read_old_map(self, entry: Entry, header: bytes) -> None:
        """Read the map of a sparse file as GNU tar's own format has it, in the header itself."""
        entry.pieces = []
        entry.real_size = _number(header[483:495], "size")
        table, follows = header[386:482], header[482]
        while True:
            for at in range(0, len(table), 24):
                offset, length = table[at : at + 12], table[at + 12 : at + 24]
                if not length.strip(b"\0 "):
                    break
                entry.pieces.append((_number(offset, "offset"), _number(length, "size")))
            if not follows:
                break
            if len(entry.pieces) > _MOST_PIECES:
                raise InvalidArgument(f"{_shown(entry.name)}: too many pieces of a sparse file")
            block = self._take(BLOCK)
            table, follows = block[:504], block[504]
        _check_map(entry, entry.size)

    def _read_map(self, entry: Entry, extra: dict[bytes, bytes], pieces: SparseMap) -> None:
        """Read the map of a sparse file as PAX records have it, or in version 1.0 its content."""
        entry.name = extra.get(b"GNU.sparse.name", entry.name)
        size = extra.get(b"GNU.sparse.realsize", extra.get(b"GNU.sparse.size", b""))
        entry.real_size = _decimal(size, "GNU.sparse.size")
        if extra.get(b"GNU.sparse.major") == b"1":
            entry.pieces = self._read_map_in_content(entry)
        elif b"GNU.sparse.map" in extra:
            numbers = [_decimal(n, "GNU.sparse.map") for n in extra[b"GNU.sparse.map"].split(b",")]
            entry.pieces = list(zip(numbers[::2], numbers[1::2], strict=False))
        else:
            entry.pieces = pieces
        _check_map(entry, self._content)

    def _read_map_in_content(self, entry: Entry) -> SparseMap:
        text = b""
        wanted = 1
        while text.count(b"\n") < wanted:
            if self._content < BLOCK or wanted > 2 * _MOST_PIECES:
                raise InvalidArgument(f"{_shown(entry.name)}: bad map of a sparse file")
            text += self._take(BLOCK)
            self._left -= BLOCK
            self._content -= BLOCK
            first, newline, _ = text.partition(b"\n")
            if newline:
                wanted = 1 + 2 * _decimal(first, "map of a sparse file")
        numbers = [_decimal(n, "map of a sparse file") for n in text.split(b"\n")[1:wanted]]
        return list(zip(numbers[::2], numbers[1::2], strict=True))


def _check_map(entry: Entry, content: int) -> None:
    end = total = 0
    for offset, length in entry.pieces or ():
        if offset < end:
            raise InvalidArgument(f"{_shown(entry.name)}: bad map of a sparse file")
        end = offset + length
        total += length
    if end > entry.real_size or total != content:
        raise InvalidArgument(f"{_shown(entry.name)}: bad map of a sparse file")


def _read_records(data: bytes, extra: dict[bytes, bytes], pieces: SparseMap) -> None:
    """Read PAX records, `30 mtime=1321711775.9720594634\\n`, into *extra*."""
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 20)
        length = _decimal(data[at:space], "PAX record") if space > 0 else 0
        record = data[space + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not equals or record[-1:] != b"\n" or at + length > len(data):
            raise InvalidArgument("invalid tar header: bad PAX record")
        value = value[:-1]
        at += length
        if key == b"GNU.sparse.offset":
            pieces.append((_decimal(value, "GNU.sparse.offset"), 0))
        elif key == b"GNU.sparse.numbytes":
            if pieces:
                pieces[-1] = pieces[-1][0], _decimal(value, "GNU.sparse.numbytes")
        else:
            extra[key] = value


def _apply_records(entry: Entry, extra: dict[bytes, bytes]) -> None:
    for key, value in extra.items():
        if key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :]] = value
        elif not value:
            continue  # an empty value takes back a global record, which we have none of
        elif key == b"path":
            entry.name = _checked(value)
        elif key == b"linkpath":
            entry.link = _checked(value)
        elif key == b"size":
            entry.size = _decimal(value, "size")
        elif key == b"uid":
            entry.uid = _decimal(value, "uid")
        elif key == b"gid":
            entry.gid = _decimal(value, "gid")
        elif key == b"mtime":
            entry.mtime_ns = _nanoseconds(value)


def _text(field: bytes) -> bytes:
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def _checked(name: bytes) -> bytes:
    if b"\0" in name:
        raise InvalidArgument("invalid tar header: a name with a NUL in it")
    return name


def _number(field: bytes, what: str, least: int = 0) -> int:
    """Read a number of a header: octal digits, or in base 256 if the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:  # a negative one, in two's complement
            value -= 1 << (8 * len(field) - 1)
    else:
        value = _octal(field)
    if not least <= value < 1 << 62:
        raise InvalidArgument(f"invalid tar header: {what} {value} is out of range")
    return value


def _octal(field: bytes) -> int:
    digits = field.strip(b"\0 ")
    if not digits:
        return 0
    try:
        return int(digits.split(b"\0")[0], 8)
    except ValueError:
        raise InvalidArgument("invalid tar header: a bad number") from None


def _decimal(digits: bytes, what: str) -> int:
    if not digits.isdigit() or len(digits) > 18:
        raise InvalidArgument(f"invalid tar header: bad {what} {_shown(digits)}")
    return int(digits)


def _nanoseconds(text: bytes) -> int:
    """Read a time in seconds with a fraction; what is below a nanosecond is cut off."""
    negative = text.startswith(b"-")
    seconds, _, fraction = text.lstrip(b"-").partition(b".")
    value = _decimal(seconds[:18], "time") * 1_000_000_000
    if fraction:
        value += _decimal(fraction[:9].ljust(9, b"0"), "time")
    if len(seconds) > 11:
        raise InvalidArgument(f"invalid tar header: time {_shown(text)} is out of range")
    return -value if negative else value


def _signed_sum(header: bytes) -> int:
    """Sum up a header as old writers did, whose bytes had signs."""
    field = header[:148] + b"        " + header[156:]
    return sum(byte - 256 if byte > 127 else byte for byte in field)


def _shown(name: bytes) -> str:
    return shortened(ascii(os.fsdecode(name))[1:-1])
