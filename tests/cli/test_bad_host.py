"""A host that does not give what containers take: the engine says what, and leaves nothing."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path

import pytest

from tests.conftest import Engine, Result, Run, command

from .conftest import AS_NOBODY, assert_one_line, containers_in, plain


@pytest.fixture
def elsewhere(roots: tuple[Path, Path]) -> tuple[str, ...]:
    """Options for an engine of this test's own, which does not run yet."""
    return ("--data-root", str(roots[0]), "--exec-root", str(roots[1]))


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        (AS_NOBODY, "containers need root here: run the command with sudo"),
        (("setpriv", "--bounding-set", "-sys_admin"), "needs CAP_SYS_ADMIN, which this root does"),
    ],
)
def test_an_engine_that_could_start_nothing(
    elsewhere: tuple[str, ...], nothing_left: None, prefix: tuple[str, ...], says: str
) -> None:
    """It says what is missing; as in a container that is not privileged."""
    done = plain(*prefix, *command("minicontainer"), "daemon", *elsewhere)
    assert_one_line(done.errors, says)
    assert done.status == 125


def test_the_command_passes_on_why_the_engine_did_not_start(
    elsewhere: tuple[str, ...], busybox: Path, nothing_left: None
) -> None:
    """It is the command that the user typed."""
    lacking = ("setpriv", "--bounding-set", "-sys_admin")
    words = ("run", "--rm", "--rootfs", str(busybox), "true")
    done = plain(*lacking, *command("minicontainer"), *elsewhere, *words)
    began, why = done.errors.splitlines()
    assert "starting the engine" in began
    assert_one_line(f"{why}\n", "the engine did not start: minicontainer: making namespaces needs")
    assert done.status != 0


def test_root_of_a_user_namespace_is_told_what_is_missing(
    run: Run, roots: tuple[Path, Path]
) -> None:
    """It may make namespaces, but the cgroups are not its own."""
    base = roots[0].parent / "engine"
    base.mkdir(mode=0o711)
    prefix = ("unshare", "--user", "--map-root-user", "--mount")
    with contextlib.closing(Engine(base, f"{run.engine.cgroup}-user", prefix)) as engine:
        done = Run(run.rootfs, engine)("true")
        assert_one_line(done.errors, "cgroup")
        assert done.status == 125
        assert containers_in(engine.data_root, engine.exec_root) == []


class SmallDisk:
    """An engine with one of its roots on a disk of its own, which can be filled."""

    def __init__(self, run: Run, base: Path, root: str, options: str) -> None:
        self.place = base / root
        self.place.mkdir(parents=True, mode=0o711)
        base.chmod(0o711)
        mount = f'mount -t tmpfs -o {options} full {self.place} && exec "$@"'
        prefix = ("unshare", "--mount", "sh", "-c", mount, "sh")
        self.engine = Engine(base, f"{run.engine.cgroup}-full", prefix)
        self.run = Run(run.rootfs, self.engine)

    def there(self, script: str) -> Result:
        """Run a script that sees the disk."""
        return plain(
            "nsenter", "--mount", f"--target={self.engine.process.pid}", "sh", "-c", script
        )

    def fill(self) -> None:
        """Write until no file, however small, has room."""
        fill = f"i=0; while echo {'x' * 4000} > {self.place}/fill.$i; do i=$((i + 1)); done"
        self.there(f"({fill}) 2>/dev/null")

    def empty(self) -> None:
        """Take that away."""
        self.there(f"rm {self.place}/fill.*")


@pytest.mark.parametrize("options", ["size=8m", "nr_inodes=300"])
@pytest.mark.parametrize("root", ["data", "exec"])
def test_a_disk_that_is_full(run: Run, roots: tuple[Path, Path], root: str, options: str) -> None:
    """What was begun is taken back; the line names the place; with room again it goes on."""
    disk = SmallDisk(run, roots[0].parent / "engine", root, options)
    with contextlib.closing(disk.engine):
        assert disk.run("true").errors == ""
        disk.fill()
        done = disk.run("true")
        assert_one_line(done.errors, str(disk.place))
        assert re.search("No space left on device|disk is full", done.errors)
        assert (done.status, done.output) == (125, "")
        assert disk.there(f'find {disk.place} -path "*/containers/[!.]*"').output == ""
        disk.empty()
        assert disk.run("true").errors == ""


def test_a_disk_that_gets_full_meanwhile(run: Run, roots: tuple[Path, Path]) -> None:
    """An end that can't be written down is noticed all the same, and the engine goes on."""
    disk = SmallDisk(run, roots[0].parent / "engine", "data", "size=8m")
    with contextlib.closing(disk.engine):
        container = disk.run.start("echo ready; sleep 600", "-e", f"A={'x' * 8000}")
        disk.fill()
        container.stop()
        assert container.process.returncode == 137
        disk.empty()
        assert disk.run("true").errors == ""


def test_a_root_that_can_not_be_written(elsewhere: tuple[str, ...], nothing_left: None) -> None:
    """The engine says which, and does not begin."""
    place = Path(elsewhere[1])
    place.mkdir()
    script = f'mount -t tmpfs -o ro full {place} || exit 99\nexec "$@"'
    words = [*command("minicontainer"), "daemon", *elsewhere]
    done = plain("unshare", "--mount", "sh", "-c", script, "sh", *words)
    assert_one_line(done.errors, str(place))
    assert done.status == 125


def test_a_file_where_the_state_should_be(elsewhere: tuple[str, ...], nothing_left: None) -> None:
    """Somebody's slip with --exec-root."""
    Path(elsewhere[3]).touch()
    done = plain(*command("minicontainer"), "daemon", *elsewhere)
    assert_one_line(done.errors, elsewhere[3])
    assert done.status == 125


def test_an_engine_that_goes_away_between_two_requests(tmp_path: Path) -> None:
    """The client had connections open for more: one line says what became of them."""
    path = tmp_path / "api.sock"

    def serve(listener: socket.socket) -> None:
        first, _ = listener.accept()
        for _ in range(2):  # `run` opens them while it waits for its container
            listener.accept()[0].close()
        listener.close()
        first.recv(65536)
        first.sendall(
            b'HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 13\r\n\r\n{"Id":"0123"}'
        )
        first.close()

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = threading.Thread(target=serve, args=(listener,))
    server.start()
    done = plain(*command("minicontainer"), "--host", f"unix://{path}", "run", "busybox")
    server.join()
    assert done.status == 125
    assert_one_line(done.errors, "Cannot connect to the Docker daemon")
