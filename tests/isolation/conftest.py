"""Looks at a container in the kernel's own files, and bundles for what `run` can't ask."""

from __future__ import annotations

import copy
import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from minicontainer.cgroups import hierarchies
from minicontainer.engine import probes
from minicontainer.runtime.config import defaults
from tests.conftest import PATIENCE_S, Result, Running, command, start_in_background

Spec = dict[str, Any]
Change = Callable[[Spec], object]

# The host's Python inside: for system calls that no shell makes.
_PYTHON = "/usr/bin/python3"
HOST_PYTHON = tuple(
    word
    for directory in ("/usr", "/lib", "/lib64")
    if os.path.isdir(directory)
    for word in ("-v", f"{directory}:{directory}:ro")
)


def python(code: str) -> tuple[str, ...]:
    """Give the words that run *code* by the host's Python, in a container with HOST_PYTHON."""
    return (_PYTHON, "-I", "-S", "-c", code)


# ---- the kernel's view


def leaks(pid: int, part: str) -> dict[str, str]:
    """Look with the probes of `run --without` at what a container has of the host, in one part.

    Their report is what a learner sees, and here they are the control of the tests of isolation:
    one look, at a container with the part and at one without it.

    Args:
        pid: of the container's first process.
        part: as of `--without`.
    Returns:
        What was found, by what was looked at; {} of a container that is isolated.
    """
    found = {probe.what: probes.look(probe, pid) for probe in probes.PROBES if probe.part == part}
    assert found
    return {what: told for what, told in found.items() if told}


@dataclass(frozen=True)
class MountPoint:
    """A line of /proc/PID/mountinfo: proc_pid_mountinfo(5)."""

    root: str
    options: frozenset[str]
    peers: tuple[str, ...]  # shared:N, master:N
    fstype: str
    source: str
    super_options: frozenset[str]


def mounts_of(pid: int | str) -> dict[str, MountPoint]:
    """Read a process's mounts, by mount point; of several at one place the uppermost."""
    found = {}
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, place, options, *peers = before.split()
        fstype, source, super_options = after.split(" ")[:3]
        found[place] = MountPoint(
            root, frozenset(options.split(",")), tuple(peers), fstype, source,
            frozenset(super_options.split(",")),
        )  # fmt: skip
    return found


def status_of(pid: int | str) -> dict[str, str]:
    """Read /proc/PID/status: proc_pid_status(5)."""
    return parse_status(Path(f"/proc/{pid}/status").read_text())


def parse_status(text: str) -> dict[str, str]:
    """Turn the lines of a status file into names and values."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def namespace_of(pid: int | str, kind: str) -> str:
    """Name a process's namespace as the kernel does: pid:[4026531836]."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def is_ours(pid: int, kind: str) -> bool:
    """Say whether a process is in the same namespace as this test."""
    return namespace_of(pid, kind) == namespace_of("self", kind)


def members_of(pid_namespace: str) -> set[int]:
    """List the processes of a PID namespace, as the host numbers them."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns" / "pid") == pid_namespace:
                found.add(int(entry.name))
        except OSError:
            continue  # it has ended, or is a zombie
    return found


def control_file(container: Running, v1: str, v2: str) -> str:
    """Read one of the container's control files, from the host's hierarchy.

    Args:
        v1, v2: the file's name on either version; its controller is the part before the point.
    """
    found = hierarchies.mounted()
    path = str(container.state["cgroup"])
    for hierarchy in found.v1:
        if v1.partition(".")[0] in hierarchy.controllers:
            return Path(f"{hierarchy.mount_point}{path}/{v1}").read_text().strip()
    assert found.unified is not None
    return Path(f"{found.unified.mount_point}{path}/{v2}").read_text().strip()


def enter(pid: int, script: str, *namespaces: str) -> str:
    """Run a shell script in namespaces of a process by nsenter(1); give its output.

    Args:
        namespaces: options of nsenter; all of them, and the process's root, when none is named.
    """
    done = subprocess.run(
        ["nsenter", "-t", str(pid), *(namespaces or ("-a", "-r")), "/bin/sh", "-c", script],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    return done.stdout


# ---- bundles


def in_user_namespace(config: Spec, host_id: int = 100_000) -> None:
    """Give a container a user namespace, whose ids begin at *host_id*."""
    maps = [{"containerID": 0, "hostID": host_id, "size": 65_536}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": maps, "gidMappings": maps}


def finished(arguments: list[str], **streams: Any) -> Result:
    """Run a command to its end."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | streams
    done = subprocess.run(
        arguments, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False, **streams
    )
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass
class Bundles:
    """Runs OCI bundles by `minicontainer-oci`: `bundles(script, change)`."""

    directory: Path
    rootfs: Path
    background: list[Running] = field(default_factory=list)

    def write(self, script: str | tuple[str, ...], change: Change, *options: str) -> list[str]:
        """Write a bundle; give the command that runs it.

        Args:
            script: for `/bin/sh -c`; a tuple is the program and its arguments.
            change: is handed the default config.json, to change it.
            options: of `minicontainer-oci run`.
        """
        words = ("/bin/sh", "-c", script) if isinstance(script, str) else script
        config = copy.deepcopy(defaults.default_spec().to_json())
        config["root"]["path"] = str(self.rootfs)
        config["process"] |= {"terminal": False, "args": list(words)}
        change(config)
        name = f"test-{os.getpid()}-{time.monotonic_ns()}"
        bundle = self.directory / name
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(config))
        return [*self.oci("run"), *options, "-b", str(bundle), name]

    def oci(self, *words: object) -> list[str]:
        """Write a command line for the containers of these bundles."""
        state = str(self.directory / "state")
        return [*command("minicontainer-oci"), "--root", state, *map(str, words)]

    def __call__(
        self,
        script: str | tuple[str, ...],
        change: Change = lambda _: None,
        *options: str,
        **streams: Any,
    ) -> Result:
        """Run a bundle to its end.

        Args:
            options: of `minicontainer-oci run`.
            streams: of subprocess.run: stdin, pass_fds, …
        """
        return finished(self.write(script, change, *options), **streams)

    def exec(self, running: Running, *words: str, **streams: Any) -> Result:
        """Run another program in a container that runs; options of exec may come first."""
        options = [*itertools.takewhile(lambda word: word.startswith("-"), words)]
        name = str(running.state["id"])
        return finished(self.oci("exec", *options, name, *words[len(options) :]), **streams)

    def start(
        self, script: str | tuple[str, ...], change: Change = lambda _: None, *options: str
    ) -> Running:
        """Run a bundle in the background; return when its program has printed a line."""
        arguments = self.write(script, change, *options)
        state = self.directory / "state" / arguments[-1]
        self.background.append(start_in_background(arguments, lambda: state))
        return self.background[-1]


@pytest.fixture
def bundles(busybox: Path, roots: tuple[Path, Path], nothing_left: None) -> Iterator[Bundles]:
    """A way to run bundles; those in the background end with the test."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = roots[0].parent / "bundles"
    directory.mkdir(mode=0o755)
    runner = Bundles(directory, busybox)
    yield runner
    for running in runner.background:
        running.stop()


@pytest.fixture
def volume(roots: tuple[Path, Path]) -> Path:
    """A directory of the host for `-v`, with a file in it; it ends with the test."""
    directory = roots[0].parent / "volume"
    directory.mkdir(mode=0o755)
    (directory / "file").write_text("the host's\n")
    return directory


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host that nobody should reach."""
    victim = subprocess.Popen(["sleep", "600"])
    yield victim
    victim.kill()
    victim.wait()
