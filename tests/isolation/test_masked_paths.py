"""Paths of /proc and /sys that tell about the host, or work on it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from minicontainer.runtime.config.defaults import MASKED_PATHS, READONLY_PATHS
from tests.conftest import Run

from .conftest import leaks, mounts_of

HERE = [path for path in MASKED_PATHS if os.path.exists(path)]
READABLE = [path for path in READONLY_PATHS if os.path.exists(path)]


@pytest.mark.parametrize("path", HERE)
@pytest.mark.oci("linux.maskedPaths")
def test_a_masked_path_is_empty(run: Run, path: str) -> None:
    """A file is the null device, a directory has nothing in it and takes nothing."""
    container = run.start("echo ready; sleep 60")
    inside = Path(f"/proc/{container.pid}/root{path}")
    if inside.is_dir():
        assert list(inside.iterdir()) == []
        assert "ro" in mounts_of(container.pid)[path].options
    else:
        found = inside.stat()
        assert stat.S_ISCHR(found.st_mode)
        assert found.st_rdev == os.makedev(1, 3)
        assert run(f"cat {path}").output == ""


def test_privileged_sees_them(run: Run) -> None:
    """The control: none of them is mounted over."""
    assert leaks(run.start("echo ready; sleep 60").pid, "masks") == {}
    pid = run.start("echo ready; sleep 60", "--privileged").pid
    assert leaks(pid, "masks").keys() == {"hidden paths", "read-only paths"}
    mounts = mounts_of(pid)
    assert not mounts.keys() & {*MASKED_PATHS, *READONLY_PATHS}
    kinds = run(f"stat -c %F {' '.join(HERE)}", "--privileged").output.splitlines()
    assert len(kinds) == len(HERE) > 0
    assert "character special file" not in kinds


@pytest.mark.parametrize("path", READABLE)
@pytest.mark.oci("linux.readonlyPaths")
def test_a_read_only_path_is(run: Run, path: str) -> None:
    """By the flags of a mount over itself."""
    mount = mounts_of(run.start("echo ready; sleep 60").pid)[path]
    assert mount.fstype == "proc"
    assert mount.root == path.removeprefix("/proc")
    assert "ro" in mount.options


def test_a_kernel_setting_can_not_be_changed(run: Run) -> None:
    """One of the container's own namespaces at that: the answer is the mount's."""
    result = run("cat /proc/sys/kernel/domainname && echo x > /proc/sys/kernel/domainname")
    assert "Read-only file system" in result.errors
    assert result.output


def test_privileged_can_change_one(run: Run) -> None:
    """The control: of its own UTS namespace, which ends with it."""
    look = "echo x > /proc/sys/kernel/domainname && cat /proc/sys/kernel/domainname"
    assert run(look, "--privileged").output == "x\n"
    assert "rw" in mounts_of(run.start("echo ready; sleep 60", "--privileged").pid)["/sys"].options


def test_they_can_not_be_uncovered(run: Run) -> None:
    """umount(8) needs CAP_SYS_ADMIN, and is not allowed by the filter either."""
    result = run("umount /proc/keys; cat /proc/keys; umount /proc/sys")
    assert result.output == ""
    assert result.errors.count("Operation not permitted") == 2
