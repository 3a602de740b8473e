"""What the benchmarks of the engine share: our engine, dockerd and Podman, and tables beside aims.

Each has a machine of its own (tests/peers/machine.py), with the same image. Measurements take
turns, so that all of them meet the same load of the host; a table shows medians, and how many times
faster ours is.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minicontainer.cgroups import hierarchies
from tests import engines
from tests.conftest import CHECKOUT
from tests.peers.machine import Machine

IMAGE = engines.IMAGE
OURS = "minicontainer"
# Docker's default for processes is "unlimited"; Podman's limits may exceed those of this host.
PODMAN_RUN = (
    "podman", "--runtime", "runc", "run", "--ulimit", "nofile=1024:2048",
    "--ulimit", "nproc=1000:1000",
)  # fmt: skip


def options(about: str) -> argparse.Namespace:
    """Read the command line: which dockerd, and how often each thing is measured."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument(
        "--dockerd", default="dockerd", choices=("dockerd", "dockerd28"),
        help="this host's, or the one that `make test-reference` has built",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=20, help="of each measurement")
    return parser.parse_args()


@contextlib.contextmanager
def started(dockerd: str) -> Iterator[dict[str, engines.Clients]]:
    """Start our engine and a dockerd, by name; end both."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        busybox = directory / "busybox"
        subprocess.run([CHECKOUT / "rootfs/busybox", busybox], check=True, capture_output=True)
        yield {
            name: stack.enter_context(engines.running(name, busybox, directory))
            for name in (OURS, dockerd)
        }


@contextlib.contextmanager
def machine(name: str) -> Iterator[Machine]:
    """Make a machine without an engine, with the root file system in it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        busybox = Path(directory) / "busybox"
        subprocess.run([CHECKOUT / "rootfs/busybox", busybox], check=True, capture_output=True)
        made = Machine(f"bench-{name}", busybox, "/usr/sbin/runc")
        try:
            yield made
        finally:
            made.stop()


class Api:
    """A client of Docker's API that keeps its connection.

    Args:
        host: unix://PATH.
    """

    def __init__(self, host: str) -> None:
        self._connection = http.client.HTTPConnection("localhost", timeout=120)
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.connect(host.removeprefix("unix://"))

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        """Send a request, and give the answer's JSON."""
        text = None if body is None else json.dumps(body)
        self._connection.request(
            method, f"/v1.41{path}", text, {"Content-Type": "application/json"}
        )
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {data.decode()}")
        return json.loads(data) if data else None

    def create(self, *program: str) -> str:
        """Create a container without a network; give its ID."""
        body = {"Image": IMAGE, "Cmd": list(program), "HostConfig": {"NetworkMode": "none"}}
        identifier: str = self("POST", "/containers/create", body)["Id"]
        return identifier

    def start(self, identifier: str) -> None:
        """Start a container."""
        self("POST", f"/containers/{identifier}/start")

    def remove(self, identifier: str) -> None:
        """Remove a container, running or not."""
        self("DELETE", f"/containers/{identifier}?force=1")


def timed_ms(work: Callable[[], object]) -> float:
    """Do something; give how long it took, in ms."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


def medians(
    measures: dict[str, Callable[[], float]], runs: int, warm_up: int = 3
) -> dict[str, float]:
    """Measure everything in turn, again and again; give the medians."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(warm_up + runs):
        for name, measure in measures.items():
            value = measure()
            if turn >= warm_up:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def table(title: str, found: dict[str, float], unit: str = "ms", aim: str = "") -> None:
    """Print one figure of ours beside those of others.

    Args:
        found: the medians, ours first; the less the better.
        aim: what may be.
    """
    ours, *others = found
    print(f"\n{title}" + (f"   (aim: {aim})" if aim else ""))
    print(f"  {ours:<40}{found[ours]:9.1f} {unit}")
    for name in others:
        print(
            f"  {name:<40}{found[name]:9.1f} {unit}   {found[name] / found[ours]:5.1f} times ours"
        )
    sys.stdout.flush()


def fact(title: str, told: str, aim: str) -> None:
    """Print a figure that has no rival."""
    print(f"\n{title}   (aim: {aim})\n  {told}")
    sys.stdout.flush()


def call(words: list[str], environ: dict[str, str]) -> Callable[[], float]:
    """Give a measurement of a whole command, which may not fail."""

    def measure() -> float:
        begun = time.perf_counter()
        done = subprocess.run(words, env=environ, stdin=subprocess.DEVNULL, capture_output=True)
        elapsed = (time.perf_counter() - begun) * 1e3
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stderr.decode()}")
        return elapsed

    return measure


def children(pid: int) -> list[int]:
    """List the processes that a process has started, of all its threads."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in listed.read_text().split()]
    return found


def cpu_ns(pid: int) -> int:
    """Give how long a process has used a processor, all its threads together."""
    return sum(
        int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


def memory_kib(pid: int, *kinds: str) -> int:
    """Add up kinds of a process's memory: Private_Dirty, Rss …: proc_pid_smaps(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.partition(":")[0] in kinds)


def named(root: int, name: str) -> list[int]:
    """Find the processes of that name among a process's descendants."""
    found = []
    for pid in children(root):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
            found += named(pid, name)
    return found


class Processor:
    """Counts how long an engine and its containers have used a processor: other work has no part.

    Args:
        clients: of the engine, whose processes move into a cgroup of their own.
    """

    def __init__(self, clients: engines.Clients) -> None:
        machine = clients.machine
        found = hierarchies.mounted()
        counting = [one for one in found.v1 if "cpuacct" in one.controllers]
        own = counting[0] if counting else found.unified
        assert own is not None
        self._name = "cpuacct.usage" if counting else "cpu.stat"
        paths = (f"{machine.cgroup}-engine", machine.cgroup)
        self._groups = [Path(own.mount_point + path) for path in paths]
        self._groups[0].mkdir()
        machine.sweeps(paths[0])
        view = os.readlink(f"/proc/{machine.first}/ns/mnt")
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                if os.readlink(process / "ns/mnt") == view:
                    (self._groups[0] / "cgroup.procs").write_text(process.name)

    def used_ms(self) -> float:
        """Give the sum until now."""
        told = [(group / self._name).read_text() for group in self._groups if group.exists()]
        if self._name == "cpu.stat":
            return sum(int(text.split()[1]) for text in told) / 1e3  # usage_usec comes first
        return sum(map(int, told)) / 1e6
