"""`--runtime`: containers by another OCI runtime, and everything else as with our own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import cgroups_of
from tests.engine.docker_client import EngineProcess, can_run
from tests.terminal import Terminal


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the calls of a runtime, and beside it that runtime: runc, which notes them."""
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    if runc is None:
        pytest.skip("runc is missing")
    directory = tmp_path_factory.mktemp("runtime")
    program = directory / "noting"
    program.write_text(f'#!/bin/sh\necho "$@" >> {directory}/calls\nexec {runc} "$@"\n')
    program.chmod(0o755)
    return directory / "calls"


@pytest.fixture(scope="module")
def engine(called: Path) -> Iterator[EngineProcess]:
    """An engine that knows that runtime."""
    if not can_run():
        pytest.skip("needs root and docker")
    made = EngineProcess("--add-runtime", f"noting={called.parent / 'noting'}")
    yield made
    made.close()


def test_it_creates_starts_and_deletes(engine: EngineProcess, called: Path) -> None:
    """The runtime's command is called; output, errors and status are the program's."""
    words = ("run", "--rm", "--runtime", "noting", "busybox", "sh", "-c")
    assert engine.docker(*words, "echo out; exit 3", status=3) == "out"
    assert engine.docker(*words, "echo err >&2", errors=True) == "err"
    assert engine.docker("run", "--rm", "-i", *words[2:5], "cat", stdin="through\n") == "through"
    calls = called.read_text()
    assert [verb for verb in ("create", "start", "delete") if f" {verb} " in calls] == [
        "create", "start", "delete",
    ]  # fmt: skip
    before = calls.count("\n")
    engine.docker("run", "--rm", "busybox", "true")
    assert called.read_text().count("\n") == before  # ours is not another program


def test_what_is_done_with_a_container_that_runs(engine: EngineProcess) -> None:
    """Limits, exec, top, stats, pause, update, network, logs; nothing of it stays."""
    docker = engine.docker
    made = docker("run", "-d", "--name", "other", "--runtime", "runc", "-m", "64m", "-v", "kept:/v",
                  "busybox", "sh", "-c", "echo said; exec sleep 1000")  # fmt: skip
    assert docker("inspect", "-f", "{{.HostConfig.Runtime}}", "other") == "runc"
    assert docker("exec", "other", "sh", "-c", "echo x > /v/f; cat /v/f; exit 7", status=7) == "x"
    assert "64MiB" in docker("stats", "--no-stream", "other")
    assert "sleep 1000" in docker("top", "other")
    docker("pause", "other")
    docker("unpause", "other")
    docker("update", "-m", "128m", "--memory-swap", "256m", "other")
    assert "128MiB" in docker("stats", "--no-stream", "other")
    address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "other")
    assert address in docker("exec", "other", "ip", "addr")
    assert docker("logs", "other") == "said"
    docker("restart", "-t", "0", "other")
    docker("stop", "-t", "0", "other")
    assert docker("inspect", "-f", "{{.State.ExitCode}}", "other") == "137"
    docker("rm", "other")
    docker("volume", "rm", "kept")
    assert cgroups_of(made) == []


def test_a_terminal(engine: EngineProcess) -> None:
    """It is the runtime's, and its size the user's."""
    words = ["docker", "-H", f"unix://{engine.socket}", "run", "-it", "--rm", "--runtime", "runc"]
    script = "until stty size | grep '24 80'; do :; done; read x; exit 5"
    terminal = Terminal([*words, "busybox", "sh", "-c", script], rows=24, columns=80)
    try:
        terminal.expect("24 80")
        terminal.type("\n")
        assert terminal.end() == 5
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("options", "program", "status", "says"),
    [
        (("--runtime", "runc"), "nosuch", 127, "executable file not found in $PATH"),
        (("--runtime", "runc"), "/etc", 126, "permission denied"),
        (("--runtime", "nosuch"), "true", 125, "unknown or invalid runtime name: nosuch"),
        (("--runtime", "runc", "--init"), "true", 125, "--init and the runtime runc"),
    ],
)
def test_what_fails(
    engine: EngineProcess, options: tuple[str, ...], program: str, status: int, says: str
) -> None:
    """In the runtime's words, with the status that they mean."""
    words = ("run", "--rm", *options, "busybox", program)
    assert says in engine.docker(*words, status=status, errors=True)


def test_a_runtime_that_is_killed_leaves_no_cgroup(engine: EngineProcess, called: Path) -> None:
    """It had made one, and not noted that yet: its own `delete` knows of nothing."""
    noting = called.parent / "noting"
    before = noting.read_text()
    made = engine.docker("create", "--runtime", "noting", "busybox", "true")
    hierarchies = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
    used = next(one for one in hierarchies if (one / "cgroup.procs").exists())
    note = f'echo "$@" > {called.parent}/killed'
    make = f"mkdir -p {used}/minicontainer/{made}"
    noting.write_text(f"#!/bin/sh\n{note}\n{make}\nkill -9 $$\n")
    try:
        engine.docker("start", made, status=1)
        assert (called.parent / "killed").exists()
        assert not cgroups_of(made)
    finally:
        noting.write_text(before)
        engine.docker("rm", made)


def test_they_are_listed(engine: EngineProcess) -> None:
    """By `info`: ours, those of this host, and the configured one."""
    shown = json.loads(engine.docker("info", "--format", "json"))
    assert shown["DefaultRuntime"] == "minicontainer-oci"
    assert {"minicontainer-oci", "runc", "noting"} <= set(shown["Runtimes"])
