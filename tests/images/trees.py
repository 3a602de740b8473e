"""File trees: made up by Hypothesis, written as archives by Python's tarfile, and looked at."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from minicontainer.images.layers import LayerStore
from tests.images.conftest import sha256

_TYPES = {
    "file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE,
    "link": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE, "character": tarfile.CHRTYPE,
}  # fmt: skip


@dataclass
class Node:
    """A file that shall be; of a hard link, the name of the file it is another name of."""

    path: bytes
    kind: str = "file"
    content: bytes = b""
    target: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 1_700_000_000_000_000_000
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)


def tar(nodes: list[Node], format: int = tarfile.PAX_FORMAT) -> bytes:
    """Write an archive by the standard library's tarfile."""
    made = io.BytesIO()
    with tarfile.open(
        fileobj=made, mode="w", format=format, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for node in nodes:
            entry = tarfile.TarInfo(os.fsdecode(node.path))
            entry.type = _TYPES[node.kind]
            entry.linkname = os.fsdecode(node.target)
            entry.mode, entry.uid, entry.gid = node.mode, node.uid, node.gid
            entry.size = len(node.content)
            entry.mtime = node.mtime_ns // 1_000_000_000
            entry.devmajor, entry.devminor = node.device
            if format == tarfile.PAX_FORMAT:
                entry.pax_headers = {
                    f"SCHILY.xattr.{name}": os.fsdecode(value)
                    for name, value in node.xattrs.items()
                }
                if node.mtime_ns % 1_000_000_000:
                    seconds, fraction = divmod(abs(node.mtime_ns), 1_000_000_000)
                    sign = "-" if node.mtime_ns < 0 else ""
                    entry.pax_headers["mtime"] = f"{sign}{seconds}.{fraction:09}"
            archive.addfile(entry, io.BytesIO(node.content))
    return made.getvalue()


def unpacked(store: LayerStore, archive: bytes, parent: str = "") -> str:
    """Unpack an archive as a layer; give its chain ID."""
    digest = sha256(archive)
    chain_id = sha256(f"{parent} {digest}".encode()) if parent else digest
    store.unpack(chain_id, parent, digest, io.BytesIO(archive))
    return chain_id


def look(root: str | Path, *, times: bool = True) -> dict[bytes, tuple[Any, ...]]:
    """Describe every file of a tree: type, mode, owner, content, time, attributes, other names."""
    found: dict[bytes, tuple[Any, ...]] = {}
    names: dict[int, list[bytes]] = {}
    top = os.fsencode(root)
    for directory, directories, others in os.walk(top):
        for name in (*directories, *others):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            inside = os.path.relpath(path, top)
            if not stat.S_ISDIR(status.st_mode):
                names.setdefault(status.st_ino, []).append(inside)
            found[inside] = (*_described(path, status, times=times), status.st_ino)
    return {
        path: (*described[:-1], tuple(sorted(names.get(described[-1], ()))))
        for path, described in found.items()
    }


def _described(path: bytes, status: os.stat_result, *, times: bool) -> tuple[Any, ...]:
    content: Any = None
    if stat.S_ISREG(status.st_mode):
        content = Path(os.fsdecode(path)).read_bytes()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif not stat.S_ISDIR(status.st_mode):
        content = status.st_rdev
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if ".overlay." not in name
    }
    time = status.st_mtime_ns if times else 0
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        content,
        time,
        tuple(sorted(xattrs.items())),
    )


# ---- trees of Hypothesis

names = st.binary(min_size=1, max_size=6).filter(
    lambda name: (
        name not in (b".", b"..") and not set(name) & {0, ord("/")} and not name.startswith(b".wh.")
    )
) | st.sampled_from([b"a", b"b", b"c" * 255, b".w", b"\xff\xfe", b"new\nline", b" "])
owners = st.sampled_from([0, 1, 1000, 2**21, 2**32 - 2])
times = st.integers(-(10**9), 2**33).map(lambda seconds: seconds * 10**9 + 123_456_789) | st.just(0)
# chown(2) takes set-user-ID away and the order of calls matters
modes = st.integers(0, 0o7777)
xattrs = st.dictionaries(
    st.sampled_from(["user.a", "user.b", "security.capability"]), st.just(b"x" * 8), max_size=1
).map(lambda found: {name: _value(name) for name in found})


def _value(name: str) -> bytes:
    """Give an attribute's value; a capability's must be one: struct vfs_cap_data, revision 2."""
    if name == "security.capability":
        return bytes.fromhex("0100000200040000000000000000000000000000")
    return b"\x00\xff=\n value"


@st.composite
def trees(draw: st.DrawFn) -> list[Node]:
    """Make up a tree, each directory before what is in it."""
    nodes: list[Node] = []
    directories = [b""]
    taken: set[bytes] = set()
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(directories))
        path = os.path.join(parent, draw(names))
        if path in taken:
            continue
        taken.add(path)
        kinds = ["file", "file", "directory", "directory", "symlink", "fifo", "character"]
        files = [node.path for node in nodes if node.kind == "file"]
        kind = draw(st.sampled_from(kinds + (["link"] if files else [])))
        node = Node(path, kind)
        if kind == "link":
            node.target = draw(st.sampled_from(files))
        else:
            node.uid, node.gid, node.mtime_ns = draw(owners), draw(owners), draw(times)
            node.mode = 0o777 if kind == "symlink" else draw(modes)
        if kind == "file":
            node.content = draw(st.binary(max_size=1500))
        elif kind == "symlink":
            node.target = draw(st.sampled_from([b"a", b"/etc/passwd", b"../" * 9, b"x" * 200]))
        elif kind == "directory":
            directories.append(path)
        elif kind == "character":
            node.device = draw(st.sampled_from([(1, 3), (200, 100)]))
        if kind in ("file", "directory"):
            node.xattrs = draw(xattrs)
        nodes.append(node)
    return nodes


def expected(nodes: list[Node]) -> dict[bytes, tuple[Any, ...]]:
    """Say what `look` must find."""
    kinds = {
        "file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK,
        "fifo": stat.S_IFIFO, "character": stat.S_IFCHR,
    }  # fmt: skip
    found: dict[bytes, tuple[Any, ...]] = {}
    by_path = {node.path: node for node in nodes}
    for each in nodes:
        node = by_path[each.target] if each.kind == "link" else each
        content: Any = {"file": node.content, "symlink": node.target, "fifo": 0}.get(node.kind)
        if node.kind == "character":
            content = os.makedev(*node.device)
        others = [
            other.path for other in nodes if other.kind == "link" and other.target == node.path
        ]
        links = () if node.kind == "directory" else tuple(sorted([node.path, *others]))
        found[each.path] = (
            kinds[node.kind] | node.mode, node.uid, node.gid, content, node.mtime_ns,
            tuple(sorted(node.xattrs.items())), links,
        )  # fmt: skip
    return found
