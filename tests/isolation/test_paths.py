"""Paths in a hostile root file system lead nowhere else: openat2(2) RESOLVE_IN_ROOT.

See: CVE-2019-18837, CVE-2019-19921, CVE-2021-30465, CVE-2024-45310, CVE-2026-41579.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import Run

from .conftest import Bundles, Change, Spec, mounts_of

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def tree(busybox: Path, roots: tuple[Path, Path]) -> Path:
    """A copy of the root file system, to be made hostile."""
    copy = roots[0].parent / "tree"
    subprocess.run(["cp", "-a", busybox, copy], check=True)
    return copy


@pytest.fixture
def canary(roots: tuple[Path, Path]) -> Path:
    """A directory of the host that nothing may reach."""
    directory = roots[0].parent / "canary"
    directory.mkdir()
    (directory / "file").write_text("untouched\n")
    return directory


def _look(canary: Path) -> tuple[list[tuple[str, str]], int]:
    """Take down what a change would change."""
    files = [(path.name, path.read_text()) for path in sorted(canary.iterdir()) if path.is_file()]
    return files, canary.stat().st_mtime_ns


def _replace(path: Path, target: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _rooted(tree: Path, *mounts: Spec) -> Change:
    """Make a bundle of the tree itself, writable: what is made in it is there to be seen."""

    def change(config: Spec) -> None:
        config["root"] = {"path": str(tree), "readonly": False}
        config["mounts"] += mounts

    return change


_CLIMB = "/".join([".."] * 20)


@pytest.mark.parametrize("form", ["absolute", "dots"])
@pytest.mark.parametrize("below", ["", "/new/deep"])
def test_a_volume_behind_a_link_stays_inside(
    bundles: Bundles, tree: Path, canary: Path, volume: Path, form: str, below: str
) -> None:
    """The link is followed as a process inside would: the target is made below the root."""
    _replace(tree / "data", str(canary) if form == "absolute" else f"{_CLIMB}{canary}")
    before = _look(canary)
    mount: Spec = {
        "destination": f"/data{below}", "type": "bind", "source": str(volume), "options": ["bind"],
    }  # fmt: skip
    result = bundles(f"cat {canary}{below}/file; mount | grep -c canary", _rooted(tree, mount))
    assert result.output.splitlines()[0] == "the host's", result.errors
    assert _look(canary) == before
    assert Path(f"{tree}{canary}{below}").is_dir()  # it was made, in the tree


def test_a_volume_of_the_command_does_so_too(
    run: Run, tree: Path, canary: Path, volume: Path
) -> None:
    """The same through `run`, whose tree is not even written."""
    _replace(tree / "data", str(canary))
    before = _look(canary)
    for target in ("/data", "/data/file", "/data/new/deep"):
        result = run(f"ls {canary}", "--rootfs", str(tree), "-v", f"{volume}:{target}")
        assert result.status == 0, result.errors
        assert _look(canary) == before
    assert not Path(f"{tree}{canary}").exists()


def test_the_look_notices_a_change(canary: Path) -> None:
    """The control: what the tests above look for would be seen."""
    before = _look(canary)
    (canary / "new").mkdir()
    assert _look(canary) != before


@pytest.mark.parametrize("directory", ["etc", "dev", "sys", "data"])
def test_a_directory_that_is_a_link_stays_inside(
    run: Run, tree: Path, canary: Path, directory: str
) -> None:
    """/etc/hosts, /dev/null, … are made behind it: in the container, not on the host."""
    _replace(tree / directory, str(canary))
    before = _look(canary)
    result = run("echo ran", "--rootfs", str(tree), "--tmpfs", "/data")
    if directory == "sys":
        assert "/sys is a symbolic link in the root file system" in result.errors
    else:
        assert result.output == "ran\n", result.errors
    assert _look(canary) == before


def test_devices_are_not_made_on_the_host(bundles: Bundles, tree: Path, canary: Path) -> None:
    """Also where the bundle mounts no /dev: they are made in the tree's own, behind a link."""
    _replace(tree / "dev", str(canary))

    def change(config: Spec) -> None:
        _rooted(tree)(config)
        config["mounts"] = [row for row in config["mounts"] if row["destination"] == "/proc"]
        config["linux"]["maskedPaths"] = []

    before = _look(canary)
    bundles("true", change)
    assert _look(canary) == before
    assert sorted(os.listdir(canary)) == ["file"]


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_must_be_a_directory(bundles: Bundles, tree: Path, name: str) -> None:
    """A link would choose where the container finds what is trusted: it is refused."""
    _replace(tree / name, "/tmp")
    result = bundles("true", _rooted(tree))
    assert result.status == 1
    assert f"/{name} is a symbolic link in the root file system" in result.errors


def test_a_null_device_that_is_none_masks_nothing(bundles: Bundles, tree: Path) -> None:
    """/dev/null as a link to a kernel's setting must not be mounted or written: CVE-2025-31133."""
    (tree / "dev").mkdir(exist_ok=True)
    _replace(tree / "dev" / "null", "/proc/sys/kernel/core_pattern")
    before = Path("/proc/sys/kernel/core_pattern").read_text()

    def change(config: Spec) -> None:
        _rooted(tree)(config)
        config["mounts"] = [row for row in config["mounts"] if row["destination"] == "/proc"]

    result = bundles("cat /proc/keys && stat -c '%t %T' /proc/keys", change)
    assert result.output == "1 3\n", result.errors  # a null device of another place hides it
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_the_users_of_an_image_are_the_images(run: Run, tree: Path, volume: Path) -> None:
    """/etc/passwd as a link to a file of the host: that is not read."""
    (volume / "passwd").write_text("spy:x:77:77::/:/bin/sh\n")
    _replace(tree / "etc" / "passwd", str(volume / "passwd"))
    result = run("id -u", "--rootfs", str(tree), "--user", "spy")
    assert result.status == 125
    assert "unable to find user spy" in result.errors


def _exchange(one: Path, other: Path, until: threading.Event) -> int:
    """Swap two names over and over; say how often: renameat2(2)."""
    count = 0
    names = (os.fsencode(one), os.fsencode(other))
    while not until.is_set():
        assert _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0
        count += 1
    return count


def test_a_race_wins_nothing(bundles: Bundles, tree: Path, canary: Path, volume: Path) -> None:
    """A directory and a link to the host change places while containers start: CVE-2021-30465."""
    (tree / "place" / "deep").mkdir(parents=True)
    (tree / "link").symlink_to(f"{_CLIMB}{canary}")
    (canary / "deep").mkdir()
    before, mounts = _look(canary), mounts_of("self")
    mount: Spec = {
        "destination": "/place/deep", "type": "bind", "source": str(volume), "options": ["bind"],
    }  # fmt: skip
    stop = threading.Event()
    racer = threading.Thread(target=_exchange, args=(tree / "place", tree / "link", stop))
    racer.start()
    try:
        started = 0
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline or started < 5:
            result = bundles("true", _rooted(tree, mount))
            assert result.status in (0, 1)
            started += 1
            assert _look(canary) == before
            assert os.listdir(canary / "deep") == []
    finally:
        stop.set()
        racer.join()
    assert mounts_of("self") == mounts
