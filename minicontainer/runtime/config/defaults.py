"""A container's defaults: Docker's, as one specification.

See: runtime-spec config-linux.md "Default Devices"; capabilities(7).
"""

from __future__ import annotations

from minicontainer.cgroups.limits import DeviceRule, Resources
from minicontainer.kernel.namespaces import IdMap
from minicontainer.runtime.config.spec import Mount, Root, Spec
from minicontainer.runtime.config.spec_linux import Device, Linux, NamespaceSpec
from minicontainer.runtime.config.spec_process import Capabilities, Process
from minicontainer.runtime.container.state import OCI_VERSION

# Root inside may change owners, switch users and bind low ports; nothing that reaches the host.
CAPABILITIES = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip

# Files of proc and sysfs that reveal the whole host, or change it: masked.
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
# Files of proc and sysfs that may be read.
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# runtime-spec config-linux.md "Default Devices": every container has them.
DEVICES = (
    Device(path="/dev/null", type="c", major=1, minor=3, file_mode=0o666),
    Device(path="/dev/zero", type="c", major=1, minor=5, file_mode=0o666),
    Device(path="/dev/full", type="c", major=1, minor=7, file_mode=0o666),
    Device(path="/dev/random", type="c", major=1, minor=8, file_mode=0o666),
    Device(path="/dev/urandom", type="c", major=1, minor=9, file_mode=0o666),
    Device(path="/dev/tty", type="c", major=5, minor=0, file_mode=0o666),
)
DEVICE_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)

# The device numbers that may be used, whoever made the file: those in the specification, and these.
# To make a file (m) is harmless while it can't be opened.
DENY_ALL_DEVICES = DeviceRule(allow=False, access="rwm")
DEVICE_RULES = (
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    *(
        DeviceRule(allow=True, type=device.type, major=device.major, minor=device.minor)
        for device in DEVICES
    ),
    DeviceRule(allow=True, type="c", major=5, minor=1, access="rwm"),  # /dev/console
    DeviceRule(allow=True, type="c", major=5, minor=2, access="rwm"),  # /dev/ptmx
    DeviceRule(allow=True, type="c", major=136, access="rwm"),  # /dev/pts/*
    # /dev/net/tun: a VPN makes its link with it, in its own network namespace. runc and crun
    # removed it once, and had to bring it back.
    DeviceRule(allow=True, type="c", major=10, minor=200, access="rwm"),
)  # fmt: skip

_NO_FILES = ("nosuid", "noexec", "nodev")
MOUNTS = (
    Mount(destination="/proc", type="proc", source="proc", options=_NO_FILES),
    Mount(
        destination="/dev", type="tmpfs", source="tmpfs",
        options=("nosuid", "strictatime", "mode=755", "size=65536k"),
    ),
    # a new instance, so that the container's terminals are its own; group 5 is tty
    Mount(
        destination="/dev/pts", type="devpts", source="devpts",
        options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount(
        destination="/dev/shm", type="tmpfs", source="shm",
        options=(*_NO_FILES, "mode=1777", "size=65536k"),
    ),
    Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=_NO_FILES),
    Mount(destination="/sys", type="sysfs", source="sysfs", options=(*_NO_FILES, "ro")),
    Mount(
        destination="/sys/fs/cgroup", type="cgroup", source="cgroup",
        options=(*_NO_FILES, "relatime", "ro"),
    ),
)  # fmt: skip

NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def rootless_spec(uid: int, gid: int) -> Spec:
    """Make a specification for an ordinary user, who is root inside.

    It leaves out what such a user may not have: a group of the host for terminals, a sysfs of
    another network namespace, device rules.

    Args:
        uid, gid: the user's ids.
    """
    spec = default_spec()
    mounts = [
        mount.replace(options=tuple(word for word in mount.options if word != "gid=5"))
        for mount in spec.mounts
        if mount.type != "sysfs"
    ]
    sysfs = Mount(
        destination="/sys", type="none", source="/sys", options=("rbind", *_NO_FILES, "ro")
    )
    before_cgroup = [mount.type for mount in mounts].index("cgroup")
    kinds = (*(kind for kind in NAMESPACES if kind != "network"), "user")
    linux = spec.linux.replace(
        namespaces=tuple(NamespaceSpec(type=kind) for kind in kinds),
        uid_mappings=(IdMap(container_id=0, host_id=uid, size=1),),
        gid_mappings=(IdMap(container_id=0, host_id=gid, size=1),),
        resources=Resources(),
    )
    return spec.replace(
        mounts=(*mounts[:before_cgroup], sysfs, *mounts[before_cgroup:]), linux=linux
    )


def default_spec() -> Spec:
    """Make what `minicontainer-oci spec` writes: a shell, isolated as tightly as runc's."""
    # without CAP_SETUID and others: a single program needs three
    few = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
    return Spec(
        oci_version=OCI_VERSION,
        root=Root(path="rootfs", readonly=True),
        process=Process(
            args=("sh",),
            cwd="/",
            env=(*ENVIRONMENT, "TERM=xterm"),
            terminal=True,
            capabilities=Capabilities(bounding=few, effective=few, permitted=few),
            no_new_privileges=True,
        ),
        hostname="minicontainer",
        mounts=MOUNTS,
        linux=Linux(
            namespaces=tuple(NamespaceSpec(type=kind) for kind in NAMESPACES),
            resources=Resources(devices=(DENY_ALL_DEVICES,)),
            masked_paths=MASKED_PATHS,
            readonly_paths=READONLY_PATHS,
        ),
    )
