"""Layers: what an archive says is what lies in the layer's directory, and nothing else changes."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from minicontainer.errors import InvalidArgument, KernelError, NotFound
from minicontainer.images.confinement import LimitExceeded
from minicontainer.images.layers import LayerStore, Limits
from tests.images.conftest import sha256, small_disk
from tests.images.trees import Node, expected, look, tar, trees, unpacked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices")

EXAMPLES = int(os.environ.get("MINICONTAINER_EXAMPLES", "25"))


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    """Give an empty store."""
    return LayerStore(str(tmp_path / "data"))


def directory_of(layers: LayerStore, *nodes: Node, parent: str = "") -> str:
    """Unpack a layer of these files; give its directory."""
    return layers.directory(unpacked(layers, tar(list(nodes)), parent))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(nodes=trees())
def test_unpacking_gives_what_was_written(tmp_path: Path, nodes: list[Node]) -> None:
    """Names of any bytes, owners, modes, times to the nanosecond, links, devices, attributes."""
    layers = LayerStore(str(tmp_path / "data"))
    chain_id = unpacked(layers, tar(nodes))
    assert look(layers.directory(chain_id)) == expected(nodes)
    layers.remove(chain_id)
    assert not layers.has(chain_id)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_of_headers_is_read(layers: LayerStore, format: int) -> None:
    """Names that fit, and in GNU's and PAX's also those that do not."""
    long = b"" if format == tarfile.USTAR_FORMAT else b"x" * 200
    nodes = [
        Node(b"d", "directory", mode=0o755),
        Node(b"d/" + b"n" * 99, content=b"content"),
        Node(b"link", "symlink", target=b"t" * 90 + long),
    ]
    if long:
        nodes.append(Node(b"d/" + long, uid=2**31))
    chain_id = unpacked(layers, tar(nodes, format))
    assert look(layers.directory(chain_id), times=False).keys() == {node.path for node in nodes}
    assert os.readlink(f"{layers.directory(chain_id)}/link") == "t" * 90 + long.decode()
    if long:
        assert os.lstat(f"{layers.directory(chain_id)}/d/{long.decode()}").st_uid == 2**31


@pytest.mark.parametrize(
    "options",
    [
        ("--format=gnu", "--sparse"),
        ("--format=pax", "--sparse", "--sparse-version=0.0"),
        ("--format=pax", "--sparse", "--sparse-version=0.1"),
        ("--format=pax", "--sparse", "--sparse-version=1.0"),
        ("--format=v7",),
        ("--format=ustar",),
        ("--format=oldgnu", "--sparse"),
    ],
    ids=" ".join,
)
def test_what_gnu_tar_writes_is_read(
    layers: LayerStore, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Sparse files in all its ways; many pieces, so that a map needs more than one block."""
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        for piece in range(40):
            file.seek(piece * 200_000)
            file.write(b"data%d" % piece)
        file.truncate(9_000_000)
    (source / "hole").touch()
    os.truncate(source / "hole", 1 << 20)
    (source / "after").write_text("after")
    os.link(source / "after", source / "other")
    made = subprocess.run(
        ["tar", "-C", source, "-c", *options, "."], check=True, capture_output=True
    )
    directory = layers.directory(unpacked(layers, made.stdout))
    assert look(directory, times=False) == look(source, times=False)
    if "--sparse" in options:
        assert os.stat(f"{directory}/sparse").st_blocks * 512 < 1_000_000


def test_a_path_longer_than_a_system_call_takes(layers: LayerStore) -> None:
    """4096 bytes are the kernel's limit for one path, and not for a tree."""
    deep = b"/".join([b"d" * 200] * 40)
    nodes = [
        Node(deep + b"/file", content=b"deep"),
        Node(deep + b"/link", "link", target=deep + b"/file"),
        Node(deep, "directory", mode=0o750),
        Node(b"shallow", "link", target=deep + b"/file"),
    ]
    directory = directory_of(layers, *nodes)
    assert os.stat(f"{directory}/shallow").st_nlink == 3
    at = os.open(directory, os.O_PATH)
    for part in deep.split(b"/"):
        inner = os.open(part, os.O_PATH, dir_fd=at)
        os.close(at)
        at = inner
    assert stat.S_IMODE(os.fstat(at).st_mode) == 0o750
    os.close(at)


def test_whiteouts_become_overlays(layers: LayerStore) -> None:
    """A deleted file a device 0:0, a directory that hides what is below an attribute."""
    below = unpacked(layers, tar([Node(b"d", "directory"), Node(b"d/old"), Node(b"gone")]))
    nodes = (
        Node(b".wh.gone"),
        Node(b"d", "directory", mode=0o755),
        Node(b"d/.wh..wh..opq"),
        Node(b"d/new"),
        Node(b".wh..wh.plnk", "directory"),
        Node(b".wh..wh.plnk/1.2"),
    )
    directory = directory_of(layers, *nodes, parent=below)
    found = os.lstat(f"{directory}/gone")
    assert (stat.S_IFMT(found.st_mode), found.st_rdev) == (stat.S_IFCHR, 0)
    assert os.getxattr(f"{directory}/d", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(f"{directory}/d", "user.overlay.opaque") == b"y"
    assert set(os.listdir(directory)) == {"gone", "d"}
    assert os.listdir(f"{directory}/d") == ["new"]


def test_a_whiteout_does_not_hide_what_its_own_layer_has(layers: LayerStore) -> None:
    """In whatever order: it is about the layers below. A directory then hides those."""
    nodes = (
        Node(b".wh.a"), Node(b"a", content=b"1"), Node(b"b", content=b"2"), Node(b".wh.b"),
        Node(b".wh.c"), Node(b"c", "directory"), Node(b"d", "directory"), Node(b".wh.d"),
        Node(b".wh.e"), Node(b"e/inside"),
    )  # fmt: skip
    directory = directory_of(layers, *nodes)
    assert Path(directory, "a").read_text() == "1"
    assert Path(directory, "b").read_text() == "2"
    for name in "cde":
        assert os.getxattr(f"{directory}/{name}", "trusted.overlay.opaque") == b"y"


def test_a_layer_that_hides_all_below_is_the_lowest(layers: LayerStore) -> None:
    """Overlay knows no opaque root."""
    first = unpacked(layers, tar([Node(b"old")]))
    second = unpacked(layers, tar([Node(b".wh..wh..opq"), Node(b"new")]), first)
    third = unpacked(layers, tar([Node(b"newest")]), second)
    assert layers.lower_directories((first, second, third)) == (
        layers.directory(third), layers.directory(second),
    )  # fmt: skip


def test_a_directory_without_an_entry_is_as_in_the_layers_below(layers: LayerStore) -> None:
    """A layer with one new file leaves the mode of its directory alone."""
    down = Node(b"home", "directory", mode=0o1700, uid=7, gid=8, xattrs={"user.a": b"1"})
    first = unpacked(layers, tar([down, Node(b"home/link", "symlink", target=b"/")]))
    second = unpacked(layers, tar([Node(b"other")]), first)
    directory = directory_of(layers, Node(b"home/new/file"), parent=second)
    found = os.stat(f"{directory}/home")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o1700, 7, 8)
    assert found.st_mtime_ns == down.mtime_ns
    assert os.getxattr(f"{directory}/home", "user.a") == b"1"
    assert stat.S_IMODE(os.stat(f"{directory}/home/new").st_mode) == 0o755


def test_a_later_entry_wins(layers: LayerStore) -> None:
    """A file over a directory, a directory over a file, and all of it again."""
    nodes = (
        Node(b"a", "directory"), Node(b"a/b/c"), Node(b"a", content=b"file"),
        Node(b"f"), Node(b"f", "directory", mode=0o711), Node(b"f/x"), Node(b"f", "directory"),
        Node(b"s", "symlink", target=b"f"), Node(b"s/y"), Node(b"s", "directory"), Node(b"s/z"),
        Node(b"l", content=b"1"), Node(b"m", "link", target=b"l"), Node(b"m", content=b"2"),
        Node(b"l", "link", target=b"m"),
    )  # fmt: skip
    directory = directory_of(layers, *nodes)
    assert sorted(look(directory)) == [
        b"a", b"f", b"f/x", b"f/y", b"l", b"m", b"s", b"s/z",
    ]  # fmt: skip
    assert Path(directory, "a").read_text() == "file"
    assert Path(directory, "l").read_text() == "2"


def test_set_group_id_and_default_acls_do_not_rub_off(layers: LayerStore) -> None:
    """A file has what its entry says, and not what its directory would give it."""
    acl = bytes.fromhex(
        "0200000001000700ffffffff04000500ffffffff20000500ffffffff"
    )  # u::rwx g::r-x o::r-x
    nodes = (
        Node(b"d", "directory", mode=0o2777, gid=5, xattrs={"system.posix_acl_default": acl}),
        Node(b"d/f", mode=0o666),
        Node(b"d/e", "directory", mode=0o777),
    )
    directory = directory_of(layers, *nodes)
    for name, mode in (("d", 0o2777), ("d/f", 0o666), ("d/e", 0o777)):
        assert stat.S_IMODE(os.stat(f"{directory}/{name}").st_mode) == mode
    assert os.stat(f"{directory}/d/f").st_gid == 0
    assert "system.posix_acl_default" in os.listxattr(f"{directory}/d")
    assert "system.posix_acl_default" not in os.listxattr(f"{directory}/d/e")


# ---- the store


def test_a_layer_is_unpacked_once(layers: LayerStore) -> None:
    """By however many threads at once; the others wait, and find it."""
    archive = tar([Node(b"f%d" % number, content=b"x" * 5000) for number in range(200)])
    read: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            read.append(threading.get_ident())
            return super().read(size)

    def unpack() -> None:
        layers.unpack(sha256(archive), "", sha256(archive), Counted(archive))

    threads = [threading.Thread(target=unpack) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(read)) == 1
    assert layers.size(sha256(archive)) == 200 * 5000
    assert layers.chain_ids() == (sha256(archive),)


def test_what_a_crash_left_is_removed(layers: LayerStore, tmp_path: Path) -> None:
    """When the store is opened again; what a living process works on stays."""
    left = tmp_path / "data/layers/tmp/0123"
    (left / "diff/d").mkdir(parents=True)
    (left / "lock").touch()
    with layers._new() as work:
        LayerStore(str(tmp_path / "data"))
        assert not left.exists()
        assert Path(work, "diff").exists()


def test_another_archive_than_the_image_says_is_refused(layers: LayerStore) -> None:
    """And nothing of it stays."""
    archive, other = tar([Node(b"a")]), sha256(b"other")
    with pytest.raises(InvalidArgument, match="damaged, or was changed"):
        layers.unpack(other, "", other, io.BytesIO(archive))
    assert not layers.has(other)
    assert os.listdir(Path(layers._root, "tmp")) == []
    layers.unpack(sha256(archive), "", sha256(archive), io.BytesIO(archive))


def test_an_error_of_the_stream_leaves_nothing(layers: LayerStore) -> None:
    """A connection that breaks, for example; the next try works."""
    archive = tar([Node(b"a", content=b"x" * 3_000_000)])

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 1_000_000:
                raise OSError("connection lost")
            return super().read(size)

    with pytest.raises(OSError, match="connection lost"):
        layers.unpack(sha256(archive), "", sha256(archive), Broken(archive))
    assert os.listdir(Path(layers._root, "tmp")) == []
    unpacked(layers, archive)


def test_a_full_disk_is_told_from_a_limit(tmp_path: Path) -> None:
    """The one is the user's to solve, the other the archive's fault."""
    archive = tar([Node(b"a", content=b"x" * 3_000_000)])
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        full = LayerStore(str(disk))
        with pytest.raises(KernelError, match="No space left on device"):
            unpacked(full, archive)
        assert full.chain_ids() == ()
        assert os.listdir(disk / "layers/tmp") == []
    for limits in (Limits(bytes=1 << 20), Limits(entries=0)):
        limited = LayerStore(str(tmp_path / "limited"), limits)
        with pytest.raises(LimitExceeded, match="more than"):
            unpacked(limited, archive)


def test_a_layer_that_is_not_here(layers: LayerStore) -> None:
    """It is named; and no name leads out of the store."""
    with pytest.raises(NotFound, match="layer does not exist: sha256:"):
        layers.directory(sha256(b""))
    for name in ("sha256:../x", "sha256:", "x", "sha256:" + "A" * 64):
        with pytest.raises(InvalidArgument, match="invalid chain ID"):
            layers.has(name)
