"""stats: what containers use, as a table that is redrawn in place.

One thread for each container keeps its last figures; the main one draws them twice a second.

See: Docker Engine API, ContainerStats; Docker's `docker container stats` reference.
"""

from __future__ import annotations

import sys
import threading
import time

from minicontainer.cli import filters, units
from minicontainer.cli.client import EngineError
from minicontainer.cli.exits import Exit, Lost
from minicontainer.cli.flags import FORMAT, NO_TRUNC, Asked, command, toggle
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.output import show_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.cli.client import Client

_REDRAW_S = 0.5
_FIRST_S = 2.5  # two samples of a second each, and their way here
_CLEAR = "\033[H\033[2J"
_HOME, _REST_OF_LINE, _REST = "\033[H", "\033[K", "\033[J"
_HEADERS = {
    "Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


class _Watch:
    """The last figures of one container, kept by a thread.

    Args:
        lost: gets the error when the engine goes away.
    """

    def __init__(self, client: Client, name: str, stream: bool, lost: list[str]) -> None:
        self.name = name
        self.figures: dict[str, Any] = {}
        self.error = ""
        self.over = False
        self.known = threading.Event()
        self._client = client
        self._stream = stream
        self._lost = lost
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        query = {"stream": "1" if self._stream else "0"}
        try:
            for figures in self._client.request(
                "GET", path_of(self.name, "stats"), query
            ).messages():
                self.figures = figures
                self.known.set()
        except EngineError as error:
            self.error = str(error)
        except Lost as error:
            self.error = str(error)
            self._lost.append(self.error)
        finally:
            self.over = True
            self.known.set()


@command(
    "[CONTAINER...]",
    toggle("all", "a", "show all containers, and not only the running ones"),
    FORMAT,
    toggle("no-stream", "", "show the figures once"),
    NO_TRUNC,
)
def stats(asked: Asked) -> int:
    """Display a live stream of container(s) resource usage statistics."""
    stream = not asked.no_stream
    lost: list[str] = []
    watches = {name: _Watch(asked.session.client, name, stream, lost) for name in _names(asked)}
    for watch in watches.values():
        watch.known.wait(_FIRST_S)
    errors = [watch.error for watch in watches.values() if watch.error]
    if asked.args and errors:
        raise Exit("\n".join(errors))
    if not stream:
        _draw(asked, list(watches.values()))
        return 0
    return _live(asked, watches, lost)


def _names(asked: Asked) -> list[str]:
    """Give the containers that are meant: those named, else those that run, or all."""
    if asked.args:
        return list(asked.args)
    found = asked.session.client.get("/containers/json", {"all": asked.all})
    return [entry["Id"][:12] for entry in found]


def _live(asked: Asked, watches: dict[str, _Watch], lost: list[str]) -> int:
    """Draw until the user ends it, or nothing is left that was asked for.

    Raises:
        Exit: the engine went away. Docker's client shows dashes then, for ever.
    """
    terminal = sys.stdout.isatty()
    if not asked.args:
        threading.Thread(target=_follow_starts, args=(asked, watches, lost), daemon=True).start()
    if terminal:
        sys.stdout.write(_CLEAR)
    while True:
        shown = list(watches.values())
        if lost:
            raise Exit(lost[0])
        if asked.args and all(watch.over for watch in shown):
            return 0
        if terminal:
            sys.stdout.write(_HOME)
        _draw(asked, [watch for watch in shown if asked.args or not (watch.over and not asked.all)])
        if terminal:
            sys.stdout.write(_REST)
        sys.stdout.flush()
        time.sleep(_REDRAW_S)


def _follow_starts(asked: Asked, watches: dict[str, _Watch], lost: list[str]) -> None:
    """Watch also the containers that start from now on; the events end with the engine."""
    wanted = filters.as_json([("type", "container"), ("event", "start")])
    try:
        for event in asked.session.client.request("GET", "/events", {"filters": wanted}).messages():
            identity = event["Actor"]["ID"][:12]
            watches[identity] = _Watch(asked.session.client, identity, True, lost)
    except (EngineError, Lost) as error:
        lost.append(str(error))
    else:
        lost.append("the engine has ended")


def _draw(asked: Asked, watches: list[_Watch]) -> None:
    entries = [fields_of(watch.name, watch.figures, asked.no_trunc) for watch in watches]
    shape = asked.format or asked.session.config.get("statsFormat", "")
    show_list(entries, _HEADERS, _COLUMNS, shape, "stats")


def fields_of(asked_name: str, figures: dict[str, Any], whole: bool) -> dict[str, Any]:
    """Give what the table shows of one container: dashes while nothing is known.

    Of one that does not run the engine tells no figures: zeros are shown, as by Docker.
    """
    if not figures:
        fields = dict.fromkeys(_HEADERS, "--")
        known = asked_name if whole else asked_name[:12]
        return fields | {"Container": asked_name, "ID": known, "MemUsage": "-- / --"}
    used, limit = memory(figures.get("memory_stats") or {})
    read, written = _block_io(figures.get("blkio_stats") or {})
    networks = (figures.get("networks") or {}).values()
    received = sum(network["rx_bytes"] for network in networks)
    sent = sum(network["tx_bytes"] for network in networks)
    return {
        "Container": asked_name,
        "ID": figures["id"] if whole else figures["id"][:12],
        "Name": figures["name"].removeprefix("/"),
        "CPUPerc": f"{cpu_percent(figures):.2f}%",
        "MemUsage": f"{units.binary_size(used)} / {units.binary_size(limit)}",
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "NetIO": f"{units.size(received, 3)} / {units.size(sent, 3)}",
        "BlockIO": f"{units.size(read, 3)} / {units.size(written, 3)}",
        "PIDs": str((figures.get("pids_stats") or {}).get("current", 0)),
    }


def cpu_percent(figures: dict[str, Any]) -> float:
    """Say how much of one CPU was used between two samples: 200 % are two whole CPUs."""
    now, before = figures.get("cpu_stats") or {}, figures.get("precpu_stats") or {}
    usage, usage_before = now.get("cpu_usage") or {}, before.get("cpu_usage") or {}
    used = usage.get("total_usage", 0) - usage_before.get("total_usage", 0)
    total = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    online = now.get("online_cpus") or len(usage.get("percpu_usage") or ())
    return used / total * online * 100 if total > 0 and used > 0 else 0.0


def memory(figures: dict[str, Any]) -> tuple[int, int]:
    """Give the memory in use, less the cache that can be dropped at once, and the limit."""
    usage, detail = figures.get("usage", 0), figures.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):  # cgroup v1, v2
        if 0 < detail.get(name, 0) < usage:
            usage -= detail[name]
            break
    return usage, figures.get("limit", 0)


def _block_io(figures: dict[str, Any]) -> tuple[int, int]:
    read = written = 0
    for entry in figures.get("io_service_bytes_recursive") or ():
        if entry["op"][:1] in "rR":
            read += entry["value"]
        elif entry["op"][:1] in "wW":
            written += entry["value"]
    return read, written
