"""Archives that would eat the memory are refused, before they do."""

from __future__ import annotations

import io
import tarfile
import tracemalloc

import pytest

from minicontainer.errors import InvalidArgument
from minicontainer.images import archive_files
from minicontainer.images.archive_files import files_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Filled = Callable[[int], Iterator[bytes]]

GIGABYTES = 8 << 30


class Endless:
    """A stream that begins with some bytes, and goes on with zeros or with the same again."""

    def __init__(self, head: bytes, again: bytes = bytes(1 << 16)) -> None:
        self._rest = head
        self._again = again

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes."""
        if not self._rest:
            self._rest = self._again
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Make a header alone."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = size, kind, link
    return entry.tobuf(tarfile.GNU_FORMAT)


SPARSE = bytearray(header("sparse", 0, tarfile.GNUTYPE_SPARSE))
PAX = header("pax", 512, tarfile.XHDTYPE) + b"11 foo=bar\n".ljust(512, b"\0")


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (Endless(header("pax", GIGABYTES, tarfile.XHDTYPE)), f"a header of {GIGABYTES} bytes"),
        (Endless(header("pax", GIGABYTES, tarfile.XGLTYPE)), f"a header of {GIGABYTES} bytes"),
        (Endless(header("x", GIGABYTES, tarfile.GNUTYPE_LONGNAME)), "a header of"),
        (Endless(bytes(SPARSE)), "sparse files"),
        (Endless(b"", PAX), "can't be read"),
        (Endless(b"", header("file", 0)), "more than 1000 files"),
        (Endless(b"", header("link", 0, tarfile.SYMTYPE, "x")), "more than 1000 files"),
        (Endless(b"", header("directory", 0, tarfile.DIRTYPE)), "more than 1000 files"),
        (Endless(header("x" * 5000)), "a name of 5000 characters"),
    ],
    ids=["pax", "global pax", "long name", "sparse", "headers of headers", "files", "links",
         "directories", "name"],
)  # fmt: skip
def test_an_archive_that_would_eat_the_memory_is_refused(
    stream: Endless, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream goes on for ever; who reads it all does not come back."""
    monkeypatch.setattr(archive_files, "_MOST_FILES", 1000)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match=words):
            list(files_of(stream))
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_files_and_links_come_in_their_order() -> None:
    """With plain names; what is neither is passed over."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, kind, link in (
            ("./a/", tarfile.DIRTYPE, ""), ("./a/../b", tarfile.REGTYPE, ""),
            ("a/c", tarfile.SYMTYPE, "../b"), ("d", tarfile.LNKTYPE, "./b"),
            ("e", tarfile.FIFOTYPE, ""),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            entry.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"abc"))
    found = []
    for file in files_of(io.BytesIO(made.getvalue())):
        content = file.content.read() if file.content else b""
        found.append((file.name, file.target, content))
    assert found == [("b", "", b"abc"), ("a/c", "b", b""), ("d", "b", b"")]
