"""How fast the engine is, and what it costs, beside dockerd: through the API, without a client.

    make bench
    sudo .venv/bin/python tests/bench/bench_engine.py --dockerd dockerd28

- a container's life: create, start, wait and remove of busybox's `true` without a network;
- starts by several clients at once, and what the containers cost while they are idle;
- a list of 1000 containers;
- a start while 300 containers run;
- how fast a program can write its log.

On a machine that does other work all times are longer; the ratios stay.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import rivals
from tests.bench.rivals import OURS, Api, Processor, fact, medians, options, table, timed_ms
from tests.engines import Clients

CLIENTS, STARTS = 8, 100
LISTED = 1000
RUNNING = 300
IDLE_S = 10.0
_AFTERWARDS_S = 0.1  # for what an engine does after its answer
LOG_MIB = 48
_WRITE = f"yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmno | head -c {LOG_MIB}m"


class Life:
    """Measures the parts of a container's life.

    Args:
        api: of an engine;  processor: counts its time.
    """

    def __init__(self, api: Api, processor: Processor) -> None:
        self._api = api
        self._processor = processor
        self.parts: dict[str, list[float]] = {}
        self.used: list[float] = []

    def once(self) -> float:
        """Live through it; give the whole in ms."""
        before = self._processor.used_ms()
        whole = self._timed("create", lambda: self._create())
        whole += self._timed("start", lambda: self._api.start(self._made))
        whole += self._timed("wait", lambda: self._api("POST", f"/containers/{self._made}/wait"))
        whole += self._timed("remove", lambda: self._api.remove(self._made))
        time.sleep(_AFTERWARDS_S)
        self.used.append(self._processor.used_ms() - before)
        return whole

    def _create(self) -> None:
        self._made = self._api.create("true")

    def _timed(self, part: str, work: object) -> float:
        assert callable(work)
        took = timed_ms(work)
        self.parts.setdefault(part, []).append(took)
        return took


def measure_lives(both: dict[str, Clients], apis: dict[str, Api], runs: int) -> None:
    """Print a container's life, and its parts."""
    lives = {name: Life(api, Processor(both[name])) for name, api in apis.items()}
    found = medians({name: life.once for name, life in lives.items()}, runs)
    table("create, start, wait, remove of `true`", found, aim="20 ms; a tenth of dockerd's")
    for name, life in lives.items():
        parts = (f"{part} {statistics.median(each):.1f}" for part, each in life.parts.items())
        print(f"  {name}: {', '.join(parts)} ms")
    used = {name: statistics.median(life.used) for name, life in lives.items()}
    table("the processor's time of that, which other work does not lengthen", used)


def at_once(work: list[object]) -> float:
    """Do all of it by several threads; give how long it took, in seconds."""
    left = iter(work)
    lock = threading.Lock()

    def some() -> None:
        while True:
            with lock:
                one = next(left, None)
            if one is None:
                return
            assert callable(one)
            one()

    threads = [threading.Thread(target=some) for _ in range(CLIENTS)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def start_many(clients: Clients, count: int) -> tuple[list[str], float]:
    """Create containers, then start them by several clients; give their IDs and the seconds."""
    api = Api(clients.host)
    made = [api.create("sleep", "100000") for _ in range(count)]
    apis = threading.local()

    def start(identifier: str) -> None:
        if not hasattr(apis, "own"):
            apis.own = Api(clients.host)
        apis.own.start(identifier)

    took = at_once([lambda one=one: start(one) for one in made])
    alive = {one["Id"] for one in api("GET", "/containers/json")}
    if missing := [one for one in made if one not in alive]:
        raise SystemExit(f"{clients.name}: {len(missing)} of {count} containers do not run")
    return made, took


def remove_all(clients: Clients) -> None:
    """Remove every container of an engine."""
    left = [one["Id"] for one in Api(clients.host)("GET", "/containers/json?all=1")]
    at_once([lambda one=one: Api(clients.host).remove(one) for one in left])


def measure_many(both: dict[str, Clients]) -> None:
    """Print how many containers start in a second, and what they cost when they are idle."""
    found = {name: start_many(clients, STARTS)[1] for name, clients in both.items()}
    table(
        f"{STARTS} starts by {CLIENTS} clients at once, each",
        {name: took / STARTS * 1e3 for name, took in found.items()},
        aim="60 starts a second: 16.7 ms",
    )
    print(f"  {OURS}: {STARTS / found[OURS]:.0f} starts a second, all containers run")
    clients = both[OURS]
    engine = engine_of()
    monitors = rivals.named(engine, "minic:monitor")
    private = [rivals.memory_kib(pid, "Private_Clean", "Private_Dirty") for pid in monitors]
    told = f"{statistics.median(private) / 1024:.2f} MiB, the median of {len(private)} monitors"
    fact("private memory of an idle container's monitor", told, "2 MB")
    resident = rivals.memory_kib(engine, "Rss") / 1024
    fact(f"the engine's memory with {STARTS} containers", f"{resident:.0f} MiB", "80 MB")
    watched = [engine, *rivals.named(engine, "minic:spawner"), *monitors]
    before = sum(map(rivals.cpu_ns, watched))
    time.sleep(IDLE_S)
    used = (sum(map(rivals.cpu_ns, watched)) - before) / IDLE_S / 1e7
    fact("idle, with all of them", f"{used:.2f} % of a processor", "1 %")
    for clients in both.values():
        remove_all(clients)


def engine_of() -> int:
    """Give the process of our engine: this one has started it."""
    [engine] = rivals.named(os.getpid(), "minic:engine")
    return engine


def _list_ms(api: Api) -> float:
    return timed_ms(lambda: api("GET", "/containers/json?all=1"))


def measure_lists(both: dict[str, Clients], runs: int) -> None:
    """Print how long a list of many containers takes."""
    for clients in both.values():
        at_once([lambda one=clients: Api(one.host).create("true") for _ in range(LISTED)])
    apis = {name: Api(clients.host) for name, clients in both.items()}
    found = medians({name: partial(_list_ms, api) for name, api in apis.items()}, runs)
    table(f"a list of {LISTED} containers", found, aim="no slower than dockerd")
    for clients in both.values():
        remove_all(clients)


def measure_crowd(clients: Clients, runs: int) -> None:
    """Print what other containers cost a start: ours alone, dockerd would take minutes."""
    api = Api(clients.host)

    def start_ms() -> float:
        identifier = api.create("true")
        took = timed_ms(lambda: api.start(identifier))
        api("POST", f"/containers/{identifier}/wait")
        api.remove(identifier)
        return took

    found = {}
    for count in (0, RUNNING):
        start_many(clients, count)
        found[f"with {count} running"] = medians({"": start_ms}, runs * 2)[""]
    remove_all(clients)
    table("a start", found, aim="at most 1.3 times that with none")


def measure_logs(apis: dict[str, Api], runs: int) -> None:
    """Print how long a program takes to write a large log."""

    def write_ms(api: Api) -> float:
        identifier = api.create("sh", "-c", _WRITE)
        begun = time.perf_counter()
        api.start(identifier)
        api("POST", f"/containers/{identifier}/wait")
        took = (time.perf_counter() - begun) * 1e3
        api.remove(identifier)
        return took

    found = medians({name: partial(write_ms, api) for name, api in apis.items()}, runs, 1)
    table(f"a log of {LOG_MIB} MiB (json-file)", found, aim="no slower than dockerd")
    rates = (f"{name} {LOG_MIB / took * 1e3:.0f} MiB/s" for name, took in found.items())
    print(f"  {', '.join(rates)}")


def main() -> None:
    """Measure, and print."""
    asked = options(__doc__ or "")
    with rivals.started(asked.dockerd) as both:
        apis = {name: Api(clients.host) for name, clients in both.items()}
        measure_lives(both, apis, asked.runs)
        measure_logs(apis, max(3, asked.runs // 5))
        measure_many(both)
        measure_crowd(both[OURS], asked.runs)
        measure_lists(both, asked.runs)


if __name__ == "__main__":
    main()
