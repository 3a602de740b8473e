"""Hooks that do not end by themselves, and what they leave behind.

See: runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, wait_until

from .hooks import BEFORE_START, KINDS, Hooks, Oci


def running(words: str) -> list[int]:
    """List the processes, of any namespace, with these words in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if words.encode() in (entry / "cmdline").read_bytes().replace(b"\0", b" "):
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended
    return found


def waiting(hooks: Hooks, kind: str) -> int:
    """Wait for a hook that hangs; give its number on the host."""
    file = hooks.directory / "hangs"
    wait_until(lambda: file.exists() and file.read_text(), f"the {kind} hook")
    return running(f": hangs {kind}")[0]


@pytest.mark.parametrize("kind", BEFORE_START)
@pytest.mark.oci("hooks.*.timeout")
def test_a_timeout_ends_it(hooks: Hooks, oci: Oci, kind: str) -> None:
    """And its container with it."""
    nap = f"sleep {500_000 + os.getpid()}"
    hooks.write({kind: hooks.shell(kind, f"exec {nap}", timeout=1)})
    assert oci("create").status >= 1
    assert not running(nap)
    assert hooks.kinds()[-1] == "poststop"
    assert oci.runtime.containers() == []


@pytest.mark.ours("runc ends the hook alone, and waits for what it has started")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.oci("hooks.*.timeout")
def test_a_timeout_ends_it_and_what_it_started(hooks: Hooks, oci: Oci, kind: str) -> None:
    """Its whole process group; the line names hook and timeout."""
    nap = f"sleep {600_000 + os.getpid()}"
    script = f"echo waiting; {nap} & wait"
    hooks.write({kind: hooks.shell(kind, script, timeout=1)}, "sleep 600")
    oci("run", "--detach")
    oci("delete", "--force")
    said = oci.logged()[-1]["msg"]
    assert said.startswith(f"hooks.{kind}[1] (/bin/sh): did not end within its timeout of 1 s")
    assert said.endswith(": waiting")
    assert not running(nap)
    assert oci.runtime.containers() == []


@pytest.mark.ours("runc waits for whoever has the hook's output")
def test_one_that_leaves_a_daemon_behind_has_ended(hooks: Hooks, oci: Oci) -> None:
    """The daemon has its output still, and is not waited for; nor does it end with the hook."""
    hook = hooks.shell("createRuntime", 'sleep 600 & echo $! > "$DIR/daemon"', timeout=60)
    hooks.write({"createRuntime": hook}, "true")
    assert oci("run").errors == ""
    daemon = int((hooks.directory / "daemon").read_text())
    assert Path(f"/proc/{daemon}/cmdline").read_bytes() == b"sleep\x00600\x00"
    os.kill(daemon, signal.SIGKILL)


HANGS = 'echo yes > "$DIR/hangs"; : hangs {kind}; read nothing < "$DIR/fifo"'


@pytest.mark.ours("runc heeds no signal while a hook runs")
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_an_interrupt_ends_one_that_hangs(hooks: Hooks, oci: Oci, kind: str) -> None:
    """Without a timeout there is Ctrl-C."""
    os.mkfifo(hooks.directory / "fifo")
    hooks.write({kind: hooks.shell(kind, HANGS.format(kind=kind))})
    command = oci.begin("run")
    hook = waiting(hooks, kind)
    command.send_signal(signal.SIGINT)
    assert command.wait(PATIENCE_S) == 128 + signal.SIGINT
    assert hook not in running("hangs")
    assert hooks.kinds()[-1] == "poststop"
    assert oci.runtime.containers() == []


@pytest.mark.ours("runc leaves it behind")
@pytest.mark.parametrize("kind", BEFORE_START)
def test_a_killed_create_takes_its_hook_along(hooks: Hooks, oci: Oci, kind: str) -> None:
    """It would go on behind the back of the deletion, which runs the poststop hooks."""
    os.mkfifo(hooks.directory / "fifo")
    hooks.write({kind: hooks.shell(kind, HANGS.format(kind=kind))})
    command = oci.begin("create")
    hook = waiting(hooks, kind)
    command.kill()
    command.wait(PATIENCE_S)
    assert oci("delete", "--force").errors == ""
    wait_until(lambda: hook not in running("hangs"), "the hook's end")
    assert hooks.kinds()[-1] == "poststop"
    assert oci.runtime.containers() == []
