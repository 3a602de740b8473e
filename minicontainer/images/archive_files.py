"""The files of an archive of images, read one after the other from a stream.

Python's tarfile does the reading. It trusts its input: one header can ask for gigabytes of memory,
and a million small ones for as much. The limits here are far above what any image needs.

See: tar(5).
"""

from __future__ import annotations

import contextlib
import posixpath
import tarfile

from minicontainer.errors import InvalidArgument
from minicontainer.images.compression import decompressed
from minicontainer.images.references import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any, Self

    from minicontainer.images.blobs import Readable

_MOST_FILES = 100_000
_LONGEST_NAME = 4096  # as of a path on Linux
_LONGEST_HEADER = 1 << 20  # bytes of one that says more about the next file
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_BUFFER = 1 << 20


class File:
    """A file of an archive.

    Args:
        name: its path, without `.` and doubled slashes.
        target: what it is a link to, as a path in the archive; "" for a regular file.
        content: to be read before the next file is asked for; None for a link.
    """

    def __init__(self, name: str, target: str, size: int, content: Content | None) -> None:
        self.name = name
        self.target = target
        self.size = size
        self.content = content


def files_of(stream: Readable) -> Iterator[File]:
    """Yield an archive's regular files and links; others mean nothing in an archive of images.

    Args:
        stream: the tar, plain or compressed; read to its end.
    Raises:
        InvalidArgument: it is no tar, or goes over a limit.
    """
    source = decompressed(stream)
    file: Any = _Whole(source)  # tarfile's type wants more methods than a stream is asked for
    archive: Any
    with (
        _named_errors(),
        tarfile.open(fileobj=file, mode="r|", bufsize=_BUFFER, tarinfo=_Entry) as archive,
    ):
        for number, entry in enumerate(archive):
            if number >= _MOST_FILES:
                raise InvalidArgument(f"the archive has more than {_MOST_FILES} files")
            archive.members.clear()  # it would keep them all
            if found := _file(archive, entry):
                yield found
    while source.read(_BUFFER):  # what follows the tar's end: the sender must not be cut off
        pass


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, RecursionError) as error:
        raise InvalidArgument(f"the archive can't be read: {error}") from None


def _file(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> File | None:
    for text in (entry.name, entry.linkname):
        if len(text) > _LONGEST_NAME:
            raise InvalidArgument(
                f"the archive has a name of {len(text)} characters: {shown(text)}"
            )
    name = posixpath.normpath(entry.name)
    if entry.issym():
        target = posixpath.join(posixpath.dirname(name), entry.linkname)
        return File(name, posixpath.normpath(target), 0, None)
    if entry.islnk():
        return File(name, posixpath.normpath(entry.linkname), 0, None)
    if entry.isreg():
        reader = archive.extractfile(entry)
        assert reader is not None  # it is a regular file
        return File(name, "", entry.size, Content(reader))
    return None


class Content:
    """The content of a file, from the archive."""

    def __init__(self, reader: IO[bytes]) -> None:
        self._reader = reader

    def read(self, size: int = -1, /) -> bytes:
        """Read up to *size* bytes, or all.

        Raises:
            InvalidArgument: the archive is cut off.
        """
        with _named_errors():
            return self._reader.read(size)


class _Entry(tarfile.TarInfo):
    """A header, looked at before tarfile acts on it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header.

        Raises:
            InvalidArgument: tarfile would need too much memory for it.
        """
        entry = super().frombuf(buf, encoding, errors)
        if entry.size < 0 or (entry.type in _HEADERS and entry.size > _LONGEST_HEADER):
            raise InvalidArgument(f"the archive has a header of {entry.size} bytes")
        if entry.type == tarfile.GNUTYPE_SPARSE:  # its map has no end that could be known here
            raise InvalidArgument("the archive has sparse files: write it without --sparse")
        return entry


class _Whole:
    """A stream as tarfile wants it: it gives less than was asked for only at its end."""

    def __init__(self, source: Readable) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        """Read *size* bytes."""
        made = bytearray()
        while len(made) < size and (chunk := self._source.read(size - len(made))):
            made += chunk
        return bytes(made)
