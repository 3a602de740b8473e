"""What this host permits, by trying it: namespaces, mounts, filters, links, rules.

Each attempt is made in a child, in namespaces of its own (`kernel/trial.py`). As an ordinary user
it is made in a user namespace: what works there is what a rootless container can have.
"""

from __future__ import annotations

import errno
import os
import struct

from minicontainer.engine import programs
from minicontainer.errors import Error, KernelError
from minicontainer.kernel import (
    capabilities,
    files,
    mounts,
    namespaces,
    process,
    seccomp,
    seccomp_compiler,
    trial,
)
from minicontainer.kernel.namespaces import IdMap
from minicontainer.network import nat
from minicontainer.network.links import Links
from minicontainer.record import Record
from minicontainer.runtime.config.spec import Mount
from minicontainer.runtime.config.spec_linux import Linux
from minicontainer.runtime.parent import idmaps, interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.kernel.namespaces import Namespace

    # an error to what the user reads: what was found, and how to mend it
    Explain = Callable[[Error], tuple[str, str]]


class Finding(Record):
    """One thing that a host has, or lacks.

    Args:
        name: of the thing.
        ok: it is there, and works.
        needed: a container with the default options does not run without it.
        found: what was seen.
        fix: how to get what is missing; "" where nothing is, or nothing helps.
    """

    name: str
    ok: bool
    needed: bool = True
    found: str
    fix: str = ""


# What keeps an ordinary user from making a user namespace: the sysctl, the value that does, the
# one that does not. Debian's patch, Ubuntu's AppArmor (which lets the namespace be made, but with
# no capability in it), and the kernel's own limit.
_USER_NAMESPACE_SYSCTLS = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "10000"),
)
_KERNEL_OPTIONS = {"mount": "NAMESPACES", "network": "NET_NS", "cgroup": "CGROUPS"}
_NOBODY = 65534
HOSTS_ROOT = "run as the host's root; in an outer container, start that with --privileged"
_RETURN, _ALLOW = 0x06, 0x7FFF0000  # BPF_RET|BPF_K, SECCOMP_RET_ALLOW: linux/seccomp.h


def read_sysctl(name: str) -> str:
    """Read a kernel parameter; "" if this kernel has none of that name."""
    try:
        return files.read_file("/proc/sys/" + name.replace(".", "/")).strip()
    except KernelError:
        return ""


def all_tried(data_root: str) -> Iterator[Finding]:
    """Try everything, in the order in which a container's start needs it.

    Args:
        data_root: where containers are kept: its filesystem must know id-mapped mounts.
    """
    for kind in namespaces.NAMESPACES:
        yield try_namespace(kind)
    yield try_ordinary_user()
    yield _tried("overlay", _overlay, _why_no_overlay)
    yield _tried("id-mapped mounts", lambda: _idmap(data_root), _why_no_idmap, needed=False)
    yield try_interpreter()
    yield _tried("seccomp", _seccomp_filter, _why_no_seccomp)
    yield _tried("libseccomp", _libseccomp, lambda error: (str(error), "apt install libseccomp2"))
    yield _tried("bridge and veth", _bridge_and_veth, _why_no_links)
    yield try_nftables()


def _tried(name: str, act: Callable[[], str], explain: Explain, *, needed: bool = True) -> Finding:
    try:
        return Finding(name=name, ok=True, needed=needed, found=trial.in_child(act))
    except Error as error:
        found, fix = explain(error)
        return Finding(name=name, ok=False, needed=needed, found=found, fix=fix)


# ---- namespaces


def try_namespace(kind: Namespace) -> Finding:
    """Make a namespace of this kind."""

    def act() -> str:
        trial.become_root_inside()
        where = "" if os.getuid() == 0 and is_hosts_root() else ", in a user namespace"
        return f"a new one was made: {trial.new_namespace(kind)}{where}"

    return _tried(
        f"{kind.type} namespace",
        act,
        lambda error: _why_no_namespace(error, kind),
        needed=not kind.optional,
    )


def try_ordinary_user() -> Finding:
    """Let an ordinary user make a user namespace, and use it."""

    limit = read_sysctl("user.max_user_namespaces")  # each namespace has its own, so read it here

    def act() -> str:
        # to the host, the root of a user namespace is an ordinary user already
        if os.geteuid() == 0 and is_hosts_root():
            process.set_groups(())
            process.set_gid(_NOBODY)
            process.set_uid(_NOBODY)
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        # AppArmor forbids not the namespace, but to do anything in it
        trial.new_namespace(namespaces.BY_TYPE["mount"])
        return f"permitted, {limit} of them"

    return _tried(
        "user namespaces for ordinary users",
        act,
        lambda error: _why_forbidden(error, ordinary=True),
        needed=False,
    )


def is_hosts_root() -> bool:
    """Say whether user 0 here is user 0 of the host: its map is the whole range."""
    return files.read_file("/proc/self/uid_map").split() == ["0", "0", "4294967295"]


def _why_no_namespace(error: Error, kind: Namespace) -> tuple[str, str]:
    if getattr(error, "errno", 0) == errno.EINVAL:
        option = _KERNEL_OPTIONS.get(kind.type, f"{kind.type.upper()}_NS")
        return "this kernel has none", f"use a kernel with CONFIG_{option}"
    return _why_forbidden(error)


def _why_forbidden(error: Error, *, ordinary: bool = False) -> tuple[str, str]:
    """Find what keeps this process from what was tried.

    Args:
        ordinary: it was tried as an ordinary user, whoever this process is.
    """
    code, refused = getattr(error, "errno", 0), _short(error)
    if code == errno.ENOSPC:
        return _why_no_more()
    if code not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        return refused, ""
    if ordinary or os.geteuid() != 0:
        for name, forbids, permits in _USER_NAMESPACE_SYSCTLS:
            if read_sysctl(name) == forbids:
                return f"{refused}: {name} is {forbids}", f"sysctl -w {name}={permits}"
    elif not capabilities.holds("CAP_SYS_ADMIN"):
        return f"{refused}: CAP_SYS_ADMIN is missing", HOSTS_ROOT
    elif not is_hosts_root():
        return f"{refused}: this is the root of a user namespace", HOSTS_ROOT
    if _filtered():
        return (
            f"{refused}: the seccomp filter that this process is under may forbid it",
            "start the outer container with --security-opt seccomp=unconfined",
        )
    return refused, "see what the kernel's log says (dmesg): a security module may forbid it"


def _why_no_more() -> tuple[str, str]:
    """Find the limit on namespaces that was reached: ENOSPC does not tell which."""
    limits = [f"user.max_{kind.link}_namespaces" for kind in namespaces.NAMESPACES]
    for limit in limits:
        if read_sysctl(limit) == "0":
            return f"{limit} is 0: none may be made", f"sysctl -w {limit}=10000"
    return (
        f"a limit on namespaces is reached, here or in an outer one: {', '.join(limits)}",
        "raise it, by sysctl -w",
    )


def _filtered() -> bool:
    """Say whether this process is under a seccomp filter: `Seccomp: 2`, proc_pid_status(5)."""
    status = files.read_file("/proc/self/status").splitlines()
    return any(line.split() == ["Seccomp:", "2"] for line in status)


def _short(error: Error) -> str:
    """Tell of an error without the arguments of its call, which mean nothing to a user here."""
    if isinstance(error, KernelError):
        return f"{str(error.filename).partition('(')[0]}: {error.strerror}"
    return str(error)


# ---- mounts


def _overlay() -> str:
    trial.become_root_inside()
    trial.mount_overlay()
    return "mounted, and written through"


def _why_no_overlay(error: Error) -> tuple[str, str]:
    if getattr(error, "errno", 0) == errno.ENODEV:
        return "this kernel has no overlay filesystem, or has not loaded it", "modprobe overlay"
    return _why_forbidden(error)


def _idmap(data_root: str) -> str:
    place = data_root
    while not os.path.isdir(place):
        place = os.path.dirname(place) or "/"
    ids = (IdMap(container_id=0, host_id=100000, size=1),)
    os.close(
        idmaps.open_mount(
            Mount(
                destination="/", type="bind", source=place, options=("bind",),
                uid_mappings=ids, gid_mappings=ids,
            ),
            Linux(),
        )
    )  # fmt: skip
    return f"made, of {place}"


def _why_no_idmap(error: Error) -> tuple[str, str]:
    if os.geteuid() != 0:
        return "only root may make one", ""
    if getattr(error, "errno", 0) == errno.EINVAL:
        return (
            "the data directory's filesystem does not know them",
            "put --data-root on ext4, xfs, btrfs or tmpfs: --userns private needs it",
        )
    return _why_forbidden(error)


def try_interpreter() -> Finding:
    """See whether containers can be kept from overwriting the interpreter that starts them."""
    name = "protected interpreter"
    if interpreter.is_protected():
        return Finding(name=name, ok=True, found="this one is on a read-only mount")
    if os.geteuid() != 0:
        found = "an ordinary user's container can't reach it: it is in a user namespace"
        return Finding(name=name, ok=True, found=found)

    def act() -> str:
        path = os.readlink("/proc/self/exe")
        tree = mounts.open_tree(path)
        mounts.mount_setattr(tree, mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY))
        if not os.fstatvfs(tree).f_flag & os.ST_RDONLY:
            raise KernelError(errno.EINVAL, "the mount stays writable", "mount_setattr")
        return f"{path} can be mounted read-only: `minicontainer run` does so"

    return _tried(name, act, _why_forbidden)


# ---- filters of system calls


def _seccomp_filter() -> str:
    process.forbid_new_privileges()  # then an ordinary user may load one as well
    seccomp.load(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW), 0)
    return "a filter was loaded"


def _why_no_seccomp(error: Error) -> tuple[str, str]:
    if getattr(error, "errno", 0) in (errno.ENOSYS, errno.EINVAL) and not _filtered():
        return "this kernel has none", "use a kernel with CONFIG_SECCOMP_FILTER"
    return _why_forbidden(error)


def _libseccomp() -> str:
    rule = seccomp.SyscallRule(names=("reboot",), action="SCMP_ACT_ERRNO")
    profile = seccomp.Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(rule,))
    return f"compiles a profile, to {len(seccomp_compiler.compile_profile(profile))} bytes"


# ---- network


def _own_network() -> None:
    trial.become_root_inside()
    namespaces.unshare(namespaces.CLONE_NEWNET)


def _bridge_and_veth() -> str:
    _own_network()
    with Links() as links:
        links.add_bridge("bridge0", "02:00:00:00:00:01")
        here = namespaces.open_namespace("/proc/self/ns/net", namespaces.BY_TYPE["network"])
        links.add_veth("veth0", "veth1", "02:00:00:00:00:02", here)
        made = {link.name: link for link in links.all()}
        links.attach(made["veth0"], made["bridge0"])
    return "a pair was made, one end on a bridge"


def _why_no_links(error: Error) -> tuple[str, str]:
    if isinstance(error, KernelError):
        return _why_forbidden(error)
    return "this kernel has no such links, or has not loaded them", "modprobe -a bridge veth"


def try_nftables() -> Finding:
    """Have the very rules taken that a container's network needs."""
    nft = programs.find("nft")
    if nft is None:
        return Finding(
            name="nftables", ok=False, found="nft is not installed", fix="apt install nftables"
        )

    def act() -> str:
        from ipaddress import IPv4Network  # 10 ms, which `minicontainer version` need not wait for

        _own_network()
        nat.write_rules("bridge0", IPv4Network("192.0.2.0/24"))
        return f"{nft}; the kernel takes rules that translate addresses"

    return _tried("nftables", act, _why_no_rules)


def _why_no_rules(error: Error) -> tuple[str, str]:
    if isinstance(error, KernelError):  # there was no network namespace to try it in
        return _why_forbidden(error)
    return str(error), "modprobe -a nf_tables nft_ct nft_masq"
