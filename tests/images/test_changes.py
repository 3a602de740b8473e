"""Changes: what a container did to its tree, as Docker lists it, and as a layer."""

from __future__ import annotations

import io
import os
import pickle
import random
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.contexts import suppress
from minicontainer.images import changes
from minicontainer.images.layers import LayerStore
from minicontainer.images.merged import Merged
from minicontainer.kernel import mounts, namespaces, overlay, trial
from tests.images.conftest import sha256
from tests.images.test_layers import EXAMPLES
from tests.images.trees import Node, look, tar, trees, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Look = dict[bytes, tuple[Any, ...]]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")

# The digest that Docker and others know for a layer without a change: two blocks of zeros.
EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
WAYS = {
    "plain": ("index=off",),
    "redirects": ("index=off", "redirect_dir=on", "metacopy=on"),
    "user": ("userxattr",),
}


class Container:
    """An upper directory over layers.

    Args:
        base: an empty directory for it.
        lowers: the uppermost first.
        words: options of the overlay.
    """

    def __init__(self, base: Path, lowers: Sequence[str], words: tuple[str, ...] = ()) -> None:
        self.lowers, self.words = tuple(lowers), words
        self.upper, self.work, self.merged = (base / name for name in ("upper", "work", "merged"))
        for directory in (self.upper, self.work, self.merged):
            directory.mkdir(parents=True)
        shutil.copystat(lowers[0], self.upper)

    def run(self, act: Callable[[Path], object]) -> Look:
        """Do something in the mounted tree; say how the tree looks then."""

        def child() -> str:
            self._mount()
            act(self.merged)
            (self.merged.parent / "seen").write_bytes(pickle.dumps(look(self.merged)))
            return ""

        trial.in_child(child)
        found: Look = pickle.loads((self.merged.parent / "seen").read_bytes())
        return found

    def _mount(self) -> None:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
        asked = overlay.Overlay(
            lowers=self.lowers, upper=str(self.upper), work=str(self.work), words=self.words
        )
        place = os.open(self.merged, os.O_PATH)
        overlay.mount(asked, place, where=str(self.merged))

    def changes(self, hidden: Sequence[str] = ()) -> list[str]:
        """List the changes as `docker diff` prints them."""
        found = changes.changes(str(self.upper), self.lowers, hidden)
        return [f"{'CAD'[kind]} {path}" for kind, path in found]

    def changeset(self) -> bytes:
        """Write the changes as a layer."""
        made = io.BytesIO()
        digest, size = changes.write_changeset(str(self.upper), self.lowers, made)
        assert (digest, size) == (sha256(made.getvalue()), len(made.getvalue()))
        return made.getvalue()


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    """Give an empty store."""
    return LayerStore(str(tmp_path / "data"))


def container(
    tmp_path: Path, layers: LayerStore, *nodes: Node, words: tuple[str, ...] = ("index=off",)
) -> Container:
    """Make a container over one layer of these files."""
    return Container(tmp_path / "c", [layers.directory(unpacked(layers, tar(list(nodes))))], words)


BASE = (
    Node(b"d", "directory", mode=0o755), Node(b"d/a", content=b"a"), Node(b"d/b", content=b"b"),
    Node(b"d/e", "directory", mode=0o755), Node(b"d/e/x", content=b"x"), Node(b"f", content=b"f"),
    Node(b"g", "link", target=b"f"), Node(b"s", "symlink", target=b"f"),
)  # fmt: skip


def _touch_and_go(root: Path) -> None:
    (root / "f").open("r+").close()  # copied up
    os.chmod(root / "d/a", 0o600)
    os.chmod(root / "d/a", 0o644)
    with suppress(FileNotFoundError):
        (root / "nothing").unlink()


def _move_away_and_back(root: Path) -> None:
    before = os.stat(root), os.stat(root / "d")
    os.rename(root / "f", root / "d/f")
    os.rename(root / "d/f", root / "f")
    for path, status in zip((root, root / "d"), before, strict=True):
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("act", [lambda root: None, _touch_and_go, _move_away_and_back])
def test_no_change_is_an_empty_layer(
    tmp_path: Path, layers: LayerStore, way: str, act: Callable[[Path], object]
) -> None:
    """Also where overlay has copied a file up, because it was opened for writing."""
    made = container(tmp_path, layers, *BASE, words=WAYS[way])
    made.run(act)
    assert made.changes() == []
    assert sha256(made.changeset()) == EMPTY


def _rewrite_directory(root: Path) -> None:
    shutil.rmtree(root / "d/e")
    (root / "d/e").mkdir(mode=0o700)
    (root / "d/e/y").touch()


CASES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "write": (lambda root: (root / "d/a").write_text("A"), ["C /d", "C /d/a"]),
    "add": (lambda root: (root / "d/n").touch(), ["C /d", "A /d/n"]),
    "remove": (lambda root: (root / "d/a").unlink(), ["C /d", "D /d/a"]),
    "remove tree": (lambda root: shutil.rmtree(root / "d"), ["D /d"]),
    "mode": (lambda root: os.chmod(root / "d/e", 0o700), ["C /d", "C /d/e"]),
    "time": (lambda root: os.utime(root / "f", (0, 0)), ["C /f", "C /g"]),
    "rename": (lambda root: os.rename(root / "f", root / "n"), ["D /f", "A /n"]),
    "link": (lambda root: os.link(root / "d/a", root / "n"), ["C /d", "C /d/a", "A /n"]),
    "replace": (_rewrite_directory, ["C /d", "C /d/e", "D /d/e/x", "A /d/e/y"]),
    "fifo": (lambda root: os.mkfifo(root / "p"), ["A /p"]),
}


@pytest.mark.parametrize("case", CASES)
def test_changes_are_listed_as_docker_does(tmp_path: Path, layers: LayerStore, case: str) -> None:
    """With the directories that they are in."""
    act, told = CASES[case]
    made = container(tmp_path, layers, *BASE)
    made.run(act)
    found = made.changes()
    if case == "time":  # overlay copies one name up, and not the other
        told = ["C /f"]
    assert found == told


def test_a_socket_has_no_place_in_a_layer(tmp_path: Path, layers: LayerStore) -> None:
    """It means nothing without the process that made it."""
    made = container(tmp_path, layers, *BASE)
    made.run(lambda root: os.mknod(root / "socket", stat.S_IFSOCK))
    assert sha256(made.changeset()) == EMPTY


def test_mount_points_are_no_change(tmp_path: Path, layers: LayerStore) -> None:
    """The runtime has made them, with the directories above; not so what stands in them."""
    made = container(tmp_path, layers, *BASE)

    def act(root: Path) -> None:
        for name in ("proc", "d/mine", "new/deep", "full"):
            (root / name).mkdir(parents=True)
        (root / "d/hosts").touch()
        (root / "full/file").touch()

    made.run(act)
    hidden = ["/proc", "/d/mine", "/new/deep", "/d/hosts", "/full"]
    assert made.changes(hidden) == ["A /full", "A /full/file"]
    assert len(made.changes()) == 8


def test_a_renamed_directory_is_whole_in_the_layer(tmp_path: Path, layers: LayerStore) -> None:
    """With redirect_dir, the upper directory has nothing but a note of where it was."""
    made = container(tmp_path, layers, *BASE, words=WAYS["redirects"])
    made.run(lambda root: os.rename(root / "d", root / "moved"))
    assert os.listdir(made.upper / "moved") == []
    assert made.changes() == [
        "D /d", "A /moved", "A /moved/a", "A /moved/b", "A /moved/e", "A /moved/e/x",
    ]  # fmt: skip
    assert b"moved/e/x\0" in made.changeset()


def test_a_file_whose_metadata_alone_was_copied_up_is_whole(
    tmp_path: Path, layers: LayerStore
) -> None:
    """With metacopy, the upper file is a hole."""
    made = container(tmp_path, layers, Node(b"f", content=b"content"), words=WAYS["redirects"])
    made.run(lambda root: os.chmod(root / "f", 0o600))
    assert (made.upper / "f").read_bytes() == bytes(7)
    assert b"content" in made.changeset()


def test_a_tree_that_changes_meanwhile_leads_nowhere(tmp_path: Path, layers: LayerStore) -> None:
    """A directory of the upper swapped for a link to the host is not followed."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("of the host")
    made = container(tmp_path, layers, *BASE)
    with Merged((str(made.upper), *made.lowers)) as merged:
        (made.upper / "new").symlink_to(secret)
        assert merged.layers[0].lstat(b"new/file") is None
        (made.upper / "file").symlink_to(secret / "file")
        found = merged.child(merged.root().places, b"file")
        assert found is not None
        with pytest.raises(OSError, match="Too many levels"):
            merged.content(found)


def _random_changes(root: Path, seed: int) -> None:
    """Change a tree here and there."""
    rng = random.Random(seed)
    for number in range(rng.randint(0, 12)):
        with suppress(OSError):
            _change_something(os.fsencode(root), rng, b"n%d" % number)


def _change_something(top: bytes, rng: random.Random, name: bytes) -> None:
    everything = [os.path.join(top, path) for path in sorted(look(os.fsdecode(top)))]
    directories = [path for path in everything if os.path.isdir(path) and not os.path.islink(path)]
    fresh = os.path.join(rng.choice([top, *directories]), name)
    path, other = (rng.choice([*everything, fresh]) for _ in "12")
    acts: list[Callable[[], object]] = [
        lambda: _write(path, b"changed"),
        lambda: _write(fresh, b"new"),
        lambda: _chmod(path, rng.choice([0o700, 0o4755, 0o1777])),
        lambda: os.lchown(path, 5, 6),
        lambda: os.rename(path, fresh),
        lambda: os.rename(path, other),
        lambda: os.link(path, fresh, follow_symlinks=False),
        lambda: os.symlink(b"somewhere", fresh),
        lambda: os.mkdir(fresh),
        lambda: os.mkfifo(fresh),
        lambda: os.utime(path, ns=(0, rng.randint(0, 10**18)), follow_symlinks=False),
        lambda: os.setxattr(path, b"user.new", b"value", follow_symlinks=False),
        lambda: _remove(path),
        lambda: _remove(path),
    ]
    rng.choice(acts)()


def _chmod(path: bytes, mode: int) -> None:
    if not os.path.islink(path):  # chmod(2) follows a link: this one may lead to the host's root
        os.chmod(path, mode)


def _write(path: bytes, content: bytes) -> None:
    with open(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK), "wb"
    ) as file:
        file.write(content)


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
        if len(path) % 2:
            os.mkdir(path)
    else:
        os.unlink(path)


def _without_links(seen: Look) -> Look:
    return {path: described[:-1] for path, described in seen.items()}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(nodes=trees(), more=trees(), seed=st.integers(0, 1 << 30), way=st.sampled_from(sorted(WAYS)))
def test_a_changeset_unpacks_to_what_the_container_saw(
    tmp_path: Path, nodes: list[Node], more: list[Node], seed: int, way: str
) -> None:
    """Whatever it did: the layer over the same layers shows the same tree."""
    base = tmp_path / os.urandom(6).hex()
    layers = LayerStore(str(base / "data"))
    chain = [unpacked(layers, tar(nodes))]
    chain.append(unpacked(layers, tar(more), chain[-1]))
    made = Container(base / "c", layers.lower_directories(chain), WAYS[way])
    made.run(lambda root: _random_changes(root, seed))
    # Mounted anew: of a file with several names in a layer below, overlay breaks the links when it
    # copies one up, and shows another inode number until then.
    seen = made.run(lambda root: None)
    archive = made.changeset()
    assert archive == made.changeset()
    chain.append(unpacked(layers, archive, chain[-1]))
    again = Container(base / "again", layers.lower_directories(chain), WAYS[way])
    found = again.run(lambda root: None)
    assert _without_links(found) == _without_links(seen)
    # Overlay breaks a link where it copies one name of a file up: by itself that is no change.
    assert all(set(described[-1]) <= set(found[path][-1]) for path, described in seen.items())
    subprocess.run(["rm", "-rf", base], check=True)
