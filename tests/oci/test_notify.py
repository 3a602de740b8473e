"""NOTIFY_SOCKET: the program of a service says itself when it is ready: sd_notify(3)."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, wait_until

from .kernel import is_alive
from .runtime import Call, Container, Runtime, Spec

IN_CONTAINER = "/run/notify/notify.sock"
WAITS = "echo begun; trap 'exit 0' TERM; while :; do sleep 0.05; done"


class Manager:
    """A service manager, as far as it listens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))

    @property
    def env(self) -> dict[str, str]:
        """What it gives a service."""
        return {"NOTIFY_SOCKET": self.address}

    def heard(self, timeout_s: float = PATIENCE_S) -> list[str]:
        """Wait for a message; give its lines. What it brings along is closed, as systemd does."""
        assert select.select([self.socket], [], [], timeout_s)[0], "nothing was said"
        space = socket.CMSG_SPACE(array.array("i").itemsize)
        message, brought, _, _ = self.socket.recvmsg(4096, space)
        for _, _, data in brought:
            for fd in array.array("i", data):
                os.close(fd)
        return message.decode().splitlines()

    def heard_of(self, container: Container) -> None:
        """See that it was told who is ready, and nothing else; runc says it in two messages."""
        pid = container.pid
        lines = self.heard()
        while len(lines) < 2:
            lines += self.heard()
        assert sorted(lines) == [f"MAINPID={pid}", "READY=1"]

    def is_quiet(self) -> bool:
        """Say whether nothing waits to be read."""
        return not select.select([self.socket], [], [], 0)[0]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    made = Manager(str(tmp_path / "manager"))
    yield made
    made.socket.close()


@contextlib.contextmanager
def program_of(container: Container) -> Iterator[socket.socket]:
    """Connect to a container's socket as its program would: by the path that it has inside."""
    # by a descriptor: an address holds no more than 107 bytes
    directory = os.open(f"/proc/{container.pid}/root/run/notify", os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
        program.connect(f"/proc/self/fd/{directory}/notify.sock")
        os.close(directory)
        yield program


def say(container: Container, text: str) -> None:
    """Write to a container's socket."""
    with program_of(container) as program:
        program.send(text.encode())


def await_reader(container: Container) -> None:
    """Wait until all that was said has been read: sd_notify_barrier(3)."""
    reads, writes = os.pipe()
    with program_of(container) as program:
        socket.send_fds(program, [b"BARRIER=1"], [writes])
    os.close(writes)
    assert select.select([reads], [], [], PATIENCE_S)[0], "nobody reads"
    os.close(reads)


def flood(address: str) -> bool:
    """Send from one socket what it can; say whether it could: if not, the receiver's queue is full.

    It may take more than one: each has room for no more than its own send buffer holds.
    """
    sent = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flooding:
        flooding.connect(address)
        flooding.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += flooding.send(b"x")
    return sent > 0


def begin_start(container: Container, manager: Manager) -> Call:
    """Begin `start`, and wait until the program runs."""
    runtime = container.runtime
    call = runtime.begin(runtime.words("start", container.id), env=manager.env)
    container.wait_for("begun")
    return call


def begin_run(
    runtime: Runtime, manager: Manager, *options: str, name: str = ""
) -> tuple[Container, Call]:
    """Begin `run`, and wait until the program runs."""
    name = name or runtime.name()
    words = runtime.words("run", *options, "-b", str(runtime.bundle(WAITS)), name)
    call = runtime.begin(words, env=manager.env)
    container = Container(runtime, name, runtime.base, call.stdout)
    container.wait_for("begun")
    return container, call


def expect_readiness(container: Container, manager: Manager, call: Call) -> None:
    """Have the program say that it is ready: the manager hears of it, and the command ends."""
    say(container, "READY=1")
    manager.heard_of(container)
    manager.socket.close()
    assert container.runtime.finish(call).status == 0


def test_start_waits_until_the_program_is_ready(runtime: Runtime, manager: Manager) -> None:
    """And tells; its caller takes its end for that."""
    container = runtime.create(WAITS, env=manager.env)
    call = begin_start(container, manager)
    assert manager.is_quiet()
    assert is_alive(call.process.pid)
    say(container, "STATUS=nearly there")  # is for nobody
    await_reader(container)
    assert manager.is_quiet()
    assert is_alive(call.process.pid)
    say(container, "READY=1\nSTATUS=all done\nMAINPID=1")
    manager.heard_of(container)
    if runtime.is_ours:
        assert manager.heard() == ["BARRIER=1"]  # 1.1 of runc ends at once
    assert runtime.finish(call).status == 0
    assert manager.is_quiet()


@pytest.mark.parametrize(
    "umask", [0o022, pytest.param(0o077, marks=pytest.mark.ours("runc's directory heeds it"))]
)
def test_the_program_finds_its_socket(runtime: Runtime, manager: Manager, umask: int) -> None:
    """Any user's program may write there, and change nothing else; whatever the caller's umask."""

    def as_user(spec: Spec) -> None:
        spec["process"]["user"] = {"uid": 1000, "gid": 1000}

    see = f"grep ' /run/notify ' /proc/self/mountinfo; test -w {IN_CONTAINER} && echo can write"
    look = f'echo "$NOTIFY_SOCKET"; ls /run/notify; {see}; {WAITS}'
    before = os.umask(umask)
    try:
        container = runtime.create(look, as_user, env=manager.env)
        call = begin_start(container, manager)
    finally:
        os.umask(before)
    variable, listed, mount, last, _ = container.output().splitlines()
    assert (variable, listed, last) == (IN_CONTAINER, "notify.sock", "can write")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mount.split()[5].split(","))
    container.kill()
    assert runtime.finish(call).status == 0  # it need not wait any more
    assert manager.is_quiet()


def test_without_the_variable_there_is_none(runtime: Runtime) -> None:
    """The control: no mount, no variable."""
    look = 'echo "${NOTIFY_SOCKET-none}"; grep /run/notify /proc/self/mountinfo'
    container = runtime.start(f"{look}; {WAITS}")
    container.wait_for("begun")
    assert container.output() == "none\nbegun\n"


@pytest.mark.ours("runc's start fails then, with the program running")
def test_start_alone_has_the_variable(runtime: Runtime, manager: Manager) -> None:
    """The program has no socket to write to: `start` does not wait."""
    container = runtime.create(WAITS)
    runtime.ok("start", container.id, env=manager.env)
    container.wait_for("begun")
    assert manager.is_quiet()


def test_root_of_a_user_namespace_can_write(runtime: Runtime, manager: Manager) -> None:
    """To the host it is nobody; /run is its own, as from engines: the image is not."""

    def mapped(spec: Spec) -> None:
        ids = [{"containerID": 0, "hostID": 100_000, "size": 1000}]
        spec["linux"] |= {"uidMappings": ids, "gidMappings": ids}
        spec["linux"]["namespaces"].append({"type": "user"})
        spec["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs"})

    test = f"test -w {IN_CONTAINER} && echo can write; {WAITS}"
    container = runtime.create(test, mapped, env=manager.env)
    call = begin_start(container, manager)
    assert container.output() == "can write\nbegun\n"
    say(container, "READY=1")
    manager.heard_of(container)
    container.kill()
    manager.socket.close()
    assert runtime.finish(call).status == 0


def test_run_listens_while_it_waits(runtime: Runtime, manager: Manager) -> None:
    """In the foreground it stays the service's main process."""
    container, call = begin_run(runtime, manager)
    say(container, "READY=1")
    assert "READY=1" in manager.heard()
    assert is_alive(call.process.pid)
    if runtime.is_ours:  # the queue of runc's fills up
        for _ in range(50):
            say(container, "WATCHDOG=1")
        await_reader(container)
    runtime.ok("kill", container.id, "TERM")
    assert runtime.finish(call).status == 0
    assert runtime.containers() == []


@pytest.mark.ours("runc takes no signal before the program is ready")
def test_run_with_signals_while_it_listens(runtime: Runtime, manager: Manager) -> None:
    """They are the program's, and not lost in whoever listens."""
    _, call = begin_run(runtime, manager)
    call.process.terminate()
    assert runtime.finish(call).status == 0


def test_run_detached_waits_until_the_program_is_ready(runtime: Runtime, manager: Manager) -> None:
    """As `start`."""
    container, call = begin_run(runtime, manager, "--detach")
    assert is_alive(call.process.pid)
    expect_readiness(container, manager, call)
    assert container.status == "running"


@pytest.mark.ours("runc fails, and leaves the program running")
def test_nobody_listens(runtime: Runtime, manager: Manager) -> None:
    """The program runs on: a warning says that it was for nothing."""
    container = runtime.create(WAITS, env=manager.env)
    call = begin_start(container, manager)
    manager.socket.close()
    say(container, "READY=1")
    done = runtime.finish(call)
    assert done.status == 0
    assert "warning: NOTIFY_SOCKET: can't report that the container is ready" in done.errors
    assert container.status == "running"


def test_an_abstract_address(runtime: Runtime) -> None:
    """Which begins with @, and is no file's."""
    manager = Manager(f"@minicontainer-{os.getpid()}")
    container = runtime.create(WAITS, env=manager.env)
    call = begin_start(container, manager)
    expect_readiness(container, manager, call)


@pytest.mark.ours("runc's path is too long then")
def test_a_long_name(runtime: Runtime, manager: Manager) -> None:
    """A socket's address holds 107 bytes; a container's name may have 255."""
    container, call = begin_run(runtime, manager, name=runtime.name().ljust(255, "x"))
    say(container, "READY=1")
    assert manager.heard() == ["READY=1"]
    runtime.ok("kill", container.id)
    assert runtime.finish(call).status == 0


@pytest.mark.ours("a second start of runc's takes the socket away from the first one")
def test_a_start_too_many_does_not_listen(runtime: Runtime, manager: Manager) -> None:
    """It is refused, and the first one hears what is said."""
    container = runtime.create(WAITS, env=manager.env)
    call = begin_start(container, manager)
    runtime.refused("start", container.id, says="running", env=manager.env)
    expect_readiness(container, manager, call)


@pytest.mark.ours("runc has its state elsewhere")
def test_nobody_else_on_the_host_can_speak(runtime: Runtime, manager: Manager) -> None:
    """By the path outside; not even where the socket's own mode lets everybody write."""
    container = runtime.create(WAITS, env=manager.env)
    call = begin_start(container, manager)
    shared = runtime.root / container.id / "notify/shared"
    assert (shared / "notify.sock").stat().st_mode & 0o777 == 0o777
    for path, status in ((shared.parent, 0), (shared, 1)):  # the first one is the control
        look = subprocess.run(["stat", str(path)], user=65534, capture_output=True, text=True)
        assert look.returncode == status, look.stderr
    container.kill()
    assert runtime.finish(call).status == 0


@pytest.mark.ours("runc waits for ever")
def test_a_manager_that_reads_no_more(runtime: Runtime, manager: Manager) -> None:
    """Is not waited for without end."""
    while flood(manager.address):
        pass
    container = runtime.create(WAITS, env=manager.env)
    call = begin_start(container, manager)
    say(container, "READY=1")
    done = runtime.finish(call)
    assert done.status == 0
    assert "can't report that the container is ready: timed out" in done.errors


@pytest.mark.ours("runc has its state elsewhere")
def test_delete_follows_no_link(runtime: Runtime, manager: Manager, tmp_path: Path) -> None:
    """A privileged program can write to the directory, and what is there goes by its name."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()

    def privileged(spec: Spec) -> None:
        for held in spec["process"]["capabilities"].values():
            held.append("CAP_SYS_ADMIN")

    deep = "i=0; while [ $i -lt 1200 ]; do mkdir d && cd d; i=$((i + 1)); done; cd /run/notify"
    links = (
        f"{deep}; mkdir -p below/more; ln -s {kept} link; ln -s {kept} below/link; touch below/file"
    )
    script = f"mount -o remount,rw,bind /run/notify; cd /run/notify; {links}; {WAITS}"
    container = runtime.create(script, privileged, env=manager.env)
    call = begin_start(container, manager)
    wait_until(lambda: "begun" in container.output(), "the links")
    assert os.path.islink(runtime.root / container.id / "notify/shared/below/link")
    container.kill()
    assert runtime.finish(call).status == 0
    runtime.ok("delete", container.id)
    assert os.listdir(kept) == ["file"]
    assert not os.path.exists(runtime.root / container.id)
