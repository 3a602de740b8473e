"""Blobs by digest, in an OCI image layout: `blobs/sha256/…` beside `oci-layout` and `index.json`.

A blob is written to `ingest/`, hashed on its way, flushed to the disk, and renamed into its place.
A process that is killed at any moment leaves a file in `ingest/`, never half a blob. The name of
such a file is its digest, so the next download of the same blob goes on where that one stopped.

One writer at a time has a blob: it holds a lock on the file in `ingest/`. A second one waits, and
then finds that the blob is there.

See: OCI image-spec image-layout.md; rename(2); fsync(2); flock(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time

from minicontainer.errors import InvalidArgument, KernelError, NotFound
from minicontainer.images.references import check_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO, Protocol

    class Readable(Protocol):
        """Anything with a `read`."""

        def read(self, size: int, /) -> bytes:
            """Read up to *size* bytes; b"" at the end."""


CHUNK = 1 << 20
_WAIT_S = 0.1  # between two looks at a blob that somebody else writes
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
MANIFEST_LIMIT = 4 << 20  # bytes: registries refuse more, and a manifest is held in memory


class Blobs:
    """The blobs of an OCI image layout.

    Args:
        root: the layout's directory; it is made where it is missing.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._ingest = os.path.join(root, "ingest")
        # root's alone: what is in a layer may be secret, or a set-id program with a known hole
        os.makedirs(root, mode=0o700, exist_ok=True)
        os.makedirs(self._ingest, mode=0o700, exist_ok=True)
        os.makedirs(os.path.join(root, "blobs", "sha256"), exist_ok=True)
        if not os.path.exists(os.path.join(root, "oci-layout")):
            self.write_file("oci-layout", LAYOUT)

    def path(self, digest: str) -> str:
        """Name the file of a blob, whether it is there or not.

        Raises:
            InvalidArgument: *digest* is none.
        """
        check_digest(digest)
        algorithm, _, encoded = digest.partition(":")
        return os.path.join(self.root, "blobs", algorithm, encoded)

    def has(self, digest: str) -> bool:
        """Say whether the blob is here, complete."""
        return os.path.exists(self.path(digest))

    def size(self, digest: str) -> int:
        """Give the size of a blob in bytes.

        Raises:
            NotFound: it is not here.
        """
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading.

        Raises:
            NotFound: it is not here.
        """
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError:
            raise _missing(digest) from None

    def read(self, digest: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """Read a whole blob, a manifest or a config.

        Args:
            digest: which one.
            limit: bytes; a larger one is refused.
        Raises:
            NotFound: it is not here. InvalidArgument: it is larger than *limit*.
        """
        with self.open(digest) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise InvalidArgument(f"blob {digest} is larger than {limit} bytes")
        return content

    def remove(self, digest: str) -> int:
        """Remove a blob; give the bytes that it had, 0 where it was not here."""
        path = self.path(digest)
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        return size

    def digests(self) -> Iterator[str]:
        """List the blobs that are here."""
        for algorithm in sorted(os.listdir(os.path.join(self.root, "blobs"))):
            for encoded in os.listdir(os.path.join(self.root, "blobs", algorithm)):
                yield f"{algorithm}:{encoded}"

    def write(self, content: bytes) -> str:
        """Keep *content* as a blob; give its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.ingest((content,), digest, len(content))
        return digest

    def ingest(
        self, source: Readable | Iterable[bytes], digest: str = "", size: int = -1
    ) -> tuple[str, int]:
        """Keep what *source* gives as a blob.

        Args:
            source: a file, or chunks of bytes.
            digest: what it must be; "" takes what comes.
            size: bytes that it must have; -1 takes what comes.
        Returns:
            Its digest and its size.
        Raises:
            InvalidArgument: it has another digest or size; nothing is kept.
            KernelError: ENOSPC on a full disk; nothing is kept.
        """
        if not digest:
            with self.new(size) as new:
                new.write_all(source)
                length = new.commit()
            return new.digest, length
        with self.partial(digest, size) as part:
            if part is None:
                return digest, self.size(digest)
            part.restart()
            part.write_all(source)
            return digest, part.commit()

    @contextlib.contextmanager
    def new(self, size: int = -1) -> Iterator[Partial]:
        """Begin a blob whose digest nobody knows yet; without `commit` nothing is kept."""
        path = os.path.join(self._ingest, f"{os.urandom(16).hex()}.new")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield Partial(self, path, file, "", size)
        finally:
            os.close(file)
            with contextlib.suppress(FileNotFoundError):  # renamed, if all went well
                os.unlink(path)

    @contextlib.contextmanager
    def partial(
        self, digest: str, size: int = -1, waiting: Callable[[int], object] | None = None
    ) -> Iterator[Partial | None]:
        """Take the writing of a blob; wait while somebody else has it.

            with blobs.partial(digest, size) as part:
                if part is not None:            # None: the blob is here
                    for chunk in download(start=part.offset):
                        part.write(chunk)
                    part.commit()

        What was written and not committed is kept for the next one, who finds it in `offset`.

        Args:
            digest: which blob.
            size: bytes that it must have; -1 takes what comes.
            waiting: is called now and then while somebody else writes it, with the bytes that are
                there; what it raises ends the waiting.
        """
        if self.has(digest):
            yield None
            return
        path = os.path.join(self._ingest, f"{digest.replace(':', '-')}.part")
        file = _open_locked(path, waiting)
        try:
            # it may have been written while this one waited
            yield None if self.has(digest) else Partial(self, path, file, digest, size)
        finally:
            if not os.fstat(file).st_size or self.has(digest):
                _unlink_if_same(path, file)
            os.close(file)

    def sweep_ingest(self, older_than_s: float, now: float) -> int:
        """Remove what writers that are gone left in `ingest/`; give the bytes freed.

        Args:
            older_than_s: seconds since the last write; what is younger may be resumed.
            now: seconds since 1970.
        """
        freed = 0
        for name in os.listdir(self._ingest):
            path = os.path.join(self._ingest, name)
            try:
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                state = os.fstat(file)
                if now - state.st_mtime >= older_than_s and _unlink_if_same(path, file):
                    freed += state.st_size
            except BlockingIOError:
                pass  # somebody writes it now
            finally:
                os.close(file)
        return freed

    def write_file(self, name: str, content: bytes) -> None:
        """Replace a file of the layout, `index.json`, at once."""
        path = os.path.join(self.root, name)
        new = f"{path}.{os.urandom(8).hex()}.new"
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            _write_all(file, content, name)
            os.fsync(file)
            os.rename(new, path)
        finally:
            os.close(file)
            with contextlib.suppress(FileNotFoundError):  # renamed, if all went well
                os.unlink(new)
        sync_directory(self.root)


class Partial:
    """A blob being written; `Blobs.partial` makes it.

    Attributes:
        offset: the bytes that are written: a download goes on from here.
    """

    def __init__(self, blobs: Blobs, path: str, file: int, digest: str, size: int) -> None:
        self._blobs = blobs
        self._path = path
        self._file = file
        self._size = size
        self.digest = digest
        algorithm = digest.partition(":")[0] or "sha256"
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self.offset = 0
        while chunk := os.read(file, CHUNK):
            self._hash.update(chunk)
            self.offset += len(chunk)
        if size >= 0 and self.offset > size:
            self.restart()

    def write(self, chunk: bytes) -> None:
        """Add *chunk*.

        Raises:
            InvalidArgument: it is more than the size that was promised; nothing is kept.
            KernelError: ENOSPC on a full disk; nothing is kept.
        """
        if 0 <= self._size < self.offset + len(chunk):
            self.restart()
            raise InvalidArgument(
                f"blob {self.digest} has more than the {self._size} bytes that were promised"
            )
        try:
            _write_all(self._file, chunk, f"blob {self.digest}" if self.digest else "blob")
        except KernelError:
            self.restart()  # half a blob would keep the disk full
            raise
        self._hash.update(chunk)
        self.offset += len(chunk)

    def write_all(self, source: Readable | Iterable[bytes]) -> None:
        """Add all that *source* gives."""
        for chunk in chunks_of(source):
            self.write(chunk)

    def restart(self) -> None:
        """Forget what is written, where it can't be gone on from."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._hash = hashlib.new(self._algorithm)
        self.offset = 0

    def commit(self) -> int:
        """Put the blob in its place; give its size.

        Raises:
            InvalidArgument: it has another digest or size. What has the wrong digest is not kept;
                what is too short is, to be gone on from.
        """
        if 0 <= self._size != self.offset:
            raise InvalidArgument(
                f"blob {self.digest} is cut off: {self.offset} of {self._size} bytes"
            )
        found = f"{self._algorithm}:{self._hash.hexdigest()}"
        if self.digest and found != self.digest:
            self.restart()
            raise InvalidArgument(
                f"digest mismatch: blob should be {self.digest}, its content is {found}"
            )
        self.digest = found
        place = self._blobs.path(found)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        try:
            os.fsync(self._file)
        except OSError as error:
            raise _failed(error, f"blob {found}") from error
        os.rename(self._path, place)
        sync_directory(os.path.dirname(place))
        return self.offset


def chunks_of(source: Readable | Iterable[bytes]) -> Iterator[bytes]:
    """Read a file, or anything that yields bytes, chunk by chunk."""
    read = getattr(source, "read", None)
    if read is None:
        yield from source  # type: ignore[misc]  # what has no read yields chunks
        return
    while chunk := read(CHUNK):
        yield chunk


def sync_directory(path: str) -> None:
    """Flush a directory's entries to the disk, so that a rename in it outlives a power cut."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _open_locked(path: str, waiting: Callable[[int], object] | None) -> int:
    """Open or make the file *path*, and lock it; it may be renamed or removed meanwhile."""
    while True:
        with contextlib.ExitStack() as undo:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            undo.callback(os.close, file)
            while waiting and not _try_lock(file):
                waiting(os.fstat(file).st_size)
                time.sleep(_WAIT_S)
            fcntl.flock(file, fcntl.LOCK_EX)  # had already by one who has looked now and then
            if _is_same(path, file):
                undo.pop_all()
                return file


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(path: str, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _unlink_if_same(path: str, file: int) -> bool:
    same = _is_same(path, file)
    if same:
        os.unlink(path)
    return same


def _write_all(file: int, content: bytes, what: str) -> None:
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError as error:
        raise _failed(error, what) from error


def _failed(error: OSError, what: str) -> KernelError:
    return KernelError(error.errno or errno.EIO, error.strerror or "failed", f"write {what}")


def _missing(digest: str) -> NotFound:
    return NotFound(f"blob {digest} is not in the store")
