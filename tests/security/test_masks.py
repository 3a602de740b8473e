"""Masked paths hide behind a null device that is surely one: CVE-2025-31133."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.isolation.conftest import Bundles, Spec, mounts_of

from .conftest import device_of, exchanging, naively, only, race, replace, rooted

SETTING = "/proc/sys/kernel/core_pattern"  # what names a program that the host's kernel runs
NULL = ("c", 1, 3)


@pytest.fixture(autouse=True)
def host_unchanged() -> Iterator[None]:
    """See that neither the kernel's setting nor the host's null device is another afterwards."""
    setting, mode = Path(SETTING).read_text(), os.stat("/dev/null").st_mode
    yield
    found = os.stat("/dev/null").st_mode
    if found != mode:
        os.chmod("/dev/null", mode & 0o7777)  # the test has failed, the host shall not
    assert found == mode
    assert Path(SETTING).read_text() == setting


def _without_dev(tree: Path, *capabilities: str) -> object:
    def change(config: Spec) -> None:
        rooted(tree)(config)
        only(config, "/proc")
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind] += capabilities

    return change


_LOOK = "stat -c '%t %T' /proc/keys; cat /proc/keys; echo spoiled > /proc/keys; echo done"


@pytest.mark.parametrize(
    "null", [SETTING, "/proc/1/environ", "../../../../etc/passwd", "nowhere", "file", "directory"]
)
def test_the_images_null_device_plays_no_part(bundles: Bundles, tree: Path, null: str) -> None:
    """A link to a setting of the kernel, to another file, to nothing; a file; a directory."""
    place = tree / "dev" / "null"
    replace(place, null)
    if null in ("file", "directory"):
        place.unlink()
        place.mkdir() if null == "directory" else place.write_text("mine\n")
    result = bundles(_LOOK, _without_dev(tree))  # type: ignore[arg-type]  # a Change
    assert result.output == "1 3\ndone\n", result.errors


def test_a_runtime_that_trusts_the_name_shows_the_setting(tree: Path) -> None:
    """The control: mount(8) of the image's /dev/null, from inside, shows what it names."""
    replace(tree / "dev" / "null", SETTING)
    script = """
    mount -t proc proc "$1/proc"
    chroot "$1" /bin/mount --bind /dev/null /proc/keys
    cat "$1/proc/keys"
    """
    assert naively(script, tree) == Path(SETTING).read_text()


def test_a_race_for_the_name_wins_nothing(bundles: Bundles, tree: Path) -> None:
    """A real null device and a link to the setting change places while containers start."""
    (tree / "dev").mkdir(exist_ok=True)
    os.mknod(tree / "dev" / "null", 0o20666, os.makedev(1, 3))
    (tree / "dev" / "link").symlink_to(SETTING)

    def attempt() -> Result:
        result = bundles(_LOOK, _without_dev(tree))  # type: ignore[arg-type]  # a Change
        assert result.output == "1 3\ndone\n", result.errors
        return result

    with exchanging((tree / "dev" / "null", tree / "dev" / "link")):
        race(attempt, 0)


def test_the_hosts_null_device_keeps_its_mode(bundles: Bundles, tree: Path) -> None:
    """What hides a path is the host's own file; on its mount nobody can change it."""
    change = _without_dev(tree, "CAP_FOWNER", "CAP_CHOWN")
    look = (
        "chmod 600 /proc/keys; chown 7 /proc/keys; touch /proc/keys; echo x > /proc/keys; echo $?"
    )
    result = bundles(look, change)  # type: ignore[arg-type]  # a Change
    assert result.output == "0\n"
    assert result.errors.count("Read-only file system") == 3


def test_without_that_it_would_not(tmp_path: Path) -> None:
    """The control: a bind mount of a device, writable, passes a change of mode on."""
    device = tmp_path / "null"
    os.mknod(device, 0o20666, os.makedev(1, 3))
    naively('mount --bind "$1" /proc/keys; chmod 600 /proc/keys', device)
    assert device.stat().st_mode & 0o777 == 0o600


def test_directories_share_one_mount(bundles: Bundles) -> None:
    """Of a tmpfs that is read-only and has no room: none of it is the host's."""

    def change(config: Spec) -> None:
        config["linux"]["maskedPaths"] = ["/etc", "/usr", "/proc/keys", "/proc/timer_list"]

    container = bundles.start("echo ready; sleep 60", change)
    mounts = mounts_of(container.pid)
    root = f"/proc/{container.pid}/root"
    assert os.stat(f"{root}/etc").st_dev == os.stat(f"{root}/usr").st_dev
    assert {"ro"} <= mounts["/etc"].options & mounts["/usr"].options
    assert os.listdir(f"{root}/etc") == []
    for path in ("/proc/keys", "/proc/timer_list"):
        assert device_of(root + path) == NULL
        assert "ro" in mounts[path].options
