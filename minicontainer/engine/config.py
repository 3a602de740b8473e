"""What a container shall be, in the fields of Docker's `POST /containers/create`.

`Rootfs` is ours: the directory to start from, where Docker names an image.

See: Docker Engine API, ContainerConfig and HostConfig.
"""

from __future__ import annotations

from minicontainer.record import NO_ENTRIES, Record, pascal


class Ulimit(Record, names=pascal):
    """A resource limit: `nofile` and so on, soft and hard, -1 for none."""

    name: str
    soft: int
    hard: int


class DeviceMapping(Record, names=pascal):
    """A device of the host: where it is, where it shall be, and how it may be used (rwm)."""

    path_on_host: str
    path_in_container: str
    cgroup_permissions: str = "rwm"


class MountRequest(Record, names=pascal):
    """One `--mount`.

    Args:
        type: bind or tmpfs.
        source: a path of the host, for a bind.
        target: a path in the container.
        read_only: whether writing is refused.
        propagation: rprivate, rslave and so on, for a bind.
        tmpfs_options: words for mount(8), for a tmpfs.
    """

    type: str
    source: str = ""
    target: str
    read_only: bool = False
    propagation: str = ""
    tmpfs_options: str = ""


class HostConfig(Record, names=pascal):
    """How the container stands on its host; the numbers are bytes, and 0 means no limit."""

    binds: tuple[str, ...] = ()
    mounts: tuple[MountRequest, ...] = ()
    tmpfs: dict[str, str] = NO_ENTRIES
    readonly_rootfs: bool = False
    memory: int = 0
    memory_swap: int = 0  # memory and swap together; -1: no limit
    nano_cpus: int = 0  # billionths of a processor
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    pids_limit: int = 0
    network_mode: str = "bridge"
    pid_mode: str = ""
    ipc_mode: str = "private"
    uts_mode: str = ""
    userns_mode: str = ""
    cgroupns_mode: str = "private"
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    ulimits: tuple[Ulimit, ...] = ()
    devices: tuple[DeviceMapping, ...] = ()
    init: bool = False
    console_size: tuple[int, ...] = ()  # height and width


class ContainerConfig(Record, names=pascal):
    """A container, before it exists."""

    rootfs: str
    cmd: tuple[str, ...]
    name: str = ""
    hostname: str = ""
    user: str = ""
    working_dir: str = ""
    env: tuple[str, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    host_config: HostConfig = HostConfig()
