"""Find values in config.json that are well-formed but make no sense, before anything is done.

`Record` itself finds wrong types and missing fields, in `Spec.from_json`.

See: runtime-spec config.md, config-linux.md.
"""

from __future__ import annotations

from minicontainer.cgroups import ranges
from minicontainer.errors import InvalidArgument
from minicontainer.kernel.capabilities import BITS
from minicontainer.kernel.mount_options import OPTIONS, parse_options
from minicontainer.kernel.namespaces import BY_TYPE
from minicontainer.kernel.process import RLIMITS
from minicontainer.runtime.config.spec_process import RLIMIT_INFINITY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.kernel.namespaces import IdMap
    from minicontainer.kernel.seccomp import Seccomp
    from minicontainer.runtime.config.spec import Hooks, Mount, Spec
    from minicontainer.runtime.config.spec_linux import Device, NamespaceSpec
    from minicontainer.runtime.config.spec_process import Process, Rlimit

PROPAGATIONS = tuple(word for word, option in OPTIONS.items() if option.propagation)

# What a call is let pass by, or may be.
_STOPS = (
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
)  # fmt: skip
_LETS_PASS = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY")
_LONGEST_NAME = 64  # of sethostname(2) and setdomainname(2)
_HIGHEST_ID = 2**32 - 2  # 2**32 - 1 means "no change" to setresuid(2)
_MOST_IDS = _HIGHEST_ID + 1  # from 0 on
_HIGHEST_SIZE = 2**16 - 1  # struct winsize
_HIGHEST_MAJOR, _HIGHEST_MINOR = 2**12 - 1, 2**20 - 1  # the kernel's dev_t
_DEVICE_TYPES = ("c", "u", "b", "p")
_CLOCKS = ("monotonic", "boottime")


def check(spec: Spec) -> None:
    """Find values that are well-formed but make no sense.

    Raises:
        InvalidArgument: it names the JSON path and what was expected.
    """
    _check_version(spec.oci_version)
    _check_program(spec.process)
    _check_namespaces(spec.linux.namespaces)
    _check_what_needs_namespaces(spec)
    ranges.check(spec.linux.resources)
    for where, value, low, high in _numbers(spec):
        if value is not None and not low <= value <= high:
            raise InvalidArgument(f"{where}: expected {low} to {high}, got {value}")
    _check_rlimits(spec.process.rlimits)
    _check_devices(spec.linux.devices)
    if spec.new_namespace("user"):
        _check_ids(spec)
    for i, mount in enumerate(spec.mounts):
        _check_mount(f"mounts[{i}]", mount, spec)
    _check_hooks(spec.hooks)
    if spec.linux.rootfs_propagation not in (None, *PROPAGATIONS):
        raise InvalidArgument(
            f"linux.rootfsPropagation: expected one of {', '.join(PROPAGATIONS)}, "
            f"got {spec.linux.rootfs_propagation!r}"
        )
    _check_profile(spec.linux.seccomp)
    if has_rare_attributes(spec):
        from minicontainer.runtime.config import attribute_check

        attribute_check.check(spec)


def warnings(spec: Spec) -> Iterator[str]:
    """Yield a line for each value that is ignored, as by other runtimes, but that the user should
    know.
    """
    asked = spec.process.capabilities
    if asked is None:
        return
    unknown = sorted(
        {name for kind in asked.fields() for name in getattr(asked, kind)} - BITS.keys()
    )
    if unknown:
        yield f"process.capabilities: unknown, and passed over: {', '.join(unknown)}"


def has_rare_attributes(spec: Spec) -> bool:
    """Say whether *spec* has a field that `attribute_check` checks; few specifications do."""
    process, linux = spec.process, spec.linux
    return any((
        process.scheduler, process.io_priority, process.exec_cpu_affinity,
        process.apparmor_profile, process.selinux_label, linux.mount_label, linux.memory_policy,
        linux.personality, linux.sysctl, linux.net_devices, linux.intel_rdt, *spec.hooks.listed(),
    ))  # fmt: skip


def _check_program(process: Process) -> None:
    if not process.args:
        raise InvalidArgument("process.args: must name a program")
    if not process.cwd.startswith("/"):
        raise InvalidArgument(f"process.cwd: must be an absolute path, got {process.cwd!r}")
    for i, setting in enumerate(process.env):
        if setting.find("=") < 1:  # not shown: it may be a secret
            raise InvalidArgument(f"process.env[{i}]: expected NAME=VALUE")


def _check_profile(profile: Seccomp | None) -> None:
    """Refuse a profile under which no program can be started: the kernel would end it silently."""
    if profile is None or profile.default_action not in _STOPS:
        return  # what is no action at all, the filter's compiler names
    passing = (rule.names for rule in profile.syscalls if rule.action in _LETS_PASS)
    if not any("execve" in names for names in passing):
        raise InvalidArgument("linux.seccomp: allows no execve: the program could not be started")


def _check_version(version: str) -> None:
    # A minor version only adds fields, and unknown ones are ignored: config.md "Extensibility".
    parts = version.split(".", 2)
    if len(parts) < 3 or parts[0] != "1" or not parts[1].isdecimal():
        raise InvalidArgument(f"ociVersion: expected a version of 1.x.y, got {version!r}")


def _numbers(spec: Spec) -> Iterator[tuple[str, int | None, int, int]]:
    """Yield numbers that the kernel keeps in fewer bits than JSON can write: path, value, range."""
    process, linux = spec.process, spec.linux
    yield "process.oomScoreAdj", process.oom_score_adj, -1000, 1000
    yield "process.user.uid", process.user.uid, 0, _HIGHEST_ID
    yield "process.user.gid", process.user.gid, 0, _HIGHEST_ID
    yield "process.user.umask", process.user.umask, 0, 0o777
    for i, gid in enumerate(process.user.additional_gids):
        yield f"process.user.additionalGids[{i}]", gid, 0, _HIGHEST_ID
    if process.console_size is not None:
        yield "process.consoleSize.height", process.console_size.height, 0, _HIGHEST_SIZE
        yield "process.consoleSize.width", process.console_size.width, 0, _HIGHEST_SIZE
    for i, device in enumerate(linux.devices):
        yield f"linux.devices[{i}].major", device.major, 0, _HIGHEST_MAJOR
        yield f"linux.devices[{i}].minor", device.minor, 0, _HIGHEST_MINOR
        yield f"linux.devices[{i}].fileMode", device.file_mode, 0, 2**32 - 1
        yield f"linux.devices[{i}].uid", device.uid, 0, _HIGHEST_ID
        yield f"linux.devices[{i}].gid", device.gid, 0, _HIGHEST_ID
    for clock, offset in linux.time_offsets.items():
        yield f"linux.timeOffsets.{clock}.secs", offset.secs, -(2**63), 2**63 - 1
        yield f"linux.timeOffsets.{clock}.nanosecs", offset.nanosecs, 0, 999_999_999
    yield from _ids("linux.uidMappings", linux.uid_mappings)
    yield from _ids("linux.gidMappings", linux.gid_mappings)
    for i, mount in enumerate(spec.mounts):
        yield from _ids(f"mounts[{i}].uidMappings", mount.uid_mappings)
        yield from _ids(f"mounts[{i}].gidMappings", mount.gid_mappings)


def _ids(where: str, runs: tuple[IdMap, ...]) -> Iterator[tuple[str, int | None, int, int]]:
    for i, run in enumerate(runs):
        yield f"{where}[{i}].containerID", run.container_id, 0, _HIGHEST_ID
        yield f"{where}[{i}].hostID", run.host_id, 0, _HIGHEST_ID
        yield f"{where}[{i}].size", run.size, 1, _MOST_IDS


def _check_rlimits(limits: tuple[Rlimit, ...]) -> None:
    seen = set()
    for i, limit in enumerate(limits):
        where = f"process.rlimits[{i}]"
        if limit.type not in RLIMITS:
            known = ", ".join(sorted(RLIMITS))
            raise InvalidArgument(f"{where}.type: expected one of {known}, got {limit.type!r}")
        if limit.type in seen:
            raise InvalidArgument(f"{where}.type: {limit.type} is listed twice")
        for name, value in (("soft", limit.soft), ("hard", limit.hard)):
            if not (0 <= value < 2**63 or value == RLIMIT_INFINITY):
                raise InvalidArgument(f"{where}.{name}: expected 0 to {2**63 - 1}, got {value}")
        if limit.soft > limit.hard:
            raise InvalidArgument(
                f"{where}.soft: expected at most the hard limit, {limit.hard}, got {limit.soft}"
            )
        seen.add(limit.type)


def _check_devices(devices: tuple[Device, ...]) -> None:
    for i, device in enumerate(devices):
        if device.type not in _DEVICE_TYPES:
            known = ", ".join(_DEVICE_TYPES)
            raise InvalidArgument(
                f"linux.devices[{i}].type: expected one of {known}, got {device.type!r}"
            )
        if not device.path.startswith("/"):
            raise InvalidArgument(f"linux.devices[{i}].path: must be absolute, got {device.path!r}")


def _check_ids(spec: Spec) -> None:
    """Find ids that the new user namespace does not map: no process could have them."""
    user, linux = spec.process.user, spec.linux
    also = ((f"additionalGids[{i}]", gid) for i, gid in enumerate(user.additional_gids))
    groups = (("gid", user.gid), *also)
    for runs, asked in ((linux.uid_mappings, (("uid", user.uid),)), (linux.gid_mappings, groups)):
        for name, number in asked:
            if not any(run.container_id <= number < run.container_id + run.size for run in runs):
                maps = "uidMappings" if name == "uid" else "gidMappings"
                raise InvalidArgument(f"process.user.{name}: {number} is not in linux.{maps}")


def _check_mount(where: str, mount: Mount, spec: Spec) -> None:
    if not mount.destination:
        raise InvalidArgument(f"{where}.destination: must be a path")
    options = parse_options(mount.options, mount.type)
    mapped = "idmap" in options.asked or "ridmap" in options.asked
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        raise InvalidArgument(f"{where}.uidMappings, gidMappings: a mount with one needs both")
    if options.bind and not mount.source and "remount" not in options.asked:
        raise InvalidArgument(f"{where}.source: a bind mount needs one")
    if (mapped or mount.uid_mappings) and (not options.bind or "remount" in options.asked):
        raise InvalidArgument(f"{where}: only a bind mount can show other owners (idmap)")
    if mapped and not mount.uid_mappings and not spec.has_namespace("user"):
        raise InvalidArgument(
            f"{where}.options: idmap needs uidMappings and gidMappings, or a user namespace whose "
            "maps to take"
        )


def _check_hooks(hooks: Hooks) -> None:
    for field, kind in hooks.json_names().items():
        for i, hook in enumerate(getattr(hooks, field)):
            where = f"hooks.{kind}[{i}]"
            if not hook.path.startswith("/"):
                raise InvalidArgument(f"{where}.path: must be absolute, got {hook.path!r}")
            if hook.timeout is not None and hook.timeout <= 0:
                raise InvalidArgument(f"{where}.timeout: must be more than 0, got {hook.timeout}")


def _check_what_needs_namespaces(spec: Spec) -> None:
    linux = spec.linux
    for field, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if name is not None and not spec.has_namespace("uts"):
            raise InvalidArgument(f"{field}: needs a uts namespace, or it would be the host's")
        if name is not None and len(name.encode(errors="surrogateescape")) > _LONGEST_NAME:
            raise InvalidArgument(
                f"{field}: at most {_LONGEST_NAME} bytes, got {len(name)}: {name}"
            )
    for clock in linux.time_offsets:
        if clock not in _CLOCKS:
            known = ", ".join(_CLOCKS)
            raise InvalidArgument(f"linux.timeOffsets.{clock}: expected one of {known}")
    if linux.time_offsets and not spec.new_namespace("time"):
        raise InvalidArgument("linux.timeOffsets: needs a new time namespace")
    if spec.new_namespace("user") and not (linux.uid_mappings and linux.gid_mappings):
        raise InvalidArgument(
            "linux.uidMappings, gidMappings: a user namespace with one needs both"
        )
    if (linux.uid_mappings or linux.gid_mappings) and not spec.has_namespace("user"):
        raise InvalidArgument("linux.uidMappings, gidMappings: need a user namespace")


def _check_namespaces(namespaces: tuple[NamespaceSpec, ...]) -> None:
    if not any(namespace.type == "mount" for namespace in namespaces):
        raise InvalidArgument(
            "linux.namespaces: a mount namespace is needed, or the host's own root would change"
        )
    seen = set()
    for i, namespace in enumerate(namespaces):
        where = f"linux.namespaces[{i}]"
        if namespace.type not in BY_TYPE:
            known = ", ".join(sorted(BY_TYPE))
            raise InvalidArgument(f"{where}.type: expected one of {known}, got {namespace.type!r}")
        if namespace.type in seen:
            raise InvalidArgument(f"{where}.type: {namespace.type} is listed twice")
        if namespace.path and not namespace.path.startswith("/"):  # "" is none, as in runc
            raise InvalidArgument(f"{where}.path: must be absolute, got {namespace.path!r}")
        seen.add(namespace.type)
