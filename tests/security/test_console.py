"""/dev/console: the terminal on a file of /dev itself: CVE-2025-52565, CVE-2026-88264."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from minicontainer.kernel import terminal
from tests.conftest import PATIENCE_S, Result
from tests.isolation.conftest import Bundles, Change, Spec, mounts_of

from .conftest import exchanging, naively, only, race, replace, rooted

LOOK = "tty; stat -c '%t' /dev/console; echo shown > /dev/console; cat /proc/keys; echo done"
SHOWN = "/dev/pts/0\n88\nshown\ndone\n"  # 0x88 is 136, the terminals' number


def _with_terminal(tree: Path, *destinations: str, readonly: bool = False) -> Change:
    """Make a bundle of the tree with a terminal; destinations: the only mounts it has."""

    def change(config: Spec) -> None:
        rooted(tree)(config)
        config["root"]["readonly"] = readonly
        config["process"]["terminal"] = True
        if destinations:
            only(config, *destinations)

    return change


def _run(bundles: Bundles, change: Change) -> Result:
    """Run LOOK on a terminal; give what it showed, with plain line ends."""
    path = bundles.directory / "console.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        words = bundles.write(LOOK, change, "--detach", "--console-socket", str(path))
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        shown = b""
        if done.returncode == 0:
            with listening.accept()[0] as connected:
                master = terminal.receive_descriptor(connected)
            while piece := _read(master):
                shown += piece
            os.close(master)
        remove = bundles.oci("delete", "--force", words[-1])
        subprocess.run(remove, check=True, capture_output=True, timeout=PATIENCE_S)
    return Result(done.returncode, shown.decode().replace("\r\n", "\n"), done.stderr)


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # EIO: the last process on the other side is gone
        return b""


@pytest.mark.parametrize(
    ("mounts", "readonly"),
    [((), False), ((), True), (("/proc", "/dev/pts"), False), (("/proc", "/dev/pts"), True)],
)
def test_it_is_the_terminal(
    bundles: Bundles, tree: Path, mounts: tuple[str, ...], readonly: bool
) -> None:
    """With a /dev of its own and with the image's, whether the root is read-only or not."""
    result = _run(bundles, _with_terminal(tree, *mounts, readonly=readonly))
    assert result.output == SHOWN, result.errors


@pytest.mark.parametrize(
    "target", ["{canary}/file", "pts/0", "/proc/sys/kernel/core_pattern", "nowhere"]
)
def test_a_link_is_not_followed(bundles: Bundles, tree: Path, canary: Path, target: str) -> None:
    """To a file of the host, to the terminal, to a setting: it is refused, nothing is mounted."""
    replace(tree / "dev" / "console", target.format(canary=canary))
    before = mounts_of("self")
    result = _run(bundles, _with_terminal(tree, "/proc", "/dev/pts"))
    assert result.status == 1
    assert "/dev/console is a symbolic link in the root file system" in result.errors
    assert mounts_of("self") == before


def test_dev_itself_may_be_a_link(bundles: Bundles, tree: Path, canary: Path) -> None:
    """It is followed inside the root: what is made there is the container's."""
    (tree / "other").mkdir()
    replace(tree / "dev", "/other")
    result = _run(bundles, _with_terminal(tree, "/proc", "/dev/pts"))
    assert result.output == SHOWN.replace("/dev/", "/other/"), result.errors
    assert (tree / "other" / "console").is_file()


@pytest.mark.parametrize("kind", ["file", "fifo", "device", "directory", "link", "nothing"])
def test_without_a_devpts_nothing_is_opened(
    bundles: Bundles, tree: Path, canary: Path, kind: str
) -> None:
    """What the image has at /dev/pts/ptmx could be any device, and opening it do something."""
    ptmx = tree / "dev" / "pts" / "ptmx"
    ptmx.parent.mkdir(parents=True)
    match kind:
        case "file":
            ptmx.write_text("")
        case "fifo":
            os.mkfifo(ptmx)
        case "device":
            os.mknod(ptmx, 0o20666, os.makedev(1, 5))
        case "directory":
            ptmx.mkdir()
        case "link":
            ptmx.symlink_to(canary / "fifo")
    result = _run(bundles, _with_terminal(tree, "/proc"))
    assert result.status == 1
    assert "process.terminal: " in result.errors


def test_a_race_wins_nothing(bundles: Bundles, tree: Path, canary: Path) -> None:
    """A file and a link to the host's change places while containers start."""
    (tree / "dev").mkdir(exist_ok=True)
    (tree / "dev" / "console").touch()
    (tree / "dev" / "link").symlink_to(canary / "file")

    def attempt() -> Result:
        result = _run(bundles, _with_terminal(tree, "/proc", "/dev/pts"))
        assert result.status in (0, 1)
        assert "shown" not in (canary / "file").read_text()
        return result

    with exchanging((tree / "dev" / "console", tree / "dev" / "link")):
        race(attempt, 0, 1)


def test_a_runtime_that_trusts_the_name_covers_the_hosts(tree: Path, canary: Path) -> None:
    """The control: mount(8) of a terminal onto the same name is on the host's file."""
    replace(tree / "dev" / "console", str(canary / "file"))
    script = 'mount --bind /dev/null "$1/dev/console"; stat -c %t:%T "$2"'
    assert naively(script, tree, canary / "file") == "1:3\n"
