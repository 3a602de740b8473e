"""Filters whose calls somebody outside answers: SCMP_ACT_NOTIFY, listenerPath, listenerMetadata.

Any call may be one that waits for the answer, or is refused; also those by which a process could
tell of its listener. So each is tried alone, at both moments at which a filter is loaded.

See: seccomp_unotify(2); runtime-spec config-linux.md "Seccomp".
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyseccomp
import pytest

from tests.conftest import wait_until
from tests.isolation.conftest import status_of

from .runtime import WAITS, Runtime, Spec

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE: the kernel makes the call after all
ALLOW, ERRNO, NOTIFY = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"


class Notification(ctypes.Structure):
    """A call that waits: struct seccomp_notif, with its struct seccomp_data."""

    _fields_ = (
        ("id", ctypes.c_uint64), ("pid", ctypes.c_uint32), ("flags", ctypes.c_uint32),
        ("nr", ctypes.c_int), ("arch", ctypes.c_uint32), ("ip", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    )  # fmt: skip


class Response(ctypes.Structure):
    """The answer: struct seccomp_notif_resp."""

    _fields_ = (
        ("id", ctypes.c_uint64), ("val", ctypes.c_int64), ("error", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    )  # fmt: skip


class Listener:
    """A seccomp agent: takes listeners from a socket, and answers what comes.

    Args:
        path: of the socket.
        answer: an error number for a call of that name; 0 lets it be made.
    """

    def __init__(self, path: Path, answer: Callable[[str], int] = lambda _: 0) -> None:
        self.path = path
        self.states: list[dict[str, Any]] = []  # as they came with each listener
        self.calls: list[str] = []
        self._answer = answer
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._wakes, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End it, and with it its listeners; twice is once."""
        if not self._thread.is_alive():
            return
        os.close(self._wake)
        self._thread.join()
        self._server.close()
        os.close(self._wakes)

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Give the states once so many have come: what was sent need not be read yet."""
        wait_until(lambda: len(self.states) >= count, f"listener {count}")
        assert len(self.states) == count
        return self.states

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._wakes)
        poll.register(self._server, select.POLLIN)
        listeners: set[int] = set()
        while True:
            for fd, event in poll.poll():
                if fd == self._wakes:
                    for listener in listeners:
                        os.close(listener)
                    return
                if fd == self._server.fileno():
                    listener = self._accept()
                    listeners.add(listener)
                    poll.register(listener, select.POLLIN)
                elif event & select.POLLHUP:
                    poll.unregister(fd)  # all that were under the filter are gone
                else:
                    self._answer_one(fd)

    def _accept(self) -> int:
        connection, _ = self._server.accept()
        with connection:
            room = socket.CMSG_SPACE(4 * 16)
            data, messages, _, _ = connection.recvmsg(1 << 20, room)
            while not is_whole(data):  # runc closes the connection only when it ends
                part = connection.recv(1 << 20)
                assert part, data
                data += part
        (message,) = messages
        assert message[:2] == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        (listener,) = array.array("i", message[2])
        self.states.append(json.loads(data))
        return listener

    def _answer_one(self, fd: int) -> None:
        asked = Notification()
        with contextlib.suppress(OSError):  # ENOENT: it was killed meanwhile
            fcntl.ioctl(fd, _RECEIVE, asked)
            name = pyseccomp.resolve_syscall(pyseccomp.system_arch(), asked.nr).decode()
            self.calls.append(name)
            error = self._answer(name)
            flags = 0 if error else _CONTINUE
            fcntl.ioctl(fd, _SEND, Response(id=asked.id, error=-error, flags=flags))


def is_whole(data: bytes) -> bool:
    """Say whether this is all of a JSON text."""
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


@pytest.fixture
def listeners(runtime: Runtime) -> Iterator[Callable[..., Listener]]:
    """A way to make listeners, which end with the test."""
    made: list[Listener] = []

    def make(answer: Callable[[str], int] = lambda _: 0) -> Listener:
        made.append(Listener(runtime.base / f"agent-{len(made)}", answer))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


def filtered(
    profile: dict[str, Any], listener: Listener | None = None, *, last: bool = True
) -> Callable[[Spec], None]:
    """Put a profile into a configuration.

    Args:
        listener: who answers.
        last: whether the filter may come last (no_new_privs); or while privileges are held.
    """

    def change(spec: Spec) -> None:
        spec["process"]["noNewPrivileges"] = last
        spec["linux"]["seccomp"] = {"defaultAction": ALLOW, **profile}
        if listener is not None:
            spec["linux"]["seccomp"]["listenerPath"] = str(listener.path)

    return change


def rule(names: tuple[str, ...], action: str, **more: Any) -> dict[str, Any]:
    """Make a profile of one rule."""
    return {"syscalls": [{"names": list(names), "action": action, **more}]}


BOTH = pytest.mark.parametrize("last", [True, False], ids=["last", "privileged"])


@BOTH
@pytest.mark.oci("linux.seccomp.listenerPath", "linux.seccomp.syscalls[].action")
def test_somebody_outside_answers(
    runtime: Runtime, listeners: Callable[..., Listener], last: bool
) -> None:
    """The call fails or is made as the listener says."""
    listener = listeners(lambda name: errno.ENOTTY if name == "mkdir" else 0)
    profile = rule(("mkdir", "mkdirat", "rmdir"), NOTIFY)

    def change(spec: Spec) -> None:
        filtered(profile, listener, last=last)(spec)
        spec["root"]["readonly"] = True

    done = runtime.run("mkdir /a; rmdir /nosuch", change)
    assert f"'/a': {os.strerror(errno.ENOTTY)}" in done.errors  # what the listener said
    assert f"'/nosuch': {os.strerror(errno.EROFS)}" in done.errors  # what the kernel said
    assert listener.calls == ["mkdir", "rmdir"]


def test_the_control(runtime: Runtime) -> None:
    """Without a filter nobody is asked, and the kernel has its own words."""
    assert "Read-only file system" in runtime.run("mkdir /a").errors


@BOTH
@pytest.mark.oci("linux.seccomp.listenerMetadata")
def test_what_is_sent_along(
    runtime: Runtime, listeners: Callable[..., Listener], last: bool
) -> None:
    """The state that the specification has for it."""
    listener = listeners()
    profile = {**rule(("mkdir",), NOTIFY), "listenerMetadata": "for the agent"}

    def change(spec: Spec) -> None:
        filtered(profile, listener, last=last)(spec)
        spec["annotations"] = {"a": "b" * 300_000}

    container = runtime.start("echo begun; sleep 600", change)
    (state,) = listener.wait_for(1)
    assert state["fds"] == ["seccompFd"]
    assert state["metadata"] == "for the agent"
    assert state["pid"] == state["state"]["pid"] == container.pid
    assert state["ociVersion"].startswith("1.")
    assert state["state"]["id"] == container.id
    assert state["state"]["bundle"] == str(container.bundle)
    assert len(state["state"]["annotations"]["a"]) == 300_000
    # the one that may come last is loaded by `start`
    assert state["state"]["status"] == ("created" if last and runtime.is_ours else "creating")


# What a runtime might use between loading the filter and the program, or to hand the listener over.
CALLS = (
    ("sendmsg", "sendto"), ("openat", "open"), ("getcwd",), ("close_range",), ("close",),
    ("dup", "dup2", "dup3"), ("fcntl",), ("poll", "ppoll", "select"), ("mmap",),
    ("fstat", "newfstatat", "stat"), ("connect", "socket"), ("clone", "clone3", "fork"),
    ("pidfd_getfd",), ("futex",), ("chdir",), ("umask",), ("getppid",), ("geteuid", "getegid"),
)  # fmt: skip


@BOTH
@pytest.mark.parametrize("names", CALLS, ids=lambda names: names[0])
def test_a_call_that_waits_does_not_stop_a_start(
    runtime: Runtime, listeners: Callable[..., Listener], names: tuple[str, ...], last: bool
) -> None:
    """Whichever it is: the listener has been handed over, and answers."""
    listener = listeners()
    done = runtime.run(("/bin/true",), filtered(rule(names, NOTIFY), listener, last=last))
    assert (done.status, done.errors) == (0, "")
    listener.wait_for(1)


@pytest.mark.ours("runc hands the listener over by write(2)")
@BOTH
@pytest.mark.parametrize(
    "names", [("write", "writev"), ("read",), ("execve",), ("prctl", "capset"), ("setgroups",)]
)
def test_nor_does_one_of_the_last(
    runtime: Runtime, listeners: Callable[..., Listener], names: tuple[str, ...], last: bool
) -> None:
    """Those that stand between the filter and the program."""
    listener = listeners()
    done = runtime.run("echo here", filtered(rule(names, NOTIFY), listener, last=last))
    assert (done.status, done.output, done.errors) == (0, "here\n", "")
    assert names[0] in listener.calls or last


@pytest.mark.ours("runc refuses it")
@BOTH
def test_nor_do_all_together(
    runtime: Runtime, listeners: Callable[..., Listener], last: bool
) -> None:
    """Every call waits for its answer: SCMP_ACT_NOTIFY as the default."""
    listener = listeners()
    profile = {"defaultAction": NOTIFY}
    done = runtime.run("echo here", filtered(profile, listener, last=last))
    assert (done.status, done.output, done.errors) == (0, "here\n", "")
    assert {"execve", "write", "exit_group"} <= set(listener.calls)
    ours = set(listener.calls[: listener.calls.index("execve")])
    # nothing but execve(2); or else what takes the privileges away, and the last words
    assert ours - MEMORY <= (set() if last else PRIVILEGES | {"read", "write"})


BUSYBOX = ("brk", "mprotect", "arch_prctl", "prctl")  # what its own start needs
MEMORY = {"brk", "mmap", "munmap"}  # whenever Python likes
PRIVILEGES = {"prctl", "setgroups", "setresgid", "setresuid", "capget", "capset"}


@pytest.mark.ours("runc makes more calls after the filter")
@BOTH
@pytest.mark.parametrize("names", CALLS, ids=lambda names: names[0])
def test_a_call_that_is_refused_does_not_stop_a_start(
    runtime: Runtime, names: tuple[str, ...], last: bool
) -> None:
    """Nothing that can be done before the filter is done after it."""
    change = filtered(rule(names, ERRNO, errnoRet=1), last=last)
    # a static program, whose own start needs few calls; true makes none that count
    program = ("/bin/true",)
    done = runtime.run(program, change)
    assert (done.status, done.errors) == (0, "")
    container = runtime.create(program, change)
    done = container.exec(*program)
    assert (done.status, done.errors) == (0, "")
    container.start()


@pytest.mark.ours("runc needs more calls after the filter")
def test_a_filter_that_allows_next_to_nothing(runtime: Runtime) -> None:
    """What the program needs is enough: execve(2), and its own."""
    allowed = rule((*BUSYBOX, "execve", "write", "exit_group"), ALLOW)
    change = filtered({"defaultAction": ERRNO, **allowed})
    done = runtime.run(("/bin/busybox", "echo", "here"), change)
    assert (done.status, done.output, done.errors) == (0, "here\n", "")
    container = runtime.create(WAITS, change)
    done = container.exec("/bin/busybox", "echo", "here")
    assert (done.status, done.output, done.errors) == (0, "here\n", "")


@pytest.mark.parametrize(
    ("name", "last"), [("execve", True), ("execve", False), ("capset", False), ("prctl", False)]
)
def test_what_no_start_can_do_without(runtime: Runtime, name: str, last: bool) -> None:
    """The control: what comes after the filter, whatever one does."""
    change = filtered(rule((name,), ERRNO, errnoRet=1), last=last)
    done = runtime.run(("/bin/true",), change)
    assert done.status >= 1
    assert "operation not permitted" in done.errors.lower()


@BOTH
@pytest.mark.oci("linux.seccomp.listenerPath")
def test_exec_has_a_listener_of_its_own(
    runtime: Runtime, listeners: Callable[..., Listener], last: bool
) -> None:
    """Sent to the same socket, with the number of the new process."""
    listener = listeners(lambda name: errno.ENOTTY if name == "mkdir" else 0)
    container = runtime.start(
        "echo begun; sleep 600",
        filtered(rule(("mkdir", "openat", "close"), NOTIFY), listener, last=last),
    )
    done = container.exec("sh", "-c", "echo $$; mkdir /a")
    assert os.strerror(errno.ENOTTY) in done.errors
    _, state = listener.wait_for(2)
    assert state["state"]["status"] == "running"
    assert state["state"]["pid"] == container.pid
    assert state["pid"] != container.pid


def test_no_descriptor_of_it_is_left_in_the_container(
    runtime: Runtime, listeners: Callable[..., Listener]
) -> None:
    """A program that had its own listener could answer for itself."""
    listener = listeners()
    container = runtime.start("echo begun; sleep 600", filtered(rule(("mkdir",), NOTIFY), listener))
    links = [os.readlink(entry) for entry in Path(f"/proc/{container.pid}/fd").iterdir()]
    assert not [link for link in links if "seccomp" in link]
    # the control: it has one, and it is here
    own = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert [link for link in own if "seccomp" in link]
    assert status_of(container.pid)["Seccomp_filters"] == "1"


def test_once_nobody_answers_the_call_fails(
    runtime: Runtime, listeners: Callable[..., Listener]
) -> None:
    """The control: it was the listener's doing that programs went on. The kernel says ENOSYS."""
    listener = listeners()
    script = "echo begun; until [ -e /dev/shm/go ]; do sleep 0.1; done; mkdir /dev/shm/a 2>&1"
    container = runtime.start(script, filtered(rule(("mkdir",), NOTIFY), listener))
    listener.close()
    Path(f"/proc/{container.pid}/root/dev/shm/go").touch()
    container.wait_for(os.strerror(errno.ENOSYS))


@pytest.mark.ours("runc waits for ever")
def test_nobody_takes_it(runtime: Runtime) -> None:
    """The queue of the socket is full: given up after a while, and nothing is left."""

    def change(spec: Spec) -> None:
        filtered(rule(("mkdir",), NOTIFY), last=False)(spec)
        spec["linux"]["seccomp"]["listenerPath"] = str(path)

    path = runtime.base / "busy"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(str(path))
        server.listen(0)
        first.connect(str(path))
        bundle = runtime.bundle(change=change)
        words = ("create", "--bundle", str(bundle), runtime.name())
        runtime.refused(*words, says=f"{path}: nobody has taken the filter's listener for 10 s")


@BOTH
@pytest.mark.parametrize("left", [False, True], ids=["missing", "left-behind"])
def test_nobody_listens(runtime: Runtime, left: bool, last: bool) -> None:
    """One line names the place, before anything is started; nothing is left."""
    path = runtime.base / "agent"
    if left:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    def change(spec: Spec) -> None:
        filtered(rule(("mkdir",), NOTIFY), last=last)(spec)
        spec["linux"]["seccomp"]["listenerPath"] = str(path)

    words = ("create", "--bundle", str(runtime.bundle(change=change)), runtime.name())
    why = os.strerror(errno.ECONNREFUSED if left else errno.ENOENT)
    errors = runtime.refused(*words, says=why)
    assert str(path) in errors
    assert "linux.seccomp.listenerPath" in errors or not runtime.is_ours
    assert runtime.containers() == []


@BOTH
def test_a_hook_may_begin_who_listens(
    runtime: Runtime, listeners: Callable[..., Listener], last: bool
) -> None:
    """One that runs before the filter is loaded: nobody is looked for earlier."""
    listener = listeners()
    hidden = listener.path.with_suffix(".hidden")
    listener.path.rename(hidden)

    def change(spec: Spec) -> None:
        filtered(rule(("mkdir",), NOTIFY), listener, last=last)(spec)
        move = {"path": "/bin/mv", "args": ["mv", str(hidden), str(listener.path)]}
        spec["hooks"] = {"createRuntime": [move]}

    assert runtime.run(("/bin/true",), change).status == 0
    listener.wait_for(1)


@pytest.mark.ours("runc 1.1 takes the second, and knows no flags")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rule(("mkdir",), NOTIFY), "linux.seccomp.listenerPath: an absolute path is required"),
        ({"listenerMetadata": "x"}, "listenerMetadata: must not be set without listenerPath"),
        ({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, "makes sense only with"),
    ],
)
def test_what_makes_no_sense(runtime: Runtime, change: dict[str, Any], says: str) -> None:
    """Refused by its place in the file."""
    bundle = runtime.bundle(change=filtered(change))
    runtime.refused("create", "--bundle", str(bundle), runtime.name(), says=says)
