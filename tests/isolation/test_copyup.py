"""tmpcopyup: a tmpfs begins with what the directory below it holds."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from .conftest import Bundles, Change, Spec
from .test_mount_options import WAIT, bind, tmpfs


@pytest.fixture
def tree(bundles: Bundles, tmp_path: Path) -> Path:
    """A copy of the root file system, with a directory /data of every kind of file."""
    copy = tmp_path / "tree"
    os.system(f"cp -a {bundles.rootfs} {copy}")
    data = copy / "data"
    (data / "deep" / "er").mkdir(parents=True)
    (data / "file").write_text("content\n" * 10_000)
    os.setxattr(data / "file", "user.note", b"kept")
    os.link(data / "file", data / "deep" / "er" / "other-name")
    (data / "suid").write_text("x")
    os.chown(data / "suid", 1000, 1001)
    (data / "suid").chmod(0o4750)
    (data / "link").symlink_to("/etc/passwd")
    os.lchown(data / "link", 1000, 1001)
    (data / "dangling").symlink_to("nowhere")
    os.mkfifo(data / "fifo", 0o620)
    os.mknod(data / "device", 0o20640, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(data / "socket"))
    os.chown(data / "deep", 1000, 1001)
    (data / "deep").chmod(0o3771)
    (data / "line\nbreak").write_text("")
    for path in (data, *data.rglob("*")):
        os.utime(path, ns=(10**18, 2 * 10**18), follow_symlinks=False)
    data.chmod(0o1735)
    return copy


def _look(directory: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in (directory, *directory.rglob("*")):
        of = path.lstat()
        content: object = None
        if stat.S_ISREG(of.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(of.st_mode):
            content = os.readlink(path)
        names = [] if stat.S_ISLNK(of.st_mode) else os.listxattr(path, follow_symlinks=False)
        found[str(path.relative_to(directory))] = (
            of.st_mode, of.st_uid, of.st_gid, of.st_rdev, of.st_mtime_ns, content,
            {name: os.getxattr(path, name) for name in names if name.startswith("user.")},
        )  # fmt: skip
    return found


def _copied(tree: Path, *options: str) -> Change:
    def change(config: Spec) -> None:
        config["root"] = {"path": str(tree), "readonly": True}
        config["mounts"].append(tmpfs("/data", "tmpcopyup", *options))

    return change


@pytest.mark.oci("mounts[].options")
def test_all_of_it_is_there(bundles: Bundles, tree: Path) -> None:
    """Contents, owners, modes, times, attributes, links of both kinds, devices."""
    container = bundles.start(WAIT, _copied(tree))
    inside = Path(f"/proc/{container.pid}/root/data")
    assert inside.stat().st_dev != (tree / "data").stat().st_dev
    assert _look(inside) == _look(tree / "data")
    assert (inside / "file").stat().st_ino == (inside / "deep/er/other-name").stat().st_ino


def test_the_source_is_not_written(bundles: Bundles, tree: Path) -> None:
    """What the program then does stays in the tmpfs; the root is read-only, the control."""
    before = _look(tree / "data")
    result = bundles(
        "rm /data/file && echo x > /data/new && ls /data/new; echo x > /x", _copied(tree)
    )
    assert result.output == "/data/new\n", result.errors
    assert "Read-only file system" in result.errors
    assert _look(tree / "data") == before


def test_without_the_word_it_is_empty(bundles: Bundles, tree: Path) -> None:
    """The control."""

    def change(config: Spec) -> None:
        _copied(tree)(config)
        config["mounts"][-1]["options"].remove("tmpcopyup")

    assert bundles("ls -A /data", change).output == ""


def test_its_mode_can_be_told_and_it_can_be_read_only(bundles: Bundles, tree: Path) -> None:
    """The mount's own mode= wins over the directory's; ro comes when all is copied."""
    container = bundles.start(WAIT, _copied(tree, "mode=700", "ro"))
    inside = Path(f"/proc/{container.pid}/root/data")
    assert inside.stat().st_mode & 0o7777 == 0o700
    assert (inside / "file").read_bytes() == (tree / "data/file").read_bytes()
    assert os.statvfs(inside).f_flag & os.ST_RDONLY


def test_what_is_mounted_below_is_not_copied(bundles: Bundles, tree: Path, volume: Path) -> None:
    """A volume may be large, and is covered."""

    def change(config: Spec) -> None:
        _copied(tree)(config)
        copied = config["mounts"].pop()
        config["mounts"] += [bind(volume, "/data/deep"), copied]

    inside = Path(f"/proc/{bundles.start(WAIT, change).pid}/root/data")
    assert os.listdir(inside / "deep") == []
    assert (inside / "suid").exists()


def test_one_that_is_too_small_is_refused(bundles: Bundles, tree: Path) -> None:
    """One line, and no half of it."""
    result = bundles("true", _copied(tree, "size=16k"))
    assert result.status == 1
    assert "tmpcopyup to /data" in result.errors
    assert "No space left on device" in result.errors


def test_in_a_user_namespace(bundles: Bundles, tree: Path) -> None:
    """Whom it does not know becomes its root; the rest is as it is."""
    (tree / "data" / "device").unlink()  # nobody makes one there
    for name, mode in (("suid", 0o4755), ("deep", 0o755)):  # nor reads what others may not
        (tree / "data" / name).chmod(mode)

    def change(config: Spec) -> None:
        _copied(tree)(config)
        maps = [{"containerID": 0, "hostID": 0, "size": 500}]
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"] |= {"uidMappings": maps, "gidMappings": maps}

    result = bundles("stat -c '%u %g %a' /data/suid; cat /data/file | wc -l", change)
    assert result.output == "0 0 4755\n10000\n", result.errors
