"""The body of Docker's `POST /containers/create`, as typed values.

`Rootfs` is ours: a directory to start from, where Docker only knows images.

See: Docker Engine API, ContainerConfig, HostConfig, NetworkingConfig.
"""

from __future__ import annotations

from minicontainer.record import NO_ENTRIES, Record, pascal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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


class ThrottleDevice(Record, names=pascal):
    """A limit on one block device: bytes or operations a second."""

    path: str
    rate: int


class WeightDevice(Record, names=pascal):
    """The share of one block device's time, 10 to 1000."""

    path: str
    weight: int


class BindOptions(Record, names=pascal):
    """What `--mount type=bind` can choose."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Record, names=pascal):
    """The driver of a volume or of a log, and its options."""

    name: str = ""
    options: dict[str, str] = NO_ENTRIES


class VolumeOptions(Record, names=pascal):
    """What `--mount type=volume` can choose."""

    no_copy: bool = False
    labels: dict[str, str] = NO_ENTRIES
    driver_config: DriverConfig | None = None
    subpath: str = ""


class TmpfsOptions(Record, names=pascal):
    """What `--mount type=tmpfs` can choose: bytes, and the mode of its root."""

    size_bytes: int = 0
    mode: int = 0


class ImageOptions(Record, names=pascal):
    """What `--mount type=image` can choose."""

    subpath: str = ""


class MountRequest(Record, names=pascal):
    """One `--mount`.

    Args:
        type: bind, volume, tmpfs or image.
        source: a path of the host for a bind, a name for a volume or an image.
        target: a path in the container.
        read_only: whether writing is refused.
    """

    type: str
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: ImageOptions | None = None


class LogConfig(Record, names=pascal):
    """The log driver and its options (`--log-driver`, `--log-opt`)."""

    type: str = ""
    config: dict[str, str] = NO_ENTRIES


class RestartPolicy(Record, names=pascal):
    """When the engine starts an ended container again: no, always, unless-stopped, on-failure."""

    name: str = ""
    maximum_retry_count: int = 0


class PortBinding(Record, names=pascal):
    """Where on the host a port is published; "" leaves the choice to the engine."""

    host_ip: str = ""
    host_port: str = ""


class Healthcheck(Record, names=pascal):
    """A program that tells whether the container works; times in nanoseconds, 0 for the default."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


_HOST_NAMES = {
    "uts_mode": "UTSMode",
    "container_id_file": "ContainerIDFile",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "kernel_memory_tcp": "KernelMemoryTCP",
}


class HostConfig(Record, names=pascal, json=_HOST_NAMES):
    """How the container stands on its host; numbers are bytes, and 0 means no limit.

    Args:
        without: ours: the parts of the isolation that are left out: `parts`.
        without_force: ours: also those without which the host changes.
    """

    binds: tuple[str, ...] = ()
    mounts: tuple[MountRequest, ...] = ()
    tmpfs: dict[str, str] = NO_ENTRIES
    volumes_from: tuple[str, ...] = ()
    volume_driver: str = ""
    readonly_rootfs: bool = False
    storage_opt: dict[str, str] = NO_ENTRIES
    container_id_file: str = ""

    memory: int = 0
    memory_swap: int = 0  # memory and swap together; -1: no limit
    memory_reservation: int = 0
    memory_swappiness: int | None = None  # -1 is "not set" too
    kernel_memory_tcp: int = 0
    oom_kill_disable: bool | None = None
    oom_score_adj: int = 0
    nano_cpus: int = 0  # billionths of a processor
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0  # -1 is no limit too
    blkio_weight: int = 0
    blkio_weight_device: tuple[WeightDevice, ...] = ()
    blkio_device_read_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_read_iops: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_iops: tuple[ThrottleDevice, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    shm_size: int = 0
    cgroup_parent: str = ""
    device_requests: tuple[dict[str, Any], ...] = ()

    network_mode: str = "bridge"
    pid_mode: str = ""
    ipc_mode: str = "private"
    uts_mode: str = ""
    userns_mode: str = ""
    cgroupns_mode: str = "private"
    sysctls: dict[str, str] = NO_ENTRIES
    port_bindings: dict[str, tuple[PortBinding, ...] | None] = NO_ENTRIES
    publish_all_ports: bool = False
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    privileged: bool = False
    security_opt: tuple[str, ...] = ()
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    devices: tuple[DeviceMapping, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()

    init: bool = False
    console_size: tuple[int, ...] = ()  # height and width
    annotations: dict[str, str] = NO_ENTRIES
    log_config: LogConfig = LogConfig()
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    runtime: str = ""
    without: tuple[str, ...] = ()
    without_force: bool = False


class NetworkingConfig(Record, names=pascal):
    """The networks that the container is connected to, by name."""

    endpoints_config: dict[str, Any] = NO_ENTRIES


class ContainerConfig(Record, names=pascal):
    """A container, before it exists.

    Args:
        rootfs: ours: a directory, or the name of one that rootfs/NAME built.
        entrypoint: None: the image's.
    """

    rootfs: str = ""
    image: str = ""
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    working_dir: str = ""
    env: tuple[str, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    network_disabled: bool = False
    mac_address: str = ""
    exposed_ports: dict[str, Any] = NO_ENTRIES
    volumes: dict[str, Any] = NO_ENTRIES
    labels: dict[str, str] = NO_ENTRIES
    healthcheck: Healthcheck | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: tuple[str, ...] = ()
    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()
