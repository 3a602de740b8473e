"""Compressed streams: every kind, whole, in parts, cut off, broken."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.images import compression

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": lambda content: zstandard.ZstdCompressor().compress(content),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "": bytes,
}
PACKED = [kind for kind in COMPRESS if kind]


class Dribble:
    """A stream that gives less than it is asked for, as a socket does."""

    def __init__(self, content: bytes, most: int) -> None:
        self._file = io.BytesIO(content)
        self._most = most

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes."""
        return self._file.read(min(size, self._most))


def read_all(
    content: bytes, kind: str | None = None, most: int = 1 << 20, size: int = 70000
) -> bytes:
    """Read the content of a compressed stream."""
    stream = compression.decompressed(Dribble(content, most), kind)
    return b"".join(iter(lambda: stream.read(size), b""))


@given(
    kind=st.sampled_from(sorted(COMPRESS)),
    parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    most=st.integers(1, 50),
    size=st.integers(1, 500),
)
@settings(deadline=None)
def test_reading_gives_what_was_written(
    kind: str, parts: list[bytes], most: int, size: int
) -> None:
    """In however many members, and however little comes at a time."""
    packed = b"".join(COMPRESS[kind](part) for part in parts)
    assert read_all(packed, kind, most, size) == b"".join(parts)


@pytest.mark.parametrize("kind", PACKED)
def test_the_first_bytes_tell_the_kind(kind: str) -> None:
    """So an archive needs no name that says how it is compressed."""
    content = random.Random(1).randbytes(300_000)
    packed = COMPRESS[kind](content)
    assert compression.kind_of(packed) == kind
    assert read_all(packed) == content


@pytest.mark.parametrize("content", [b"", b"a", b"\x1f", b"plain text that is long enough"])
def test_what_is_not_compressed_comes_as_it_is(content: bytes) -> None:
    """Also what is shorter than any sign of compression."""
    assert read_all(content, None, most=1) == content


@pytest.mark.parametrize("kind", PACKED)
def test_a_stream_that_is_cut_off_is_refused(kind: str) -> None:
    """At every byte: half an archive must not pass for a whole one."""
    packed = COMPRESS[kind](b"content " * 20)
    for length in range(len(packed)):
        with pytest.raises(InvalidArgument, match=f"^{kind}: "):
            read_all(packed[:length], kind)


@pytest.mark.parametrize("kind", PACKED)
def test_rubbish_after_a_stream_is_refused(kind: str) -> None:
    """Zeros alone may follow: tar pads to the length of a tape's block."""
    packed = COMPRESS[kind](b"content")
    assert read_all(packed + b"\0" * 5000, kind) == b"content"
    with pytest.raises(InvalidArgument, match=f"^{kind}: "):
        read_all(packed + b"rubbish that is no member at all", kind)


@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_needs_no_memory(kind: str) -> None:
    """A small stream that stands for a gigabyte is read in the pieces that are asked for."""
    if kind == "zstd":
        # blocks of one repeated byte: 128 KiB from 4 bytes
        block = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"x"
        packed = b"\x28\xb5\x2f\xfd\x00\x58" + block * 8192
    else:
        packed = COMPRESS[kind](b"x" * (1 << 26))
    tracemalloc.start()
    try:
        stream = compression.decompressed(io.BytesIO(packed), kind)
        for _ in range(20):
            assert stream.read(1 << 16) == b"x" * (1 << 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20


def test_media_types_tell_the_compression() -> None:
    """Docker's and OCI's."""
    kinds = {
        "application/vnd.oci.image.layer.v1.tar": "",
        "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
        "application/vnd.docker.image.rootfs.diff.tar": "",
        "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
    }
    assert {text: compression.kind_of_media_type(text) for text in kinds} == kinds
    with pytest.raises(Unsupported):
        compression.kind_of_media_type("application/vnd.oci.image.layer.v1.tar+encrypted")


def test_gzip_is_the_same_for_the_same_content() -> None:
    """Now and later: its digest names the layer."""
    content = [b"a" * 1000, b"b"]
    first = b"".join(compression.gzipped(content))
    assert b"".join(compression.gzipped([b"".join(content)])) == first
    assert gzip.decompress(first) == b"".join(content)
    assert first[4:8] == b"\0\0\0\0"  # the time in its header
