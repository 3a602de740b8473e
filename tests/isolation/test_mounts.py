"""Mount namespaces, the change of the root, and the file systems that every container gets.

See: mount_namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Run

from .conftest import HOST_PYTHON, Bundles, Spec, is_ours, mounts_of, python

# Where, what, the flags of the mount, and words of the file system itself.
SYSTEM_MOUNTS = {
    "/proc": ("proc", "rw nosuid nodev noexec", ""),
    "/dev": ("tmpfs", "rw nosuid", "size=65536k mode=755"),
    "/dev/pts": ("devpts", "rw nosuid noexec", "gid=5 mode=620 ptmxmode=666"),
    "/dev/shm": ("tmpfs", "rw nosuid nodev noexec", "size=65536k"),
    "/dev/mqueue": ("mqueue", "rw nosuid nodev noexec", ""),
    "/sys": ("sysfs", "ro nosuid nodev noexec", ""),
    "/sys/fs/cgroup": ("cgroup2 tmpfs", "ro nosuid nodev noexec", ""),
}

# What walked out of a chroot(2) since 1979: make a deeper root, stay outside of it, and climb.
_CLIMB_OUT = """
import os
os.chroot("/tmp")
for _ in range(64):
    os.chdir("..")
os.chroot(".")
print(os.path.exists({canary!r}))
"""


def test_a_mount_made_inside_is_not_seen_outside(run: Run) -> None:
    """It is in the container's mountinfo alone."""
    container = run.start(
        "mkdir /made-inside && mount -t tmpfs none /made-inside && echo ready; sleep 60",
        "--cap-add", "SYS_ADMIN",
    )  # fmt: skip
    assert not is_ours(container.pid, "mnt")
    assert "/made-inside" in mounts_of(container.pid)  # the control: this look can find it
    assert not [place for place in mounts_of("self") if place.endswith("/made-inside")]


def test_the_hosts_mounts_are_gone(run: Run) -> None:
    """pivot_root(2) and umount2(2) leave the container's own mounts and not one of the host's."""
    container = run.start("echo ready; sleep 60")
    mounts = mounts_of(container.pid)
    assert mounts["/"].fstype == "overlay"
    own = ("/", "/etc/", "/dev/", "/proc/", "/sys/", "/dev", "/proc", "/sys")
    assert not [place for place in mounts if place not in own and not place.startswith(own[1:5])]
    lines = Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()
    assert [line.split()[4] for line in lines].count("/") == 1


def test_the_root_can_not_be_climbed_out_of(run: Run, volume: Path) -> None:
    """The old way out of chroot(2), with the capability for it, ends at the container's root."""
    climb = python(_CLIMB_OUT.format(canary=str(volume / "file")))
    assert run(climb, *HOST_PYTHON).output == "False\n"


def test_a_chroot_can_be_climbed_out_of(busybox: Path, volume: Path) -> None:
    """The control: the same steps after chroot(2) alone find the host's file."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    enter = f"import os; os.chroot({str(busybox)!r}); os.chdir('/')\n"
    climb = python(enter + _CLIMB_OUT.format(canary=str(volume / "file")))
    assert subprocess.run(climb, capture_output=True, text=True, check=True).stdout == "True\n"


def test_no_mount_propagates(run: Run, volume: Path) -> None:
    """None is a peer of one of the host's, nor a slave: proc_pid_mountinfo(5)."""
    mounts = mounts_of(run.start("echo ready; sleep 60", "-v", f"{volume}:/vol").pid)
    assert {place: mount.peers for place, mount in mounts.items() if mount.peers} == {}


@pytest.mark.parametrize("place", SYSTEM_MOUNTS)
def test_a_system_mount_has_its_flags(run: Run, place: str) -> None:
    """Docker's, as the kernel shows them."""
    fstypes, flags, words = SYSTEM_MOUNTS[place]
    mount = mounts_of(run.start("echo ready; sleep 60").pid)[place]
    assert mount.fstype in fstypes.split()
    expected = set(flags.split())
    # what is not asked for must not be there either; the time of access is the kernel's to choose
    assert mount.options - {"relatime", "noatime"} == expected
    assert set(words.split()) <= mount.super_options


def test_they_are_not_the_hosts(run: Run) -> None:
    """Another instance of each: the device numbers differ. Shared namespaces show the host's."""
    own = run.start("echo ready; sleep 60")
    for place in ("/proc", "/dev", "/dev/pts", "/dev/shm"):
        assert os.stat(f"/proc/{own.pid}/root{place}").st_dev != os.stat(place).st_dev
    shared = run.start("echo ready; sleep 60", without="ipc")
    inside = os.stat(f"/proc/{shared.pid}/root/dev/shm")
    assert inside.st_dev == os.stat("/dev/shm").st_dev  # the control


def test_sysfs_and_cgroups_can_not_be_written(run: Run) -> None:
    """Whatever root inside may do."""
    for file in ("/sys/kernel/uevent_helper", "/sys/fs/cgroup/x"):
        result = run(f": > {file}")
        assert result.status != 0
        assert "Read-only file system" in result.errors


def test_a_namespace_is_needed(bundles: Bundles) -> None:
    """Without one the host's own root would be changed: it is refused."""

    def share_mounts(config: Spec) -> None:
        kept = [row for row in config["linux"]["namespaces"] if row["type"] != "mount"]
        config["linux"]["namespaces"] = kept

    before = mounts_of("self")
    result = bundles("true", share_mounts)
    assert result.status == 1
    assert "a mount namespace is needed" in result.errors
    assert mounts_of("self") == before
