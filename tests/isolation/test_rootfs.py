"""The root file system: an image tree that is never written to, and a layer that ends.

See: kernel filesystems/overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Engine, Run

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


@pytest.mark.oci("root.readonly")
def test_a_bundle_says_which(bundles: Bundles, tree: Path) -> None:
    """Each is the other's control; the host's own mount stays as it is."""
    for readonly, word in ((True, "ro"), (False, "rw")):

        def change(spec: Spec, readonly: bool = readonly) -> None:
            spec["root"] = {"path": str(tree), "readonly": readonly}

        running = bundles.start("echo ready; sleep 60", change)
        assert word in mounts_of(running.pid)["/"].options
        done = bundles.exec(running, "touch", "/new")
        assert ("Read-only file system" in done.errors) == readonly
        assert (tree / "new").exists() != readonly
    (tree / "of-the-host").touch()


def test_without_the_option_it_can(run: Run) -> None:
    """The control."""
    assert run("touch /new /etc/new && echo well").output == "well\n"


@pytest.mark.parametrize("options", [(), ("--no-pivot",)])
@pytest.mark.oci("root.path")
def test_the_root_is_the_bundles(bundles: Bundles, tree: Path, options: tuple[str, ...]) -> None:
    """By pivot_root(2), and by chroot(2) where that can't work."""
    (tree / "mine").touch()

    def change(config: Spec) -> None:
        config["root"] = {"path": str(tree), "readonly": False}

    before = mounts_of("self")
    result = bundles(
        "ls /mine; cd /; ls ../../mine; mount | wc -l; cat /proc/keys", change, *options
    )
    assert result.output.startswith("/mine\n../../mine\n"), result.errors
    assert mounts_of("self") == before


_MOUNT_PROC = "unshare -U -r -m -p -f mount -t proc x /tmp && echo mounted"


def _with_maps(config: Spec) -> None:
    """Let root inside map itself into a namespace of its own: user_namespaces(7)."""
    for kind in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][kind] += ["CAP_SETFCAP"]


@pytest.mark.parametrize("options", [(), ("--no-pivot",)])
def test_masks_hold_in_namespaces_of_the_programs_own(
    bundles: Bundles, options: tuple[str, ...]
) -> None:
    """Root of a user namespace made inside gets a new /proc only if a whole one is to be seen.

    The host's would be one, if it were left in the mount namespace: user_namespaces(7).
    """
    result = bundles(_MOUNT_PROC, _with_maps, *options)
    assert result.output == ""
    assert result.errors.startswith("mount: "), result.errors


def test_without_masks_it_gets_one(bundles: Bundles) -> None:
    """The control."""

    def change(config: Spec) -> None:
        _with_maps(config)
        config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}

    result = bundles(_MOUNT_PROC, change)
    assert result.output == "mounted\n", result.errors


def test_the_hosts_own_root_can_be_one(bundles: Bundles) -> None:
    """root.path "/": what is mounted in it is the container's alone."""

    def change(config: Spec) -> None:
        config["root"] = {"path": "/", "readonly": True}

    before = mounts_of("self")
    result = bundles("hostname; ls -d /proc/2 || touch /made", change)
    assert result.output == "minicontainer\n"
    assert "Read-only file system" in result.errors
    assert mounts_of("self") == before


@pytest.mark.oci("mounts[].destination")
def test_no_mounts_are_needed(bundles: Bundles) -> None:
    """None at all: the image's directories serve, and what shall be hidden is not there."""

    def change(config: Spec) -> None:
        config["mounts"] = []

    result = bundles("ls /proc /sys; pwd", change)
    assert result.output == "/proc:\n\n/sys:\n/\n", result.errors


@pytest.mark.parametrize("options", [(), ("--userns", "private")])
def test_any_name_of_a_root_file_system_and_a_data_root(
    run: Run, busybox: Path, roots: tuple[Path, Path], options: tuple[str, ...]
) -> None:
    """With the characters that stand between an overlay's options."""
    place = roots[0].parent / "a:b,c\\d"
    place.mkdir(mode=0o711)
    shutil.copytree(busybox, place / "root", symlinks=True)
    with contextlib.closing(Engine(place, f"{run.engine.cgroup}-elsewhere")) as engine:
        elsewhere = Run(busybox, engine)
        done = elsewhere("echo new >/file; cat /file", "--rootfs", str(place / "root"), *options)
    assert (done.status, done.output) == (0, "new\n"), done.errors
    assert not (place / "root/file").exists()


@pytest.mark.parametrize("options", [("-u", "1000"), ("--userns", "private"), ("--tmpfs", "/x/y")])
def test_the_callers_umask_does_not_reach_the_container(
    run: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Directories that are made for a container let all its users in."""
    bind = ("--mount", f"type=bind,source={tmp_path},target=/new/place")
    before = os.umask(0o077)
    try:
        done = run(
            "umask; cat /etc/hosts >/dev/null; stat -c %a / /new /new/place", *bind, *options
        )
    finally:
        os.umask(before)
    assert done.status == 0, done.errors
    mode = f"{tmp_path.stat().st_mode & 0o777:o}"
    assert done.output.split() == ["0022", "755", "755", mode]
