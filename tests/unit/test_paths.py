"""No path leaves its root: the kernel's resolution against a model of it, on random trees."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import KernelError
from minicontainer.kernel import paths

NAMES = ("a", "b", "c")
OUTSIDE = "@OUTSIDE@"  # in a link's target: the absolute path of a directory beside the root
MOST_LINKS = 40

# A file is None, a link the text it holds, a directory a dictionary.
Tree = dict[str, "Tree | str | None"]

parts = st.sampled_from((*NAMES, *NAMES, "..", ".", ""))
some_paths = st.builds(
    lambda start, middle: (start + "/".join(middle)) or ".",
    st.sampled_from(["", "/", "../../../", "//"]),
    st.lists(parts, min_size=1, max_size=5),
)
links = some_paths | st.sampled_from([OUTSIDE, f"{OUTSIDE}/canary", f"{OUTSIDE}/new", "../outside"])
trees = st.recursive(
    st.none() | links,
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=10,
).map(lambda node: node if isinstance(node, dict) else {"a": node})


def build(tree: Tree, directory: Path, outside: str) -> None:
    """Make the tree on disk."""
    for name, node in tree.items():
        place = directory / name
        if node is None:
            place.touch()
        elif isinstance(node, str):
            place.symlink_to(node.replace(OUTSIDE, outside))
        else:
            place.mkdir()
            build(node, place, outside)


def resolve(tree: Tree, path: str, outside: str) -> tuple[str, ...] | int:
    """Say where *path* leads with *tree* as the root: the model. Give its parts, or an errno."""
    # a slash at the end asks for a directory, and so does a dot
    todo = [*path.split("/")[:-1], path.split("/")[-1] or "."]
    done: tuple[str, ...] = ()
    followed = 0
    while todo:
        here = node_at(tree, done)
        name = todo.pop(0)
        if name == "":
            continue
        if not isinstance(here, dict):
            return errno.ENOTDIR
        if name == ".":
            continue
        if name == "..":
            done = done[:-1]
            continue
        if name not in here:
            return errno.ENOENT
        node = here[name]
        if not isinstance(node, str):
            done = (*done, name)
            continue
        followed += 1
        if followed > MOST_LINKS:
            return errno.ELOOP
        target = node.replace(OUTSIDE, outside)
        done = () if target.startswith("/") else done
        todo = [*target.split("/")[:-1], target.split("/")[-1] or ".", *todo]
    return done


def node_at(tree: Tree, place: tuple[str, ...]) -> Tree | str | None:
    """Give the node at a place that is known to be there."""
    node: Tree | str | None = tree
    for name in place:
        assert isinstance(node, dict)
        node = node[name]
    return node


@contextlib.contextmanager
def built(tree: Tree) -> Iterator[tuple[int, Path, Path]]:
    """Give the root's descriptor and path, and a directory outside with a file in it."""
    with tempfile.TemporaryDirectory() as base:
        root, outside = Path(base).resolve() / "root", Path(base).resolve() / "outside"
        root.mkdir()
        outside.mkdir()
        (outside / "canary").write_text("sings")
        build(tree, root, str(outside))
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
        try:
            yield fd, root, outside
        finally:
            os.close(fd)


def place_of(fd: int, root: Path) -> tuple[str, ...]:
    """Name what a descriptor is open on, by the kernel's own word, and close it."""
    found = Path(os.readlink(f"/proc/self/fd/{fd}"))
    os.close(fd)
    return found.relative_to(root).parts  # raises where it is not below


@given(trees, some_paths)
def test_a_path_is_resolved_as_with_the_root_as_root(tree: Tree, path: str) -> None:
    """Links, `..` and absolute targets stay inside; what the model finds, the kernel finds."""
    with built(tree) as (fd, root, outside):
        expected = resolve(tree, path, str(outside))
        try:
            found: tuple[str, ...] | int = place_of(paths.open_in_root(fd, path), root)
        except KernelError as error:
            found = error.errno or 0
        assert found == expected


def listed(directory: Path) -> dict[str, str]:
    """List a tree: each path, and what it is."""
    return {
        str(path.relative_to(directory)): os.readlink(path)
        if path.is_symlink()
        else ("directory" if path.is_dir() else path.read_text())
        for path in directory.rglob("*")
    }


@given(trees, some_paths, st.booleans())
def test_what_is_made_is_made_inside(tree: Tree, path: str, directory: bool) -> None:
    """And nothing that was there changes; what was made is what the path now leads to."""
    with built(tree) as (fd, root, outside):
        before, host = listed(root), listed(outside)
        with contextlib.suppress(KernelError):  # a file or a circle is in the way
            made = paths.make_in_root(fd, path, directory=directory)
            if directory:  # a file's path may end in a slash, which then no longer leads to it
                again = paths.open_in_root(fd, path)
                assert os.path.samestat(os.fstat(made), os.fstat(again))
                os.close(again)
            place_of(made, root)
        assert listed(outside) == host
        assert listed(root).items() >= before.items()
        assert sorted(os.listdir(root.parent)) == ["outside", "root"]


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5), st.booleans())
def test_what_is_missing_is_made(names: list[str], directory: bool) -> None:
    """Directories on the way, and the last one as asked."""
    with built({}) as (fd, root, _):
        made = paths.make_in_root(fd, "/" + "/".join(names), directory=directory)
        assert paths.is_directory(made) == directory
        assert place_of(made, root) == tuple(names)


def test_links_to_what_is_missing_are_followed_inside() -> None:
    """The mount point is made where the link would lead in the container."""
    tree: Tree = {"a": f"{OUTSIDE}/new", "b": "../../../../c/d"}
    with built(tree) as (fd, root, outside):
        made = paths.make_in_root(fd, "/a/x", directory=True)
        assert place_of(made, root) == (*outside.parts[1:], "new", "x")
        made = paths.make_in_root(fd, "/b", directory=False)
        assert place_of(made, root) == ("c", "d")
        assert listed(outside) == {"canary": "sings"}


def test_links_in_a_circle_end() -> None:
    """Also those that lead to ever more missing parts."""
    with built({"a": "b", "b": "a", "c": "c/x"}) as (fd, _, _):
        for path in ("a", "b/x", "c", "c/y"):
            with pytest.raises(KernelError) as caught:
                paths.make_in_root(fd, path, directory=True)
            assert caught.value.errno == errno.ELOOP


def test_links_of_proc_are_refused() -> None:
    """/proc/self/root leads out by magic, not by its text: CVE-2024-21626."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    try:
        for path in ("self/root", "self/cwd/x", "self/exe", f"self/fd/{proc}"):
            with pytest.raises(KernelError) as caught:
                paths.open_in_root(proc, path)
            assert caught.value.errno == errno.ELOOP
    finally:
        os.close(proc)


def test_links_may_be_forbidden() -> None:
    """Where what is mounted must be where its name says."""
    with built({"a": {}, "b": "a"}) as (fd, root, _):
        assert place_of(paths.open_in_root(fd, "b"), root) == ("a",)
        with pytest.raises(KernelError) as caught:
            paths.open_in_root(fd, "b", resolve=paths.RESOLVE_NO_SYMLINKS)
        assert caught.value.errno == errno.ELOOP
        assert "openat2(b)" in str(caught.value)


def test_a_renamed_parent_does_not_lead_out() -> None:
    """While a directory goes back and forth over the border, `..` never finds the outside."""
    with built({"a": {"b": {}}}) as (fd, root, outside):
        child = os.fork()
        if child == 0:
            inner, outer = root / "a" / "b", outside / "b"
            while os.getppid() != 1:
                os.rename(inner, outer)
                os.rename(outer, inner)
            os._exit(0)
        try:
            for _ in range(2000):
                with contextlib.suppress(KernelError):
                    found = paths.open_in_root(fd, "a/b/../../../outside")
                    raise AssertionError(os.readlink(f"/proc/self/fd/{found}"))
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


# ---- one name in a directory, and devices


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A directory, and beside it what a link could lead to."""
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").touch()
    fd = os.open(tmp_path / "root", os.O_PATH)
    yield fd
    os.close(fd)


def test_a_file_is_made_once(root: int, tmp_path: Path) -> None:
    """What is there is opened, whatever it is."""
    for _ in range(2):
        os.close(paths.make_file_in(root, "new", where="/new"))
    assert (tmp_path / "root" / "new").read_text() == ""
    (tmp_path / "root" / "there").write_text("content")
    with open_again(paths.make_file_in(root, "there", where="/there")) as path:
        assert Path(path).read_text() == "content"


@contextlib.contextmanager
def open_again(fd: int) -> Iterator[str]:
    """Give a name for what a descriptor stands for; close it in the end."""
    yield f"/proc/self/fd/{fd}"
    os.close(fd)


@pytest.mark.parametrize("target", ["../outside", "new", "/etc/passwd", "/proc/self/fd/0"])
def test_a_link_of_that_name_is_refused(root: int, tmp_path: Path, target: str) -> None:
    """Wherever it leads; nothing is made behind it."""
    (tmp_path / "root" / "link").symlink_to(target)
    with pytest.raises(KernelError) as raised:
        paths.make_file_in(root, "link", where="/link")
    assert raised.value.errno == errno.ELOOP
    assert os.listdir(tmp_path / "root") == ["link"]


def test_a_device_is_opened_if_it_is_the_one_meant() -> None:
    """By its numbers: /dev/null, and no other."""
    root = os.open("/", os.O_PATH)
    fd = paths.open_device(root, "/dev/null", 1, 3)
    assert fd is not None
    assert os.write(fd, b"x") == 1
    os.close(fd)
    assert paths.open_device(root, "/dev/null", 1, 5) is None
    assert paths.open_device(root, "/etc/passwd", 1, 3) is None
    assert paths.open_device(root, "/dev", 1, 3) is None
    with pytest.raises(KernelError):
        paths.open_device(root, "/dev/nonsense", 1, 3)
    os.close(root)


def test_a_fifo_in_its_place_does_not_hold_us_up(root: int, tmp_path: Path) -> None:
    """It is seen not to be the device before it is opened."""
    os.mkfifo(tmp_path / "root" / "null")
    assert paths.open_device(root, "null", 1, 3) is None


def test_a_root_tells_where_something_is(root: int, tmp_path: Path) -> None:
    """As a process inside would; not what a link on the way was called."""
    (tmp_path / "root" / "deep").mkdir()
    (tmp_path / "root" / "link").symlink_to("/deep")
    found = paths.Root(root)
    for path, inside in (("link", "/deep"), ("/", "/"), ("deep/..", "/")):
        fd = paths.open_in_root(root, path)
        assert found.inside(fd) == inside
        os.close(fd)
