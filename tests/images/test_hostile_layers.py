"""Hostile archives: each trick is tried against files beside the layer's directory.

Unpacking has two walls: names are cleaned before they are used, and the process that uses them has
the layer's directory as its root. The tricks here must fail at the one or be harmless behind the
other; a look at the canary tells.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.contexts import suppress
from minicontainer.errors import Error, InvalidArgument, KernelError
from minicontainer.images import confinement
from minicontainer.images.confinement import LimitExceeded
from minicontainer.images.layers import LayerStore, Limits
from minicontainer.images.tar_reader import TarReader
from tests.images.conftest import sha256
from tests.images.test_layers import EXAMPLES, directory_of
from tests.images.trees import Node, look, tar, unpacked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot")


class Place:
    """A store with a canary beside it: files that no archive may change, add to or link to."""

    def __init__(self, base: Path) -> None:
        self.canary = base / "canary"
        self.canary.mkdir(parents=True)
        (self.canary / "file").write_text("alive")
        (self.canary / "directory").mkdir()
        self.layers = LayerStore(str(base / "data"))
        self._before = self._seen()

    def _seen(self) -> tuple[Any, ...]:
        status = os.stat(self.canary)
        return look(self.canary), status.st_mode, status.st_uid, status.st_mtime_ns

    def check(self) -> None:
        """Fail if the canary is not as it was."""
        assert self._seen() == self._before

    def names(self) -> list[bytes]:
        """Give names that would lead to the canary, if there were no walls."""
        up = b"../" * 4
        path = os.fsencode(self.canary).lstrip(b"/")
        return [b"/" + path, up * 5 + path, up + b"canary", b"a/../" + up + b"canary", path]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give an empty store and its canary."""
    return Place(tmp_path)


def _tricks(target: bytes) -> dict[str, list[Node]]:
    """Give archives that try to get at *target*."""
    return {
        "a file": [Node(target + b"/new")],
        "over a file": [Node(target + b"/file", content=b"dead")],
        "a directory": [Node(target + b"/directory", "directory", mode=0)],
        "a whiteout": [Node(target + b"/.wh.file")],
        "an opaque mark": [Node(target + b"/.wh..wh..opq")],
        "over a directory": [Node(target + b"/directory", content=b"")],
        "a symlink, then a file through it": [
            Node(b"l", "symlink", target=target), Node(b"l/file", content=b"dead"),
        ],
        "a symlink, then a directory through it": [
            Node(b"l", "symlink", target=target), Node(b"l/directory", "directory", mode=0),
        ],
        "a symlink, then a file in its place": [
            Node(b"l", "symlink", target=target + b"/file"), Node(b"l", content=b"dead"),
        ],
        "two symlinks": [
            Node(b"up", "symlink", target=b".."), Node(b"l", "symlink", target=b"up/" + target),
            Node(b"l/file", content=b"dead"),
        ],
        "a symlink for the root": [
            Node(b"", "symlink", target=target), Node(b"file", content=b"dead"),
        ],
        "a hard link": [
            Node(b"h", "link", target=target + b"/file"), Node(b"h", mode=0, uid=1),
        ],
        "a hard link through a symlink": [
            Node(b"l", "symlink", target=target), Node(b"h", "link", target=b"l/file"),
        ],
        "a whiteout through a symlink": [
            Node(b"l", "symlink", target=target), Node(b"l/.wh.file"),
        ],
        "a directory replaced behind our back": [
            Node(b"d", "directory"), Node(b"d/x"), Node(b"d", "symlink", target=target),
            Node(b"d/file", content=b"dead"),
        ],
        "a whiteout of a parent": [Node(b"d/.wh..."), Node(b".wh...")],
        "a whiteout of itself": [Node(b".wh.."), Node(b"d/.wh..")],
        "a whiteout without a name": [Node(b".wh.")],
        "a file in a whiteout": [Node(b".wh.d/file")],
    }  # fmt: skip


@pytest.mark.parametrize("trick", _tricks(b""))
@pytest.mark.parametrize("way", range(5))
def test_a_trick_does_not_reach_the_canary(place: Place, trick: str, way: int) -> None:
    """By any of the names that would lead there; the archive may be refused, or be harmless."""
    nodes = _tricks(place.names()[way])[trick]
    try:
        unpacked(place.layers, tar(nodes))
    except (InvalidArgument, KernelError):
        assert os.listdir(Path(place.layers._root, "tmp")) == []
    place.check()


def test_without_the_walls_the_canary_dies(place: Place) -> None:
    """The control: what the tricks name is the canary."""
    for name in place.names():
        path = os.path.join(os.fsencode(place.layers._root), b"x/diff", name)
        if b".." not in name and not name.startswith(b"/"):
            path = b"/" + name
        assert Path(os.fsdecode(os.path.normpath(path)), "file").read_text() == "alive"


_parts = st.sampled_from(
    [b"..", b".", b"", b"a", b"l", b"canary", b"file", b".wh.a", b".wh..", b"x"]
)
_paths = st.lists(_parts, min_size=1, max_size=6).map(b"/".join)
_nodes = st.builds(
    Node,
    _paths,
    st.sampled_from(["file", "directory", "symlink", "link", "fifo"]),
    target=_paths,
    mode=st.sampled_from([0, 0o644, 0o7777]),
)


@settings(
    max_examples=EXAMPLES * 2, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(nodes=st.lists(_nodes, max_size=12), way=st.integers(0, 4))
def test_no_archive_writes_outside(tmp_path: Path, nodes: list[Node], way: int) -> None:
    """Whatever names it puts together."""
    place = Place(tmp_path / os.urandom(6).hex())
    way_there = place.names()[way]
    for node in nodes:
        node.path = node.path.replace(b"canary", way_there)
        node.target = node.target.replace(b"canary", way_there)
        if node.kind != "file":
            node.content = b""
    with suppress(InvalidArgument, KernelError):
        unpacked(place.layers, tar(nodes))
    place.check()


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([Node(b"../x")], "leads out of the layer"),
        ([Node(b"h", "link", target=b"../x")], "leads out of the layer"),
        ([Node(b"h", "link", target=b"x")], "x, which this layer does not have"),
        ([Node(b"h"), Node(b"h", "link", target=b"h")], "hard link to itself"),
        ([Node(b"d", "directory"), Node(b"h", "link", target=b"d")], "Operation not permitted"),
        ([Node(b"f"), Node(b"f/x")], "Not a directory"),
        ([Node(b"x" * 256)], "File name too long"),
        ([Node(b"l", "symlink", target=b"l"), Node(b"l/x")], "Too many levels of symbolic links"),
        ([Node(b".wh.d/file")], "a whiteout is no directory"),
        ([Node(b"f", uid=2**32 - 1)], "no such owner"),
        ([Node(b"\x1b[31m\n../../x", "link", target=b"no\n")], r"\\x1b\[31m\\n"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_entry(place: Place, nodes: list[Node], told: str) -> None:
    """In one line that a person can read, without control characters of the archive's choice."""
    with pytest.raises(Error, match=told) as caught:
        unpacked(place.layers, tar(nodes))
    assert str(caught.value).isprintable()


def test_overlays_own_attributes_are_not_taken_from_an_archive(place: Place) -> None:
    """A redirect would show a file of another layer, or another container's."""
    hostile = {"trusted.overlay.redirect": b"/x", "user.overlay.opaque": b"y", "user.a": b"1"}
    directory = directory_of(place.layers, Node(b"d", "directory", xattrs=dict(hostile)))
    assert os.listxattr(f"{directory}/d") == ["user.a"]


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (b"this is no archive" * 100, "invalid tar header"),
        (tar([Node(b"a", content=b"x" * 2000)])[:1024], "it is cut off"),
        (tar([Node(b"a")])[:100], "it is cut off"),
        (b"\xff" * 512 * 4, "invalid tar header"),
        (bytes(512 * 4), None),
        (b"", None),
    ],
)  # fmt: skip
def test_what_is_no_archive_is_refused(place: Place, archive: bytes, told: str | None) -> None:
    """And an empty one is an empty layer."""
    if told is None:
        assert os.listdir(place.layers.directory(unpacked(place.layers, archive))) == []
        return
    with pytest.raises(InvalidArgument, match=told):
        unpacked(place.layers, archive)


@settings(max_examples=EXAMPLES * 2, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 511), st.binary(min_size=1, max_size=12)), max_size=6),
    st.booleans(),
)
def test_a_header_of_any_bytes_is_read_or_refused(
    changes: list[tuple[int, bytes]], right: bool
) -> None:
    """With its checksum put right, too: no other exception than the one for bad archives."""
    archive = bytearray(tar([Node(b"name" * 60, xattrs={"user.a": b"1"}), Node(b"b", "directory")]))
    for at, change in changes:
        archive[at : at + len(change)] = change
    if right:
        archive[148:156] = b"        "
        archive[148:156] = b"%06o\0 " % sum(archive[:512])
    reader, writer = os.pipe()
    os.write(writer, archive)
    os.close(writer)
    try:
        list(TarReader(reader).entries())
    except InvalidArgument:
        pass
    finally:
        os.close(reader)


class _Endless(io.RawIOBase):
    """An archive of entries without end."""

    def __init__(self, entry: bytes) -> None:
        self.entry = entry
        self.given = 0

    def read(self, size: int = -1, /) -> bytes:
        self.given += 1
        return self.entry * 200


@pytest.mark.parametrize(
    "node", [Node(b"d", "directory"), Node(b"f"), Node(b"s", "symlink", target=b"x")]
)
def test_entries_without_end_are_stopped(tmp_path: Path, node: Node) -> None:
    """At the limit, not when the disk is full; the stream is not read any further."""
    layers = LayerStore(str(tmp_path), Limits(entries=5000))
    stream = _Endless(tar([node])[:512])
    with pytest.raises(LimitExceeded, match="more than 5000 entries"):
        layers.unpack(sha256(b""), "", sha256(b""), stream)
    assert stream.given < 1000
    assert layers.chain_ids() == ()


def test_a_bomb_of_holes_is_stopped(tmp_path: Path) -> None:
    """A sparse file takes no room here, and fills the disk of whoever copies it."""
    layers = LayerStore(str(tmp_path), Limits(bytes=1 << 30))
    header = bytearray(tar([Node(b"f")])[:512])
    header[156:157] = b"S"
    header[257:265] = b"ustar  \0"
    header[386:410] = b"%011o\0%011o\0" % (1 << 32, 0)
    header[483:495] = b"%011o\0" % (1 << 32)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(LimitExceeded, match="more than 1073741824 bytes"):
        unpacked(layers, bytes(header) + bytes(1024))


def test_a_long_header_is_refused_before_it_is_read(place: Place) -> None:
    """PAX records of a gigabyte would fill the memory."""
    header = bytearray(tar([Node(b"f")])[:512])
    header[156:157] = b"x"
    header[124:136] = b"%011o\0" % (1 << 30)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(InvalidArgument, match="is too long"):
        unpacked(place.layers, bytes(header) + bytes(4096))


def test_the_process_that_unpacks_can_do_little(tmp_path: Path) -> None:
    """Six capabilities, no network, one directory: looked up by itself, from inside."""
    at = os.open(tmp_path, os.O_RDONLY)
    tmp_path.joinpath("inside").touch()
    child = confinement.Child("tests.images.confined", at, ())
    os.close(at)
    told, fd = child.receive()
    child.end()
    assert fd == -1
    assert told["root"] == told["above"] == ["inside"]
    assert told["capabilities"] == [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP",
    ]  # fmt: skip
    assert told["bounding"] == told["capabilities"]
    assert told["links"] == ["lo"]
    assert told["mount"] == "Operation not permitted"
