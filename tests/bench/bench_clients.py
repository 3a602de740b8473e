"""How long whole commands take: Docker's client and ours, on our engine and on dockerd; Podman.

    make bench
    sudo .venv/bin/python tests/bench/bench_clients.py --dockerd dockerd28

Medians of busybox's `true` without a network, all interleaved. "The client alone" is docker's, for
an engine that does nothing (`idle_engine`): no engine can be faster than that.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import idle_engine, rivals
from tests.bench.rivals import IMAGE, OURS, PODMAN_RUN, call, medians, options, table
from tests.conftest import command
from tests.engines import CLIENTS, Clients
from tests.peers.machine import Machine

_TRUE = ("run", "--rm", "--network", "none", IMAGE, "true")


def measure_runs(both: dict[str, Clients], podman: Machine, runs: int) -> None:
    """Print `run`."""
    ours, docker = both.values()
    _, *rest = _TRUE
    with idle_engine.serving() as (idle, started):

        def alone_ms() -> float:
            started.clear()
            return call(["docker", *_TRUE], idle)()

        found = medians(
            {
                "docker run, our engine": call(["docker", *_TRUE], ours.environ),
                f"docker run, {docker.name}": call(["docker", *_TRUE], docker.environ),
                "podman run": call(podman.words(*PODMAN_RUN, *rest), podman.environ),
                "docker run, the client alone": alone_ms,
                "minicontainer run, our engine": call([*CLIENTS[OURS], *_TRUE], ours.environ),
            },
            runs,
        )
    ours_too = found.pop("minicontainer run, our engine")
    table("docker run --rm --network none busybox true", found, aim="a fifth of both others")
    found.pop("docker run, our engine")
    found.pop("docker run, the client alone")
    found = {"minicontainer run, our engine": ours_too, **found}
    table("our own client", found, aim="a fifth of docker's with dockerd, a quarter of podman's")


def measure_execs(both: dict[str, Clients], runs: int) -> None:
    """Print `exec`."""
    for clients in both.values():
        clients.must("run", "-d", "--name", "web", "--network", "none", IMAGE, "sleep", "100000")
    words = ("exec", "web", "true")
    found = {
        f"docker exec, {name}": call(["docker", *words], clients.environ)
        for name, clients in both.items()
    }
    with idle_engine.serving() as (idle, _):
        found["docker exec, the client alone"] = call(["docker", *words], idle)
        table("docker exec web true", medians(found, runs), aim="a third of dockerd's")


def measure_small(both: dict[str, Clients], runs: int) -> None:
    """Print `ps`, with the container of `exec`, and `--help`."""
    ours = both[OURS].environ
    found = {
        "minicontainer ps": call([*CLIENTS[OURS], "ps"], ours),
        "docker ps, our engine": call(["docker", "ps"], ours),
    }
    table("ps", medians(found, runs), aim="no slower than docker ps")
    found = {
        "minicontainer --help": call([*CLIENTS[OURS], "--help"], ours),
        "docker --help": call(["docker", "--help"], ours),
    }
    table("--help", medians(found, runs), aim="60 ms")


def measure_first(machine: Machine, runs: int) -> None:
    """Print the first command, which starts the engine."""
    words = machine.words(*command(OURS), "ps")

    def first_ms() -> float:
        took = call(words, machine.environ)()
        for engine in rivals.named(machine.first, "minic:engine"):
            watched = Path(f"/proc/{engine}")
            os.kill(engine, 15)
            while watched.exists():
                time.sleep(0.01)
        return took

    found = {"minicontainer ps, with the engine's start": medians({"": first_ms}, runs, 1)[""]}
    table("the first command", found, aim="1000 ms")


def main() -> None:
    """Measure, and print."""
    asked = options(__doc__ or "")
    with rivals.started(asked.dockerd) as both, rivals.machine("podman") as podman:
        tree = "/var/lib/minicontainer/rootfs/busybox"
        imported = podman("sh", "-c", f"tar -C {tree} -c . | podman import - {IMAGE}")
        assert imported.status == 0, imported.errors
        measure_runs(both, podman, asked.runs)
        measure_execs(both, asked.runs)
        measure_small(both, asked.runs)
    with rivals.machine("first") as machine:
        measure_first(machine, max(3, asked.runs // 4))


if __name__ == "__main__":
    main()
