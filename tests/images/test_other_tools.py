"""The same layers, unpacked by tools that nobody here wrote: the trees are the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from minicontainer.images import changes
from minicontainer.images.layers import LayerStore
from minicontainer.images.store import ImageStore
from tests.images.conftest import add_image
from tests.images.test_changes import Container
from tests.images.trees import Node, look, tar, unpacked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, mounts")

LOWEST = (
    Node(b"d", "directory", mode=0o750, uid=3), Node(b"d/a", content=b"a" * 3000, mode=0o4755),
    Node(b"d/b", content=b"b"), Node(b"d/hard", "link", target=b"d/b"), Node(b"gone", content=b"x"),
    Node(b"dir", "directory"), Node(b"dir/old"), Node(b"swap", "directory"), Node(b"swap/x"),
    Node(b"l", "symlink", target=b"/etc/passwd"), Node(b"null", "character", device=(1, 3)),
    Node(b"p", "fifo"), Node(b"x" * 120, "directory"),
    Node(b"x" * 120 + b"/" + b"y" * 130, content=b"long"),
    Node(b"caps", xattrs={"user.a": b"1"}, content=b"1"),
)  # fmt: skip
MIDDLE = (
    Node(b".wh.gone"), Node(b"d/.wh.a"), Node(b"d/c", content=b"c", mtime_ns=1_600_000_000 * 10**9),
    Node(b"dir", "directory", mode=0o700), Node(b"dir/.wh..wh..opq"), Node(b"dir/new"),
    Node(b"swap", content=b"a file now"),
)  # fmt: skip
UPPER = (
    Node(b"gone", "directory"), Node(b"gone/back"), Node(b"swap", "directory"),
    Node(b"d/b", content=b"b2"), Node(b"dir/.wh.new"),
)  # fmt: skip


def test_umoci_unpacks_the_same_tree(tmp_path: Path) -> None:
    """Whiteouts, replaced files, links, devices and attributes of three layers."""
    if not shutil.which("umoci"):
        pytest.skip("needs umoci")
    archives = tuple(tar(list(nodes)) for nodes in (LOWEST, MIDDLE, UPPER))
    store = ImageStore(str(tmp_path / "data"))
    image = add_image(store, "layered:1", layers=archives)
    layout = tmp_path / "data/images"
    name = f"{layout}:layered:1"
    told = subprocess.run(
        ["umoci", "raw", "unpack", "--image", name, tmp_path / "theirs"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    layers = LayerStore(str(tmp_path / "data"))
    parent = ""
    chain = [parent := unpacked(layers, archive, parent) for archive in archives]
    ours = Container(tmp_path / "c", layers.lower_directories(chain)).run(lambda root: None)
    theirs = look(tmp_path / "theirs")
    assert theirs == ours
    assert image.layers
    store.close()


def test_tar_unpacks_the_same_tree(tmp_path: Path) -> None:
    """A whole root file system, and one that was made of changes and exported."""
    tree = Path("/var/lib/minicontainer/rootfs/busybox")
    if not tree.exists():
        pytest.skip("needs rootfs/busybox")
    archive = subprocess.run(["tar", "-C", tree, "-c", "."], check=True, capture_output=True).stdout
    layers = LayerStore(str(tmp_path / "data"))
    directory = layers.directory(unpacked(layers, archive))
    assert look(directory, times=False) == look(tree, times=False)
    exported, theirs = tmp_path / "exported", tmp_path / "theirs"
    with open(exported, "wb") as out:
        changes.write_tree((directory,), out)
    theirs.mkdir()
    subprocess.run(["tar", "-C", theirs, "-xpf", exported], check=True)
    assert look(theirs) == look(directory)
