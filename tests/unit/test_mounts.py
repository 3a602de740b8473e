"""What the user wants mounted, as the runtime's mounts and devices."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from minicontainer.cgroups.limits import DeviceRule
from minicontainer.engine import devices as host_devices
from minicontainer.engine import mounts
from minicontainer.engine.config import (
    BindOptions,
    DeviceMapping,
    HostConfig,
    MountRequest,
    TmpfsOptions,
)
from minicontainer.errors import InvalidArgument
from minicontainer.runtime.config.spec import Mount
from minicontainer.runtime.config.spec_linux import Device


def mounts_of(**asked: Any) -> list[Mount]:
    """Give the mounts for some fields of the host's configuration."""
    plans = mounts.plans_for(HostConfig(**asked))
    for plan in plans:
        if plan.type == "bind":
            mounts.check_source(plan)
    return [mounts.mount_of(plan, plan.source) for plan in plans]


def test_a_bind_is_recursive_and_writable(tmp_path: Path) -> None:
    """As in Docker, and by its real path."""
    (tmp_path / "link").symlink_to(tmp_path)
    assert mounts_of(binds=(f"{tmp_path}/link:/data/../x//",)) == [
        Mount(destination="/x", type="bind", source=str(tmp_path.resolve()), options=("rbind",))
    ]


@pytest.mark.parametrize(
    ("modes", "options"),
    [
        ("ro", ("rbind", "ro", "rro")),
        ("rw", ("rbind",)),
        ("ro,rslave", ("rbind", "ro", "rslave", "rro")),
        ("z,shared,nocopy", ("rbind", "shared")),
    ],
)
def test_the_modes_of_a_bind(tmp_path: Path, modes: str, options: tuple[str, ...]) -> None:
    """A read-only bind is so all the way down, since Docker 25."""
    assert mounts_of(binds=(f"{tmp_path}:/x:{modes}",))[0].options == options


@pytest.mark.parametrize(
    ("bind", "says"),
    [
        ("", "use HOST-PATH:CONTAINER-PATH"),
        ("HERE", "use HOST-PATH:CONTAINER-PATH"),
        ("HERE:", "use HOST-PATH:CONTAINER-PATH"),
        (":/x", "use HOST-PATH:CONTAINER-PATH"),
        ("HERE:/x:ro:rw", "use HOST-PATH:CONTAINER-PATH"),
        ("HERE:/x:", "use HOST-PATH:CONTAINER-PATH"),
        ("re/l:/x", '"re/l" includes invalid characters for a local volume name'),
        ("HERE/nosuch:/x", "bind source path does not exist: HERE/nosuch"),
        ("HERE:x", "invalid mount path: 'x'"),
        ("HERE:/", "invalid specification: destination can't be '/'"),
        ("HERE:/x/..", "destination can't be '/'"),
        ("HERE://", "destination can't be '/'"),
        ("HERE:/x:what", "invalid mode: what"),
        ("HERE:/x:ro,what", "invalid mode: ro,what"),
    ],
)
def test_a_bind_that_makes_no_sense(tmp_path: Path, bind: str, says: str) -> None:
    """Named by its own text."""
    with pytest.raises(InvalidArgument) as caught:
        mounts_of(binds=(bind.replace("HERE", str(tmp_path)),))
    assert says.replace("HERE", str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("source", ["/", "/var/lib", "/var/lib/engine", "/var/lib/engine/volumes"])
def test_a_bind_of_the_engines_files_follows_the_host(source: str) -> None:
    """As Docker's, or the container would hold what the engine unmounts."""

    def propagation_of(*, mode: str = "", source: str = source) -> str:
        host = HostConfig(binds=(f"{source}:/x:{mode}" if mode else f"{source}:/x",))
        return mounts.plans_for(host, (), "/var/lib/engine")[0].propagation

    assert propagation_of() == propagation_of(mode="ro") == "rslave"
    assert propagation_of(mode="rshared") == "rshared"
    assert propagation_of(source="/var/lib/engine2") == "rprivate"
    for mode in ("private", "rprivate", "slave", "shared"):
        with pytest.raises(InvalidArgument, match="must use either propagation mode"):
            propagation_of(mode=mode)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (MountRequest(type="bind", target="/x"), "field Source must not be empty"),
        (MountRequest(type="bind", source="rel", target="/x"), "invalid mount path: 'rel' mount"),
        (MountRequest(type="bind", source="/nosuch", target="/x"), "does not exist: /nosuch"),
        (MountRequest(type="bind", source="/"), "field Target must not be empty"),
        (
            MountRequest(
                type="bind", source="/", target="/x", bind_options=BindOptions(propagation="what")
            ),
            "invalid propagation 'what' of mount /x: use private",
        ),
    ],
)
def test_a_mount_that_makes_no_sense(request_: MountRequest, says: str) -> None:
    """The command line's reader finds some of it; the API's client has none."""
    with pytest.raises(InvalidArgument) as caught:
        mounts_of(mounts=(request_,))
    assert says in str(caught.value)


def test_a_tmpfs_holds_no_programs_and_no_devices() -> None:
    """Unless it is told to: a later word wins."""
    expected = ("nosuid", "nodev", "noexec", "exec", "size=1m")
    assert mounts_of(tmpfs={"/t": "exec,size=1m"})[0].options == expected
    request = MountRequest(
        type="tmpfs", target="/t", read_only=True, tmpfs_options=TmpfsOptions(mode=0o700)
    )
    assert mounts_of(mounts=(request,))[0].options == (*expected[:3], "mode=700", "ro")


@pytest.mark.parametrize(
    "words",
    ["size=64m", "size=10%", "mode=1777", "uid=1,gid=2", "nr_inodes=1k", "ro,noatime,rprivate"],
)
def test_the_words_of_a_tmpfs(words: str) -> None:
    """Its own, and those of every mount."""
    assert mounts_of(tmpfs={"/t": words})[0].options[3:] == tuple(words.split(","))


@pytest.mark.parametrize(
    "word",
    ["what", "what=1", "size", "size=", "size=x", "size=-1", "mode=9", "mode=rwx", "uid=root",
     "ro=1", "bind", "rbind", "source=/etc", "size=1m\n"],
)  # fmt: skip
def test_a_tmpfs_with_words_that_it_does_not_know(word: str) -> None:
    """The kernel would only say EINVAL."""
    with pytest.raises(InvalidArgument) as caught:
        mounts_of(tmpfs={"/t": f"exec,{word}"})
    name = word.partition("=")[0]
    assert str(caught.value) == f'invalid tmpfs option "{name}"'


def test_outer_directories_come_first(tmp_path: Path) -> None:
    """Or the outer mount would hide the inner one; otherwise in the order of the options."""
    found = mounts_of(
        binds=(f"{tmp_path}:/a/b/c", f"{tmp_path}:/a"),
        mounts=(MountRequest(type="tmpfs", target="/a/b"),),
        tmpfs={"/z": "", "/y": ""},
    )
    assert [mount.destination for mount in found] == ["/a", "/z", "/y", "/a/b", "/a/b/c"]


@pytest.mark.parametrize("other", ["/a", "/a/", "/x/../a", "//a"])
def test_one_place_is_mounted_on_once(tmp_path: Path, other: str) -> None:
    """However it is spelled, and by whichever option."""
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /a"):
        mounts_of(binds=(f"{tmp_path}:/a",), tmpfs={other: ""})


def test_a_device_is_the_hosts_at_another_place() -> None:
    """With its numbers, mode and owner, and a rule that lets it be used."""
    mapping = DeviceMapping(
        path_on_host="/dev/null", path_in_container="/dev/x", cgroup_permissions="r"
    )
    found = os.stat("/dev/null")
    devices, rules = host_devices.devices_for(HostConfig(devices=(mapping,)))
    mode = found.st_mode & 0o7777
    assert devices == (
        Device(path="/dev/x", type="c", major=1, minor=3, file_mode=mode, uid=found.st_uid),
    )
    assert rules == (DeviceRule(allow=True, type="c", major=1, minor=3, access="r"),)


def test_a_directory_brings_all_its_devices(tmp_path: Path) -> None:
    """As `--device /dev/snd`: at the same places below the one that was asked for; no links."""
    (tmp_path / "by-id").mkdir()
    (tmp_path / "file").touch()
    for name in ("null", "by-id/null"):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (tmp_path / "by-id/link").symlink_to("null")
    mapping = DeviceMapping(path_on_host=str(tmp_path), path_in_container="/dev/all")
    devices, rules = host_devices.devices_for(HostConfig(devices=(mapping,)))
    assert [device.path for device in devices] == ["/dev/all/null", "/dev/all/by-id/null"]
    assert {(rule.major, rule.minor, rule.access) for rule in rules} == {(1, 3, "rwm")}


@pytest.mark.parametrize(
    ("path", "inside", "permissions", "says"),
    [
        ("/dev/nosuch", "/dev/x", "rwm", 'adding custom device "/dev/nosuch": no such file'),
        ("/etc/passwd", "/dev/x", "rwm", 'custom device "/etc/passwd": not a device node'),
        ("/etc", "/dev/x", "rwm", 'custom device "/etc": not a device node'),
        ("/dev/null", "/dev/x", "", "invalid device permissions '' of /dev/null: use r, w, m"),
        ("/dev/null", "/dev/x", "rx", "invalid device permissions 'rx'"),
        ("/dev/null", "dev/x", "r", "invalid path 'dev/x' for device /dev/null"),
        ("/dev/null", "/", "r", "invalid path '/'"),
        ("/dev/null", "/dev/", "r", "invalid path '/dev/'"),
        ("/dev/null", "/dev/../x", "r", "invalid path '/dev/../x'"),
    ],
)
def test_a_device_that_makes_no_sense(path: str, inside: str, permissions: str, says: str) -> None:
    """What, and what to do."""
    mapping = DeviceMapping(
        path_on_host=path, path_in_container=inside, cgroup_permissions=permissions
    )
    with pytest.raises(InvalidArgument) as caught:
        host_devices.devices_for(HostConfig(devices=(mapping,)))
    assert says in str(caught.value)


def test_a_privileged_container_has_the_hosts_devices() -> None:
    """But not its terminals, and no links."""
    devices, rules = host_devices.devices_for(HostConfig(privileged=True))
    names = {device.path for device in devices}
    assert {"/dev/null", "/dev/zero"} <= names
    assert not any(name.startswith("/dev/pts/") or os.path.islink(name) for name in names)
    assert {rule.access for rule in rules} == {"rwm"}
