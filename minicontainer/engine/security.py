"""What a container may do: capabilities, `--security-opt`, hidden paths of /proc and /sys.

See: `docker run` reference, "Runtime privilege and Linux capabilities", "Security configuration".
"""

from __future__ import annotations

import os

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument
from minicontainer.kernel import capabilities
from minicontainer.kernel.seccomp import ArgRule, Seccomp, SyscallRule
from minicontainer.kernel.security import has_apparmor
from minicontainer.record import Record
from minicontainer.runtime.config import defaults, seccomp_profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.config import HostConfig

_UNCONFINED = "unconfined"


class Options(Record):
    """What `--security-opt` says.

    Args:
        seccomp: "" for the default profile, "unconfined", or a profile as JSON.
        apparmor: a profile's name; "" for none.
        no_new_privileges: execve(2) never grants more.
        system_paths: paths of /proc and /sys are hidden; False with systempaths=unconfined.
        writable_cgroups: the container's processes may make groups below its own.
    """

    seccomp: str = ""
    apparmor: str = ""
    no_new_privileges: bool = False
    system_paths: bool = True
    writable_cgroups: bool = False


def options_of(host: HostConfig) -> Options:
    """Read `--security-opt`.

    Raises:
        InvalidArgument: in Docker's words.
    """
    found = Options()
    for text in host.security_opt:
        separator = "=" if "=" in text else ":"
        name, given, value = text.partition(separator)
        if name == "no-new-privileges":
            found = found.replace(no_new_privileges=_flag(text, value) if given else True)
        elif name == "seccomp" and value:
            found = found.replace(seccomp="" if value in ("builtin", "default") else value)
        elif name == "apparmor" and value:
            found = found.replace(apparmor="" if value == _UNCONFINED else value)
            if found.apparmor and not has_apparmor():
                raise InvalidArgument(f"invalid --security-opt: {text}: this host has no AppArmor")
        elif name == "systempaths" and value == _UNCONFINED:
            found = found.replace(system_paths=False)
        elif name == "label" and value == "disable":
            continue  # nothing labels processes here
        elif name == "writable-cgroups" and (not given or value in ("true", "false")):
            found = found.replace(writable_cgroups=value != "false")
        elif name == "label" and value:
            raise InvalidArgument(f"invalid --security-opt: {text}: not supported on this host")
        else:
            raise InvalidArgument(f'invalid --security-opt 2: "{text}"')
    return found


def _flag(text: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise InvalidArgument(f"invalid --security-opt: {text!r}: use true or false")
    return value.lower() in ("true", "1")


def masked_paths(host: HostConfig) -> tuple[str, ...]:
    """Give the paths that the container must not see."""
    if host.masked_paths is not None:
        return host.masked_paths
    hidden = not host.privileged and options_of(host).system_paths
    return defaults.MASKED_PATHS if hidden else ()


def readonly_paths(host: HostConfig) -> tuple[str, ...]:
    """Give the paths that the container must not write."""
    if host.readonly_paths is not None:
        return host.readonly_paths
    hidden = not host.privileged and options_of(host).system_paths
    return defaults.READONLY_PATHS if hidden else ()


def capabilities_for(host: HostConfig) -> tuple[str, ...]:
    """Decide the capabilities: Docker's 14, and what `--cap-add` and `--cap-drop` say.

    Raises:
        InvalidArgument: a name that capabilities(7) does not have.
    """
    added = [_capability(name, "CapAdd") for name in host.cap_add]
    dropped = [_capability(name, "CapDrop") for name in host.cap_drop]
    if host.privileged:
        return capabilities.NAMES
    wanted = set(defaults.CAPABILITIES)
    if "ALL" in dropped:
        wanted.clear()
    if "ALL" in added:
        wanted.update(capabilities.NAMES)
    wanted.update(added)
    wanted.difference_update(dropped)
    return tuple(name for name in capabilities.NAMES if name in wanted)


def _capability(text: str, field: str) -> str:
    name = text.upper()
    if name == "ALL":
        return name
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in capabilities.BITS:
        raise InvalidArgument(f'invalid {field}: unknown capability: "{name}"')
    return name


# --- seccomp ------------------------------------------------------------------------------------


def seccomp_for(host: HostConfig, caps: tuple[str, ...]) -> Seccomp | None:
    """Decide the filter of system calls; None for none.

    Raises:
        InvalidArgument: the profile is no JSON, or makes no sense.
    """
    asked = options_of(host).seccomp
    if asked == _UNCONFINED or (host.privileged and not asked):
        return None
    if not asked:
        return seccomp_profile.default_profile(caps)
    try:
        document = jsontext.parse(asked)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from None
    return _Profile.from_json(document, "seccomp").for_container(caps)


class _Condition(Record):
    """When a rule counts: capabilities, machines, and the oldest kernel."""

    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = ""


class _Rule(Record):
    """A rule of Docker's profile format."""

    names: tuple[str, ...] = ()
    name: str = ""
    action: str
    errno_ret: int | None = None
    args: tuple[ArgRule, ...] = ()
    includes: _Condition = _Condition()
    excludes: _Condition = _Condition()


class _Machine(Record):
    """A machine's architectures, as libseccomp names them."""

    architecture: str
    sub_architectures: tuple[str, ...] = ()


class _Profile(Record):
    """Docker's profile format: OCI's, with rules that depend on the container.

    See: Docker's "Seccomp security profiles for Docker".
    """

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    arch_map: tuple[_Machine, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[_Rule, ...] = ()

    def for_container(self, caps: tuple[str, ...]) -> Seccomp:
        """Keep the rules that count for a container with these capabilities."""
        own = f"SCMP_ARCH_{os.uname().machine.upper()}"
        mapped = next((one for one in self.arch_map if one.architecture == own), None)
        added = (mapped.architecture, *mapped.sub_architectures) if mapped else ()
        return Seccomp(
            default_action=self.default_action,
            default_errno_ret=self.default_errno_ret,
            architectures=self.architectures or added,
            flags=self.flags,
            listener_path=self.listener_path,
            listener_metadata=self.listener_metadata,
            syscalls=tuple(
                SyscallRule(
                    names=rule.names or (rule.name,),
                    action=rule.action,
                    errno_ret=rule.errno_ret,
                    args=rule.args,
                )
                for rule in self.syscalls
                if _counts(rule, caps)
            ),
        )


_MACHINE_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def _counts(rule: _Rule, caps: tuple[str, ...]) -> bool:
    machine = os.uname().machine
    names = (machine, _MACHINE_NAMES.get(machine, machine))
    wanted, unwanted = rule.includes, rule.excludes
    if wanted.arches and not set(names) & set(wanted.arches):
        return False
    if set(names) & set(unwanted.arches):
        return False
    if not set(wanted.caps) <= set(caps) or set(unwanted.caps) & set(caps):
        return False
    kernel = _version(os.uname().release)
    if wanted.min_kernel and kernel < _version(wanted.min_kernel):
        return False
    return not (unwanted.min_kernel and kernel >= _version(unwanted.min_kernel))


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int(minor or 0)
