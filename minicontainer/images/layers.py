"""Layers, unpacked: each a lower directory for overlays, shared by all images that have it.

    <data-root>/layers/
      <chain ID in hex>/diff/        the layer's files, whiteouts as overlay has them
                        layer.json   chain ID, parent, diff ID, size
      tmp/                           what is being unpacked, or being removed

A layer is named by its chain ID: the digest of its own diff ID and of all below it. A directory
of that name is whole: it was unpacked in `tmp`, written to disk and renamed. What a crash leaves
in `tmp` is removed when the store is opened the next time.

See: image-spec config.md "Layer ChainID"; overlayfs.rst.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import threading

from minicontainer.contexts import ExitStack, contextmanager, suppress
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images import confinement, directories
from minicontainer.kernel import files, trees
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from minicontainer.images.confinement import Readable

_HEX = frozenset("0123456789abcdef")


class Limits(Record):
    """What one layer may have. An archive that unpacks to more is refused before the disk is full.

    Args:
        entries: files, directories, links, ….
        bytes: of its files' content, holes included.
    """

    entries: int = 5_000_000
    bytes: int = 1 << 40


class LayerStore:
    """The unpacked layers of a data root.

    Args:
        data_root: the engine's directory.
        limits: of one layer.
    """

    def __init__(self, data_root: str, limits: Limits | None = None) -> None:
        self._root = os.path.join(data_root, "layers")
        self._limits = limits or Limits()
        self._guard = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        os.makedirs(os.path.join(self._root, "tmp"), mode=0o700, exist_ok=True)
        self._sweep()

    def has(self, chain_id: str) -> bool:
        """Say whether a layer is here, whole."""
        return os.path.isdir(os.path.join(self._place(chain_id), "diff"))

    def directory(self, chain_id: str) -> str:
        """Give the directory of a layer's files.

        Raises:
            NotFound: the layer is not here.
        """
        if not self.has(chain_id):
            raise NotFound(f"layer does not exist: {chain_id}")
        return os.path.join(self._place(chain_id), "diff")

    def lower_directories(self, chain_ids: Sequence[str]) -> tuple[str, ...]:
        """Give the directories of an image's layers, the uppermost first, as overlay wants them.

        Args:
            chain_ids: the lowest first, as an image lists them. A layer that hides all below it
                ends the list: overlay knows no opaque root.
        Raises:
            NotFound: a layer is not here.
        """
        found = []
        for chain_id in reversed(chain_ids):
            found.append(self.directory(chain_id))
            if os.path.exists(os.path.join(self._place(chain_id), "opaque")):
                break
        return tuple(found)

    def size(self, chain_id: str) -> int:
        """Give the bytes of a layer's files.

        Raises:
            NotFound: the layer is not here.
        """
        return int(self._about(chain_id)["size"])

    def chain_ids(self) -> tuple[str, ...]:
        """Give the chain IDs of all layers."""
        names = os.listdir(self._root)
        return tuple(f"sha256:{name}" for name in sorted(names) if len(name) == 64)

    def unpack(
        self, chain_id: str, parent_chain_id: str, diff_id: str, tar_stream: Readable
    ) -> int:
        """Unpack a layer; one that is here already is not read again.

        Args:
            chain_id: the layer's.
            parent_chain_id: of the layer below, or "".
            diff_id: the digest that the archive must have.
            tar_stream: the archive, decompressed; read to its end.
        Returns:
            The bytes of its files.
        Raises:
            InvalidArgument: the archive is damaged, hostile or another than *diff_id* says.
            LimitExceeded: it has more than is allowed.
            KernelError: ENOSPC and what else the kernel says.
        """
        with self._alone(chain_id):
            if self.has(chain_id):
                return self.size(chain_id)
            below = self._chain(parent_chain_id)
            with self._new() as work:
                about = self._fill(work, below, diff_id, tar_stream)
                about |= {"chain_id": chain_id, "parent": parent_chain_id, "diff_id": diff_id}
                with open(os.path.join(work, "layer.json"), "w") as file:
                    json.dump(about, file)
                os.unlink(os.path.join(work, "lock"))
                trees.sync_filesystem(work)
                try:
                    os.rename(work, self._place(chain_id))
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:  # another process has the same one there
                        raise
            trees.sync_directory(self._root)
            return int(about["size"])

    def remove(self, chain_id: str) -> None:
        """Remove a layer; nothing happens if it is not here. No container may use it any more."""
        self.discard(self.detach(chain_id))

    def detach(self, chain_id: str) -> str:
        """Take a layer away under its name, at once; give what `discard` then removes.

        Returns:
            A directory, which also goes when the store is opened the next time; "" for a layer
            that is not here.
        """
        gone = os.path.join(self._root, "tmp", f"removed-{os.urandom(8).hex()}")
        with self._alone(chain_id):
            try:
                os.rename(self._place(chain_id), gone)
            except FileNotFoundError:
                return ""
        return gone

    def discard(self, directory: str) -> None:
        """Remove the files of a layer that was detached."""
        with suppress(FileNotFoundError):  # another process that opened the store removes it, too
            if directory:
                trees.remove_tree(directory)

    def age_s(self, chain_id: str, now: float) -> float:
        """Give the seconds since a layer was unpacked; 0 for one that is not here.

        Args:
            chain_id: the layer's.
            now: seconds since 1970.
        """
        with suppress(FileNotFoundError):
            return now - os.stat(os.path.join(self._place(chain_id), "layer.json")).st_mtime
        return 0.0

    # -- inside ---------------------------------------------------------------------------------

    def _place(self, chain_id: str) -> str:
        algorithm, _, digits = chain_id.partition(":")
        if algorithm != "sha256" or len(digits) != 64 or set(digits) - _HEX:
            raise InvalidArgument(f"invalid chain ID {chain_id!r}")
        return os.path.join(self._root, digits)

    def _about(self, chain_id: str) -> dict[str, Any]:
        self.directory(chain_id)
        with open(os.path.join(self._place(chain_id), "layer.json")) as file:
            found: dict[str, Any] = json.load(file)
        return found

    def _chain(self, chain_id: str) -> tuple[str, ...]:
        """Give the directories of a layer and of those below it, the uppermost first."""
        found: list[str] = []
        while chain_id:
            found.append(self.directory(chain_id))
            chain_id = str(self._about(chain_id)["parent"])
        return tuple(found)

    @contextmanager
    def _alone(self, chain_id: str) -> Iterator[None]:
        """Let one thread at a time work on a layer: the others then find it done."""
        with self._guard:
            lock = self._busy.setdefault(chain_id, threading.Lock())
        with lock:
            yield

    @contextmanager
    def _new(self) -> Iterator[str]:
        """Make a directory to unpack in; what is left of it at the end is removed."""
        name = os.urandom(8).hex()
        work = os.path.join(self._root, "tmp", name)
        with self._tmp_locked():
            os.mkdir(work, 0o700)
            lock = os.open(os.path.join(work, "lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            with files.opened(lock):
                os.mkdir(os.path.join(work, "diff"))
                os.chmod(os.path.join(work, "diff"), 0o755)  # whatever the umask
                yield work
        finally:
            if os.path.isdir(work):
                trees.remove_tree(work)

    def _fill(
        self, work: str, below: tuple[str, ...], diff_id: str, stream: Readable
    ) -> dict[str, Any]:
        directory = os.path.join(work, "diff")
        with ExitStack() as stack:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            limits = self._limits
            child = confinement.Child(
                "minicontainer.images.unpack", fd,
                (limits.entries, limits.bytes, int(bool(below))),
            )  # fmt: skip
            stack.callback(child.end)
            digest = hashlib.sha256()
            whole = child.feed(stream, digest.update)
            found = f"sha256:{digest.hexdigest()}"
            if whole and found != diff_id:
                raise InvalidArgument(
                    f"the layer's content is {found}, and not {diff_id} as the image says: it is "
                    "damaged, or was changed"
                )
            child.close_stdin()
            told = directories.finish(child, below)
        if told.pop("opaque"):
            with open(os.path.join(work, "opaque"), "w"):
                pass
        return told

    @contextmanager
    def _tmp_locked(self) -> Iterator[None]:
        """Keep the sweep of another process away from a directory that has no lock yet."""
        with files.opened(os.open(os.path.join(self._root, "tmp"), os.O_RDONLY)) as tmp:
            fcntl.flock(tmp, fcntl.LOCK_EX)
            yield

    def _sweep(self) -> None:
        """Remove what a crash left behind: no living process holds its lock."""
        tmp = os.path.join(self._root, "tmp")
        with self._tmp_locked():
            for name in os.listdir(tmp):
                path = os.path.join(tmp, name)
                if not _is_locked(os.path.join(path, "lock")):
                    with suppress(FileNotFoundError):
                        trees.remove_tree(path)


def _is_locked(path: str) -> bool:
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False
