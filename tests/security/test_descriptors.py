"""Descriptors: a container gets its three streams and nothing else. close_range(2)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Engine, Run, wait_until
from tests.isolation.conftest import Bundles, Change, Spec, finished

from .conftest import bind

STREAMS = {"0", "1", "2"}


@pytest.fixture
def inherited() -> Iterator[tuple[int, ...]]:
    """Twenty descriptors of the host's root directory, as a careless caller leaves them open."""
    opened = tuple(os.open("/", os.O_RDONLY) for _ in range(20))
    yield opened
    for fd in opened:
        os.close(fd)


@pytest.fixture
def careless(run: Run, roots: tuple[Path, Path], inherited: tuple[int, ...]) -> Iterator[Run]:
    """A way to run containers by an engine that inherited those descriptors."""
    base = roots[0].parent / "engine"
    base.mkdir(mode=0o711)
    engine = Engine(base, f"{run.engine.cgroup}-careless", fds=inherited)
    runner = Run(run.rootfs, engine)
    yield runner
    for running in runner.background:
        running.stop()
    engine.close()


def _descriptors(pid: int | str) -> set[str]:
    return set(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["", "init"])
def test_inherited_descriptors_do_not_reach_the_program(
    careless: Run, inherited: tuple[int, ...], options: tuple[str, ...]
) -> None:
    """Seen from outside, of every process in it; and the engine itself holds them: the control."""
    container = careless.start("echo ready; exec sleep 600", *options)
    assert {str(fd) for fd in inherited} <= _descriptors(careless.engine.process.pid)
    assert _descriptors(container.pid) == STREAMS
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    for child in children:
        wait_until(lambda pid=child: _descriptors(pid) == STREAMS, "its program")  # type: ignore[misc]  # mypy can't infer a lambda's default


def test_they_are_not_seen_from_inside(careless: Run) -> None:
    """The fourth is the directory that ls(1) reads."""
    assert careless("ls /proc/self/fd").output.split() == ["0", "1", "2", "3"]


_LOOK = "[ -e ./file ] || [ -e .{canary} ] && echo escaped"


@pytest.mark.parametrize("above", ["", "/.." * 20], ids=["", "dots"])
def test_the_host_can_not_be_entered_through_one(
    careless: Run, inherited: tuple[int, ...], volume: Path, above: str
) -> None:
    """A working directory that is a descriptor of the host's root: CVE-2024-21626."""
    look = _LOOK.format(canary=volume / "file")
    for fd in (*range(3, 12), *inherited):
        done = careless(look, "-w", f"/proc/self/fd/{fd}{above}")
        assert "escaped" not in done.output
        assert done.status == 1 or done.errors.startswith("minicontainer: ")


def test_without_a_container_it_can(inherited: tuple[int, ...], volume: Path) -> None:
    """The control: the same look from such a directory, outside, finds the host's file."""
    look = _LOOK.format(canary=volume / "file")
    there = f"cd /proc/self/fd/{inherited[0]}; {look}"
    done = subprocess.run(["/bin/sh", "-c", there], pass_fds=inherited, capture_output=True)
    assert done.stdout == b"escaped\n"


@pytest.mark.parametrize("by", ["argv[0]", "interpreter"])
def test_no_program_of_the_host_is_run_through_one(
    careless: Run, inherited: tuple[int, ...], volume: Path, by: str
) -> None:
    """execve(2) opens a program, and its interpreter, before it closes what is close-on-exec.

    The host's file is outside of the container's root; only through a descriptor could it be found.
    """
    canary = volume / "escape"
    canary.write_text("#!/bin/sh\necho escaped\n")
    canary.chmod(0o755)
    outside = volume / "busybox"
    outside.write_bytes((careless.rootfs / "bin/busybox").read_bytes())
    outside.chmod(0o755)
    for fd in (*range(3, 20), *inherited):
        there = f"/proc/self/fd/{fd}{outside}"
        words: tuple[str, ...] = (there, "echo", "escaped")
        options = ["--net", "none"]
        if by == "interpreter":
            script = volume / f"script-{fd}"
            script.write_text(f"#!{there} sh\necho escaped\n")
            script.chmod(0o755)
            words = ("/script",)
            options += ["-v", f"{script}:/script"]
        done = careless(words, *options)
        assert (done.status, done.output) in ((127, ""), (126, "")), (fd, done.errors)


# ---- the same of the OCI commands


def test_a_bundles_program_gets_none(bundles: Bundles, inherited: tuple[int, ...]) -> None:
    """Nor does another program in its container; the directory that ls(1) reads is the fourth."""
    listing = ("ls", "/proc/self/fd")
    assert bundles(listing, pass_fds=inherited).output.split() == ["0", "1", "2", "3"]
    container = bundles.start("echo ready; sleep 60")
    found = bundles.exec(container, *listing, pass_fds=inherited)
    assert found.output.split() == ["0", "1", "2", "3"]


def test_the_preserved_ones_it_does(bundles: Bundles, volume: Path) -> None:
    """The control: two that were asked for, and no third."""
    opened = [os.open(volume / "file", os.O_RDONLY) for _ in range(3)]
    passed = (*opened, *(os.open("/", os.O_RDONLY) for _ in range(5)))
    look = "ls /proc/self/fd; cat <&3; cat <&4"
    shell = 'exec 3<&"$1" 4<&"$2" 5<&"$3"; shift 3; exec "$@"'
    words = bundles.write(look, lambda _: None, "--preserve-fds=2")
    words = ["bash", "-c", shell, "bash", *map(str, opened), *words]
    result = finished(words, pass_fds=passed)
    assert result.output == "0\n1\n2\n3\n4\n5\nthe host's\nthe host's\n", result.errors
    for fd in passed:
        os.close(fd)


def test_closed_streams_are_not_filled(bundles: Bundles) -> None:
    """What the runtime opens first would be the program's stream 0: a lock, a directory."""
    look = "exec 3>&1; for fd in 0 3; do readlink /proc/$$/fd/$fd >&2; done"
    container = bundles.start("echo ready; sleep 60")
    for words in (
        bundles.write(look, lambda _: None),
        bundles.oci("exec", container.state["id"], "sh", "-c", look),
    ):
        result = finished(["sh", "-c", 'exec "$@" <&- >&-', "sh", *words])
        assert (result.status, result.errors) == (0, "/dev/null\n/dev/null\n")


@pytest.mark.parametrize("above", ["", "/..", "/../../../../.."])
def test_no_descriptor_is_a_working_directory(
    bundles: Bundles, inherited: tuple[int, ...], volume: Path, above: str
) -> None:
    """Of create and of exec, for each number there could be: CVE-2024-21626."""
    look = _LOOK.format(canary=volume / "file")
    container = bundles.start("echo ready; sleep 60")
    for fd in (*range(3, 31), *inherited):
        cwd = f"/proc/self/fd/{fd}{above}"

        def change(config: Spec, cwd: str = cwd) -> None:
            config["process"]["cwd"] = cwd

        first = bundles(look, change, pass_fds=inherited)
        other = bundles.exec(container, f"--cwd={cwd}", "sh", "-c", look, pass_fds=inherited)
        for result in (first, other):
            assert "escaped" not in result.output
            assert result.status == 1 or result.output == ""


@pytest.mark.parametrize("by", ["run", "exec"])
def test_no_program_is_run_through_one_by_a_bundle(
    bundles: Bundles, inherited: tuple[int, ...], volume: Path, by: str
) -> None:
    """The host's file of that name is not in the container: only a descriptor could lead there."""
    outside = volume / "busybox"
    outside.write_bytes((bundles.rootfs / "bin/busybox").read_bytes())
    outside.chmod(0o755)
    container = bundles.start("echo ready; sleep 60")
    for fd in (*range(3, 20), *inherited):
        words = (f"/proc/self/fd/{fd}{outside}", "echo", "escaped")
        if by == "run":
            result = bundles(words, pass_fds=inherited)
        else:
            result = bundles.exec(container, *words, pass_fds=inherited)
        assert (result.status != 0, result.output) == (True, ""), fd


def _kept(bundles: Bundles, change: Change) -> list[str]:
    """List what a created container's first process still has open, besides its streams."""
    words = bundles.write("true", change)
    words[words.index("run")] = "create"
    null = subprocess.DEVNULL
    subprocess.run(words, stdin=null, stdout=null, stderr=null, timeout=PATIENCE_S, check=True)
    state = json.loads((bundles.directory / "state" / words[-1] / "state.json").read_text())
    directory = Path(f"/proc/{state['pid']}/fd")
    found = [os.readlink(directory / fd) for fd in _descriptors(state["pid"]) - STREAMS]
    remove = bundles.oci("delete", "--force", words[-1])
    subprocess.run(remove, timeout=PATIENCE_S, check=True)
    told = (target.replace(words[-1], "ID").rpartition("/roots-")[2] for target in found)
    return sorted(target.partition(":[")[0] for target in told)  # a pipe, whatever its number


def test_no_step_leaves_one_open(bundles: Bundles, volume: Path) -> None:
    """Whatever was mounted and hidden: of the host there are the gate and the pipes to `create`.

    Those end with it, and stay until execve(2) only because a filter may forbid close(2).
    """
    (volume / "link").symlink_to("file")
    maps = [{"containerID": 0, "hostID": 7, "size": 1}]

    def change(config: Spec) -> None:
        config["mounts"] += [
            {"destination": "/tmp", "type": "tmpfs", "options": ["ro", "tmpcopyup"]},
            {"destination": "/tmp", "options": ["remount", "nodev"]},
            bind(volume, "/tmp/slave", "rslave"),
            bind(volume, "/tmp/mapped", uidMappings=maps, gidMappings=maps),
            bind(volume / "link", "/tmp/link", "copy-symlink", "rslave"),
            bind(volume / "link", "/tmp/same", "src-nofollow"),
        ]
        config["linux"]["maskedPaths"] += ["/tmp/slave/file", "/tmp/mapped"]
        config["linux"]["devices"] = [
            {"path": "/dev/one", "type": "c", "major": 1, "minor": 5, "uid": 7},
        ]
        config["linux"]["rootfsPropagation"] = "shared"

    plain = _kept(bundles, lambda _: None)
    assert [target for target in plain if "gate" in target or "fifo" in target or "ID" in target]
    assert _kept(bundles, change) == plain
