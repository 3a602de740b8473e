"""The engine itself: what it is, what it has, how much space that takes.

See: Docker Engine API, SystemInfo, SystemVersion, SystemDataUsage, SystemAuth.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
import uuid

from minicontainer.engine import build_facts, host_facts, log_drivers
from minicontainer.errors import InvalidArgument
from minicontainer.images import logins
from minicontainer.images.credentials import from_auth
from minicontainer.images.registry import Settings
from minicontainer.startup import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    Json = dict[str, Any]
    Filters = dict[str, list[str]]

    class _Containers(Protocol):
        def list(self, all: bool, limit: int, size: bool, filters: Filters) -> list[Json]: ...

    class _Images(Protocol):
        def list(self, all: bool, filters: Filters, **more: bool) -> list[Json]: ...
        def usage(self) -> Json: ...

    class _Volumes(Protocol):
        def list(self, filters: Filters) -> Json: ...

    class _Events(Protocol):
        @property
        def listeners(self) -> int: ...

    class _Parts(Protocol):
        """The parts of the engine that are asked here."""

        @property
        def containers(self) -> _Containers: ...
        @property
        def images(self) -> _Images: ...
        @property
        def volumes(self) -> _Volumes: ...
        @property
        def events(self) -> _Events: ...

        runtimes: dict[str, str]


API_VERSION = "1.50"
OLDEST_API_VERSION = "1.24"
RUNTIME = "minicontainer-oci"

_USAGE_TYPES = ("container", "image", "volume", "build-cache")
_COMMIT = {"ID": VERSION}
_NO_SWARM = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}


class System:
    """What an engine tells of itself.

    Args:
        parts: the engine.
        data_root: what is kept over a reboot.
        settings: of registries.
        debug: the log shows every request.
        proxies: the environment's proxies, by Docker's name of them.
    """

    def __init__(
        self,
        parts: _Parts,
        data_root: str,
        settings: Settings = Settings(),  # noqa: B008  # a Record is frozen
        debug: bool = False,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self._parts = parts
        self._data_root = data_root
        self._settings = settings
        self._debug = debug
        self._proxies = proxies or {}
        self._id = _engine_id(data_root)

    def version(self) -> Json:
        """Give versions: flat, as old clients read them, and by component."""
        flat = {
            "Version": VERSION,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": OLDEST_API_VERSION,
            "GitCommit": build_facts.commit(),
            "GoVersion": f"python{platform.python_version()}",
            "BuildTime": build_facts.built(),
            **host_facts.versions(),
        }
        details = {**flat, "Experimental": "false"}
        del details["Version"]
        runtime = {"Name": RUNTIME, "Version": VERSION, "Details": {"GitCommit": VERSION}}
        return {
            "Platform": {"Name": f"minicontainer {VERSION}"},
            "Components": [{"Name": "Engine", "Version": VERSION, "Details": details}, runtime],
            **flat,
        }

    def info(self) -> Json:
        """Describe engine and host."""
        name = os.uname()
        system, release = host_facts.operating_system()
        offered, warnings = host_facts.limits()
        return {
            "ID": self._id,
            **self._counts(),
            "Name": name.nodename,
            "ServerVersion": VERSION,
            "KernelVersion": name.release,
            "OperatingSystem": system,
            "OSVersion": release,
            "OSType": "linux",
            "Architecture": name.machine,
            "NCPU": len(os.sched_getaffinity(0)),
            "MemTotal": host_facts.memory(),
            "SystemTime": _now(),
            "IPv4Forwarding": host_facts.is_forwarding(),
            **offered,
            "KernelMemoryTCP": False,
            **self._drivers(),
            **self._process(),
            **self._registries(),
            "Warnings": warnings or None,
        }

    def _counts(self) -> Json:
        containers = self._parts.containers.list(True, -1, False, {})
        states = [container["State"] for container in containers]
        running, paused = states.count("running"), states.count("paused")
        return {
            "Containers": len(states),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(states) - running - paused,
            "Images": len(self._parts.images.list(True, {})),
        }

    def _drivers(self) -> Json:
        return {
            "Driver": "overlay2",
            "DriverStatus": host_facts.storage(self._data_root),
            "DockerRootDir": self._data_root,
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "null"],
                "Authorization": None,
                "Log": log_drivers.drivers(),
            },
            "LoggingDriver": "json-file",
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": host_facts.cgroup_version(),
            "Runtimes": {
                name: {"path": path}
                for name, path in {RUNTIME: RUNTIME, **self._parts.runtimes}.items()
            },
            "DefaultRuntime": RUNTIME,
            "InitBinary": RUNTIME,
            "ContainerdCommit": _COMMIT,
            "RuncCommit": _COMMIT,
            "InitCommit": _COMMIT,
            "SecurityOptions": host_facts.security_options(),
            "Swarm": _NO_SWARM,
            "GenericResources": None,
            "Isolation": "",
            "LiveRestoreEnabled": True,  # monitors outlive the engine
            "FirewallBackend": {"Driver": "nftables"},
            "CDISpecDirs": [],
            "DiscoveredDevices": [],
        }

    def _process(self) -> Json:
        return {
            "Debug": self._debug,
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": threading.active_count(),
            "NEventsListener": self._parts.events.listeners,
            "ExperimentalBuild": False,
            "Labels": [],
            "HttpProxy": self._proxies.get("HttpProxy", ""),
            "HttpsProxy": self._proxies.get("HttpsProxy", ""),
            "NoProxy": self._proxies.get("NoProxy", ""),
            "ProductLicense": "Apache-2.0",
        }

    def _registries(self) -> Json:
        networks = [name for name in self._settings.insecure if "/" in name]
        mirrors = list(self._settings.mirrors)
        indexes = {
            name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
            for name in self._settings.insecure
            if "/" not in name
        }
        hub = {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
        return {
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", *networks],
                "IndexConfigs": {**indexes, "docker.io": hub},
                "Mirrors": mirrors,
            },
        }

    def df(self, types: list[str]) -> Json:
        """Count the disk space of images, containers and volumes.

        Args:
            types: which of container, image, volume and build-cache; all without any.
        """
        for kind in types:
            if kind not in _USAGE_TYPES:
                raise InvalidArgument(f"unknown object type: {kind}")
        wanted = types or list(_USAGE_TYPES)
        found: Json = {"LayersSize": 0}
        containers = self._parts.containers.list(True, -1, "container" in wanted, {})
        if "image" in wanted:
            found |= self._parts.images.usage()
        if "container" in wanted:
            found["Containers"] = containers
        if "volume" in wanted:
            volumes = self._parts.volumes.list({})["Volumes"] or []
            found["Volumes"] = [_with_usage(volume, containers) for volume in volumes]
        if "build-cache" in wanted:
            found |= {"BuildCache": [], "BuilderSize": 0}
        return found

    def auth(self, body: Json) -> Json:
        """Try credentials at a registry.

        Raises:
            Unauthorized: the registry refuses them.
        """
        server = body.get("serveraddress") or ""
        if not isinstance(server, str):
            raise InvalidArgument("serveraddress: expected a string")
        logins.check(server, from_auth(body), self._settings)
        return {"Status": "Login Succeeded", "IdentityToken": ""}


def _engine_id(data_root: str) -> str:
    """Read what this engine is known by, or make it up once."""
    path = os.path.join(data_root, "engine-id")
    try:
        with open(path) as file:
            return file.read().strip()
    except FileNotFoundError:
        made = str(uuid.uuid4())
    os.makedirs(data_root, mode=0o711, exist_ok=True)
    with open(f"{path}.new", "w") as file:
        file.write(made + "\n")
    os.rename(f"{path}.new", path)
    return made


def _now() -> str:
    now_ns = time.time_ns()
    seconds, rest = divmod(now_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def _with_usage(volume: Json, containers: list[Json]) -> Json:
    """Add a volume's size, and the number of containers that mount it."""
    if volume.get("UsageData"):
        return volume
    users = sum(
        any(mount.get("Name") == volume["Name"] for mount in container.get("Mounts") or ())
        for container in containers
    )
    usage = {"Size": directory_size(volume.get("Mountpoint") or ""), "RefCount": users}
    return {**volume, "UsageData": usage}


def directory_size(directory: str) -> int:
    """Count the bytes of all files below a directory; a file with several names counts once.

    A container chooses how deep its directories are, so this does not recurse as os.walk does. What
    lies deeper than a path can be long is not counted.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    waiting = [directory]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                with contextlib.suppress(OSError):  # it has just been removed
                    found = entry.stat(follow_symlinks=False)
                    if found.st_nlink == 1 or (found.st_dev, found.st_ino) not in seen:
                        seen.add((found.st_dev, found.st_ino))
                        total += found.st_size
    return total
