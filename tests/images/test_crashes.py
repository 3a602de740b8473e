"""A process is killed at every write, one after the other: the store is the old one or the new one.

A forked child counts the calls that change something on the disk, and SQLite's statements. Before
the call of a given number it is killed, by SIGKILL; a write may be half done by then. The parent
opens the store as the next process would.
"""

from __future__ import annotations

import io
import json
import os
import signal
import time

import pytest

from minicontainer.images import imports
from minicontainer.images.making import keep_layer, make_image
from minicontainer.images.references import parse
from minicontainer.images.store_schema import Database
from tests.images.conftest import Place, add_image, sha256, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    Operation = Callable[[Place], object]
    State = list[tuple[str, tuple[str, ...]]]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks layers")

# The calls that change what is on the disk; each can be the last one.
CHANGING = ("fsync", "ftruncate", "link", "makedirs", "mkdir", "rename", "rmdir", "unlink", "write")
BASE = tar_of({"base": b"base"})
TOP = tar_of({"top": b"top" * 1000})


def killed_at(number: int, root: Path, operation: Operation) -> bool:
    """Do *operation* in a child that is killed before its call *number*; say whether it was."""
    child = os.fork()
    if not child:
        place = Place(root)
        count = 0

        def counted(call: Callable[..., Any], name: str) -> Callable[..., Any]:
            def wrapper(*args: Any, **more: Any) -> Any:
                nonlocal count
                count += 1
                if count == number:
                    if name == "write":
                        call(args[0], args[1][: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **more)

            return wrapper

        try:
            for name in CHANGING:
                setattr(os, name, counted(getattr(os, name), name))
            Database.run = counted(Database.run, "run")  # type: ignore[method-assign]  # in the child
            operation(place)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def state(place: Place) -> State:
    """Give what there is: images and their names."""
    return sorted((image.id, image.names) for image in place.store.list())


def check(place: Place, layers: bool) -> None:
    """Look whether all that an image needs is there, whole, and index.json says the same."""
    images = place.store.list()
    for image in images:
        for digest in (image.id, image.manifest, *(layer.digest for layer in image.layers)):
            assert sha256(place.store.blobs.read(digest)) == digest
        if layers:
            assert place.layers.lower_directories(image.chain_ids)
    with open(os.path.join(place.store.root, "index.json"), encoding="utf-8") as file:
        entries = json.load(file)["manifests"]
    key = "io.containerd.image.name"
    named = sorted(x["annotations"][key] for x in entries if "annotations" in x)
    assert named == sorted(name for image in images for name in image.names)
    for entry in entries:
        assert place.store.blobs.has(entry["digest"])


def check_nothing_is_left(place: Place) -> None:
    """Look whether there is no more on the disk than the images need."""
    store = place.store
    store.blobs.sweep_ingest(0, time.time() + 10)
    needed = set()
    for image in store.list():
        needed |= {image.id, image.manifest, store.layout_manifest(image.id)[0]}
        needed |= {layer.digest for layer in image.layers}
    assert set(store.blobs.digests()) == needed


def crash_everywhere(root: Path, make: Operation, operation: Operation, layers: bool) -> int:
    """Kill *operation* at each of its calls; give their number.

    Args:
        root: for the stores.
        make: fills a new store.
        operation: changes it, and can be done again.
        layers: whether the images are unpacked.
    """
    number = 0
    while True:
        number += 1
        place = Place(root / str(number))
        make(place)
        before = state(place)
        place.store.close()
        was_killed = killed_at(number, root / str(number), operation)
        place = Place(root / str(number))
        after_crash = state(place)
        check(place, layers)
        if was_killed:
            operation(place)
        after = state(place)
        assert after_crash in (before, after), f"killed before call {number}"
        check(place, layers)
        place.store.prune(lambda image: False)
        for digest in list(place.store.blobs.digests()):  # as if an hour had passed
            os.utime(place.store.blobs.path(digest), (0, 0))
        place.store.collect_garbage()
        check_nothing_is_left(place)
        place.store.close()
        if not was_killed:
            return number - 1


def test_a_load_that_is_killed(tmp_path: Path) -> None:
    """The archive's images are all there or none, with all their files."""
    source = Place(tmp_path / "source")
    add_image(source.store, "new", layers=(TOP,), docker=True)
    archive = source.save("new")
    source.store.close()

    def operation(place: Place) -> None:
        place.load(archive)

    assert crash_everywhere(tmp_path, lambda place: None, operation, layers=True) > 40


def test_a_new_version_that_is_killed(tmp_path: Path) -> None:
    """The name means the old image or the new one."""

    def make(place: Place) -> None:
        add_image(place.store, "x", layers=(BASE,))

    def operation(place: Place) -> None:
        with place.store.lease("test"):
            add_image(place.store, "x", layers=(BASE, TOP))

    assert crash_everywhere(tmp_path, make, operation, layers=False) > 30


def test_a_removal_that_is_killed(tmp_path: Path) -> None:
    """The image is there with all its files, or gone; what another one needs stays."""

    def make(place: Place) -> None:
        add_image(place.store, "x", layers=(BASE, TOP))
        add_image(place.store, "y", layers=(BASE,))

    def operation(place: Place) -> None:
        if any("docker.io/library/x:latest" in image.names for image in place.store.list()):
            place.store.remove("x")

    assert crash_everywhere(tmp_path, make, operation, layers=False) > 10


def test_a_new_name_that_is_killed(tmp_path: Path) -> None:
    """It is there, or it is not."""

    def make(place: Place) -> None:
        add_image(place.store, "x", layers=(BASE,))

    def operation(place: Place) -> None:
        place.store.tag(place.store.resolve("x").id, parse("y"))

    assert crash_everywhere(tmp_path, make, operation, layers=False) > 5


def test_a_commit_that_is_killed(tmp_path: Path) -> None:
    """Its image is there with all below it, or the one that it was made from alone."""
    source = Place(tmp_path / "source")
    add_image(source.store, "x", layers=(BASE,))
    archive = source.save("x")
    source.store.close()
    document = {"os": "linux", "architecture": "amd64", "config": {}}

    def operation(place: Place) -> None:
        below = place.store.resolve("x")
        with place.store.lease("commit", is_resumable=False) as lease:
            diff_ids = below.config.diff_ids
            layer = keep_layer(place.store, place.layers, lease, io.BytesIO(TOP), diff_ids)
            make_image(
                place.store, lease, document, (*below.layers, layer), (parse("made"),), below.id
            )

    assert crash_everywhere(tmp_path, lambda place: place.load(archive), operation, True) > 30


def test_an_import_that_is_killed(tmp_path: Path) -> None:
    """As a load."""
    number = 0
    while True:
        number += 1

        def operation(place: Place) -> None:
            imports.import_image(place.store, place.layers, io.BytesIO(TOP), parse("x"))

        was_killed = killed_at(number, tmp_path / str(number), operation)
        place = Place(tmp_path / str(number))
        check(place, layers=True)
        assert len(place.store.list()) in (0, 1)
        operation(place)
        check(place, layers=True)
        assert place.store.resolve("x").config.diff_ids == (sha256(TOP),)
        place.store.close()
        if not was_killed:
            break
    assert number > 20
