"""The root file system: an image tree that is never written to, and a layer that ends.

See: kernel filesystems/overlayfs.rst.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Run

from .conftest import Bundles, Spec, mounts_of


def _digest(tree: Path) -> str:
    """Sum up everything about a tree."""
    return subprocess.run(
        [CHECKOUT / "rootfs" / "digest", tree], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def tree(busybox: Path, tmp_path: Path) -> Path:
    """A copy of the root file system, for tests that may change it."""
    copy = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox, copy], check=True)
    return copy


_CHANGE_EVERYTHING = """
rm /etc/passwd; echo new > /etc/shadow; mv /etc/group /etc/moved; mkdir /new; chown 7:7 /var
chmod 700 /bin; ln -s / /link; rm -r /home; touch -d @1 /tmp; echo $?
"""


def test_the_image_is_never_written(run: Run, busybox: Path) -> None:
    """Files changed, removed, renamed: contents, owners, modes and times stay as they were."""
    before = _digest(busybox)
    assert run(_CHANGE_EVERYTHING).output == "0\n"
    run("true", "--hostname", "web", "-w", "/made/by/workdir", "-v", "/etc:/made/by/volume:ro")
    assert _digest(busybox) == before


def test_a_writable_bundle_is(bundles: Bundles, tree: Path) -> None:
    """The control: the same changes without an overlay are in the tree, and are noticed."""

    def writable(config: Spec) -> None:
        config["root"] = {"path": str(tree), "readonly": False}
        config["process"]["capabilities"]["effective"] += ["CAP_CHOWN", "CAP_FOWNER"]
        config["process"]["capabilities"]["permitted"] += ["CAP_CHOWN", "CAP_FOWNER"]

    before = _digest(tree)
    assert bundles(_CHANGE_EVERYTHING, writable).output == "0\n"
    assert _digest(tree) != before
    assert not (tree / "etc" / "passwd").exists()


def test_what_a_container_writes_ends_with_it(run: Run) -> None:
    """The next one starts from the image again."""
    assert run("echo x > /etc/passwd; cat /etc/passwd").output == "x\n"
    assert run("cat /etc/passwd").output.startswith("root:")
    assert list((run.data_root / "containers").iterdir()) == []


def test_two_containers_write_side_by_side(run: Run) -> None:
    """Each has a layer of its own."""
    first = run.start("echo first > /mine; echo ready; sleep 60")
    second = run.start("echo second > /mine; echo ready; sleep 60")
    assert Path(f"/proc/{first.pid}/root/mine").read_text() == "first\n"
    assert Path(f"/proc/{second.pid}/root/mine").read_text() == "second\n"


def test_a_read_only_root_can_not_be_written(run: Run, volume: Path) -> None:
    """Not even by its owner; volumes, /dev and /tmp by --tmpfs still can."""
    refused = "touch /new; touch /etc/new"
    look = f"{refused}; touch /vol/new && touch /tmp/new && echo > /dev/null && echo well"
    result = run(look, "--read-only", "-v", f"{volume}:/vol", "--tmpfs", "/tmp")
    assert result.output == "well\n"
    assert result.errors.count("Read-only file system") == 2


def test_the_kernel_says_that_it_is(run: Run) -> None:
    """With the control."""
    assert "ro" in mounts_of(run.start("echo ready; sleep 60", "--read-only").pid)["/"].options
    assert "rw" in mounts_of(run.start("echo ready; sleep 60").pid)["/"].options


def test_without_the_option_it_can(run: Run) -> None:
    """The control."""
    assert run("touch /new /etc/new && echo well").output == "well\n"
