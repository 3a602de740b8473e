"""Compressed streams: gzip, zstd, bzip2 and xz, told by their first bytes or by a media type.

A stream is read with bounded memory: a few bytes of input may stand for gigabytes of output, and
only as many are made as the reader takes.

See: RFC 1952, RFC 8878; OCI image-spec layer.md, "+gzip" and "+zstd".
"""

from __future__ import annotations

import zlib

from minicontainer.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from minicontainer.images.blobs import Readable

# The kinds by the bytes that each begins with.
MAGIC = {
    "gzip": b"\x1f\x8b\x08",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
}
LONGEST_MAGIC = max(map(len, MAGIC.values()))
_CHUNK = 1 << 16
_ZSTD_WINDOW = 1 << 27  # bytes: what the program zstd takes, too, without being asked for more
_ZSTD_PART = 1 << 10
_XZ_MEMORY = 1 << 27
# zlib's usual level, 6, makes layers a tenth smaller, in four times the time.
LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS  # zlib's sign for gzip's header and trailer


def kind_of(head: bytes) -> str:
    """Name the compression of a stream by its first bytes; "" for none."""
    return next((kind for kind, magic in MAGIC.items() if head.startswith(magic)), "")


def kind_of_media_type(media_type: str) -> str:
    """Name the compression that a layer's media type tells; "" for none.

    Raises:
        Unsupported: it tells one that nobody here knows.
    """
    if media_type.endswith(("+gzip", ".tar.gzip")):
        return "gzip"
    if media_type.endswith(("+zstd", ".tar.zstd")):
        return "zstd"
    if media_type.endswith(".tar"):
        return ""
    raise Unsupported(f"layer: the media type {media_type!r} is not known")


def decompressed(source: Readable, kind: str | None = None) -> Readable:
    """Give the content of a stream.

    Args:
        source: what is read.
        kind: its compression, "" for none; None looks at the first bytes.
    Raises:
        InvalidArgument: while reading: the stream is broken or cut off.
    """
    if kind is None:
        head = b""
        while len(head) < LONGEST_MAGIC and (more := source.read(LONGEST_MAGIC - len(head))):
            head += more
        kind = kind_of(head)
        source = Prefixed(head, source)
    return _READERS[kind](source) if kind else source


class Prefixed:
    """A stream with bytes before it that were read already."""

    def __init__(self, head: bytes, source: Readable) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes."""
        if not self._head:
            return self._source.read(size)
        part, self._head = self._head[:size], self._head[size:]
        return part


class _Members:
    """The content of a stream that has several members, one after the other: the common part.

    A kind of compression says in `_begin` how a member's decompressor is made, and in `_feed` how
    it is fed.
    """

    kind = ""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._input = b""
        self._ready = bytearray()
        self._member = self._begin()
        self._is_first = True
        self._is_inside = False  # a byte of this member was seen

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes."""
        while len(self._ready) < size:
            try:
                if not self._step(size):
                    break
            except self._errors() as error:
                raise InvalidArgument(f"{self.kind}: {error}") from None
        output = bytes(self._ready[:size])
        del self._ready[:size]
        return output

    def _step(self, size: int) -> bool:
        """Decompress some more; say whether there may be more to come."""
        if not self._input:
            self._input = self._source.read(_CHUNK)
        at_end = not self._input
        if not self._is_inside:
            # zeros between the members, and after the last, are padding: gzip(1), "--force"
            self._input = self._input if self._is_first else self._input.lstrip(b"\0")
            self._is_inside = bool(self._input)
        if at_end and not self._is_inside:
            if self._is_first:
                raise InvalidArgument(f"{self.kind}: the stream is empty")
            return False
        if self._is_inside:
            before = len(self._ready)
            self._feed(size)
            if self._member.eof:
                self._input = self._member.unused_data + self._input
                self._member = self._begin()
                self._is_first = self._is_inside = False
            elif at_end and len(self._ready) == before:
                raise InvalidArgument(f"{self.kind}: the stream is cut off")
        return True

    def _begin(self) -> Any:
        raise NotImplementedError

    def _feed(self, size: int) -> None:
        raise NotImplementedError

    def _errors(self) -> type[Exception]:
        raise NotImplementedError


class _Gzip(_Members):
    kind = "gzip"

    def _begin(self) -> Any:
        return zlib.decompressobj(_GZIP)

    def _feed(self, size: int) -> None:
        self._ready += self._member.decompress(self._input, size)
        self._input = self._member.unconsumed_tail

    def _errors(self) -> type[Exception]:
        return zlib.error


class _Zstd(_Members):
    kind = "zstd"

    def _begin(self) -> Any:
        import zstandard  # here: only such a stream needs it

        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    def _feed(self, size: int) -> None:
        # It takes no limit for its output, so it gets little input: 4 bytes may stand for 128 KiB.
        part, self._input = self._input[:_ZSTD_PART], self._input[_ZSTD_PART:]
        self._ready += self._member.decompress(part)

    def _errors(self) -> type[Exception]:
        import zstandard

        return zstandard.ZstdError


class _Bzip2(_Members):
    kind = "bzip2"

    def _begin(self) -> Any:
        import bz2

        return bz2.BZ2Decompressor()

    def _feed(self, size: int) -> None:
        # It keeps what it has not read yet, and is asked for it with no input.
        self._ready += self._member.decompress(self._input, size)
        self._input = b""

    def _errors(self) -> type[Exception]:
        return OSError


class _Xz(_Bzip2):
    kind = "xz"

    def _begin(self) -> Any:
        import lzma

        return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)

    def _errors(self) -> type[Exception]:
        import lzma

        return lzma.LZMAError


_READERS = {reader.kind: reader for reader in (_Gzip, _Zstd, _Bzip2, _Xz)}


class Gzipped:
    """A gzip stream being made, the same for the same content: without a time or a name in it."""

    def __init__(self, level: int = LEVEL) -> None:
        self._made = zlib.compressobj(level, zlib.DEFLATED, _GZIP)

    def add(self, chunk: bytes) -> bytes:
        """Take content; give what is compressed by now."""
        return self._made.compress(chunk)

    def end(self) -> bytes:
        """Give the rest."""
        return self._made.flush()


def gzipped(chunks: Iterable[bytes], level: int = LEVEL) -> Iterator[bytes]:
    """Compress *chunks* to a gzip stream, the same one for the same content."""
    made = Gzipped(level)
    for chunk in chunks:
        if part := made.add(chunk):
            yield part
    yield made.end()
