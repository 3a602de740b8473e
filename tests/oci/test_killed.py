"""SIGKILL at any point of a command: `delete --force` still gets rid of everything.

Once at moments spread over the time that the command takes, and once at each of its own system
calls, which strace(1) finds again and again: no chance is in that.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, wait_until

from .kernel import descendants, is_alive, parent_of
from .runtime import Runtime, Spec

pytestmark = pytest.mark.ours("runc leaves its cgroup, or its init")

TRIES = 12
# What changes something outside of the process: between two of these there is nothing to tell
# apart. openat also only looks, but a call to kill at is better one too many.
CALLS = (
    "mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,mknod,mknodat,write,pwrite64,"
    "clone,clone3,fork,vfork,mount,move_mount,open_tree,fsmount,umount2,bpf,flock,kill,"
    "pidfd_send_signal,pidfd_open,setns,unshare,sendmsg,wait4"
)
Prepare = Callable[[Runtime], tuple[str, ...]]


def create(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that creates a container."""
    return ("create", "-b", str(runtime.bundle()), runtime.name())


def run(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that runs one to its end."""
    return ("run", "-b", str(runtime.bundle(("true",))), runtime.name())


def run_detached(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that runs one in the background."""
    return ("run", "--detach", "-b", str(runtime.bundle()), runtime.name())


def run_without_pids(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that runs one among the host's processes, which leaves some of its own."""

    def without(config: Spec) -> None:
        spaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [one for one in spaces if one["type"] != "pid"]

    return ("run", "-b", str(runtime.bundle("sleep 600 & true", without)), runtime.name())


def start(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that starts one."""
    return ("start", runtime.create().id)


def delete(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that deletes one that runs."""
    return ("delete", "--force", runtime.start().id)


def delete_paused(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that deletes one that is frozen."""
    container = runtime.start()
    runtime.ok("pause", container.id)
    return ("delete", "--force", container.id)


def pause(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that freezes one."""
    return ("pause", runtime.start().id)


def execute(runtime: Runtime) -> tuple[str, ...]:
    """Give a command that runs a program in one."""
    return ("exec", runtime.start().id, "true")


def name_in(words: tuple[str, ...]) -> str:
    """Find the container's name in a command."""
    return words[1] if words[0] == "exec" else words[-1]


ALL = (create, run, run_detached, run_without_pids, start, delete, delete_paused, pause, execute)


def clean_up(runtime: Runtime, name: str, before: dict[str, set[str]]) -> None:
    """Delete by force; a half-made container may need a moment to see that its maker is gone."""
    deadline = time.monotonic() + PATIENCE_S / 6
    while (done := runtime("delete", "--force", name)).status:
        assert time.monotonic() < deadline, done.errors
        time.sleep(0.02)
    runtime.expect_nothing_new(before)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("prepare", [create, run, run_detached, start, delete, execute])
def test_killed_at_any_moment(runtime: Runtime, prepare: Prepare) -> None:
    """From its first moment to a little after its usual end."""
    before = runtime.traces()
    words = prepare(runtime)
    begun = time.monotonic()
    runtime(*words)
    whole_s = time.monotonic() - begun
    clean_up(runtime, name_in(words), before)
    for i in range(TRIES):
        words = prepare(runtime)
        call = runtime.begin(runtime.words(*words))
        time.sleep(whole_s * 1.2 * i / TRIES)  # not for something, but for any moment to come
        call.process.kill()
        call.wait()
        clean_up(runtime, name_in(words), before)


def calls_of(runtime: Runtime, words: tuple[str, ...], *options: str) -> collections.Counter[str]:
    """Count the calls that a command makes, by name; of several processes the busiest's."""
    trace = runtime.base / "trace"
    strace = ["strace", *options, "-o", str(trace), "-e", f"trace={CALLS}"]
    runtime.finish(runtime.begin([*strace, *runtime.words(*words)]))
    found = re.findall(r"^(?:(\d+) +)?(\w+)\(", trace.read_text(), re.MULTILINE)
    counted: collections.Counter[str] = collections.Counter()
    for (_, name), times in collections.Counter(found).items():
        counted[name] = max(counted[name], times)
    return counted


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("prepare", "whom"),
    [*((prepare, "command") for prepare in ALL), (run, "anyone"), (execute, "anyone")],
)
def test_killed_at_every_call(runtime: Runtime, prepare: Prepare, whom: str) -> None:
    """Before each system call that changes something, one after the other.

    Args:
        whom: the command; or also what it forked, whichever comes to that call.
    """
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    follow = ["-f"] if whom == "anyone" else []
    before = runtime.traces()
    words = prepare(runtime)
    counted = calls_of(runtime, words, *follow)
    clean_up(runtime, name_in(words), before)
    assert sum(counted.values()) > 1
    for name, times in counted.items():
        for number in range(1, times + 1):
            words = prepare(runtime)
            strace = [
                "strace", *follow, "-qq", "-o", "/dev/null", "-e", f"trace={name}",
                "-e", f"inject={name}:signal=KILL:when={number}",
            ]  # fmt: skip
            runtime.finish(runtime.begin([*strace, *runtime.words(*words)]))
            clean_up(runtime, name_in(words), before)


def test_killed_while_init_is_ahead(runtime: Runtime) -> None:
    """Before `create` has written down who init is, which waits at the gate by then."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    before = runtime.traces()
    words = create(runtime)
    last = calls_of(runtime, words)["rename"]
    clean_up(runtime, words[-1], before)
    words = create(runtime)
    slow = f"inject=rename:delay_enter={int(PATIENCE_S * 1e6)}:when={last}"
    call = runtime.begin(["strace", "-qq", "-o", "/dev/null", "-e", slow, *runtime.words(*words)])

    def waiting() -> list[int]:
        """Find who has left the host's root, and waits for somebody to write."""
        return [
            pid
            for pid in descendants(call.process.pid)
            if Path(f"/proc/{pid}/comm").read_text() == "minic:init\n"
            and os.readlink(f"/proc/{pid}/cwd") == "/"
            and "pipe" in Path(f"/proc/{pid}/wchan").read_text()
        ]

    wait_until(waiting, "init at the gate")
    (init,) = waiting()
    os.kill(parent_of(init), signal.SIGKILL)
    call.process.kill()  # strace would wait out the delay
    call.wait()
    assert is_alive(init)  # the control: nobody but `delete` ends it
    clean_up(runtime, words[-1], before)
    assert not is_alive(init)
