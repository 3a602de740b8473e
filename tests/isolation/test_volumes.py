"""What the user mounts: -v, --mount, --tmpfs.

See: Docker's "Bind mounts", "tmpfs mounts"; mount_setattr(2) for read-only trees.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Run

from .conftest import mounts_of


@pytest.fixture
def shared(roots: tuple[Path, Path]) -> Iterator[Path]:
    """A directory of the host whose mount tells others of new mounts below it."""
    directory = roots[0].parent / "shared"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
    subprocess.run(["mount", "--make-private", directory], check=True)
    subprocess.run(["mount", "--make-shared", directory], check=True)
    (directory / "below").mkdir()
    yield directory
    subprocess.run(["umount", "--recursive", directory], check=True)


def _mount_below(shared: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", shared / "below"], check=True)
    (shared / "below" / "later").touch()


def test_a_directory_is_shown_and_written_to(run: Run, volume: Path) -> None:
    """What is written inside is the host's file."""
    assert (
        run("cat /vol/file; echo new > /vol/new", "-v", f"{volume}:/vol").output == "the host's\n"
    )
    assert (volume / "new").read_text() == "new\n"


def test_a_read_only_one_can_not_be_written(run: Run, volume: Path) -> None:
    """With `ro`, and the same by --mount; the flags say so."""
    for options in (
        ("-v", f"{volume}:/vol:ro"),
        ("--mount", f"type=bind,src={volume},dst=/vol,readonly"),
    ):
        result = run("cat /vol/file; echo new > /vol/new", *options)
        assert result.output == "the host's\n"
        assert "Read-only file system" in result.errors
        assert not (volume / "new").exists()
        container = run.start("echo ready; sleep 60", *options)
        assert "ro" in mounts_of(container.pid)["/vol"].options


def test_read_only_holds_all_the_way_down(run: Run, shared: Path) -> None:
    """For the mounts below too, which a plain read-only bind would leave writable."""
    _mount_below(shared)
    result = run("cat /vol/below/later && echo new > /vol/below/new", "-v", f"{shared}:/vol:ro")
    assert "Read-only file system" in result.errors
    assert not (shared / "below" / "new").exists()


def test_without_it_the_mounts_below_are_written(run: Run, shared: Path) -> None:
    """The control."""
    _mount_below(shared)
    assert run("echo new > /vol/below/new", "-v", f"{shared}:/vol").status == 0
    assert (shared / "below" / "new").exists()


def test_a_file_can_be_mounted(run: Run, volume: Path) -> None:
    """On one that is there, and on one that is not; read-only or not."""
    for target in ("/etc/passwd", "/new/deep/file"):
        options = ("-v", f"{volume}/file:{target}:ro")
        result = run(f"cat {target}; echo x > {target}", *options)
        assert result.output == "the host's\n"
        assert "Read-only file system" in result.errors
    run("echo x > /etc/passwd", "-v", f"{volume}/file:/etc/passwd")
    assert (volume / "file").read_text() == "x\n"


def test_a_volume_can_lie_in_another(run: Run, volume: Path) -> None:
    """The outer one first, however they are listed."""
    inner = volume.parent / "inner"
    inner.mkdir()
    (inner / "deep").touch()
    (volume / "sub").mkdir()
    result = run("ls /vol /vol/sub", "-v", f"{inner}:/vol/sub", "-v", f"{volume}:/vol")
    assert result.output == "/vol:\nfile\nsub\n\n/vol/sub:\ndeep\n"


def test_a_slave_sees_later_mounts(run: Run, shared: Path) -> None:
    """rslave: a mount that the host makes while the container runs appears in it."""
    container = run.start("echo ready; sleep 60", "-v", f"{shared}:/vol:rslave")
    _mount_below(shared)
    assert Path(f"/proc/{container.pid}/root/vol/below/later").exists()
    assert mounts_of(container.pid)["/vol"].peers[0].startswith("master:")


def test_by_default_later_mounts_stay_away(run: Run, shared: Path) -> None:
    """The control: rprivate."""
    container = run.start("echo ready; sleep 60", "-v", f"{shared}:/vol")
    _mount_below(shared)
    assert not Path(f"/proc/{container.pid}/root/vol/below/later").exists()
    assert mounts_of(container.pid)["/vol"].peers == ()


_MOUNT_INSIDE = "mount -t tmpfs none /vol/below && touch /vol/below/inside && echo ready; sleep 60"


def test_a_slaves_own_mounts_stay_inside(run: Run, shared: Path) -> None:
    """One direction only."""
    run.start(_MOUNT_INSIDE, "-v", f"{shared}:/vol:rslave", "--cap-add", "SYS_ADMIN")
    assert not (shared / "below" / "inside").exists()


def test_a_shared_ones_mounts_come_out(run: Run, shared: Path) -> None:
    """rshared: asked for, a mount made inside appears on the host, and the other way round."""
    run.start(_MOUNT_INSIDE, "-v", f"{shared}:/vol:rshared", "--cap-add", "SYS_ADMIN")
    assert (shared / "below" / "inside").exists()


def test_a_tmpfs_is_empty_and_limited(run: Run) -> None:
    """With Docker's flags, and more by request."""
    container = run.start("echo ready; sleep 60", "--tmpfs", "/cache:size=1m,mode=700")
    mount = mounts_of(container.pid)["/cache"]
    assert mount.fstype == "tmpfs"
    assert mount.options >= {"rw", "nosuid", "nodev", "noexec"}
    assert mount.super_options >= {"size=1024k", "mode=700"}
    full = run("dd if=/dev/zero of=/cache/x bs=1k count=2k", "--tmpfs", "/cache:size=1m")
    assert "No space left on device" in full.errors
    assert run("dd if=/dev/zero of=/cache/x bs=1k count=2k", "--tmpfs", "/cache").status == 0


def test_a_tmpfs_may_hold_programs_when_asked(run: Run) -> None:
    """`exec` takes back what `noexec` set; without it the program is refused."""
    copy = "cp /bin/busybox /t/busybox && /t/busybox true"
    assert run(copy, "--tmpfs", "/t:exec").status == 0
    assert run(copy, "--tmpfs", "/t").status == 126


def test_mount_makes_a_tmpfs_too(run: Run) -> None:
    """--mount type=tmpfs with its two options."""
    option = "type=tmpfs,dst=/cache,tmpfs-size=1m,tmpfs-mode=1777"
    mount = mounts_of(run.start("echo ready; sleep 60", "--mount", option).pid)["/cache"]
    assert mount.super_options >= {"size=1024k"}
    assert run("stat -c %a /cache", "--mount", option).output == "1777\n"
