"""How fast the engine starts containers, and what an idle one costs.

    .venv/bin/python tests/bench/bench_engine.py

Through the engine's own interface, without HTTP: create, start, wait and remove of busybox's `true`
without a network. Beside the times stands what may be; on a machine that does other work all of
them are longer.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minicontainer.engine.engine import Engine

CHECKOUT = Path(__file__).resolve().parents[2]
RUNS, WARM_UP, CLIENTS, STARTS, IDLE = 30, 3, 8, 100, 20


class Bench:
    """An engine in this process.

    Args:
        base: for its data;  rootfs: what its containers start from.
    """

    def __init__(self, base: Path, rootfs: Path) -> None:
        self.containers = Engine(str(base / "data"), str(base / "exec")).containers
        self._rootfs = str(rootfs)

    def create(self, *program: str) -> str:
        """Create a container; give its ID."""
        body = {"Rootfs": self._rootfs, "Cmd": list(program), "HostConfig": {"NetworkMode": "none"}}
        identifier: str = self.containers.create(body)["Id"]
        return identifier

    def whole_lives(self) -> dict[str, list[float]]:
        """Measure each part of a container's life, in ms."""
        found: dict[str, list[float]] = {}

        def timed(part: str, act: Callable[[], object]) -> object:
            begun = time.perf_counter()
            result = act()
            found.setdefault(part, []).append((time.perf_counter() - begun) * 1000)
            return result

        for _ in range(WARM_UP + RUNS):
            made = str(timed("create", lambda: self.create("true")))
            waiting = self.containers.wait(made, "next-exit")
            timed("start", lambda made=made: self.containers.start(made))  # type: ignore[misc]  # made is bound at once
            timed("wait", waiting.result)
            timed("remove", lambda made=made: self.containers.remove(made))  # type: ignore[misc]  # made is bound at once
        found["all"] = [sum(parts) for parts in zip(*found.values(), strict=True)]
        return {part: times[WARM_UP:] for part, times in found.items()}

    def starts_per_second(self) -> float:
        """Start containers from several threads at once; give how many a second."""
        made = [self.create("sleep", "1000") for _ in range(STARTS)]
        left = iter(made)
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    identifier = next(left, None)
                if identifier is None:
                    return
                self.containers.start(identifier)

        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = STARTS / (time.perf_counter() - begun)
        for identifier in made:
            self.containers.remove(identifier, force=True)
        return rate

    def private_memory(self) -> float:
        """Give the private memory of an idle container's monitor, in MiB."""
        made = [self.create("sleep", "1000") for _ in range(IDLE)]
        for identifier in made:
            self.containers.start(identifier)
        found = [_private_kib(_parent(self._pid(identifier))) for identifier in made]
        for identifier in made:
            self.containers.remove(identifier, force=True)
        return statistics.median(found) / 1024

    def _pid(self, identifier: str) -> int:
        pid: int = self.containers.inspect(identifier)["State"]["Pid"]
        return pid


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("PPid:")[2].split()[0])


def _private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def main() -> None:
    """Measure, and print."""
    base = Path(tempfile.mkdtemp(prefix="bench-engine-"))
    try:
        rootfs = base / "rootfs"
        subprocess.run([CHECKOUT / "rootfs/busybox", rootfs], check=True, capture_output=True)
        bench = Bench(base, rootfs)
        times = bench.whole_lives()
        for part, measured in times.items():
            aim = "   (aim: 20 ms)" if part == "all" else ""
            print(f"{part:<8}{statistics.median(measured):7.1f} ms{aim}")
        rate = bench.starts_per_second()
        print(f"starts a second by {CLIENTS} clients: {rate:.0f}   (aim: 60 on 2 processors)")
        print(f"private memory of a monitor: {bench.private_memory():.1f} MiB   (aim: 2)")
    finally:
        shutil.rmtree(base, ignore_errors=True)
        sys.stdout.flush()
        os._exit(0)  # the engine's threads would be waited for


if __name__ == "__main__":
    main()
