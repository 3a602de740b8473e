"""The machine that an engine gets: what it shows of the host."""

from __future__ import annotations

import os
import subprocess

import pytest

from .machine import SHOW_CGROUPS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed: it mounts")


def test_a_machine_shows_hierarchies_and_no_plain_directories() -> None:
    """Podman leaves such directories in the host's tmpfs, and fails where it finds them again."""
    script = """
    mount -t tmpfs tmpfs /mnt
    mkdir -p /mnt/from/memory /mnt/from/cpu,cpuacct /mnt/to /mnt/from/net_cls/left
    mount -t tmpfs memory /mnt/from/memory
    mount -t tmpfs cpu /mnt/from/cpu,cpuacct
    ln -s cpu,cpuacct /mnt/from/cpu
    mkdir /mnt/from/memory/group
    show_cgroups /mnt/from /mnt/to
    cd /mnt/to && ls && readlink cpu && ls memory && mountpoint --quiet memory
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", SHOW_CGROUPS + script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["cpu", "cpu,cpuacct", "memory", "cpu,cpuacct", "group"]


def test_one_hierarchy_is_shown_whole() -> None:
    """On v2 there is no tmpfs. The control, too: a plain directory stays in what is bound whole."""
    script = "mount -t ramfs ramfs /mnt; mkdir -p /mnt/plain; mkdir /run/to-$$ || true;"
    script += "show_cgroups /mnt /run/to-$$; ls /run/to-$$; umount /run/to-$$; rmdir /run/to-$$"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", SHOW_CGROUPS + script], capture_output=True, text=True
    )
    assert done.stdout.split() == ["plain"], done.stderr
