"""Devices: which files are in /dev, and which numbers may be opened. devices.rst, cgroup-v2.rst."""

from __future__ import annotations

import os
import stat
import subprocess
from itertools import takewhile
from pathlib import Path

import pytest

from tests.conftest import Run

from .conftest import HOST_PYTHON, Bundles, Change, Spec, in_user_namespace, leaks, python

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


@pytest.mark.skipif(
    not os.path.exists("/sys/fs/cgroup/devices"), reason="on cgroup v2 the list can't be read back"
)
def test_the_kernels_list_is_short(run: Run) -> None:
    """With the control."""
    assert leaks(run.start("echo ready; sleep 60").pid, "devices") == {}
    privileged = run.start("echo ready; sleep 60", "--privileged").pid
    assert leaks(privileged, "devices").keys() == {"allow-list"}


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


@pytest.mark.parametrize("userns", ["host", "private"])
def test_it_is_the_hosts_device_with_its_rule(run: Run, userns: str) -> None:
    """In a user namespace too: the same numbers, and no more rights than asked."""
    node = Path(f"/dev/minicontainer-test-{os.getpid()}")  # elsewhere a mount may be nodev
    os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(10, 229))  # /dev/fuse's: in no default rule
    node.chmod(0o666)  # also for root of a user namespace
    script = """
    echo begun
    head -c 0 /dev/other 2>/dev/null && echo read
    (: > /dev/other) 2>/dev/null && echo written
    echo done; sleep 60
    """
    try:
        for rights, expected in (("r", ["read"]), ("rw", ["read", "written"])):
            container = run.start(
                script, "--userns", userns, "--device", f"{node}:/dev/other:{rights}",
                "--device", "/dev/null:/dev/zero",
            )  # fmt: skip
            lines = map(str.strip, container.process.stdout or ())
            assert list(takewhile(lambda line: line != "done", lines)) == expected
            dev = Path(f"/proc/{container.pid}/root/dev")
            assert (dev / "other").lstat().st_rdev == os.makedev(10, 229)
            assert (dev / "zero").lstat().st_rdev == os.makedev(1, 3)  # and not the default one
    finally:
        node.unlink()


def test_without_the_option_it_is_not_there(run: Run) -> None:
    """The control."""
    assert "No such file" in run("head -c 0 /dev/kmsg").errors


def test_a_device_that_is_none_is_refused(run: Run, volume: Path) -> None:
    """A file, a path that does not exist, rights that don't exist."""
    for text, status, why in (
        (str(volume / "file"), 125, "not a device node"),
        ("/dev/nothing", 127, "no such file or directory"),  # Docker's words, and its status
        ("/dev/null:/dev/null:rx", 125, "bad permissions"),
    ):
        result = run("true", "--device", text)
        assert result.status == status
        assert why in result.errors


# ---- what a bundle asks for


def _devices(*devices: Spec) -> Change:
    def change(config: Spec) -> None:
        config["linux"]["devices"] = [*devices]
        config["root"]["readonly"] = False

    return change


ASKED: tuple[Spec, ...] = (
    {
        "path": "/dev/one",
        "type": "c",
        "major": 1,
        "minor": 5,
        "fileMode": 0o640,
        "uid": 5,
        "gid": 6,
    },
    {"path": "/dev/deep/two", "type": "b", "major": 7, "minor": 200},
    {"path": "/dev/three", "type": "u", "major": 1, "minor": 3, "fileMode": 0o4600},
    {"path": "/dev/four", "type": "p", "fileMode": 0o622, "uid": 7},
    {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
    {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
)
MADE = {
    "one": (stat.S_IFCHR | 0o640, 1, 5, 5, 6), "deep/two": (stat.S_IFBLK | 0o666, 7, 200, 0, 0),
    "three": (stat.S_IFCHR | 0o4600, 1, 3, 0, 0), "four": (stat.S_IFIFO | 0o622, 0, 0, 7, 0),
    "null": (stat.S_IFCHR | 0o600, 1, 3, 0, 0),
}  # fmt: skip


@pytest.mark.oci("linux.devices")
def test_devices_are_made_as_asked(bundles: Bundles) -> None:
    """Kind, numbers, mode and owner; a default one changed; /dev/ptmx stays a link."""
    dev = Path(f"/proc/{bundles.start('echo ready; sleep 60', _devices(*ASKED)).pid}/root/dev")
    for name, expected in MADE.items():
        found = (dev / name).lstat()
        numbers = os.major(found.st_rdev), os.minor(found.st_rdev)
        assert (found.st_mode, *numbers, found.st_uid, found.st_gid) == expected, name
    assert os.readlink(dev / "ptmx") == "pts/ptmx"


@pytest.mark.oci("linux.devices")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_user_namespace_gets_them_as_asked(bundles: Bundles, umask: int) -> None:
    """Too, where nobody may make a device: by the host, with owners that count inside."""

    def change(config: Spec) -> None:
        _devices(*ASKED)(config)
        in_user_namespace(config)

    before = os.umask(umask)
    try:
        pid = bundles.start("echo ready; sleep 60", change).pid
    finally:
        os.umask(before)
    dev = Path(f"/proc/{pid}/root/dev")
    for name, (mode, *numbers, uid, gid) in MADE.items():
        found = (dev / name).lstat()
        assert found.st_mode == mode & ~stat.S_ISUID, (
            name
        )  # a new owner ends that; it means nothing
        assert [os.major(found.st_rdev), os.minor(found.st_rdev)] == numbers, name
        assert (found.st_uid, found.st_gid) == (uid + 100_000, gid + 100_000), name
    assert os.readlink(dev / "ptmx") == "pts/ptmx"


@pytest.mark.oci("linux.devices")
def test_a_device_works_in_a_user_namespace(bundles: Bundles) -> None:
    """By its owner and mode, and the cgroup's rules: /dev/mem's number can't be opened."""

    def change(config: Spec) -> None:
        _devices({"path": "/dev/zeros", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600},
                 {"path": "/dev/memory", "type": "c", "major": 1, "minor": 1})(config)  # fmt: skip
        in_user_namespace(config)

    result = bundles("head -c 1 /dev/zeros | wc -c; head -c 1 /dev/memory", change)
    assert result.output == "1\n"
    assert "Operation not permitted" in result.errors


@pytest.mark.oci("linux.devices")
def test_a_user_namespace_has_the_hosts_default_files(bundles: Bundles) -> None:
    """Bound: they work, and can't be changed."""

    def change(config: Spec) -> None:
        in_user_namespace(config, host_id=0)
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind] += ["CAP_FOWNER", "CAP_CHOWN"]

    before = os.stat("/dev/null")
    script = "echo x > /dev/null && head -c 1 /dev/zero | wc -c; chmod 600 /dev/null"
    result = bundles(script, change)
    assert result.output == "1\n"
    assert "Read-only file system" in result.errors
    after = os.stat("/dev/null")
    os.chmod("/dev/null", before.st_mode & 0o7777)
    assert after.st_mode == before.st_mode


def test_a_joined_user_namespace_gets_the_hosts_files(bundles: Bundles) -> None:
    """Whose owners nobody here knows: bound if the host has that device by that name."""
    holder = bundles.start(
        "echo ready; sleep 60", lambda config: in_user_namespace(config, host_id=0)
    )

    def joining(path: str, minor: int) -> Change:
        def change(config: Spec) -> None:
            _devices({"path": path, "type": "c", "major": 1, "minor": minor})(config)
            user = {"type": "user", "path": f"/proc/{holder.pid}/ns/user"}
            config["linux"]["namespaces"].append(user)

        return change

    assert bundles("head -c 1 /dev/zero | wc -c", joining("/dev/zero", 5)).output == "1\n"
    for path, why in (("/dev/nonsense", "No such file"), ("/dev/zero", "is not the device c 1:3")):
        result = bundles("true", joining(path, 3))
        assert result.status == 1
        assert why in result.errors


def test_nothing_is_made_in_a_dev_of_the_hosts(bundles: Bundles, volume: Path) -> None:
    """/dev as a bind: no device, no link, no directory; without the bind, the control, all are."""

    def change(config: Spec) -> None:
        _devices(*ASKED)(config)
        config["mounts"] = [row for row in config["mounts"] if "/dev" not in row["destination"]]
        config["mounts"].append({"destination": "/dev", "type": "bind", "source": str(volume),
                                 "options": ["rbind"]})  # fmt: skip

    assert bundles("ls /dev", change).output == "file\n"
    assert os.listdir(volume) == ["file"]
    assert "null" in bundles("ls /dev", _devices(*ASKED)).output.split()


def test_the_images_dev_serves_where_none_is_mounted(bundles: Bundles, tmp_path: Path) -> None:
    """What is missing is made; a device that is there already stays; ptmx becomes the link."""
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", bundles.rootfs, tree], check=True)
    (tree / "dev").mkdir(exist_ok=True)
    os.mknod(tree / "dev/ptmx", 0o20666, os.makedev(5, 2))
    os.mknod(tree / "dev/zero", 0o20600, os.makedev(1, 5))

    def change(config: Spec) -> None:
        config["root"] = {"path": str(tree), "readonly": True}
        config["mounts"] = []

    script = "echo x > /dev/null; stat -c %a /dev/zero; ls /dev; readlink /dev/ptmx"
    expected = sorted({*DEVICES, *LINKS})
    for _ in range(2):
        result = bundles(script, change)
        assert result.output.split() == ["600", *expected, "pts/ptmx"], result.errors
