"""Standard streams: no file of the host that a container could change: CVE-2026-88265."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.isolation.conftest import Bundles, Change, Spec

from .conftest import exchanging, only, race, replace, rooted

CAPS = ("--cap=CAP_FOWNER", "--cap=CAP_CHOWN")
SPOIL = "chmod 600 /proc/self/fd/0; chown 7:7 /proc/self/fd/0; cat <&0; echo $?"


@pytest.fixture(autouse=True)
def null_unchanged() -> Iterator[None]:
    """See that the host's null device is as it was; put it right if not."""
    before = os.stat("/dev/null")
    yield
    found = os.stat("/dev/null")
    wanted = (before.st_mode, before.st_uid, before.st_gid)
    if (found.st_mode, found.st_uid, found.st_gid) != wanted:
        os.chmod("/dev/null", before.st_mode & 0o7777)
        os.chown("/dev/null", before.st_uid, before.st_gid)
    assert (found.st_mode, found.st_uid, found.st_gid) == wanted


def _owning(config: Spec) -> None:
    """Let root in the container do with files what root may."""
    for kind in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][kind] += ["CAP_FOWNER", "CAP_CHOWN", "CAP_SETUID",
                                                    "CAP_SETGID"]  # fmt: skip


def _hostile(tree: Path) -> Change:
    def change(config: Spec) -> None:
        rooted(tree)(config)
        _owning(config)
        only(config, "/proc")

    return change


def test_the_hosts_null_device_is_not_among_them(bundles: Bundles) -> None:
    """Root inside changes its own; in exec as in the container's first program."""
    result = bundles(SPOIL, _owning)
    assert (result.output, result.errors) == ("0\n", "")
    container = bundles.start("echo ready; sleep 60", _owning)
    result = bundles.exec(container, *CAPS, "sh", "-c", SPOIL)
    assert result.output == "0\n", result.errors
    own = os.stat(f"/proc/{container.pid}/root/dev/null")
    assert (own.st_mode & 0o777, own.st_uid) == (0o600, 7)


@pytest.mark.parametrize("null", ["", "file", "/proc/sys/kernel/core_pattern"])
def test_without_one_of_its_own_it_gets_one_that_is_fixed(
    bundles: Bundles, tree: Path, null: str
) -> None:
    """The image's /dev/null is missing, a file, or a link: nothing of the host's is written."""
    place = tree / "dev" / "null"
    place.parent.mkdir(exist_ok=True)
    if null == "file":
        place.write_text("mine\n")
    elif null:
        replace(place, null)
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    container = bundles.start("rm -f /dev/null; echo ready; sleep 60", _hostile(tree))
    with open("/dev/null", "w") as null_stream:
        result = bundles.exec(
            container, *CAPS, "sh", "-c",
            f"{SPOIL} >&2; echo x", stdout=null_stream,
        )  # fmt: skip
    assert result.errors.count("Read-only file system") == 2, result.errors
    assert result.errors.endswith("0\n")
    if null:
        first = bundles(SPOIL, _hostile(tree))
        assert first.output == "0\n", first.errors
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_a_race_for_the_name_wins_nothing(bundles: Bundles, tree: Path, canary: Path) -> None:
    """A null device, and links to the host's files, change places while containers start."""
    dev = tree / "dev"
    dev.mkdir(exist_ok=True)
    os.mknod(dev / "null", 0o20666, os.makedev(1, 3))
    (dev / "link").symlink_to(canary / "file")
    (dev / "fifo").symlink_to(canary / "fifo")
    container = bundles.start("echo ready; sleep 60", _hostile(tree))

    def attempt() -> Result:
        with open("/dev/null", "w") as null:
            for result in (
                bundles("echo spoiled", _hostile(tree), stdout=null),
                bundles.exec(container, "echo", "spoiled", stdout=null),
            ):
                assert result == Result(0, None, "")  # type: ignore[arg-type]  # nothing was caught
        return result

    with exchanging((dev / "null", dev / "link"), (dev / "null", dev / "fifo")):
        race(attempt, 0)


def test_a_descriptor_alone_suffices(tmp_path: Path) -> None:
    """The control: who has a device open can change its mode, wherever it is."""
    device = tmp_path / "null"
    os.mknod(device, 0o20666, os.makedev(1, 3))
    with device.open() as stream:
        subprocess.run(["sh", "-c", "chmod 600 /proc/self/fd/0"], stdin=stream, check=True)
    assert device.stat().st_mode & 0o777 == 0o600


def _as_user(config: Spec) -> None:
    _owning(config)
    config["process"]["user"] = {"uid": 1000, "gid": 1000}


def test_pipes_become_the_users(bundles: Bundles) -> None:
    """Or a program could not open /dev/stdout, as many do that write a log there."""
    look = "echo out > /dev/stdout; echo err > /dev/stderr"
    result = bundles(look, _as_user)
    assert (result.output, result.errors) == ("out\n", "err\n")
    container = bundles.start("echo ready; sleep 60", _owning)
    result = bundles.exec(container, "--user=1000:1000", "sh", "-c", look)
    assert (result.output, result.errors) == ("out\n", "err\n")


@pytest.mark.parametrize("by", ["run", "exec"])
@pytest.mark.parametrize("kind", ["file", "fifo", "null"])
def test_files_of_the_host_stay_whose_they_are(
    bundles: Bundles, tmp_path: Path, kind: str, by: str
) -> None:
    """What a caller redirects to is no pipe: a file, a fifo that has a name, the null device."""
    path = tmp_path / "stream" if kind != "null" else Path("/dev/null")
    if kind == "file":
        path.touch()
    elif kind == "fifo":
        os.mkfifo(path)
    before = path.stat()
    with open(os.open(path, os.O_RDWR)) as stream:
        if by == "run":
            result = bundles("echo written", _as_user, stdout=stream)
        else:
            container = bundles.start("echo ready; sleep 60", _owning)
            words = ("--user=1000:1000", "echo", "written")
            result = bundles.exec(container, *words, stdout=stream)
    assert result.status == 0, result.errors
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        before.st_uid, before.st_gid, before.st_mode,
    )  # fmt: skip


def test_pipes_change_their_owner(bundles: Bundles) -> None:
    """The control: the same look at a pipe sees another owner."""
    reads, writes = os.pipe()
    bundles("true", _as_user, stdout=writes)
    assert os.fstat(reads).st_uid == 1000
    os.close(reads)
    os.close(writes)
