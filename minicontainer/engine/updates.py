"""Limits and restart policy of a container that exists: `docker update`.

See: Docker Engine API, ContainerUpdate.
"""

from __future__ import annotations

from minicontainer.cgroups.limits import Pids
from minicontainer.engine import limits, restarts
from minicontainer.engine.config import ContainerConfig
from minicontainer.errors import Conflict
from minicontainer.runtime.container import updates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine

    Json = dict[str, Any]

# Fields of HostConfig that can be changed; all others stay as they were at the creation.
CHANGEABLE = (
    "BlkioWeight", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpuShares",
    "CpusetCpus", "CpusetMems", "Memory", "MemoryReservation", "MemorySwap", "NanoCpus",
    "PidsLimit", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps", "BlkioWeightDevice",
)  # fmt: skip
_UNSET: tuple[Any, ...] = (None, 0, "", [], {})


def update(engine: Engine, container: Container, asked: Json) -> Json:
    """Change limits and restart policy; a container that runs has the limits at once.

    Raises:
        Conflict: the container is being removed; the kernel refuses a limit.
        InvalidArgument: a value makes no sense.
    """
    host = dict(container.body.get("HostConfig") or {})
    changed = {name: asked[name] for name in CHANGEABLE if asked.get(name) not in _UNSET}
    if asked.get("PidsLimit") is not None:  # here 0 is a value: no limit any more
        changed["PidsLimit"] = max(0, asked["PidsLimit"])
    _check(host, changed)
    policy = asked.get("RestartPolicy") or {}
    if policy.get("Name"):
        if host.get("AutoRemove") and policy["Name"] != "no":
            raise Conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        # In the order of its creation: `--format {{.HostConfig.RestartPolicy}}` shows it.
        host["RestartPolicy"] = {"Name": "", "MaximumRetryCount": 0, **policy}
    body = {**container.body, "HostConfig": {**host, **changed}}
    config = ContainerConfig.from_json(body)
    restarts.check(config.host_config)
    with container.operating:
        if container.state.status in ("removing", "dead"):
            raise Conflict(f"Container {container.id} is marked for removal and cannot be updated")
        resources = limits.resources_for(config.host_config, ()).replace(devices=())
        if changed and container.state.is_running():
            if changed.get("PidsLimit") == 0:
                resources = resources.replace(pids=Pids(limit=-1))
            updates.update(container.id, engine.supervisor.state_store, resources)
        container.set_body(body)
        container.save(engine.table)
    engine.publish(container, "update")
    return {"Warnings": None}


def _check(host: Json, changed: Json) -> None:
    """Check values against one another, as they would stand after the change."""
    after = {**host, **changed}
    memory, swap = after.get("Memory") or 0, after.get("MemorySwap") or 0
    if 0 < swap < memory:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time"
        )
    for name, words in (("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")):
        if changed.get("NanoCpus") and host.get(name):
            raise Conflict(
                f"Conflicting options: Nano CPUs cannot be updated as {words} has already been set"
            )
        if changed.get(name) and host.get("NanoCpus"):
            raise Conflict(
                f"Conflicting options: {words} cannot be updated as NanoCPUs has already been set"
            )
