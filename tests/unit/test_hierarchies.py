"""Which cgroups are mounted, from the kernel's own text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cgroups.hierarchies import Hierarchies, Hierarchy, parse
from minicontainer.errors import Conflict, InvalidArgument

V1 = (
    """\
24 0 254:0 / / rw,relatime - ext4 /dev/vda rw
30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory
""",
    "5:memory:/user.slice\n4:cpu,cpuacct:/\n1:name=systemd:/user.slice/user-0.slice\n",
)
HYBRID = (
    V1[0] + "34 30 0:30 / /sys/fs/cgroup/unified rw shared:12 - cgroup2 cgroup2 rw\n",
    V1[1] + "0::/user.slice/user-0.slice\n",
)
V2 = (
    "24 0 254:0 / / rw - ext4 /dev/vda rw\n"
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    "0::/user.slice/user-1000.slice/session-1.scope\n",
)
# inside a container of Docker's: on v1 without a cgroup namespace, on v2 with one
DOCKER_V1 = (
    "700 600 0:80 / / rw - overlay overlay rw,lowerdir=a\n"
    "701 700 0:81 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "702 701 0:29 /docker/abc /sys/fs/cgroup/memory ro master:11 - cgroup cgroup rw,memory\n"
    "703 701 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
    "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
)
DOCKER_V2 = (
    "700 600 0:80 / / rw - overlay overlay rw,lowerdir=a\n"
    "701 700 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
    "0::/\n",
)
# v2 mounted over the v1 hierarchies, as for a look at both on one host
COVERED = (HYBRID[0] + "40 30 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", HYBRID[1])


@pytest.mark.parametrize(
    ("host", "version"),
    [
        (V1, "v1"),
        (HYBRID, "hybrid"),
        (V2, "v2"),
        (DOCKER_V1, "v1"),
        (DOCKER_V2, "v2"),
        (COVERED, "v2"),
    ],
)
def test_the_version_is_told_by_what_is_mounted(host: tuple[str, str], version: str) -> None:
    """What is hidden under a later mount does not count."""
    assert parse(*host).version == version


def test_joined_controllers_are_one_hierarchy() -> None:
    """cpu and cpuacct come together on most v1 hosts."""
    found = {h.controllers: h.mount_point for h in parse(*V1).v1}
    assert found[("cpu", "cpuacct")] == "/sys/fs/cgroup/cpu,cpuacct"
    assert set(found) == {("name=systemd",), ("cpu", "cpuacct"), ("memory",)}


def test_a_named_hierarchy_alone_is_not_v1() -> None:
    """Some mount name=systemd on a v2 host, for old programs inside."""
    named = "31 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    assert parse(V2[0] + named, V2[1] + "1:name=systemd:/\n").version == "v2"


@pytest.mark.parametrize(
    ("host", "resolved"),
    [
        (V1, "/user.slice/user-0.slice/web"),
        (HYBRID, "/user.slice/user-0.slice/web"),
        (V2, "/user.slice/user-1000.slice/web"),
        (DOCKER_V1, "/web"),
        (DOCKER_V2, "/web"),
    ],
)
def test_a_relative_path_is_near_this_process(host: tuple[str, str], resolved: str) -> None:
    """Counted from what the mount shows; on v2 beside it, as below it no limit could be set."""
    found = parse(*host)
    assert found.resolve("web") == resolved
    assert found.resolve("/web//x/./y") == "/web/x/y"


@pytest.mark.parametrize("path", ["", "/", ".", "../x", "/a/../b", "/a/..", "a\nb", "/a\0"])
def test_a_path_that_leaves_its_place_is_refused(path: str) -> None:
    """Names only."""
    with pytest.raises(InvalidArgument, match="cgroup path"):
        parse(*V2).resolve(path)


def test_a_process_whose_group_was_removed_has_no_place_below_it() -> None:
    """The kernel marks it."""
    with pytest.raises(Conflict, match="/x of this process was removed"):
        parse(V2[0], "0::/x (deleted)\n").resolve("web")


def test_a_mount_point_may_have_spaces() -> None:
    """They are written as octal numbers."""
    host = V2[0].replace("/sys/fs/cgroup", r"/a\040b\134c")
    unified = parse(host, V2[1]).unified
    assert unified is not None
    assert unified.mount_point == r"/a b\c"


@given(st.text())
def test_no_path_leaves_its_root(path: str) -> None:
    """Whatever is asked for, what comes back has no way up."""
    found = Hierarchies(unified=Hierarchy(mount_point="/m"))
    try:
        resolved = found.resolve(path)
    except InvalidArgument:
        return
    assert resolved.startswith("/")
    assert not {"", ".", ".."} & set(resolved[1:].split("/"))
