"""The options of create and run: one table, from which come parser, help and the request's body.

Names, spelling and meaning are Docker's, for one Linux host. An option whose value is a member of
the body says which; what takes more than that is put together in `create_body.py`.

See: Docker's `docker container run` reference; Docker Engine API, ContainerCreate.
"""

from __future__ import annotations

from minicontainer import quantities
from minicontainer.cli import mount_values, run_values
from minicontainer.cli.flags import Flag, number, switch, toggle
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Option(Record):
    """An option, and the member of the body that its value is; "" for one that takes more."""

    flag: Flag
    member: str


_HOST = "HostConfig."


def _option(
    name: str,
    member: str,
    help: str,
    metavar: str = "string",
    read: Any = None,
    default: Any = None,
) -> Option:
    """Make an option: `name,letter`, or the name alone."""
    long, _, letter = name.partition(",")
    default = default if default is not None or read not in (None, switch) else ""
    default = False if read is switch and default is None else default
    alone = "true" if read is switch else ""
    flag = Flag(name=long, letter=letter, help=help, metavar=metavar, read=read, default=default,
                alone=alone)  # fmt: skip
    return Option(flag=flag, member=member)


def _list(
    name: str, member: str, help: str, read: Any = None, metavar: str = "list", other: str = ""
) -> Option:
    """Make an option that may be given more than once."""
    long, _, letter = name.partition(",")
    aliases = (other,) if other else ()
    flag = Flag(
        name=long, letter=letter, help=help, metavar=metavar, read=read, many=True, aliases=aliases
    )
    return Option(flag=flag, member=member)


def _toggle(name: str, member: str, help: str, default: bool = False) -> Option:
    return _option(name, member, help, read=switch, default=default)


_size, _duration = quantities.size, run_values.nanoseconds
_LIMIT = quantities.size_or_unlimited

OPTIONS = (
    _list("add-host", _HOST + "ExtraHosts",
          "add a line to /etc/hosts: HOST:IP", run_values.extra_host),
    _list("annotation", _HOST + "Annotations",
          "add an annotation for the OCI runtime: KEY=VALUE", run_values.key_and_value, "map"),
    _list("attach,a", "", "connect to stdin, stdout or stderr alone", run_values.stream),
    _option("blkio-weight", _HOST + "BlkioWeight",
            "share of block I/O, 10 to 1000", "uint16", number),
    _list("blkio-weight-device", _HOST + "BlkioWeightDevice",
          "share of a device's I/O: PATH:WEIGHT", run_values.device_weight),
    _list("cap-add", _HOST + "CapAdd", "add a capability, or ALL", run_values.capability),
    _list("cap-drop", _HOST + "CapDrop", "drop a capability, or ALL", run_values.capability),
    _option("cgroup-parent", _HOST + "CgroupParent", "cgroup that the container's own is made in"),
    _option("cgroupns", _HOST + "CgroupnsMode",
            "view of cgroups: host or private",
            read=run_values.mode("cgroupns", "host", "private")),
    _option("cidfile", _HOST + "ContainerIDFile", "write the container's ID to a file"),
    _option("cpu-period", _HOST + "CpuPeriod",
            "length of a period of the CPU limit, in µs", "int", number),
    _option("cpu-quota", _HOST + "CpuQuota", "CPU time in each period, in µs", "int", number),
    _option("cpu-rt-period", _HOST + "CpuRealtimePeriod",
            "period of real-time CPU time, in µs", "int", number),
    _option("cpu-rt-runtime", _HOST + "CpuRealtimeRuntime",
            "real-time CPU time a period, in µs", "int", number),
    _option("cpu-shares,c", _HOST + "CpuShares", "share of busy CPUs, of 1024", "int", number),
    _option("cpus", _HOST + "NanoCpus", "number of CPUs: 1.5", "decimal", run_values.nano_cpus),
    _option("cpuset-cpus", _HOST + "CpusetCpus", "CPUs that may be used: 0-3,5"),
    _option("cpuset-mems", _HOST + "CpusetMems", "memory nodes that may be used: 0,1"),
    _list("device", "", "let a device of the host be used: PATH[:PATH][:rwm]"),
    _list("device-cgroup-rule", _HOST + "DeviceCgroupRules",
          "allow devices by number: 'c 1:3 mr'", run_values.device_rule),
    _list("device-read-bps", _HOST + "BlkioDeviceReadBps",
          "limit reading from a device: PATH:BYTES a second", run_values.device_bytes),
    _list("device-read-iops", _HOST + "BlkioDeviceReadIOps",
          "limit reading from a device: PATH:NUMBER a second", run_values.device_operations),
    _list("device-write-bps", _HOST + "BlkioDeviceWriteBps",
          "limit writing to a device: PATH:BYTES a second", run_values.device_bytes),
    _list("device-write-iops", _HOST + "BlkioDeviceWriteIOps",
          "limit writing to a device: PATH:NUMBER a second", run_values.device_operations),
    _toggle("disable-content-trust", "", "accepted, and without meaning here", default=True),
    _list("dns", _HOST + "Dns", "name server", run_values.address),
    _list("dns-option", _HOST + "DnsOptions", "option of /etc/resolv.conf", other="dns-opt"),
    _list("dns-search", _HOST + "DnsSearch", "domain that short names are looked up in"),
    _option("domainname", "Domainname", "NIS domain name of the container"),
    _option("entrypoint", "", "program to run, in the place of the image's ENTRYPOINT"),
    _list("env,e", "", "set a variable: NAME=VALUE, or NAME to pass on this shell's"),
    _list("env-file", "", "read variables from a file"),
    _list("expose", "", "declare a port, or a range of ports, as used"),
    _option("gpus", _HOST + "DeviceRequests",
            "GPUs to pass on: all, or a number", "gpu-request", run_values.gpus),
    _list("group-add", _HOST + "GroupAdd", "one more group of the user"),
    _option("health-cmd", "", "command that tells whether the container is healthy"),
    _option("health-interval", "", "time between two checks: 30s", "duration", _duration),
    _option("health-retries", "", "failures in a row that make it unhealthy", "int", number),
    _option("health-start-interval", "",
            "time between two checks while it starts", "duration", _duration),
    _option("health-start-period", "",
            "time for the start, when failures do not count", "duration", _duration),
    _option("health-timeout", "", "longest time that a check may take", "duration", _duration),
    _option("hostname,h", "Hostname", "host name of the container"),
    _toggle("init", _HOST + "Init", "run a process 1 that reaps orphans and passes signals on"),
    _toggle("interactive,i", "OpenStdin", "keep standard input open"),
    _option("ip", "", "IPv4 address of the container"),
    _option("ip6", "", "IPv6 address of the container"),
    _option("ipc", _HOST + "IpcMode",
            "shared memory and queues: private, shareable, host, none, container:NAME"),
    _option("isolation", _HOST + "Isolation", "isolation technology: default"),
    _option("kernel-memory", _HOST + "KernelMemory",
            "limit of kernel memory (cgroup v1)", "bytes", _size),
    _list("label,l", "", "set a label: KEY=VALUE", read=run_values.label),
    _list("label-file", "", "read labels from a file"),
    _list("link", _HOST + "Links", "link to another container: NAME[:ALIAS]", run_values.link),
    _list("link-local-ip", "", "link-local address of the container"),
    _option("log-driver", "", "where the output is kept: json-file, local, none, journald"),
    _list("log-opt", "", "option of the log: max-size=10m", run_values.key_and_value),
    _option("mac-address", "", "MAC address of the container"),
    _option("memory,m", _HOST + "Memory", "memory limit: 64m, 1g", "bytes", _size),
    _option("memory-reservation", _HOST + "MemoryReservation",
            "memory that is reclaimed last", "bytes", _size),
    _option("memory-swap", _HOST + "MemorySwap",
            "limit of memory and swap together; -1: none", "bytes", _LIMIT),
    _option("memory-swappiness", _HOST + "MemorySwappiness",
            "how readily memory is swapped out, 0 to 100 (cgroup v1)", "int", number),
    _list("mount", _HOST + "Mounts",
          "mount something: type=bind|volume|tmpfs|image,src=…,dst=…", mount_values.mount, "mount"),
    _option("name", "", "name of the container"),
    _list("network", "",
          "network: bridge, host, none, container:NAME, or a network's name",
          metavar="network", other="net"),
    _list("network-alias", "", "one more name in the network", other="net-alias"),
    _toggle("no-healthcheck", "", "do not run the image's health check"),
    _toggle("oom-kill-disable", _HOST + "OomKillDisable",
            "stop processes that want too much memory, and kill none (cgroup v1)"),
    _option("oom-score-adj", _HOST + "OomScoreAdj",
            "who is killed first when the host has no memory, -1000 to 1000", "int", number),
    _option("pid", _HOST + "PidMode",
            "processes: private, host, container:NAME", read=run_values.namespace("PID", "pid")),
    _option("pids-limit", _HOST + "PidsLimit",
            "most processes at once; -1: no limit", "int", number),
    _option("platform", "", "platform of the image: os[/arch[/variant]]"),
    _toggle("privileged", _HOST + "Privileged",
            "all capabilities and devices; no seccomp, no masks"),
    _list("publish,p", "", "publish a port: [[IP:]HOST:]CONTAINER[/udp]"),
    _toggle("publish-all,P", _HOST + "PublishAllPorts", "publish all exposed ports on free ones"),
    _option("pull", "", "fetch the image: always, missing or never", default="missing"),
    _toggle("quiet,q", "", "do not show how the image is fetched"),
    _toggle("read-only", _HOST + "ReadonlyRootfs", "make the root file system read-only"),
    _option("restart", _HOST + "RestartPolicy",
            "no, always, unless-stopped, on-failure[:N]", read=run_values.restart_policy),
    _toggle("rm", _HOST + "AutoRemove",
            "remove the container, and its anonymous volumes, when it ends"),
    _option("runtime", _HOST + "Runtime", "OCI runtime that makes the container"),
    _list("security-opt", "",
          "seccomp=FILE, no-new-privileges, apparmor=…, label=…, systempaths=unconfined"),
    _option("shm-size", _HOST + "ShmSize", "size of /dev/shm", "bytes", _size),
    _option("stop-signal", "StopSignal", "signal that asks the program to end"),
    _option("stop-timeout", "StopTimeout",
            "seconds before SIGKILL when it is stopped", "int", number),
    _list("storage-opt", _HOST + "StorageOpt",
          "option of the storage: size=10G", run_values.key_and_value),
    _list("sysctl", _HOST + "Sysctls",
          "set a kernel parameter of the container: KEY=VALUE", run_values.key_and_value, "map"),
    _list("tmpfs", _HOST + "Tmpfs", "mount a tmpfs: PATH[:OPTIONS]", run_values.tmpfs),
    _toggle("tty,t", "Tty", "give the container a terminal"),
    _list("ulimit", _HOST + "Ulimits",
          "set a resource limit: nofile=1024:2048", run_values.ulimit, "ulimit"),
    _option("user,u", "User", "user that the program runs as: USER[:GROUP]"),
    _option("userns", _HOST + "UsernsMode", "user namespace: host, private"),
    _option("uts", _HOST + "UTSMode",
            "host name: private, host", read=run_values.namespace("UTS", "uts")),
    _list("volume,v", "", "mount a directory or a volume: [SOURCE:]TARGET[:OPTIONS]"),
    _option("volume-driver", _HOST + "VolumeDriver", "driver of new volumes"),
    _list("volumes-from", _HOST + "VolumesFrom", "mount the volumes of another container"),
    _option("workdir,w", "WorkingDir", "working directory of the program"),
)  # fmt: skip

# What is this project's own, and no option of Docker's.
_ROOTFS = Option(
    flag=Flag(name="rootfs", metavar="DIR", help="start from a directory, and not from an image"),
    member="",
)
_WITHOUT = _list(
    "without", _HOST + "Without",
    "leave a part out, and show what leaks: pid, memory, seccomp, a step's name, …",
    metavar="PART",
)  # fmt: skip
_WITHOUT_FORCE = _option(
    "without-force", _HOST + "WithoutForce",
    "leave also out what keeps the host from being changed", read=switch,
)  # fmt: skip
CREATE_OPTIONS = (*OPTIONS, _ROOTFS, _WITHOUT, _WITHOUT_FORCE)

CREATE_FLAGS = tuple(option.flag for option in CREATE_OPTIONS)
RUN_FLAGS = (
    *CREATE_FLAGS,
    toggle("detach", "d", "run in the background, and print the container's ID"),
    Flag(name="detach-keys", help="keys that end the connection, and not the container"),
    toggle("sig-proxy", "", "pass signals on to the program", default=True),
)  # fmt: skip

_UPDATED = (
    "blkio-weight", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "cpu-shares",
    "cpus", "cpuset-cpus", "cpuset-mems", "kernel-memory", "memory", "memory-reservation",
    "memory-swap", "pids-limit", "restart",
)  # fmt: skip
# What can be changed in a container that runs: `update`.
UPDATE_OPTIONS = tuple(option for option in OPTIONS if option.flag.name in _UPDATED)
