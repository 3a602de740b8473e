"""An engine whose processes are killed between any two of their actions, and what is true then.

Each process stops at a place that the test names (`minicontainer.faults`); the test kills one of
them meanwhile. Then it looks at the host: processes, cgroups, mounts, links, rules, addresses, and
at the engine's files.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minicontainer.faults import VARIABLE
from tests.conftest import PATIENCE_S, NetworkNamespace, wait_until

PROGRAM = Path(sys.executable).parent / "minicontainer"
WAITS = ("sh", "-c", "rm -f /go; touch /ready; while [ ! -e /go ]; do sleep 0.01; done; exit 7")
PORT = 8080

Json = Any


class Place(NamedTuple):
    """A place that a process came by.

    Args:
        visit: which time it was, from 1;  who: the process that did.
    """

    name: str
    visit: int
    who: str


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


class Machine:
    """An engine with a network, an image and a directory of faults of its own.

    Args:
        rootfs: the tree that the image is made of.
    """

    def __init__(self, rootfs: Path) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="minicontainer-faults-"))
        self.base.chmod(0o755)
        self.faults = self.base / "faults"
        self.faults.mkdir()
        self.faults.chmod(0o777)
        self.cgroup = self.base.name
        self.network = NetworkNamespace()
        self.start()
        self._import(rootfs)

    # ---- the engine

    def start(self) -> None:
        """Start the engine; return when it answers."""
        words = [
            "nsenter", f"--net={self.network.path}", str(PROGRAM), "daemon", "--data-root",
            str(self.base / "data"), "--exec-root", str(self.base / "run"), "--host",
            f"unix://{self.base}/sock", "--cgroup-parent", f"/{self.cgroup}",
        ]  # fmt: skip
        environ = {**os.environ, VARIABLE: str(self.faults)}
        with (self.base / "log").open("a") as log:
            self.engine = subprocess.Popen(words, stdout=log, stderr=log, env=environ)
        wait_until(self._answers, "the engine to answer")

    def _answers(self) -> bool:
        assert self.engine.poll() is None, (self.base / "log").read_text()[-2000:]
        with contextlib.suppress(OSError):
            return self.call("GET", "/_ping")[0] == 200
        return False

    def call(self, method: str, path: str, body: Json = None) -> tuple[int, Json]:
        """Send a request; give the status and what was answered."""
        connection = _Connection(f"{self.base}/sock")
        try:
            text = body if isinstance(body, bytes) or body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data

    def did(self, method: str, path: str, body: Json = None) -> Json:
        """Send a request that must succeed; give what was answered."""
        status, answer = self.call(method, path, body)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def _import(self, rootfs: Path) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(rootfs, ".")
        self.did("POST", "/images/create?fromSrc=-&repo=box", packed.getvalue())

    def create(self, *program: str, network: str = "bridge", **host: Json) -> str:
        """Create a container that has a bit of everything; give its ID."""
        made: str = self.did("POST", "/containers/create", body_of(program, network, **host))["Id"]
        return made

    def run(self, *program: str, network: str = "bridge", **host: Json) -> str:
        """Start such a container; give its ID."""
        made = self.create(*program, network=network, **host)
        self.did("POST", f"/containers/{made}/start")
        return made

    def containers(self) -> dict[str, Json]:
        """Give what `inspect` shows of all containers, by ID."""
        listed = self.did("GET", "/containers/json?all=1")
        found = {}
        for one in listed:
            status, shown = self.call("GET", f"/containers/{one['Id']}/json")
            if status == 200:
                found[one["Id"]] = shown
        return found

    # ---- faults

    def places(self, act: Callable[[], object]) -> list[Place]:
        """Do something, and list the places that processes came by."""
        reached = self.faults / "reached"
        reached.touch()
        reached.chmod(0o666)
        act()
        self.settle()
        lines = [line.partition(" ") for line in reached.read_text().splitlines()]
        reached.unlink()
        names = [name for _, _, name in lines]
        return [
            Place(name, names[: number + 1].count(name), who)
            for number, (who, _, name) in enumerate(lines)
        ]

    def kill_at(self, place: Place, victim: str, act: Callable[[], object]) -> bool:
        """Do something, and kill one of the processes when another comes by a place.

        Args:
            victim: engine, spawner, waiting, monitor, creator or init.
        Returns:
            Whether there was such a process at that place.
        """
        paused = self.faults / "paused"
        self._write_point(place.name, place.visit)
        acting = threading.Thread(target=_quietly, args=(act,))
        acting.start()
        wait_until(lambda: paused.exists() or not acting.is_alive(), "the place")
        deadline = time.monotonic() + PATIENCE_S / 12  # what follows the answer takes a moment
        while not paused.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        pids = self.victims()[victim] if paused.exists() else []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        restarts = victim == "engine" and bool(pids)  # some places only an engine's first start has
        if restarts:
            self.engine.wait()
        for name in ("point", "paused"):
            (self.faults / name).unlink(missing_ok=True)
        if restarts:
            self.start()
        acting.join(PATIENCE_S)
        assert not acting.is_alive(), f"{place}: the request has no end"
        return bool(pids)

    def stop_at(self, name: str) -> Path:
        """Stop who comes by a place next; give the file whose removal lets it go on."""
        self._write_point(name, 1)
        return self.faults / "paused"

    def _write_point(self, name: str, visit: int) -> None:
        new = self.faults / "new"
        new.write_text(f"{name}\n{visit}")
        new.chmod(0o666)
        new.rename(self.faults / "point")

    def victims(self) -> dict[str, list[int]]:
        """Find the engine's processes by their parents."""
        parents: dict[int, list[int]] = {}
        for pid in _numbers():
            with contextlib.suppress(OSError):
                parents.setdefault(_parent_of(pid), []).append(pid)
        spawners = [pid for pid in parents.get(self.engine.pid, []) if _is(pid, "spawner")]
        forked = [pid for spawner in spawners for pid in parents.get(spawner, [])]
        below = [pid for parent in forked for pid in parents.get(parent, [])]
        creators = [pid for pid in below if _is(pid, "creator")]
        waiting = [pid for pid in forked + below if _is(pid, "waiting")]
        return {
            "engine": [self.engine.pid], "spawner": spawners, "waiting": waiting,
            "monitor": [pid for pid in forked if pid not in waiting], "creator": creators,
            "init": [pid for pid in below if pid not in creators and pid not in waiting],
        }  # fmt: skip

    # ---- what must be true

    def settle(self) -> None:
        """Wait until nothing is there but what belongs to containers that run."""
        deadline = time.monotonic() + PATIENCE_S / 3
        while wrong := self.wrong():
            assert time.monotonic() < deadline, f"{wrong}\n{self.tail()}"
            time.sleep(0.01)

    def tail(self) -> str:
        """Give the end of the engine's log."""
        return (self.base / "log").read_text()[-1500:]

    def wrong(self) -> dict[str, Json]:
        """Compare what is on the host with the containers that the engine knows."""
        shown = self.containers()
        running = {key for key, one in shown.items() if one["State"]["Running"]}
        ends = {key: shown[key]["NetworkSettings"]["Networks"] for key in running}
        joined = {key for key in running if any(one["IPAddress"] for one in ends[key].values())}
        data, run = self.base / "data", self.base / "run"
        volumes = {one["Name"] for one in self.did("GET", "/volumes")["Volumes"]}
        there = {
            "states": (_names(run / "containers") - {".filters"}, running),
            "sockets": (_names(run / "monitors"), running),
            "cgroups": (self._cgroups(), running),
            "monitors": (len(self._processes("minic:monitor")), len(running)),
            "others": (self._processes("minic:init", "minic:exec"), []),
            "directories": (_names(data / "containers"), set(shown)),
            "trash": (_names(data / "trash"), set()),
            "volumes": (_names(data / "volumes"), volumes),
            "holds": (self._holders(), set(shown)),
            "mounts": (self._mounts(), []),
            "leases": (self._leases(), joined),
            "links": (self._links(), {f"mc{key[:12]}" for key in joined}),
            "programs": (sorted(key for key in running
                                if not os.path.exists(f"/proc/{shown[key]['State']['Pid']}")), []),
            "bridge": (self._has_bridge(), bool(joined)),
        }  # fmt: skip
        return {
            what: f"{found} != {wanted}"
            for what, (found, wanted) in there.items()
            if found != wanted
        }

    def _cgroups(self) -> set[str]:
        found: set[str] = set()
        for parent in self._parents():
            found |= {name for name in _names(parent) if len(name) == 64}  # the IDs
        return found

    def _parents(self) -> list[Path]:
        """List the cgroup that all containers' are made in, in every hierarchy."""
        root = Path("/sys/fs/cgroup")
        return [one for one in (root / self.cgroup, *root.glob(f"*/{self.cgroup}")) if one.exists()]

    def _processes(self, *names: str) -> list[str]:
        """List processes of these names that have this engine's environment."""
        found = []
        marker = f"{VARIABLE}={self.faults}".encode()
        for pid in _numbers():
            with contextlib.suppress(OSError):
                process = Path(f"/proc/{pid}")
                named = (process / "comm").read_text().strip() in names
                if named and marker in (process / "environ").read_bytes():
                    found.append(f"{pid}")
        return found

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if f" {self.base}" in line]

    def _leases(self) -> set[str]:
        leases = self.base / "run/network/leases"
        return {os.readlink(one) for one in leases.glob("*/*")}

    def _links(self) -> set[str]:
        words = ["nsenter", f"--net={self.network.path}", "ip", "-json", "link"]
        listed = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        # those of the default bridge; on others a name has one digit more, and may begin so too
        names = {one["ifname"] for one in listed}
        return {name for name in names if name.startswith("mc") and len(name) == len("mc") + 12}

    def _has_bridge(self) -> bool:
        words = ["nsenter", f"--net={self.network.path}", "ip", "link", "show", "minic0"]
        return subprocess.run(words, capture_output=True).returncode == 0

    def _holders(self) -> set[str]:
        path = self.base / "data/images/images.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            return {holder for (holder,) in database.execute("SELECT holder FROM holds")}

    def empty(self) -> None:
        """Remove all containers, networks and volumes."""
        for key in self.containers():
            self.did("DELETE", f"/containers/{key}?force=1&v=1")
        for one in self.did("GET", "/networks"):
            if one["Name"] not in ("bridge", "host", "none"):
                self.did("DELETE", f"/networks/{one['Id']}")
        for one in self.did("GET", "/volumes")["Volumes"]:
            self.did("DELETE", f"/volumes/{one['Name']}")
        self.settle()

    def close(self) -> None:
        """Remove everything."""
        if self.engine.poll() is not None:
            self.start()
        try:
            self.empty()
        finally:
            self.engine.terminate()
            self.engine.wait(PATIENCE_S)
            self.network.close()
            for parent in self._parents():
                parent.rmdir()
        shutil.rmtree(self.base)


def body_of(program: tuple[str, ...], network: str, **host: Json) -> Json:
    """Write a create request with a network, a port, a limit, and volumes with and without name."""
    return {
        "Image": "box",
        "Cmd": list(program or WAITS),
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/nameless": {}},
        "HostConfig": {
            "NetworkMode": network,
            "PortBindings": {"80/tcp": [{"HostPort": str(PORT)}]} if network == "bridge" else {},
            "Binds": ["kept:/kept"],
            "Memory": 64 << 20,
            **host,
        },
    }


def _quietly(act: Callable[[], object]) -> None:
    """Do something that may fail: the engine may be killed meanwhile."""
    with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
        act()


def _names(directory: Path) -> set[str]:
    with contextlib.suppress(FileNotFoundError):
        return set(os.listdir(directory))
    return set()


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is(pid: int, name: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == f"minic:{name}"
    return False
