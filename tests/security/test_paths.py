"""Paths in a hostile root file system lead nowhere else: openat2(2) RESOLVE_IN_ROOT.

See: CVE-2019-18837, CVE-2019-19921, CVE-2021-30465, CVE-2024-45310, CVE-2026-41579.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.conftest import Result, Run
from tests.isolation.conftest import HOST_PYTHON, Bundles, Spec, mounts_of, python

from .conftest import bind, exchanging, look, naively, only, race, replace, rooted

_CLIMB = "/".join([".."] * 20)


@pytest.mark.parametrize("form", ["absolute", "dots"])
@pytest.mark.parametrize("below", ["", "/new/deep"])
def test_a_volume_behind_a_link_stays_inside(
    bundles: Bundles, tree: Path, canary: Path, volume: Path, form: str, below: str
) -> None:
    """The link is followed as a process inside would: the target is made below the root."""
    replace(tree / "data", str(canary) if form == "absolute" else f"{_CLIMB}{canary}")
    mount = bind(volume, f"/data{below}")
    result = bundles(f"cat {canary}{below}/file; mount | grep -c canary", rooted(tree, mount))
    assert result.output.splitlines()[0] == "the host's", result.errors
    assert Path(f"{tree}{canary}{below}").is_dir()  # it was made, in the tree


def test_a_volume_of_the_command_does_so_too(
    run: Run, tree: Path, canary: Path, volume: Path
) -> None:
    """The same through `run`, whose tree is not even written."""
    replace(tree / "data", str(canary))
    for target in ("/data", "/data/file", "/data/new/deep"):
        result = run(f"ls {canary}", "--rootfs", str(tree), "-v", f"{volume}:{target}")
        assert result.status == 0, result.errors
        assert not Path(f"{tree}{canary}").exists()


def test_the_look_notices_a_change(volume: Path) -> None:
    """The control: what the tests here look for would be seen."""
    before = look(volume)
    for change in (
        lambda: (volume / "new").mkdir(),
        lambda: (volume / "file").chmod(0o600),
        lambda: os.chown(volume / "file", 7, -1),
        lambda: (volume / "file").write_text("another"),
    ):
        change()
        assert look(volume) != before
        before = look(volume)


def test_a_runtime_that_trusts_paths_is_led_out(tree: Path, canary: Path, volume: Path) -> None:
    """The control: mount(8) onto the same path covers the host's directory, and mkdir(1) makes one.

    In a mount namespace of its own, so that the canary stays as it is.
    """
    replace(tree / "data", str(canary))
    assert naively('mount --bind "$1" "$2"; ls "$3"', volume, tree / "data", canary) == "file\n"
    replace(tree / "data", str(volume))
    naively('mkdir -p "$1"', tree / "data" / "new")
    assert (volume / "new").is_dir()


@pytest.mark.parametrize("directory", ["etc", "dev", "sys", "data"])
def test_a_directory_that_is_a_link_stays_inside(
    run: Run, tree: Path, canary: Path, directory: str
) -> None:
    """/etc/hosts, /dev/null, … are made behind it: in the container, not on the host."""
    replace(tree / directory, str(canary))
    result = run("echo ran", "--rootfs", str(tree), "--tmpfs", "/data")
    if directory == "sys":
        assert "/sys is a symbolic link in the root file system" in result.errors
    else:
        assert result.output == "ran\n", result.errors


def test_devices_are_not_made_on_the_host(bundles: Bundles, tree: Path, canary: Path) -> None:
    """Also where the bundle mounts no /dev: they are made in the tree's own, behind a link."""
    replace(tree / "dev", str(canary))

    def change(config: Spec) -> None:
        rooted(tree)(config)
        only(config, "/proc")
        config["linux"]["devices"] = [{"path": "/dev/new/pipe", "type": "p", "uid": 7}]

    result = bundles(f"ls {canary}; cat /proc/keys; echo $?", change)
    assert "null" in result.output.split(), result.errors


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_must_be_a_directory(bundles: Bundles, tree: Path, name: str) -> None:
    """A link would choose where the container finds what is trusted: it is refused."""
    replace(tree / name, "/tmp")
    result = bundles("true", rooted(tree))
    assert result.status == 1
    assert f"/{name} is a symbolic link in the root file system" in result.errors


def test_the_users_of_an_image_are_the_images(run: Run, tree: Path, volume: Path) -> None:
    """/etc/passwd as a link to a file of the host: that is not read."""
    (volume / "passwd").write_text("spy:x:77:77::/:/bin/sh\n")
    replace(tree / "etc" / "passwd", str(volume / "passwd"))
    result = run("id -u", "--rootfs", str(tree), "--user", "spy")
    assert result.status == 125
    assert "unable to find user spy" in result.errors


@pytest.mark.parametrize("destination", ["../../data", "/a/../../data", "data/../data", "./data/"])
def test_dots_do_not_climb(
    bundles: Bundles, tree: Path, canary: Path, volume: Path, destination: str
) -> None:
    """Nor does a relative destination: it is below the root."""
    result = bundles("cat /data/file", rooted(tree, bind(volume, destination)))
    assert result.output == "the host's\n", result.errors
    assert (tree / "data").is_dir()


def _reach(directory: Path, canary: Path) -> None:
    """Make a directory, and beside it the links that take its place."""
    (directory / "place" / "deep").mkdir(parents=True)
    (directory / "absolute").symlink_to(canary)
    (directory / "climbing").symlink_to(f"{_CLIMB}{canary}")


def test_a_race_in_the_root_wins_nothing(
    bundles: Bundles, tree: Path, canary: Path, volume: Path
) -> None:
    """A directory and a link to the host change places while containers start: CVE-2021-30465.

    For each thing that is made below it: mount points, devices, a link, the working directory.
    """
    _reach(tree, canary)
    links = [tree / "absolute", tree / "climbing"]
    assert bundles("true", rooted(tree)).status == 0  # now the interpreter has its mount
    mounts = mounts_of("self")

    def change(config: Spec) -> None:
        rooted(tree, bind(volume, "/place/deep"), bind(volume / "file", "/place/new/file"))(config)
        config["mounts"] += [
            {"destination": "/place/tmp", "type": "tmpfs", "source": "x", "options": ["tmpcopyup"]},
            {"destination": "/place/proc", "type": "proc", "source": "proc", "options": []},
            bind("/etc", "/place/link", "copy-symlink", "dest-nofollow"),
        ]
        config["linux"]["devices"] = [{"path": "/place/dev/null", "type": "c", "major": 1,
                                       "minor": 3, "uid": 7}]  # fmt: skip
        config["linux"]["readonlyPaths"] = ["/place/deep"]
        config["linux"]["maskedPaths"] = ["/place/deep/file", "/place/new"]
        config["process"]["cwd"] = "/place/cwd"

    def attempt() -> Result:
        result = bundles("true", change)
        assert result.status in (0, 1)
        return result

    with exchanging(*((tree / "place", link) for link in links)):
        race(attempt, 0, 1)
    assert mounts_of("self") == mounts


# In a container: swaps names in its volume until it is killed.
_SWAP = """
import ctypes, os
swap = ctypes.CDLL(None).renameat2
names = [os.path.join("/vol", name).encode() for name in ("place", "absolute", "climbing")]
print("ready", flush=True)
while True:
    swap(-100, names[0], -100, names[1], 2)
    swap(-100, names[0], -100, names[2], 2)
"""


def test_a_race_from_another_container_wins_nothing(
    run: Run, canary: Path, volume: Path, roots: tuple[Path, Path]
) -> None:
    """Two share a volume; the first swaps what the second shall mount on: CVE-2021-30465."""
    _reach(volume, canary)
    other = roots[0].parent / "other"
    other.mkdir()
    assert run("true").status == 0  # now the interpreter has its mount
    mounts = mounts_of("self")
    swapping = run.start(shlex.join(python(_SWAP)), *HOST_PYTHON, "-v", f"{volume}:/vol")
    options = ("-v", f"{volume}:/vol", "-v", f"{other}:/vol/place/deep", "-v",
               f"{other}:/vol/place/new")  # fmt: skip
    race(lambda: run("true", *options), 0)
    run.background.remove(swapping)
    swapping.stop()  # it would swap while its files are removed
    assert mounts_of("self") == mounts
    assert list(other.iterdir()) == []


# What a runtime did before 2021: look where the path leads, and then mount onto it.
_LOOK_THEN_MOUNT = """
import ctypes, os, sys, time
tree, place, source, canary = sys.argv[1:]
libc = ctypes.CDLL(None)
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        inside = os.path.realpath(place).startswith(tree)
    except OSError:  # while it looked
        continue
    if inside:
        libc.mount(source.encode(), place.encode(), None, 4096, None)
        if os.path.exists(canary + "/deep/file"):
            print("reached")
            break
        libc.umount2(place.encode(), 2)
"""


def test_a_runtime_that_looks_first_loses_the_race(tree: Path, canary: Path, volume: Path) -> None:
    """The control: the same race against a look before the mount is won by who swaps."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    _reach(tree, canary)
    with exchanging((tree / "place", tree / "absolute")):
        code = ("python3", "-c", _LOOK_THEN_MOUNT, tree, tree / "place" / "deep", volume, canary)
        assert naively('exec "$@"', *code) == "reached\n"
