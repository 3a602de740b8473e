"""The image that is always there: busybox, made on this machine without any network.

It is called `docker.io/library/busybox:latest`, and made when that name is first used and no image
has it: one pulled by that name is not touched.

See: rootfs/busybox, which builds the files.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
import threading

from minicontainer.errors import Unsupported, printable
from minicontainer.images.making import keep_layer, make_image, new_document
from minicontainer.images.references import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.image import Image
    from minicontainer.images.layers import LayerStore
    from minicontainer.images.references import Reference
    from minicontainer.images.store import ImageStore

NAME = parse("busybox")
_CONFIG = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "Cmd": ["sh"],
}
_BUILDER = os.path.join(os.path.dirname(__file__), "..", "..", "rootfs", "busybox")


class Builtin:
    """The embedded image of a store.

    Args:
        store: where it goes.
        layers: where its files go.
        data_root: a tree that `rootfs/busybox` has built below it is taken as it is.
    """

    def __init__(self, store: ImageStore, layers: LayerStore, data_root: str) -> None:
        self._store = store
        self._layers = layers
        self._built = os.path.join(data_root, "rootfs", "busybox")
        self._lock = threading.Lock()

    def is_meant(self, reference: Reference) -> bool:
        """Say whether a reference names the embedded image."""
        return reference == NAME

    def make(self) -> Image:
        """Make the image, or give the one that has its name already.

        Raises:
            Unsupported: the builder is missing, or what it needs.
        """
        with self._lock:  # the second one who asks finds it made
            image = self._store.find_by_name(NAME)
            if image is not None:
                return image
            if os.path.isfile(os.path.join(self._built, "bin", "busybox")):
                return self._make_of(self._built)
            with tempfile.TemporaryDirectory(prefix="busybox-", dir=self._store.root) as work:
                tree = os.path.join(work, "tree")
                _build(tree)
                return self._make_of(tree)

    def _make_of(self, tree: str) -> Image:
        archive = _tar(tree)
        program = os.stat(os.path.join(tree, "bin", "busybox"))
        with self._store.lease("busybox", is_resumable=False) as lease:
            layer = keep_layer(self._store, self._layers, lease, io.BytesIO(archive))
            document = new_document(
                _CONFIG, "", "rootfs/busybox", int(program.st_mtime) * 1_000_000_000
            )
            return make_image(self._store, lease, document, (layer,), (NAME,))


def _build(tree: str) -> None:
    """Run the builder.

    Raises:
        Unsupported: in its words.
    """
    if not os.path.exists(_BUILDER):
        raise Unsupported(f"the embedded image can't be made: {os.path.normpath(_BUILDER)} is gone")
    done = subprocess.run((_BUILDER, tree), capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = printable(done.stderr.strip().rpartition("\n")[2])
        raise Unsupported(f"the embedded image can't be made: {said}")


def _tar(tree: str) -> bytes:
    """Give a tree as a tar, in an order and with names that are the same on every machine."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(tree, "/", filter=_plain)
    return made.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uname = entry.gname = ""  # the host's names for these numbers
    entry.mtime = int(entry.mtime)
    return entry
