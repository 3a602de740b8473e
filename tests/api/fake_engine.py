"""A small engine for tests of the API alone: it keeps what it is given, and starts nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from minicontainer.engine.options import AttachOptions, LogOptions
from minicontainer.engine.traces import Traces
from minicontainer.errors import Conflict, InvalidArgument, NotFound, NotModified, Unsupported

if TYPE_CHECKING:
    from minicontainer.engine.options import ClientStream

Json = dict[str, Any]


class Source:
    """Something that is waited for: an iterator that any thread can close."""

    open_ones = 0
    _lock = threading.Lock()

    def __init__(self, items: tuple[Any, ...] = (), ends: bool = True) -> None:
        self.queue: queue.Queue[Any] = queue.Queue()
        for item in items:
            self.queue.put(item)
        if ends:
            self.queue.put(None)
        self._closed = False
        with Source._lock:
            Source.open_ones += 1

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = self.queue.get()
        if item is None:
            raise StopIteration
        return item

    def result(self) -> Json:
        """Wait, as for the end of a container."""
        return next(iter(self), {"StatusCode": 137})

    def close(self) -> None:
        """End the wait."""
        with Source._lock:
            if not self._closed:
                self._closed = True
                Source.open_ones -= 1
        self.queue.put(None)


class Containers:
    """Containers that are only written down."""

    def __init__(self) -> None:
        self.created: dict[str, Json] = {}
        self.waits: list[Source] = []
        self.calls: list[tuple[Any, ...]] = []
        self.received = b""

    def _find(self, ref: str) -> Json:
        if ref not in self.created:
            raise NotFound(f"No such container: {ref}")
        return self.created[ref]

    def create(self, config: Json, name: str = "", platform: str = "") -> Json:
        """Keep the configuration."""
        if name in self.created:
            raise Conflict(f'Conflict. The container name "/{name}" is already in use')
        self.created[name or "noname"] = {
            "Id": "c0ffee" * 10 + "beef",
            "Name": f"/{name}",
            "Config": {"Tty": bool(config.get("Tty")), **config},
            "State": {"Running": False, "Status": "created"},
        }
        return {"Id": "c0ffee" * 10 + "beef", "Warnings": []}

    def list(self, all: bool, limit: int, size: bool, filters: Any) -> Any:
        """Give what was kept."""
        self.calls.append(("list", all, limit, size, filters))
        return [{"Id": value["Id"], "Names": [value["Name"]]} for value in self.created.values()]

    def inspect(self, ref: str, size: bool = False) -> Json:
        """Give one."""
        return self._find(ref)

    def is_tty(self, ref: str) -> bool:
        """Tell whether the streams are raw."""
        return bool(self._find(ref)["Config"]["Tty"])

    def start(self, ref: str, detach_keys: str = "") -> None:
        """Start it once."""
        state = self._find(ref)["State"]
        if state["Running"]:
            raise NotModified(f"container {ref} is running")
        state["Running"] = True

    def stop(self, ref: str, timeout_s: int | None = None, signal: str = "") -> None:
        """Note the parameters."""
        self.calls.append(("stop", ref, timeout_s, signal))

    def wait(self, ref: str, condition: str) -> Source:
        """Wait until the test says so."""
        self._find(ref)
        self.waits.append(Source(ends=False))
        return self.waits[-1]

    def logs(self, ref: str, options: LogOptions) -> Source:
        """Give a line, then wait if the client wants to follow."""
        self.calls.append(("logs", options))
        return Source((b"\1\0\0\0\0\0\0\6hello\n",), ends=not options.follow)

    def stats(self, ref: str, stream: bool, one_shot: bool) -> Source:
        """Give a sample."""
        return Source(({"name": "/x"},), ends=not stream)

    def attach(self, ref: str, options: AttachOptions, connection: ClientStream) -> None:
        """Send back what comes, until it ends; then say goodbye."""
        self.calls.append(("attach", options))
        connection.accept()
        data = connection.buffered or connection.socket.recv(1000)
        while data:
            connection.socket.sendall(data)
            data = connection.socket.recv(1000)
        connection.socket.sendall(b"bye")

    def archive_stat(self, ref: str, path: str) -> Json:
        """Say something of a path."""
        return {"name": path.split("/")[-1], "size": 3, "mode": 420}

    def archive_put(
        self, ref: str, path: str, stream: BinaryIO, no_overwrite: bool, copy_ids: bool
    ) -> None:
        """Read the archive."""
        self.received = stream.read()

    def remove(
        self, ref: str, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """Forget it."""
        self._find(ref)
        del self.created[ref]

    def resize(self, ref: str, height: int, width: int) -> None:
        """Note the size."""
        self.calls.append(("resize", height, width))

    def kill(self, ref: str, signal: str = "") -> None:
        """Fail in a way that nobody planned."""
        raise RuntimeError("a bug")


class Images:
    """Images that exist as messages."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.received = 0

    def list(self, all: bool, filters: Any, **more: bool) -> Any:
        """Give none."""
        return []

    def inspect(self, ref: str, platform: Any, manifests: bool) -> Json:
        """Give any."""
        return {"Id": ref}

    def tag(self, ref: str, repository: str, tag: str) -> None:
        """Note the names."""
        self.calls.append(("tag", ref, repository, tag))

    def pull(self, name: str, tag: str, platform: str, credentials: Json) -> Iterator[Json]:
        """Fail before the first message, after it, or not at all; be late, or work for ever."""
        self.calls.append(("pull", name, tag, platform, credentials))
        while tag == "endless":
            try:
                time.sleep(0.01)
                yield {}
            except GeneratorExit:
                self.calls.append(("left", name))
                raise
        if tag == "late":
            yield {}
            raise NotFound(f"registry of {name} can't be reached")
        if tag == "none":
            raise NotFound(f"manifest for {name}:{tag} not found")
        yield {"status": f"Pulling from {name}", "id": tag}
        if tag == "half":
            raise InvalidArgument("the layer is broken")
        yield {"status": "Status: Downloaded"}

    def load(self, stream: BinaryIO, quiet: bool, platform: Any) -> Iterator[Json]:
        """Count the bytes."""
        self.received = 0
        while data := stream.read(65536):
            self.received += len(data)
        if not self.received:
            raise InvalidArgument("the archive is empty")
        yield {"stream": f"Loaded {self.received}\n"}


class Events:
    """A list of events that the test makes."""

    def __init__(self) -> None:
        self.sources: list[Source] = []

    def subscribe(self, since_ns: int, until_ns: int, filters: Any) -> Source:
        """Wait for what the test makes."""
        self.sources.append(Source(ends=False))
        return self.sources[-1]


class System:
    """What the engine tells of itself."""

    def version(self) -> Json:
        """Give the least that clients read."""
        told = {"Version": "28.0.0", "ApiVersion": "1.50", "MinAPIVersion": "1.24", "Os": "linux"}
        details = {"ApiVersion": "1.50", "MinAPIVersion": "1.24", "Os": "linux"}
        component = {"Name": "Engine", "Version": "28.0.0", "Details": details}
        return {**told, "Arch": "amd64", "Components": [component]}

    def info(self) -> Json:
        """Fail as a part does that is not there."""
        raise Unsupported("info: not yet")


class FakeEngine:
    """The parts."""

    def __init__(self) -> None:
        self.containers: Any = Containers()
        self.images: Any = Images()
        self.events: Any = Events()
        self.system: Any = System()
        self.execs: Any = None
        self.networks: Any = None
        self.volumes: Any = None
        self.traces = Traces()

    def end_story(self, name: str) -> None:
        """End a story."""
        self.traces.end(name)
