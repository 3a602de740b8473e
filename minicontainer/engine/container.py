"""One container as the engine knows it: what it shall be, and where it is in its life.

    created ──► running ◄──► paused
       │         │   ▲
       │         ▼   │
       │     exited ─┴─► restarting ──► running
       ▼         ▼
    removing ──► (gone), or dead where the removal failed

See: Docker Engine API, ContainerState.
"""

from __future__ import annotations

import os
import select
import threading

from minicontainer.engine.config import ContainerConfig
from minicontainer.engine.log_files import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.connections import Connection
    from minicontainer.engine.protocol import AttachStreams
    from minicontainer.engine.store import Table

    Json = dict[str, Any]

NEVER = "0001-01-01T00:00:00Z"  # Go's zero time


class State:
    """Where a container is in its life; it changes, under the container's lock.

    Attributes:
        status: created, running, paused, restarting, exited, removing or dead.
        pid: of its first process; 0 without one.
        started_ns, finished_ns: since the epoch; 0 for never.
        error: why the last start failed.
        stopped: the user stopped it: no restart policy starts it again.
    """

    def __init__(self) -> None:
        self.status = "created"
        self.pid = 0
        self.exit_code = 0
        self.error = ""
        self.oom_killed = False
        self.started_ns = 0
        self.finished_ns = 0
        self.restart_count = 0
        self.stopped = False
        self.peak_memory = 0

    def is_running(self) -> bool:
        """Say whether its first process runs, or is paused."""
        return self.status in ("running", "paused")

    def is_live(self) -> bool:
        """Say whether it runs, or is about to run again."""
        return self.status in ("running", "paused", "restarting")

    def to_json(self) -> Json:
        """Give what is kept in the database."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, kept: Json) -> State:
        """Read it from the database; fields of another version are passed over."""
        state = cls()
        vars(state).update({name: kept[name] for name in vars(state) if name in kept})
        return state

    def as_docker(self) -> Json:
        """Give Docker's ContainerState, without Health."""
        return {
            "Status": self.status,
            "Running": self.is_live(),
            "Paused": self.status == "paused",
            "Restarting": self.status == "restarting",
            "OOMKilled": self.oom_killed,
            "Dead": self.status == "dead",
            "Pid": self.pid,
            "ExitCode": self.exit_code,
            "Error": self.error,
            "StartedAt": moment(self.started_ns),
            "FinishedAt": moment(self.finished_ns),
        }


def moment(at_ns: int) -> str:
    """Write a time as Docker does, also that of what never happened."""
    return timestamp(at_ns) if at_ns else NEVER


class Container:
    """A container.

    `changed` is the condition on which its state changes: hold it to read several fields at once.
    `operating` is held by an operation that starts or removes it, so that they follow one another.

    Attributes:
        body: what was asked for, completed with the image's part: Docker's JSON.
        config: the same, typed.
        image_id: sha256:…; "" with a root file system of its own.
        layers: chain IDs of the image's layers; () likewise.
        rootfs: the directory it starts from; "" with an image.
        copied: its files are a plain copy, because the kernel refuses overlay.
        endpoints: its place in each network, by network name: Docker's EndpointSettings.
        published: ports of the container, and where on the host they are: Docker's PortMap.
        mounts: Docker's MountPoint of each mount.
        mounted_images: image ID and chain IDs of each image that is mounted, by its place.
        monitor: the connection to its monitor, while that lives.
        attached: clients that wait for its start, with their sockets.
        exec_ids: of the programs that exec started.
        exits: counts its ends, for who waits for the next one.
        last_exit_code: of the last of these ends: the next start sets that of `state` to 0.
        removed: it is gone.
        restarting_by_user: its end is part of `restart`: --rm does not remove it.
        story: the name of the story that its start, and its end, are part of: `traces`.
        made_in: the name of the story that its creation is part of; "" for none.
        warnings: what its creation found, to be told once.
        restart_delay_s: that the next restart by policy waits.
    """

    def __init__(self, identifier: str, name: str, body: Json, directory: str) -> None:
        self.id = identifier
        self.name = name
        self.directory = directory
        self.changed = threading.Condition(threading.RLock())
        self.operating = threading.RLock()
        self.created_ns = 0
        self.image_id = ""
        self.layers: tuple[str, ...] = ()
        self.rootfs = ""
        self.copied = False
        self.endpoints: Json = {}
        self.published: Json = {}
        self.mounts: list[Json] = []
        self.mounted_images: dict[str, list[str]] = {}
        self.state = State()
        self.health: Json | None = None
        self.monitor: Connection | None = None
        self.attached: list[tuple[AttachStreams, int]] = []
        self.exec_ids: list[str] = []
        self.exits = 0
        self.last_exit_code = 0
        self.removed = False
        self.restarting_by_user = False
        self.restart_delay_s = 0.0
        self.story = ""
        self.made_in = ""
        self.warnings: list[str] = []
        self.set_body(body)

    def set_body(self, body: Json) -> None:
        """Take what it shall be, checked."""
        self.body = body
        self.config = ContainerConfig.from_json(body)

    @property
    def short_id(self) -> str:
        """The first 12 digits of its ID."""
        return self.id[:12]

    @property
    def image_name(self) -> str:
        """The image as the user named it."""
        return self.config.image or self.config.rootfs

    @property
    def outlives_power_cut(self) -> bool:
        """Whether the next engine keeps it if it does not run: not with --rm."""
        return not self.config.host_config.auto_remove

    @property
    def log_path(self) -> str:
        """Where its log is; "" where the driver keeps none."""
        driver = self.config.host_config.log_config.type
        return (
            ""
            if driver in ("none", "journald")
            else os.path.join(self.directory, f"{self.id}-json.log")
        )

    def let_clients_go(self, only_gone: bool = False) -> None:
        """Close the sockets of clients that wait for the start.

        Args:
            only_gone: of those that have closed their end. One that only sends no more stays.
        """
        kept = []
        for streams, descriptor in self.attached:
            if only_gone and not _has_hung_up(descriptor):
                kept.append((streams, descriptor))
            else:
                os.close(descriptor)
        self.attached = kept

    def count_end(self) -> None:
        """Note that it has ended once more, for who waits for that."""
        self.exits += 1
        self.last_exit_code = self.state.exit_code

    def program(self) -> tuple[str, ...]:
        """Give the program with its arguments."""
        return (*(self.config.entrypoint or ()), *self.config.cmd)

    def save(self, table: Table) -> None:
        """Write what must outlive the engine into the database."""
        table.update(self.id, self.to_json())

    def to_json(self) -> Json:
        """Give what is kept in the database."""
        return {
            "body": self.body,
            "state": self.state.to_json(),
            "created_ns": self.created_ns,
            "image_id": self.image_id,
            "layers": list(self.layers),
            "rootfs": self.rootfs,
            "copied": self.copied,
            "endpoints": self.endpoints,
            "mounts": self.mounts,
            "mounted_images": self.mounted_images,
        }

    @classmethod
    def from_json(cls, identifier: str, name: str, kept: Json, directory: str) -> Container:
        """Read a container from the database."""
        container = cls(identifier, name, kept["body"], directory)
        container.state = State.from_json(kept["state"])
        container.created_ns = kept["created_ns"]
        container.image_id = kept["image_id"]
        container.layers = tuple(kept["layers"])
        container.rootfs = kept["rootfs"]
        container.copied = kept.get("copied", False)
        container.endpoints = kept["endpoints"]
        container.mounts = kept["mounts"]
        container.mounted_images = kept.get("mounted_images", {})
        return container

    def event_attributes(self, **more: str) -> dict[str, str]:
        """Give what every event of the container tells: labels, image, name."""
        return {**self.config.labels, "image": self.image_name, "name": self.name, **more}


def _has_hung_up(descriptor: int) -> bool:
    watch = select.poll()
    watch.register(descriptor, 0)  # hang-ups are reported in any case
    return bool(watch.poll(0))
