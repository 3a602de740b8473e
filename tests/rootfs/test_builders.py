"""The builders under rootfs/, run for real: what they make, and what they leave when they fail."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BUILDERS = Path(__file__).parents[2] / "rootfs"
MACHINE = os.uname().machine

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="root is needed: its files are several users'"
)


def build(name: str, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the builder *name* as a user would, with *environment* on top of this process's."""
    return subprocess.run(
        [BUILDERS / name, *map(str, args)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def digest(tree: Path) -> str:
    """Compute the digest of *tree*, as `rootfs/digest` prints it."""
    done = build("digest", tree)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def path_without(tool: str, directory: Path) -> str:
    """Fill *directory* with links to every program but *tool*: a PATH on which it is missing."""
    for place in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(place).iterdir():
            if program.name != tool and not (directory / program.name).is_symlink():
                (directory / program.name).symlink_to(program)
    return str(directory)


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the busybox tree once for the tests that only look at it."""
    tree = tmp_path_factory.mktemp("rootfs") / "busybox"
    done = build("busybox", tree)
    assert done.returncode == 0, done.stderr
    return tree


def test_busybox_runs_from_its_own_tree(busybox: Path) -> None:
    """Static, with its names and its users: nothing of the host is needed."""
    look = "echo hello | tr a-z A-Z; id -u user"
    shown = subprocess.run(["chroot", busybox, "/bin/sh", "-c", look], capture_output=True)
    assert shown.stdout == b"HELLO\n1000\n"


def test_busybox_has_what_a_container_mounts_onto(busybox: Path) -> None:
    """With the modes that programs expect: /tmp is everybody's, /root is root's."""
    for name, mode in {
        "proc": 0o755,
        "sys": 0o755,
        "dev": 0o755,
        "tmp": 0o1777,
        "root": 0o700,
    }.items():
        assert stat.S_IMODE((busybox / name).stat().st_mode) == mode, name
    assert stat.S_IMODE((busybox / "etc/shadow").stat().st_mode) == 0o600


def test_busybox_twice_is_the_same_tree(busybox: Path, tmp_path: Path) -> None:
    """The same package gives the same names, times and contents: the digest sees them all."""
    assert build("busybox", tmp_path / "again").returncode == 0
    assert digest(tmp_path / "again") == digest(busybox)
    assert len({entry.lstat().st_mtime for entry in busybox.rglob("*")}) == 1


@pytest.mark.parametrize(
    "change", ["chmod 600 f", "touch -d @1 f", "chown 1 f", "echo >>f", "ln -s f g"]
)
def test_a_digest_sees_every_change(tmp_path: Path, change: str) -> None:
    """The control of the tests above: a digest that is the same has compared something."""
    (tmp_path / "f").write_text("text")
    before = digest(tmp_path)
    assert digest(tmp_path) == before
    subprocess.run(["sh", "-c", change], cwd=tmp_path, check=True)
    assert digest(tmp_path) != before


def test_a_tree_that_is_there_stays(tmp_path: Path) -> None:
    """A second call builds nothing; --rebuild does, and is the only way to lose a change."""
    tree = tmp_path / "busybox"
    build("busybox", tree)
    before = digest(tree)
    (tree / "etc/motd").write_text("mine")
    again = build("busybox", tree)
    assert (again.returncode, (tree / "etc/motd").exists()) == (0, True)
    assert "is there" in again.stderr
    assert build("busybox", "--rebuild", tree).returncode == 0
    assert digest(tree) == before
    assert list(tmp_path.iterdir()) == [tree]


def test_a_tree_of_another_version_is_named_as_such(tmp_path: Path) -> None:
    """It stays, as every tree does; whoever wants the newer one learns how to get it."""
    tree = tmp_path / "busybox"
    build("busybox", tree)
    assert "another version" not in build("busybox", tree).stderr
    mark = tree / "etc/minicontainer-rootfs"
    mark.write_text(mark.read_text().partition(" recipe")[0] + "\n")
    again = build("busybox", tree)
    assert again.returncode == 0
    assert "made by another version of this builder (--rebuild makes it anew)" in again.stderr
    assert build("busybox", "--rebuild", tree).returncode == 0
    assert "another version" not in build("busybox", tree).stderr


@pytest.mark.parametrize("args", [(), ("--rebuild",)])
def test_somebody_elses_directory_is_not_touched(tmp_path: Path, args: tuple[str, ...]) -> None:
    """Nor is a tree of another builder: --rebuild would remove it."""
    (tmp_path / "letter").write_text("dear")
    refused = build("busybox", *args, tmp_path)
    assert refused.returncode == 1
    assert "is not from this builder" in refused.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter"]


@pytest.mark.parametrize("args", [("--frobnicate",), ("a", "b"), ("",)])
def test_bad_arguments_get_the_usage(tmp_path: Path, args: tuple[str, ...]) -> None:
    """One line, before anything is made."""
    refused = subprocess.run(
        [BUILDERS / "busybox", *args], cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert refused.stderr == "rootfs/busybox: usage: rootfs/busybox [--rebuild] [DIR]\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("builder", "tool", "package"),
    [
        ("busybox", "dpkg-query", "dpkg"),
        ("debian", "mmdebstrap", "mmdebstrap"),
        ("alpine", "tar", "tar"),
    ],
)
def test_a_missing_tool_is_named_with_its_package(
    tmp_path: Path, builder: str, tool: str, package: str
) -> None:
    """And nothing is begun."""
    programs = tmp_path / "programs"
    programs.mkdir()
    failed = build(builder, tmp_path / "trees/one", PATH=path_without(tool, programs))
    assert failed.returncode == 1
    assert failed.stderr == f"rootfs/{builder}: {tool} is missing: apt-get install {package}\n"
    assert not (tmp_path / "trees").exists()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Serve a small archive, as Alpine's mirrors do: the address, and the archive's SHA-256."""
    files = tmp_path / "served"
    place = files / "v9.9/releases" / MACHINE
    place.mkdir(parents=True)
    release = tmp_path / "alpine-release"
    release.write_text("9.9.0\n")
    archive = place / f"alpine-minirootfs-9.9.0-{MACHINE}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(release, "etc/alpine-release")
    handler = functools.partial(Quiet, directory=str(files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield address, hashlib.sha256(archive.read_bytes()).hexdigest()
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that keeps its log to itself."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_alpine_is_unpacked_from_a_mirror(mirror: tuple[str, str], tmp_path: Path) -> None:
    """With the checksum that was given, and twice the same."""
    address, sha256 = mirror
    environment = {"ALPINE_MIRROR": address, "ALPINE_VERSION": "9.9.0", "ALPINE_SHA256": sha256}
    for tree in (tmp_path / "trees/one", tmp_path / "trees/two"):
        done = build("alpine", tree, **environment)
        assert done.returncode == 0, done.stderr
        assert (tree / "etc/alpine-release").read_text() == "9.9.0\n"
    assert digest(tmp_path / "trees/one") == digest(tmp_path / "trees/two")


def test_alpine_with_another_checksum_is_refused(mirror: tuple[str, str], tmp_path: Path) -> None:
    """The archive is not unpacked, whoever sent it."""
    wrong = "0" * 64
    failed = build(
        "alpine", tmp_path / "trees/one",
        ALPINE_MIRROR=mirror[0], ALPINE_VERSION="9.9.0", ALPINE_SHA256=wrong,
    )  # fmt: skip
    assert failed.returncode == 1
    assert "is not the published one" in failed.stderr
    assert wrong in failed.stderr
    assert not list((tmp_path / "trees").iterdir())


def test_alpine_of_an_unknown_version_needs_its_checksum(tmp_path: Path) -> None:
    """An archive that cannot be checked is not even fetched."""
    failed = build("alpine", tmp_path / "trees/one", ALPINE_VERSION="9.9.0")
    assert failed.returncode == 1
    assert "no checksum is known of Alpine 9.9.0" in failed.stderr
    assert not (tmp_path / "trees").exists()


@pytest.mark.parametrize("builder", ["alpine", "debian"])
def test_without_a_network_one_line_says_so(tmp_path: Path, builder: str) -> None:
    """In a network namespace with nothing in it: no mirror answers, and nothing is left."""
    if builder == "debian" and shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    failed = subprocess.run(
        ["unshare", "--net", BUILDERS / builder, tmp_path / "trees/one"],
        env={
            **os.environ,
            "DEBIAN_MIRROR": "http://192.0.2.1/debian",
            "DEBIAN_RELEASE": "bookworm",
        },
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    assert failed.stderr.endswith("is there a network?\n")
    assert len(failed.stderr.splitlines()) == 1
    assert not list((tmp_path / "trees").iterdir())


class Slow(Quiet):
    """A mirror that accepts a request and is in no hurry to answer it."""

    asked = threading.Event()
    ended = threading.Event()

    def do_GET(self) -> None:
        """Wait until the test is over."""
        self.asked.set()
        self.ended.wait(60)


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while the archive is on its way: status 130, and the directory is as it was."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "ALPINE_MIRROR": f"http://127.0.0.1:{server.server_port}",
            "ALPINE_VERSION": "9.9.0",
            "ALPINE_SHA256": "0" * 64,
        }
        builder = subprocess.Popen(
            [BUILDERS / "alpine", tmp_path / "trees/one"],
            env=environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # a job in the background of a shell, which these tests may be, ignores it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert Slow.asked.wait(30)
        os.killpg(builder.pid, signal.SIGINT)
        assert builder.wait(30) == 130
        Slow.ended.set()
        server.shutdown()
    assert not list((tmp_path / "trees").iterdir())


def test_what_a_killed_builder_left_goes_with_the_next_build(tmp_path: Path) -> None:
    """SIGKILL can't be caught; a build that still runs is another matter."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    abandoned = tmp_path / f".busybox.{ended.pid}.partial"
    running = tmp_path / f".busybox.{os.getpid()}.partial"
    abandoned.mkdir()
    running.mkdir()
    build("busybox", tmp_path / "busybox")
    assert sorted(tmp_path.iterdir()) == [running, tmp_path / "busybox"]


@pytest.mark.timeout(900)
def test_debian_twice_is_the_same_tree(tmp_path: Path) -> None:
    """Two builds of the same state of the archive: the digests are equal, and its programs run."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    one, two = tmp_path / "one", tmp_path / "two"
    for tree in (one, two):
        done = build("debian", tree)
        if "no answer from" in done.stderr or "know no Debian mirror" in done.stderr:
            pytest.skip(f"a Debian mirror is missing: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
    assert digest(one) == digest(two)
    apt = subprocess.run(["chroot", one, "apt-get", "--version"], capture_output=True, text=True)
    assert apt.stdout.startswith("apt ")
    for tree in (one, two):
        shutil.rmtree(tree)  # 200 MB each
