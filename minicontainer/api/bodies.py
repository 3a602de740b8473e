"""The shapes of JSON bodies, as far as they are checked here: a wrong type is named by its path.

What the values mean is checked by the engine. Fields that are not listed pass as they are.

See: Docker Engine API, the schemas of each request.
"""

from __future__ import annotations

from minicontainer.record import NO_ENTRIES, Record, pascal


class RestartPolicy(Record, names=pascal):
    """When a container is started again."""

    name: str = ""
    maximum_retry_count: int = 0


class Config(Record, names=pascal):
    """How a container, or an image, starts. `Cmd` and `Entrypoint` are a string or a list."""

    hostname: str = ""
    user: str = ""
    env: tuple[str, ...] = ()
    exposed_ports: dict[str, object] = NO_ENTRIES
    volumes: dict[str, object] = NO_ENTRIES
    working_dir: str = ""
    labels: dict[str, str] = NO_ENTRIES
    stop_signal: str = ""
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()


class HostConfig(Record, names=pascal):
    """The part of a new container that is about its host."""

    pids_limit: int = 0
    restart_policy: RestartPolicy = RestartPolicy()
    port_bindings: dict[str, object] = NO_ENTRIES
    auto_remove: bool = False


class Endpoint(Record, names=pascal):
    """A container's place in a network."""

    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_opts: dict[str, str] = NO_ENTRIES
    mac_address: str = ""


class Networking(Record, names=pascal):
    """The networks of a new container."""

    endpoints_config: dict[str, Endpoint] = NO_ENTRIES


class Container(Config, names=pascal):
    """POST /containers/create."""

    image: str = ""
    host_config: HostConfig = HostConfig()
    networking_config: Networking = Networking()


class Continue(Record, names=pascal):
    """What becomes of the step of a story that waits."""

    abort: bool = False


class Update(Record, names=pascal):
    """POST /containers/{name}/update."""

    restart_policy: RestartPolicy = RestartPolicy()
    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    blkio_weight: int = 0


class Exec(Record, names=pascal):
    """POST /containers/{name}/exec."""

    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    tty: bool = False
    privileged: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    console_size: tuple[int, ...] = ()


class ExecStart(Record, names=pascal):
    """POST /exec/{name}/start."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, ...] = ()


class Pool(Record, names=pascal, json={"ip_range": "IPRange"}):
    """A range of addresses of a network."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""


class Ipam(Record, names=pascal):
    """Where a network's addresses come from."""

    driver: str = ""
    config: tuple[Pool, ...] = ()
    options: dict[str, str] = NO_ENTRIES


class Network(Record, names=pascal, json={"ipam": "IPAM"}):
    """POST /networks/create."""

    name: str = ""
    driver: str = ""
    internal: bool = False
    ipam: Ipam = Ipam()
    options: dict[str, str] = NO_ENTRIES
    labels: dict[str, str] = NO_ENTRIES


class Connect(Record, names=pascal):
    """POST /networks/{name}/connect and disconnect."""

    container: str = ""
    endpoint_config: Endpoint = Endpoint()
    force: bool = False


class Volume(Record, names=pascal):
    """POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = NO_ENTRIES
    labels: dict[str, str] = NO_ENTRIES
