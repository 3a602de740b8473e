"""From Docker's configuration to the runtime's: what `run`'s options mean, written as config.json.

See: runtime-spec config.md; Docker's `docker run` reference for the defaults.
"""

from __future__ import annotations

import os

from minicontainer.engine import limits, security, users
from minicontainer.engine.devices import devices_for
from minicontainer.errors import InvalidArgument
from minicontainer.kernel import capabilities
from minicontainer.kernel.namespaces import BY_TYPE, IdMap
from minicontainer.kernel.overlay import Overlay
from minicontainer.kernel.process import RLIMITS
from minicontainer.runtime import inputs
from minicontainer.runtime.config import defaults
from minicontainer.runtime.config.spec import Mount, Root, Spec
from minicontainer.runtime.config.spec_linux import Linux, NamespaceSpec
from minicontainer.runtime.config.spec_process import (
    RLIMIT_INFINITY,
    Capabilities,
    ConsoleSize,
    Process,
    Rlimit,
    User,
)
from minicontainer.runtime.container.state import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicontainer.engine.config import ContainerConfig, HostConfig

_LONGEST_HOSTNAME = 64  # sethostname(2)
_HOSTNAME_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
)
_HIGHEST_PING_GROUP = 2**31 - 1  # icmp(7)
# The ids that root inside gets outside with `--userns private`: what adduser(8) gives the first
# user, so that no account of the host is among them.
MAPPED = IdMap(container_id=0, host_id=100_000, size=65_536)

# What each option names in the specification: option, field of HostConfig, namespace.
_NAMESPACE_OPTIONS = (
    ("--net", "network_mode", "network"),
    ("--pid", "pid_mode", "pid"),
    ("--ipc", "ipc_mode", "ipc"),
    ("--uts", "uts_mode", "uts"),
    ("--userns", "userns_mode", "user"),
    ("--cgroupns", "cgroupns_mode", "cgroup"),
)
_NEW = {
    "network": ("none", "bridge", "default", "private"),
    "pid": ("", "private"),
    "ipc": ("", "private", "shareable", "none"),
    "uts": ("", "private"),
    "user": ("private",),
    "cgroup": ("", "private"),
}
_HOSTS = {"user": ("", "host")}
# Another container's users own other files: its layer, and id-mapped mounts, would not fit.
_NOT_JOINED = ("user",)


def make_spec(
    config: ContainerConfig,
    identifier: str,
    directory: str,
    pid_of: Callable[[str, str], int],
    lowers: tuple[str, ...],
    mounts: tuple[Mount, ...] = (),
    etc: str = "",
) -> Spec:
    """Write the specification of a container.

    Args:
        config: what was asked for.
        lowers: the directories below the writable layer, uppermost first.
        identifier: the container's ID.
        directory: the container's own, with the overlay's upper and work directories and etc files.
        pid_of: finds the first process of another container, for `container:NAME`.
        mounts: what the user wants mounted.
        etc: the directory with the files for /etc; "": the container's own.
    Raises:
        InvalidArgument: naming the option and what it should be.
    """
    host = config.host_config
    namespaces = namespaces_for(host, pid_of)
    upper = f"{directory}/upper"
    layers = (upper, *lowers) if os.path.isdir(upper) else lowers
    identity = users.find(config.user, layers, host.group_add)
    caps = security.capabilities_for(host)
    devices, rules = devices_for(host)
    isolated = {namespace.type for namespace in namespaces}
    own_name = NamespaceSpec(type="uts") in namespaces  # a joined namespace keeps its name
    if config.hostname and not own_name:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    mapped = (MAPPED,) if "user" in isolated else ()
    return Spec(
        oci_version=OCI_VERSION,
        root=Root(path="rootfs", readonly=host.readonly_rootfs),
        process=_process(config, identity, caps, identifier),
        hostname=hostname_for(config, identifier) if own_name else None,
        domainname=config.domainname or None if own_name else None,
        mounts=(
            *_root_mounts(lowers, directory, mapped),
            *_system_mounts(host, isolated),
            *_with_etc(mounts, _etc_mounts(etc or directory, host.readonly_rootfs)),
        ),
        annotations={
            **host.annotations,
            **({inputs.WANTS_REAPER: "/sbin/docker-init"} if host.init else {}),
        },
        linux=Linux(
            namespaces=namespaces,
            uid_mappings=mapped,
            gid_mappings=mapped,
            devices=devices,
            cgroups_path=cgroup_of(identifier, host.cgroup_parent),
            resources=limits.resources_for(host, rules),
            sysctl=_sysctls(host, namespaces, mapped),
            masked_paths=security.masked_paths(host),
            readonly_paths=security.readonly_paths(host),
            seccomp=security.seccomp_for(host, caps),
        ),
    )


def cgroup_of(identifier: str, parent: str = "") -> str:
    """Give the path of a container's cgroup.

    Raises:
        InvalidArgument: the parent leads elsewhere.
    """
    if ".." in parent.split("/"):
        raise InvalidArgument(f"invalid cgroup parent {parent!r}: it must not hold '..'")
    return f"/{parent.strip('/') or 'minicontainer'}/{identifier}"


def hostname_for(config: ContainerConfig, identifier: str) -> str:
    """Say how the container calls itself."""
    if config.host_config.uts_mode == "host":
        return os.uname().nodename
    name = config.hostname or identifier[:12]
    if len(name) > _LONGEST_HOSTNAME or set(name) - _HOSTNAME_CHARACTERS:
        raise InvalidArgument(
            f"invalid hostname {name!r}: use letters, digits, -, _ and ., at most "
            f"{_LONGEST_HOSTNAME}"
        )
    return name


def namespaces_for(
    host: HostConfig, pid_of: Callable[[str, str], int]
) -> tuple[NamespaceSpec, ...]:
    """Decide each namespace: new, the host's, another container's, or the one at a path."""
    found = [NamespaceSpec(type="mount")]
    for option, field, kind in _NAMESPACE_OPTIONS:
        mode = getattr(host, field)
        word, colon, rest = mode.partition(":")
        if mode in _NEW[kind]:
            found.append(NamespaceSpec(type=kind))
        elif mode in _HOSTS.get(kind, ("host",)):
            continue
        elif kind in _NOT_JOINED:
            raise InvalidArgument(f"invalid value {mode!r} for {option}: use private or host")
        elif colon and rest and word == "container":
            path = f"/proc/{pid_of(rest, kind)}/ns/{BY_TYPE[kind].link}"
            found.append(NamespaceSpec(type=kind, path=path))
        elif colon and word == "ns" and rest.startswith("/"):
            found.append(NamespaceSpec(type=kind, path=rest))
        elif word == "container" and kind == "network":
            raise InvalidArgument(
                "invalid network mode: invalid container format container:<name|id>"
            )
        elif kind in ("ipc", "pid", "uts"):
            raise InvalidArgument(f"invalid {kind.upper()} mode: {mode}")
        else:
            words = ", ".join(filter(None, (*_NEW[kind], "host")))
            raise InvalidArgument(
                f"invalid value {mode!r} for {option}: use {words}, container:NAME or ns:PATH"
            )
    return tuple(found)


def _process(
    config: ContainerConfig, identity: users.Identity, caps: tuple[str, ...], identifier: str
) -> Process:
    host = config.host_config
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute "
            "path"
        )
    options = security.options_of(host)
    # With the primary group among them, as Docker: without it, a set-group-ID program could leave
    # that group, and with it a file mode that keeps the group out (CVE-2022-36109).
    groups = tuple(dict.fromkeys((identity.gid, *identity.groups)))
    own = caps if identity.uid == 0 else ()  # another user has what its programs' files grant
    return Process(
        args=(*(config.entrypoint or ()), *config.cmd),
        cwd=config.working_dir or "/",
        env=environment_for(config, identifier),
        user=User(uid=identity.uid, gid=identity.gid, additional_gids=groups),
        terminal=config.tty,
        console_size=_console_size(host),
        capabilities=Capabilities(bounding=caps, effective=own, permitted=own),
        rlimits=tuple(_rlimit(limit.name, limit.soft, limit.hard) for limit in host.ulimits),
        no_new_privileges=options.no_new_privileges,
        apparmor_profile=options.apparmor or None,
        oom_score_adj=_oom_score(host.oom_score_adj),
    )


def exec_process(
    config: ContainerConfig,
    identifier: str,
    directory: str,
    lowers: tuple[str, ...],
    body: dict[str, Any],
) -> Process:
    """Describe a program that `exec` starts in a container.

    Args:
        body: Docker's ExecConfig: Cmd, Env, User, WorkingDir, Privileged, Tty.
    """
    user = body.get("User") or ""
    roots = (f"{directory}/upper", *lowers)
    groups = () if user else config.host_config.group_add
    identity = users.find(user or config.user, roots, groups)
    privileged = body.get("Privileged") or config.host_config.privileged
    caps = capabilities.NAMES if privileged else security.capabilities_for(config.host_config)
    changed = config.replace(
        cmd=tuple(body["Cmd"]),
        entrypoint=None,
        env=(*config.env, *(body.get("Env") or ())),
        working_dir=body.get("WorkingDir") or config.working_dir,
        tty=bool(body.get("Tty")),
        host_config=config.host_config.replace(console_size=()),
    )
    return _process(changed, identity, caps, identifier)


def _oom_score(score: int) -> int | None:
    if not -1000 <= score <= 1000:
        raise InvalidArgument(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
    return score or None


def _console_size(host: HostConfig) -> ConsoleSize | None:
    """Read Docker's pair: height, width; nothing, or zeros, where there is no terminal."""
    if not any(host.console_size):
        return None
    height, width = host.console_size
    return ConsoleSize(height=height, width=width)


def environment_for(config: ContainerConfig, identifier: str) -> tuple[str, ...]:
    """Give Docker's variables, overridden by the user's own; HOME is left to the runtime."""
    items = [
        *defaults.ENVIRONMENT,
        f"HOSTNAME={hostname_for(config, identifier)}",
        *(["TERM=xterm"] if config.tty else []),
        *config.env,
    ]
    named = {item.partition("=")[0]: item for item in items}
    return tuple(item for item in named.values() if "=" in item)  # a bare name takes one away


def _rlimit(name: str, soft: int, hard: int) -> Rlimit:
    kind = f"RLIMIT_{name.upper()}"
    if kind not in RLIMITS:
        known = ", ".join(sorted(limit[7:].lower() for limit in RLIMITS))
        raise InvalidArgument(f"invalid ulimit type: {name}: use one of {known}")
    if min(soft, hard) < -1:
        raise InvalidArgument(f"ulimit {name}: use 0 or more, or -1 for no limit")
    if hard != -1 and (soft > hard or soft == -1):
        raise InvalidArgument(
            f"ulimit {name}: soft limit must be at most the hard limit: {soft} > {hard}"
        )
    soft, hard = (RLIMIT_INFINITY if value == -1 else value for value in (soft, hard))
    return Rlimit(type=kind, soft=soft, hard=hard)


def _sysctls(
    host: HostConfig, namespaces: tuple[NamespaceSpec, ...], mapped: tuple[IdMap, ...]
) -> dict[str, str]:
    """Let every user of a new network namespace ping, and listen on ports below 1024, as Docker.

    Both are privileges over a network; here it is the container's own.
    """
    if NamespaceSpec(type="network") not in namespaces:
        return dict(host.sysctls)
    highest = min((_HIGHEST_PING_GROUP, *(ids.size - 1 for ids in mapped)))
    return {
        "net.ipv4.ping_group_range": f"0 {highest}",
        "net.ipv4.ip_unprivileged_port_start": "0",
        **host.sysctls,
    }


def _root_mounts(
    lowers: tuple[str, ...], directory: str, mapped: tuple[IdMap, ...]
) -> tuple[Mount, ...]:
    """Lay a writable layer over the image, which stays as it is."""
    upper, work = f"{directory}/upper", f"{directory}/work"
    below: tuple[Mount, ...] = ()
    words: tuple[str, ...] = ()
    shown = Mount(destination="/", type="bind", options=("bind",))
    if mapped:
        shown = shown.replace(uid_mappings=mapped, gid_mappings=mapped)
    if lowers == (upper,):
        return (shown.replace(source=upper),)  # a plain copy of all files
    if mapped:
        # The image's owners, as the user namespace knows them: each layer as an id-mapped mount,
        # one upon the other where the root will be, and there the overlay finds them.
        below = tuple(shown.replace(source=lower) for lower in reversed(lowers))
        lowers = (os.path.join(directory, "rootfs"),) * len(lowers)
        words = ("userxattr",)  # trusted.* attributes are the host root's
    options = Overlay(lowers=lowers, upper=upper, work=work, words=words).options()
    return (*below, Mount(destination="/", type="overlay", source="overlay", options=options))


def _system_mounts(host: HostConfig, isolated: set[str]) -> tuple[Mount, ...]:
    found = []
    writable = ("sysfs", "cgroup") if host.privileged else ()
    if security.options_of(host).writable_cgroups:
        writable = (*writable, "cgroup")
    for mount in defaults.MOUNTS:
        if mount.type in writable:
            options = tuple(word for word in mount.options if word != "ro")
            found.append(mount.replace(options=options))
        elif mount.type == "proc" and "user" in isolated and "pid" not in isolated:
            # proc shows a PID namespace; only who owns that may mount it
            options = ("rbind", *mount.options)
            found.append(mount.replace(type="bind", source="/proc", options=options))
        elif mount.type == "sysfs" and "user" in isolated and "network" not in isolated:
            # sysfs shows a network namespace; only who owns that may mount it
            options = ("rbind", *mount.options, "rro")
            found.append(mount.replace(type="bind", source="/sys", options=options))
        elif mount.type == "mqueue" and "user" in isolated and "ipc" not in isolated:
            continue  # who does not own the IPC namespace can't mount its queues
        elif mount.destination == "/dev/shm" and "ipc" not in isolated:
            found.append(mount.replace(type="bind", source="/dev/shm", options=("rbind",)))
        elif mount.destination == "/dev/shm" and host.ipc_mode == "none":
            continue
        elif mount.destination == "/dev/shm" and host.shm_size:
            kept = tuple(word for word in mount.options if not word.startswith("size="))
            found.append(mount.replace(options=(*kept, f"size={host.shm_size}")))
        else:
            found.append(mount)
    return tuple(found)


def _with_etc(mounts: tuple[Mount, ...], etc: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Add the container's own files for /etc: on a volume for /etc, and not where the user has one.

    Args:
        mounts: the user's, outer directories before inner ones.
    """
    taken = {mount.destination for mount in mounts}
    own = (mount for mount in etc if mount.destination not in taken)
    return tuple(sorted((*own, *mounts), key=lambda mount: mount.destination.count("/")))


def _etc_mounts(directory: str, read_only: bool) -> tuple[Mount, ...]:
    options = ("bind", "ro") if read_only else ("bind",)
    return tuple(
        Mount(
            destination=f"/etc/{name}", type="bind", source=f"{directory}/{name}", options=options
        )
        for name in ("resolv.conf", "hostname", "hosts")
    )
