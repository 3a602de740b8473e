"""The embedded image: busybox without any network."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time

import pytest

from minicontainer.errors import Unsupported
from minicontainer.images import builtin
from minicontainer.images.builtin import NAME, Builtin
from minicontainer.images.references import parse
from tests.images.conftest import Place, add_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks layers")


def made(place: Place, root: Path) -> Builtin:
    """Give the embedded image of a store."""
    return Builtin(place.store, place.layers, str(root))


def test_the_embedded_image_is_made_at_once(target: Place, tmp_path: Path) -> None:
    """In less than two seconds, called as it is documented, with a shell in it."""
    began = time.monotonic()
    image = made(target, tmp_path).make()
    assert time.monotonic() - began < 2
    assert image.names == ("docker.io/library/busybox:latest",)
    assert image.config.cmd == ("sh",)
    tree = target.layers.directory(image.chain_ids[0])
    assert os.readlink(os.path.join(tree, "bin/sh")) == "/bin/busybox"
    said = subprocess.run(["chroot", tree, "sh", "-c", "echo hello"], capture_output=True)
    assert said.stdout == b"hello\n"
    assert [entry for entry in os.listdir(target.store.root) if entry.startswith("busybox")] == []


def test_it_is_made_once(target: Place, tmp_path: Path) -> None:
    """However many ask for it, and at the same time."""
    embedded = made(target, tmp_path)
    images = []
    threads = [threading.Thread(target=lambda: images.append(embedded.make())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(images) == 4
    assert len({image.id for image in images}) == 1
    assert embedded.make() == images[0]


def test_the_same_busybox_makes_the_same_image(target: Place, tmp_path: Path) -> None:
    """Removed and made again it has the same ID, also from a tree that was built before."""
    first = made(target, tmp_path).make()
    target.store.remove("busybox")
    assert target.is_empty()
    tree = tmp_path / "rootfs/busybox"
    subprocess.run([builtin._BUILDER, str(tree)], check=True, capture_output=True)
    assert made(target, tmp_path).make().id == first.id


def test_an_image_of_that_name_is_not_touched(target: Place, tmp_path: Path) -> None:
    """One that was pulled, for instance."""
    pulled = add_image(target.store, "busybox")
    assert made(target, tmp_path).make() == pulled


def test_only_its_own_name_means_it() -> None:
    """Another tag of busybox comes from a registry."""
    assert parse("docker.io/library/busybox:latest") == NAME
    for name in ("busybox:1.36", "team/busybox", "quay.io/busybox"):
        assert parse(name) != NAME


def test_what_is_missing_is_said(
    target: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the builder's words."""
    monkeypatch.setattr(builtin, "_BUILDER", "/nosuch/busybox")
    with pytest.raises(Unsupported, match="/nosuch/busybox is gone"):
        made(target, tmp_path).make()
    failing = tmp_path / "failing"
    failing.write_text(
        "#!/bin/sh\necho rootfs/busybox: busybox-static is not installed >&2\nexit 1"
    )
    failing.chmod(0o755)
    monkeypatch.setattr(builtin, "_BUILDER", str(failing))
    with pytest.raises(Unsupported, match="busybox-static is not installed"):
        made(target, tmp_path).make()
    assert target.is_empty()
    shutil.rmtree(tmp_path / "rootfs", ignore_errors=True)
