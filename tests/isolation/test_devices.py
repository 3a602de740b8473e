"""Devices: which files are in /dev, and which numbers may be opened. devices.rst, cgroup-v2.rst."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.conftest import Run

from .conftest import HOST_PYTHON, python

DEVICES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
    "tty": (5, 0),
}  # fmt: skip
LINKS = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
}  # fmt: skip
DIRECTORIES = {"pts", "shm", "mqueue"}


def test_dev_holds_six_devices_and_five_links(run: Run) -> None:
    """And nothing else of the host's."""
    dev = Path(f"/proc/{run.start('echo ready; sleep 60').pid}/root/dev")
    assert set(os.listdir(dev)) == DEVICES.keys() | LINKS.keys() | DIRECTORIES
    for name, numbers in DEVICES.items():
        found = (dev / name).lstat()
        assert stat.S_ISCHR(found.st_mode)
        assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == numbers
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o666, 0, 0)
    assert {name: os.readlink(dev / name) for name in LINKS} == LINKS


def test_they_work(run: Run) -> None:
    """Each does what its name says."""
    script = """
    echo x > /dev/null && head -c 3 /dev/zero | hexdump -v -e '1/1 "%d"' && echo
    echo x 2>/dev/null > /dev/full || echo full
    head -c 8 /dev/urandom | wc -c; echo out > /dev/stdout; echo in | cat /dev/stdin
    """
    assert run(script).output == "000\nfull\n8\nout\nin\n"


# A device file with that number is made and opened: /dev/mem's, which no container may use.
_OPEN = """
import os
os.mknod("/dev/made", 0o20600, os.makedev({0}, {1}))
os.open("/dev/made", os.O_RDONLY)
"""


def test_a_made_device_can_not_be_opened(run: Run) -> None:
    """mknod(2) is harmless while the cgroup's list refuses open(2): EPERM."""
    result = run(python(_OPEN.format(1, 1)), *HOST_PYTHON, "--cap-add", "SYS_RAWIO")
    assert "PermissionError: [Errno 1] Operation not permitted: '/dev/made'" in result.errors


def test_a_listed_one_can(run: Run) -> None:
    """The control: the same steps with /dev/zero's number, and any number if privileged."""
    assert run(python(_OPEN.format(1, 5)), *HOST_PYTHON).status == 0
    privileged = run(python(_OPEN.format(1, 11)), *HOST_PYTHON, "--privileged")
    assert "Operation not permitted" not in privileged.errors


def test_a_device_can_be_let_in(run: Run) -> None:
    """--device, under another name, and with fewer rights."""
    look = """
    stat -c '%t %T' /dev/log-in
    head -c 0 /dev/log-in && echo read
    echo > /dev/log-in && echo written
    """
    result = run(look, "--device", "/dev/kmsg:/dev/log-in:r", "--cap-add", "SYSLOG")
    assert result.output == "1 b\nread\n"
    assert "Operation not permitted" in result.errors


def test_without_the_option_it_is_not_there(run: Run) -> None:
    """The control."""
    assert "No such file" in run("head -c 0 /dev/kmsg").errors


def test_a_device_that_is_none_is_refused(run: Run, volume: Path) -> None:
    """A file, a path that does not exist, rights that don't exist."""
    for text, why in (
        (str(volume / "file"), "is not a device"),
        ("/dev/nothing", "No such file or directory"),
        ("/dev/null:/dev/null:rx", "invalid device permissions"),
    ):
        result = run("true", "--device", text)
        assert result.status == 125
        assert why in result.errors
