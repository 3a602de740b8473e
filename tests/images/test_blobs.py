"""Blobs: verified, resumed, shared, and never half there."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument, KernelError, NotFound
from minicontainer.images.blobs import Blobs
from tests.images.conftest import sha256, small_disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 500
DIGEST = sha256(CONTENT)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Give an empty layout."""
    return Blobs(str(tmp_path / "layout"))


def left_over(blobs: Blobs) -> list[str]:
    """List what is in `ingest`."""
    return os.listdir(os.path.join(blobs.root, "ingest"))


@given(chunks=st.lists(st.binary(max_size=100), max_size=5), named=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reading_gives_what_was_written(blobs: Blobs, chunks: list[bytes], named: bool) -> None:
    """Under its digest, whether that was known before or not."""
    content = b"".join(chunks)
    digest, size = blobs.ingest(chunks, sha256(content) if named else "")
    assert (digest, size) == (sha256(content), len(content))
    assert blobs.read(digest) == content
    assert blobs.size(digest) == len(content)
    assert blobs.has(digest)
    assert not left_over(blobs)


def test_a_file_is_read_to_its_end(blobs: Blobs) -> None:
    """A stream that has `read` is not iterated over by lines."""
    assert blobs.ingest(io.BytesIO(b"a\nb\n")) == (sha256(b"a\nb\n"), 4)


def test_a_blob_that_is_there_is_not_written_again(blobs: Blobs) -> None:
    """Its source is not even read."""
    blobs.write(CONTENT)
    unread = io.BytesIO(CONTENT)
    assert blobs.ingest(unread, DIGEST) == (DIGEST, len(CONTENT))
    assert unread.tell() == 0


@pytest.mark.parametrize("content", [b"", b"other", CONTENT + b"x", CONTENT[:-1]])
def test_another_content_is_refused(blobs: Blobs, content: bytes) -> None:
    """And nothing of it stays."""
    with pytest.raises(InvalidArgument, match=r"digest mismatch|more than|cut off"):
        blobs.ingest((content,), DIGEST, len(CONTENT))
    assert not blobs.has(DIGEST)
    blobs.ingest((CONTENT,), DIGEST, len(CONTENT))  # the next try works
    assert blobs.read(DIGEST) == CONTENT


def test_a_download_goes_on_where_it_was_cut_off(blobs: Blobs) -> None:
    """The bytes that were written are hashed again, and only the rest is asked for."""
    with blobs.partial(DIGEST, len(CONTENT)) as part:
        assert part is not None
        part.write(CONTENT[:1000])
    with blobs.partial(DIGEST, len(CONTENT)) as part:
        assert part is not None
        assert part.offset == 1000
        with pytest.raises(InvalidArgument, match=f"cut off: 1000 of {len(CONTENT)} bytes"):
            part.commit()
    with blobs.partial(DIGEST, len(CONTENT)) as part:
        assert part is not None
        part.write(CONTENT[part.offset :])
        assert part.commit() == len(CONTENT)
    assert blobs.read(DIGEST) == CONTENT
    assert not left_over(blobs)


def test_a_part_that_was_damaged_is_found_out(blobs: Blobs) -> None:
    """By the digest of the whole; the next try begins anew."""
    with blobs.partial(DIGEST) as part:
        assert part is not None
        part.write(b"X" + CONTENT[1:1000])
    with blobs.partial(DIGEST) as part:
        assert part is not None
        part.write(CONTENT[1000:])
        with pytest.raises(InvalidArgument, match="digest mismatch"):
            part.commit()
        assert part.offset == 0


def test_two_writers_of_one_blob_share_the_work(blobs: Blobs) -> None:
    """The second waits for the first, and then has the blob."""
    began, go_on = threading.Event(), threading.Event()
    seen: list[object] = []

    def slow() -> Iterator[bytes]:
        yield CONTENT[:100]
        began.set()
        assert go_on.wait(10)
        yield CONTENT[100:]

    def second() -> None:
        with blobs.partial(DIGEST) as part:
            seen.append(part)

    first = threading.Thread(target=blobs.ingest, args=(slow(), DIGEST))
    first.start()
    assert began.wait(10)
    other = threading.Thread(target=second)
    other.start()
    other.join(0.05)
    assert other.is_alive()
    assert not blobs.has(DIGEST)
    go_on.set()
    for thread in (first, other):
        thread.join(10)
    assert seen == [None]
    assert blobs.read(DIGEST) == CONTENT
    assert not left_over(blobs)


def test_a_writer_whose_predecessor_failed_takes_over(blobs: Blobs) -> None:
    """It goes on with what that one has written."""
    began, go_on = threading.Event(), threading.Event()

    def failing() -> None:
        with contextlib.suppress(ConnectionError), blobs.partial(DIGEST) as part:
            assert part is not None
            part.write(CONTENT[:100])
            began.set()
            assert go_on.wait(10)
            raise ConnectionError

    offsets = []

    def second() -> None:
        with blobs.partial(DIGEST) as part:
            assert part is not None
            offsets.append(part.offset)
            part.write(CONTENT[part.offset :])
            part.commit()

    threads = [threading.Thread(target=failing), threading.Thread(target=second)]
    threads[0].start()
    assert began.wait(10)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert offsets == [100]
    assert blobs.read(DIGEST) == CONTENT


def test_many_writers_of_the_same_blobs(blobs: Blobs) -> None:
    """However they meet, each blob is whole, and nothing is left."""
    contents = [bytes([n]) * 5000 for n in range(10)]
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for content in contents:
                blobs.ingest((content[:50], content[50:]), sha256(content))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert [blobs.read(sha256(content)) for content in contents] == contents
    assert not left_over(blobs)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """ENOSPC is told with the blob's name; there is room again afterwards, and the store works."""
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        blobs = Blobs(str(disk))
        large = os.urandom(2 << 20)
        for digest in (sha256(large), ""):
            with pytest.raises(KernelError, match="No space left on device") as caught:
                blobs.ingest((large[:500_000], large[500_000:]), digest)
            assert caught.value.errno == errno.ENOSPC
            assert not list(blobs.digests())
            assert not left_over(blobs)
        blobs.ingest((large[:500_000],))


def test_what_is_not_there_is_not_found(blobs: Blobs) -> None:
    """And a name that is no digest leads nowhere."""
    for look in (blobs.open, blobs.size, blobs.read):
        with pytest.raises(NotFound, match=DIGEST):
            look(DIGEST)
        with pytest.raises(InvalidArgument):
            look("sha256:../../../../etc/passwd")
    assert blobs.remove(DIGEST) == 0


def test_a_document_that_is_too_large_is_refused(blobs: Blobs) -> None:
    """It would be held in memory."""
    blobs.write(CONTENT)
    with pytest.raises(InvalidArgument, match="larger than 100 bytes"):
        blobs.read(DIGEST, 100)


def test_old_parts_are_swept(blobs: Blobs) -> None:
    """A young one may be gone on with, and one that is being written stays."""
    with blobs.partial(DIGEST) as part:
        assert part is not None
        part.write(CONTENT)
        assert blobs.sweep_ingest(0, time.time() + 5) == 0
    assert blobs.sweep_ingest(3600, time.time()) == 0
    assert len(left_over(blobs)) == 1
    assert blobs.sweep_ingest(3600, time.time() + 4000) == len(CONTENT)
    assert not left_over(blobs)
