"""The body of a create request, completed: Docker's defaults, and what the image says.

See: Docker Engine API, ContainerCreate; `docker run` reference, "Overriding image defaults".
"""

from __future__ import annotations

import functools
import os

from minicontainer.cgroups import hierarchies
from minicontainer.engine.runtimes import OURS
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

DEFAULT_SHM_SIZE = 64 << 20

# What `inspect` shows where nothing was asked for.
CONFIG_DEFAULTS: Json = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False,
    "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": [],
    "Cmd": None, "Image": "", "Volumes": None, "WorkingDir": "", "Entrypoint": None,
    "OnBuild": None, "Labels": {},
}  # fmt: skip
HOST_DEFAULTS: Json = {
    "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}},
    "NetworkMode": "bridge", "PortBindings": {}, "RestartPolicy": {"Name": "no",
    "MaximumRetryCount": 0}, "AutoRemove": False, "VolumeDriver": "", "VolumesFrom": None,
    "ConsoleSize": [0, 0], "CapAdd": None, "CapDrop": None, "CgroupnsMode": "", "Dns": [],
    "DnsOptions": [], "DnsSearch": [], "ExtraHosts": None, "GroupAdd": None, "IpcMode": "private",
    "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "", "Privileged": False,
    "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "",
    "UsernsMode": "", "ShmSize": DEFAULT_SHM_SIZE, "Runtime": OURS, "Isolation": "",
    "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0,
    "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0,
    "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "",
    "Devices": [], "DeviceCgroupRules": None, "DeviceRequests": None, "MemoryReservation": 0,
    "MemorySwap": 0, "MemorySwappiness": None, "OomKillDisable": None, "PidsLimit": None,
    "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
}  # fmt: skip
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def completed(asked: Json, image: Json | None) -> Json:
    """Complete the body of a create request.

    Args:
        asked: as the client sent it; it is not changed.
        image: `config` of the image, in Docker's field names; None with a root file system.
    Raises:
        InvalidArgument: there is no program to run.
    """
    body = {**CONFIG_DEFAULTS, **asked}
    for name in ("Cmd", "Entrypoint"):
        if isinstance(body[name], str):  # the API takes a single word too
            body[name] = [body[name]]
    _take_from_image(body, image or {})
    if body["Entrypoint"] == [""]:  # --entrypoint "" takes the image's away
        body["Entrypoint"] = None
    if not body["Entrypoint"] and not body["Cmd"]:
        raise InvalidArgument("no command specified")
    asked_host = asked.get("HostConfig") or {}
    if not isinstance(asked_host, dict):
        raise InvalidArgument("HostConfig: expected an object")
    host = {**HOST_DEFAULTS, **asked_host}
    if image is None and not host["CgroupnsMode"]:
        host["CgroupnsMode"] = "private"  # no client of Docker's asks for this: the safer one
    body["HostConfig"] = _completed_host(host, body)
    return body


def _completed_host(host: Json, body: Json) -> Json:
    """Put Docker's defaults where the client left a field empty; some depend on others."""
    for name in ("LogConfig", "RestartPolicy", "IpcMode", "ShmSize", "Runtime"):
        if host[name] in (*_EMPTY, 0):
            host[name] = HOST_DEFAULTS[name]
    for name, part in (("LogConfig", "Type"), ("RestartPolicy", "Name")):
        if isinstance(host[name], dict) and not host[name].get(part):
            host[name] = {**HOST_DEFAULTS[name], **host[name], part: HOST_DEFAULTS[name][part]}
    if host["NetworkMode"] in ("", "default", None):
        host["NetworkMode"] = "none" if body.get("NetworkDisabled") else "bridge"
    if not host["CgroupnsMode"]:
        private = _cgroup_version() == "v2" and not host["Privileged"]
        host["CgroupnsMode"] = "private" if private else "host"
    if host["MemorySwappiness"] == -1:
        host["MemorySwappiness"] = None
    if (host["PidsLimit"] or 0) <= 0:
        host["PidsLimit"] = None
    return host


@functools.cache
def _cgroup_version() -> str:
    """Say which version is mounted; it does not change while the engine runs."""
    return hierarchies.mounted().version


def _take_from_image(body: Json, image: Json) -> None:
    """Let the image fill what the user left open."""
    if not body["Entrypoint"]:
        if not body["Cmd"]:
            body["Cmd"] = image.get("Cmd")
        if body["Entrypoint"] is None:
            body["Entrypoint"] = image.get("Entrypoint")
    for name in ("User", "WorkingDir", "StopSignal", "Shell"):
        if not body.get(name) and image.get(name):
            body[name] = image[name]
    body["Volumes"] = body["Volumes"] or None
    for name in ("ExposedPorts", "Volumes", "Labels"):
        both = {**(image.get(name) or {}), **(body.get(name) or {})}
        if both:
            body[name] = both
    if str(body["WorkingDir"]).startswith("/"):
        body["WorkingDir"] = os.path.normpath(f"/{body['WorkingDir'].lstrip('/')}")
    _take_environment(body, image)
    _take_healthcheck(body, image.get("Healthcheck"))


def _take_environment(body: Json, image: Json) -> None:
    own = body["Env"] or []
    if not isinstance(own, list):
        raise InvalidArgument("Env: expected a list")
    named = {str(item).partition("=")[0] for item in own}
    inherited = [item for item in image.get("Env") or [] if item.partition("=")[0] not in named]
    body["Env"] = [*own, *inherited]


def _take_healthcheck(body: Json, image: Json | None) -> None:
    own = body.get("Healthcheck")
    if image and not own:
        body["Healthcheck"] = image
    elif image and own and (own.get("Test") or [""])[0] != "NONE":
        filled = {name: value for name, value in own.items() if value}
        body["Healthcheck"] = {**image, **filled}
