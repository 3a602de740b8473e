"""How long a container takes from fork to exec, out of a process that has everything imported.

    make bench

What an engine pays for a start that keeps such a process. Medians of 30 after 3 for warmth, of
busybox's /bin/true with six namespaces and a cgroup. The process stays as lean as an engine's
would: it imports the runtime and nothing else, and its objects are out of the collector's sight.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from minicontainer.kernel import namespaces
from minicontainer.runtime.config import defaults
from minicontainer.runtime.config.spec import Bundle
from minicontainer.runtime.container.state import Store
from minicontainer.runtime.parent import lifecycle

CHECKOUT = sys.path[0]
RUNS, WARM_UP = 30, 3


def fork_to_exec(directory: str) -> list[float]:
    """Measure, in ms, from the fork of init until its program has been executed."""
    spec = defaults.default_spec()
    spec = spec.replace(process=spec.process.replace(terminal=False, args=("/bin/true",)))
    bundle, store = Bundle(path=directory, spec=spec, text="{}"), Store(f"{directory}/state")
    fork = namespaces.clone3
    forked = 0

    def clocked(flags: int, *, cgroup_fd: int | None = None) -> tuple[int, int]:
        nonlocal forked
        forked = time.perf_counter_ns()
        return fork(flags, cgroup_fd=cgroup_fd)

    namespaces.clone3 = clocked
    times = []
    for _ in range(WARM_UP + RUNS):
        container = lifecycle.create_container("bench-warm", bundle, store)
        container.start()
        times.append((time.perf_counter_ns() - forked) / 1e6)
        container.wait()
        container.delete()
    return sorted(times[WARM_UP:])


def main() -> None:
    """Measure, and print."""
    gc.freeze()
    with tempfile.TemporaryDirectory() as directory:
        busybox = [f"{CHECKOUT}/rootfs/busybox", f"{directory}/rootfs"]
        subprocess.run(busybox, check=True, capture_output=True)
        times = fork_to_exec(directory)
    print(f"fork to exec, warm: median {times[RUNS // 2]:.1f} ms, min {times[0]:.1f} ms")


if __name__ == "__main__":
    main()
