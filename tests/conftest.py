"""What every test starts from: a root file system, a way to run a container, a look for leaks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
# In a virtual machine without hardware help everything takes ten times as long.
PATIENCE_S = 60 * float(os.environ.get("MINICONTAINER_PATIENCE", "1"))
BACK_TO_THE_HOST = {
    "pid": ("--pid", "host"),
    "network": ("--net", "host"),
    "ipc": ("--ipc", "host"),
    "uts": ("--uts", "host"),
    "cgroup": ("--cgroupns", "host"),
    "user": ("--userns", "host"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests be run against another runtime, or another engine, than ours."""
    told = "the OCI runtime that tests/oci and tests/peers are about, such as runc"
    parser.addoption("--runtime", metavar="PROGRAM", help=told)
    told = "an engine that tests/client is run on, such as dockerd28; may be given several times"
    parser.addoption("--engine", metavar="NAME", action="append", help=told)


def command(name: str) -> list[str]:
    """Give the command as it is installed, or from the checkout where it is not."""
    installed = Path(sys.executable).parent / name
    if installed.exists():
        return [str(installed)]
    module = {
        "minicontainer": "minicontainer.cli.main",
        "minicontainer-oci": "minicontainer.runtime.cli.main",
    }
    code = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); "
        "from minicontainer import startup; startup.begin(); "
        f"from {module[name]} import main; startup.end(main())"
    )
    return [sys.executable, "-c", code]


def wait_until(true: Callable[[], object], what: str) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@dataclass
class Result:
    """What a container did."""

    status: int
    output: str
    errors: str


@dataclass
class Running:
    """A container that runs in the background."""

    process: subprocess.Popen[str]
    pid: int
    state: dict[str, object]

    def stop(self) -> None:
        """End it by SIGKILL of its first process, and wait for the command."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE_S)


def start_in_background(arguments: list[str], state: Callable[[], Path]) -> Running:
    """Start a command; return when its container's program has printed a line.

    Args:
        state: finds the directory where the container's state.json is kept, once it runs.
    """
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise AssertionError(process.communicate()[1])
    known = json.loads((state() / "state.json").read_text())
    return Running(process, known["pid"], known)


class NetworkNamespace:
    """A network namespace with lo up, held by a process that waits for its input to close."""

    def __init__(self) -> None:
        # a new one takes the machine's ip_forward over, which others may have switched on
        closed = "echo 0 >/proc/sys/net/ipv4/ip_forward"
        ready = f"{closed}; ip link set lo up && echo ready && exec cat"
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", ready],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n"
        self.path = f"/proc/{self.holder.pid}/ns/net"

    def close(self) -> None:
        """End it, as a container's end does: the kernel removes its links a little later."""
        self.holder.communicate()


class Engine:
    """An engine as a process of its own.

    Args:
        base: a directory for its roots and its socket, which every user gets to.
        cgroup: the cgroup that those of its containers are made in.
        prefix: a command that runs it, such as nsenter(1).
        program: what stands for `minicontainer`; the installed command by default.
        fds: descriptors that it inherits.
    """

    def __init__(
        self,
        base: Path,
        cgroup: str,
        prefix: tuple[str, ...] = (),
        program: tuple[str, ...] = (),
        fds: tuple[int, ...] = (),
    ) -> None:
        self.data_root = base / "data"
        self.exec_root = base / "exec"
        self.cgroup = cgroup
        self.host = f"unix://{base}/engine.sock"
        self._log = base / "engine.log"
        words = [
            *prefix, *(program or command("minicontainer")), "daemon",
            "--data-root", str(self.data_root), "--exec-root", str(self.exec_root),
            "--host", self.host, "--cgroup-parent", cgroup,
        ]  # fmt: skip
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stderr=log, pass_fds=fds
            )
        wait_until(self._answers, "the engine to answer")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(self.host.removeprefix("unix://"))
            return True
        return False

    def command(self, *words: object) -> list[str]:
        """Write a command line for this engine."""
        return [*command("minicontainer"), "--host", self.host, *map(str, words)]

    def remove_all(self) -> None:
        """Remove all containers, whatever they do."""
        words = self.command("ps", "--all", "--quiet")
        ids = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        if ids:
            remove = self.command("rm", "--force", *ids)
            subprocess.run(remove, capture_output=True, check=True, timeout=PATIENCE_S)

    def close(self) -> None:
        """Remove its containers, and end it."""
        self.remove_all()
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        for directory, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
            if directory.endswith(self.cgroup):
                Path(directory).rmdir()


@dataclass
class Run:
    """Runs containers: `run(script, *options)`."""

    rootfs: Path
    engine: Engine
    background: list[Running] = field(default_factory=list)

    @property
    def data_root(self) -> Path:
        """What the engine keeps over a reboot."""
        return self.engine.data_root

    @property
    def exec_root(self) -> Path:
        """What it does not."""
        return self.engine.exec_root

    def arguments(
        self, words: tuple[str, ...], options: tuple[str, ...], without: str = ""
    ) -> list[str]:
        """Write the command line; the network is off unless an option says otherwise."""
        if not any(word.startswith("--net") for word in options) and without != "network":
            options = ("--net", "none", *options)
        if "--rootfs" not in options:
            options = ("--rootfs", str(self.rootfs), *options)
        back = BACK_TO_THE_HOST.get(without, ())
        return self.engine.command("run", "--rm", *back, *options, *words)

    def __call__(
        self,
        script: str | tuple[str, ...],
        *options: str,
        without: str = "",
        stdin: str | None = None,
    ) -> Result:
        """Run a shell script (or a program with arguments) in a container, to its end.

        Args:
            script: for `/bin/sh -c`; a tuple is the program and its arguments.
            options: of `minicontainer run`.
            without: a kind of namespace to leave out.
            stdin: its input, together with the option `-i`.
        """
        words = ("/bin/sh", "-c", script) if isinstance(script, str) else script
        done = subprocess.run(
            self.arguments(words, options, without),
            input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, script: str, *options: str, without: str = "") -> Running:
        """Run a script in the background; return when it has printed a line, `ready` or another."""
        noted = self.data_root.parent / f"{time.monotonic_ns()}.cid"
        options = ("--cidfile", str(noted), *options)

        def state() -> Path:
            return self.exec_root / "containers" / noted.read_text()

        arguments = self.arguments(("/bin/sh", "-c", script), options, without)
        running = start_in_background(arguments, state)
        self.background.append(running)
        return running


@pytest.fixture(scope="session")
def everyones() -> Iterator[Path]:
    """A directory that users other than root get to, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="minicontainer-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where MINICONTAINER_REQUIRE lists what it misses."""
    report = yield
    required = os.environ.get("MINICONTAINER_REQUIRE", "").split(",")
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if set(required) & set(re.findall(r"[\w-]+", reason)):
            report.outcome = "failed"
            report.longrepr = f"required here, but {reason}"
    return report


@pytest.fixture(scope="session")
def busybox(everyones: Path) -> Path:
    """A busybox root file system of this session's own: tests may look at it, none writes to it."""
    target = everyones / "busybox"
    subprocess.run([CHECKOUT / "rootfs" / "busybox", target], check=True, capture_output=True)
    return target


@pytest.fixture(scope="session")
def redis_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian with redis-server, as a tar; MINICONTAINER_REDIS names one that was built before."""
    if "MINICONTAINER_REDIS" in os.environ:
        return Path(os.environ["MINICONTAINER_REDIS"])
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    archive = tmp_path_factory.mktemp("debian") / "redis.tar"
    built = subprocess.run(
        ["mmdebstrap", "--variant=minbase", "--include=redis-server,redis-tools", "bookworm",
         str(archive)], capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode:
        pytest.skip(f"mmdebstrap has no mirror to build from: {built.stderr.splitlines()[-1]}")
    return archive


@pytest.fixture(autouse=True)
def plain_dev(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take away what a container without a /dev of its own made in that of the session's tree."""
    yield
    if "busybox" in request.fixturenames:
        for node in (request.getfixturevalue("busybox") / "dev").iterdir():
            shutil.rmtree(node) if node.is_dir() and not node.is_symlink() else node.unlink()


@pytest.fixture
def roots(everyones: Path) -> Iterator[tuple[Path, Path]]:
    """A data root and an exec root of the test's own."""
    base = Path(tempfile.mkdtemp(prefix="roots-", dir=everyones))
    base.chmod(0o755)
    yield base / "data", base / "exec"
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def shared_engine(busybox: Path, everyones: Path) -> Iterator[Engine]:
    """One engine for all tests that run containers by a command."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    base = everyones / "engine"
    base.mkdir(mode=0o711)
    engine = Engine(base, f"/minicontainer-tests-{os.getpid()}")
    # what stays from the first container and the first exec on is none that a test leaves behind
    for words in (
        ("run", "--detach", "--name", "first", "--net", "none", "--rootfs", busybox, "sleep", "99"),
        ("exec", "first", "true"),
        ("rm", "--force", "first"),
    ):
        subprocess.run(engine.command(*words), check=True, timeout=PATIENCE_S, capture_output=True)
    yield engine
    engine.close()


@pytest.fixture
def run(busybox: Path, shared_engine: Engine, nothing_left: None) -> Iterator[Run]:
    """A way to run containers; they end with the test, also those whose command is gone."""
    runner = Run(busybox, shared_engine)
    yield runner
    for running in runner.background:
        running.stop()
    if any((runner.data_root / "containers").iterdir()):
        shared_engine.remove_all()


def traces() -> dict[str, set[str]]:
    """Look at all that a container could leave on the host."""
    # walk, not glob: it passes over what disappears meanwhile
    found = (directory for directory, _, _ in os.walk("/sys/fs/cgroup"))
    cgroups = {directory for directory in found if "/minicontainer" in directory}
    mounts = {
        line.split(" ", 5)[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if "libexec/minicontainer" not in line  # the interpreter's own, which stays on purpose
    }
    processes = set()
    names = []
    for status in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            names.append(status.read_text().strip())
            if names[-1].startswith("minic:") and names[-1] != "minic:waiting":
                processes.add(f"{status.parent.name} {names[-1]}")
    # Each start takes these and leaves others, a moment later: a monitor with its creator, and an
    # exec process, for each engine. More of them would be left over.
    usual = 3 * names.count("minic:engine")
    for number in range(usual + 1, names.count("minic:waiting") + 1):
        processes.add(f"minic:waiting, the {number}.")
    return {
        "cgroups": cgroups,
        "mounts": mounts,
        "links": set(os.listdir("/sys/class/net")),
        "processes": processes,
        "files": {str(path) for path in Path("/dev/shm").glob("*minic*")},
    }


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """Compare the host before and after: mounts, cgroups, links, processes."""
    before = traces()
    yield
    deadline = time.monotonic() + PATIENCE_S / 6
    while left := {
        kind: found - before[kind] for kind, found in traces().items() if found - before[kind]
    }:
        # the kernel takes a network namespace's links away a moment after its last process
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Compare the host before and after the test."""
    with leaving_nothing():
        yield


@pytest.fixture(scope="session", autouse=True)
def interpreter_mount() -> Iterator[None]:
    """Leave the host as it was: take away the interpreter's own mount if these tests brought it."""
    copy = Path(sys.executable).parent.parent / "libexec" / "minicontainer" / "python3"
    was_mounted = os.path.ismount(copy) or str(copy) in Path("/proc/self/mountinfo").read_text()
    yield
    if not was_mounted and str(copy) in Path("/proc/self/mountinfo").read_text():
        subprocess.run(["umount", str(copy)], check=True)
