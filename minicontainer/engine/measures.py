"""What a container has of the host, measured: one function for each thing.

Each gets the process ID of the container's first process, looks at it through /proc, and says what
is open to the container; "" where it is contained.

See: `probes` for the table of them; namespaces(7), capabilities(7), proc(5).
"""

from __future__ import annotations

import errno
import os

from minicontainer.cgroups import hierarchies
from minicontainer.kernel import capabilities, files, namespaces, signals
from minicontainer.kernel.procfs import lines_of, read_of, status_of
from minicontainer.runtime.config import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _status(pid: int, field: str) -> str:
    return status_of(pid).get(field, "")


def _shares(pid: int, kind: str) -> bool:
    """Say whether a container is in the same namespace as the engine."""
    link = namespaces.BY_TYPE[kind].link
    return os.readlink(f"/proc/{pid}/ns/{link}") == os.readlink(f"/proc/self/ns/{link}")


def some(items: list[str], what: str) -> str:
    """Count items and name the first few."""
    named = ", ".join(items[:4]) + (", …" if len(items) > 4 else "")
    return f"{what} ({len(items)}): {named}" if items else ""


def host_processes(pid: int) -> str:
    """Look into /proc as the container has it mounted."""
    try:
        seen = [name for name in os.listdir(f"/proc/{pid}/root/proc") if name.isdecimal()]
    except OSError:  # its image has no /proc
        seen = []
    if not _shares(pid, "pid"):
        return ""
    names: dict[str, bool] = {}  # whether it is one of the kernel's own threads
    for number in seen:
        try:
            name = f"{read_of(int(number), 'comm').strip()} {number}"
            names[name] = not read_of(int(number), "cmdline")
        except OSError:  # it has ended
            continue
    return some(sorted(names, key=lambda name: names[name]), "processes of the host")


def may_signal(pid: int) -> str:
    """Say whether it may send signals: kill(2) asks for CAP_KILL, or for the same user."""
    if not _shares(pid, "pid"):
        return ""
    holds_kill = "CAP_KILL" in capabilities.names_in(_after_execve(pid))
    if holds_kill and _shares(pid, "user"):
        return "it may send SIGKILL to every process of the host"
    user = _status(pid, "Uid").split()[0]
    return f"it may send SIGKILL to the host's processes of user: {user}"


def links(pid: int) -> str:
    """Find the host's network links: /proc/PID/net shows those of its namespace."""
    names = [line.partition(":")[0].strip() for line in lines_of(pid, "net/dev")[2:]]
    return some(names, "links of the host") if _shares(pid, "network") else ""


def abstract_sockets(pid: int) -> str:
    """Find abstract unix sockets: no file stands for them, only their namespace hides them."""
    if not _shares(pid, "network"):
        return ""
    fields = (line.split() for line in lines_of(pid, "net/unix")[1:])
    names = sorted({words[7] for words in fields if len(words) > 7 and words[7].startswith("@")})
    return some(names, "abstract sockets of the host") or "abstract sockets of the host: none now"


def shared_memory(pid: int) -> str:
    """Look into /dev/shm as the container has it: is it the host's file system?"""
    inside = f"/proc/{pid}/root/dev/shm"
    if not os.path.isdir(inside) or os.stat(inside).st_dev != os.stat("/dev/shm").st_dev:
        return ""
    names = sorted(os.listdir(inside))
    return some(names, "files of the host in /dev/shm") or "files of the host in /dev/shm: none now"


def system_v(pid: int) -> str:
    """Count the shared memory segments of the host: only an IPC namespace hides them."""
    if not _shares(pid, "ipc"):
        return ""
    with open("/proc/sysvipc/shm", encoding="utf-8") as file:
        count = len(file.read().splitlines()) - 1
    return f"shared memory segments of the host: {count}"


def hostname(pid: int) -> str:
    """Read the name in the UTS namespace, where that is the host's."""
    return f"the host's name: {os.uname().nodename}" if _shares(pid, "uts") else ""


def cgroup_tree(pid: int) -> str:
    """Read where the container sees itself in the host's tree of cgroups."""
    if not _shares(pid, "cgroup"):
        return ""
    paths = [line.split(":", 2)[2] for line in lines_of(pid, "cgroup")]
    return f"where it is in the host's tree of cgroups: {max(paths, key=len)}"


def user_ids(pid: int) -> str:
    """Say whether root inside is root outside: uid_map has the answer."""
    maps = [line.split() for line in lines_of(pid, "uid_map")]
    same = any(inside == outside == "0" for inside, outside, _ in maps)
    return "user 0 inside is user 0 of the host: every file that it reaches is its own" * same


def limit_of(*names: str, host: Callable[[], str]) -> Callable[[int], str]:
    """Make a probe that reads control files of the cgroup: the first one that is there.

    Args:
        host: says how much the host has.
    """

    def look(pid: int) -> str:
        found = limits_of(pid, names)
        bounded = {name: value for name, value in found.items() if not value.startswith("max")}
        if found and not bounded:
            return f"no limit but the host's own: {host()}"
        return ""

    return look


def memory_of_host() -> str:
    """Say how much memory the host has."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        return f"{int(file.readline().split()[1]) / 2**20:.1f} GiB"


def processors_of_host() -> str:
    """Count the processors of the host."""
    return str(os.cpu_count())


def processes_of_host() -> str:
    """Read how many processes there can be on the host."""
    with open("/proc/sys/kernel/pid_max", encoding="utf-8") as file:
        return file.read().strip()


def limits_of(pid: int, names: tuple[str, ...]) -> dict[str, str]:
    """Read control files of a process's cgroups, where they are there; no limit reads "max".

    Args:
        names: of the files.
    """
    seen = hierarchies.parse(read_of(os.getpid(), "mountinfo"), read_of(pid, "cgroup"))
    found = {}
    for hierarchy in (*seen.v1, *filter(None, (seen.unified,))):
        group = hierarchy.mount_point.rstrip("/") + hierarchy.own_below_mount().rstrip("/")
        there = set(os.listdir(group)) if os.path.isdir(group) else set()
        for name in names:
            if name in there:
                with open(f"{group}/{name}", encoding="utf-8") as file:
                    text = "; ".join(file.read().strip().splitlines())
                # what v1 has for no limit: -1, or the largest number of pages
                found[name] = "max" if text in ("9223372036854771712", "-1") else text
    return found


def extra_capabilities(pid: int) -> str:
    """Name the program's capabilities beyond Docker's fourteen."""
    held = capabilities.names_in(_after_execve(pid))
    return some([name for name in held if name not in defaults.CAPABILITIES], "more capabilities")


def _after_execve(pid: int) -> int:
    """Work out what the program will hold: execve(2) is still to come, and changes the sets.

    See: capabilities(7) "Capabilities and execution of programs by root".
    """
    kinds = ("CapInh", "CapPrm", "CapBnd", "CapAmb", "CapEff")
    inherited, permitted, bound, ambient, _ = (int(_status(pid, kind), 16) for kind in kinds)
    if _status(pid, "Uid").split()[0] != _inner_root(pid):
        return ambient
    granted = inherited | bound
    return granted & permitted if _status(pid, "NoNewPrivs") == "1" else granted


def _inner_root(pid: int) -> str:
    """Give the host's number of user 0 in the container."""
    maps = (line.split() for line in lines_of(pid, "uid_map"))
    return next((outside for inside, outside, _ in maps if inside == "0"), "")


def unfiltered(pid: int) -> str:
    """Say whether no filter stands before the system calls."""
    return "every system call reaches the kernel" if _status(pid, "Seccomp") == "0" else ""


def hidden_paths(pid: int) -> str:
    """Find paths that a mask would cover: it is a mount, of /dev/null or an empty directory."""
    lines = lines_of(pid, "mountinfo")
    covered = {hierarchies.unescaped(line.split(" ")[4]) for line in lines}
    found = [
        path
        for path in defaults.MASKED_PATHS
        if path not in covered and os.path.exists(f"/proc/{pid}/root{path}")
    ]
    return some(found, "paths that are hidden otherwise")


def writable_paths(pid: int) -> str:
    """Find paths of /proc that are read-only otherwise."""
    found = []
    for path in defaults.READONLY_PATHS:
        try:
            flags = os.statvfs(f"/proc/{pid}/root{path}").f_flag
        except OSError:
            continue
        if not flags & os.ST_RDONLY:
            found.append(path)
    return some(found, "paths that can be written")


def kernel_log(pid: int) -> str:
    """Say whether syslog(2) answers: it asks for CAP_SYSLOG where the log is restricted."""
    holds = "CAP_SYSLOG" in capabilities.names_in(_after_execve(pid))
    return "it can read the kernel's log" if holds and _shares(pid, "user") else ""


def device_list(pid: int) -> str:
    """Read the allow-list of devices back from the cgroup."""
    found = limits_of(pid, ("devices.list",))
    if not found:
        raise OSError(errno.ENOTSUP, "on cgroup v2 the list is a program, which can't be read back")
    if not found["devices.list"].startswith("a *:* rwm"):
        return ""
    disks = some(
        sorted(os.listdir("/sys/block"), key=lambda name: name.startswith("loop")), "disks"
    )
    return f"every device of the host may be made and opened: {disks}"


def bounding_set(pid: int) -> str:
    """Name what a program file could grant beyond Docker's fourteen capabilities."""
    bound = capabilities.names_in(int(_status(pid, "CapBnd"), 16))
    more = [name for name in bound if name not in defaults.CAPABILITIES]
    return some(more, "more capabilities that the program, or a program file, could get")


def own_cgroup(pid: int) -> str:
    """Find the hierarchies of cgroup v1 in which the first process is where the engine is."""
    own, its = (set(lines_of(number, "cgroup")) for number in (os.getpid(), pid))
    same = sorted(line.split(":")[1] for line in own & its if not line.startswith("0::"))
    return some(same, "cgroups of the engine, where no limit of the container holds")


def ignored_signals(pid: int) -> str:
    """Name the signals that execve(2) will leave ignored."""
    mask = int(_status(pid, "SigIgn"), 16)
    names = [name for name, number in signals.NUMBERS.items() if mask >> number - 1 & 1]
    return some(names, "signals that the program ignores")


def session(pid: int) -> str:
    """Find the leader of its session, where that is another process."""
    leader = int(read_of(pid, "stat").rpartition(")")[2].split()[3])
    return "" if leader == pid else f"its session is that of a process of the host: {leader}"


def unmounted(pid: int) -> str:
    """Find what every container has mounted, and this one lacks."""
    lines = lines_of(pid, "mountinfo")
    there = {hierarchies.unescaped(line.split(" ")[4]) for line in lines}
    gone = [path for path in ("/proc", "/sys", "/dev") if path not in there]
    return some(gone, "not mounted")


def root_is_writable(pid: int) -> str:
    """Say whether the root's mount may be written to."""
    writable = not os.statvfs(f"/proc/{pid}/root/").f_flag & os.ST_RDONLY
    return "the root can be written" if writable else ""


def kept_name(pid: int) -> str:
    """Enter the UTS namespace, and compare its name with the host's."""
    kind = namespaces.BY_TYPE["uts"]
    fd = namespaces.open_namespace(f"/proc/{pid}/ns/uts", kind)
    with files.opened(fd), namespaces.in_namespace(fd, kind):
        name = os.uname().nodename
    return f"its name is the host's: {name}" if name == os.uname().nodename else ""


def loopback(pid: int) -> str:
    """Say whether lo is down: only when it is up does its address have a route."""
    up = "127.0.0.1" in read_of(pid, "net/fib_trie")
    return "" if up else "lo is down: nothing answers at 127.0.0.1"


def new_privileges(pid: int) -> str:
    """Say whether execve(2) may grant privileges."""
    may = _status(pid, "NoNewPrivs") == "0"
    return "a set-user-id program of the image can still gain privileges" if may else ""


def kept_user(pid: int) -> str:
    """Say whether it is still user 0."""
    user = _status(pid, "Uid").split()[0]
    return f"it runs as user: {user}" if user == "0" else ""


def peer_mounts(pid: int) -> str:
    """Find mounts that pass what is mounted below them on to the host's copy."""
    own = _groups_of_peers(os.getpid())
    found = [place for group, place in _groups_of_peers(pid).items() if group in own]
    return some(found, "mounts that are peers of the host's")


def _groups_of_peers(pid: int) -> dict[str, str]:
    found = {}
    for line in lines_of(pid, "mountinfo"):
        words = line.split(" ")
        for word in words[6 : words.index("-")]:
            if word.startswith("shared:"):
                found[word] = hierarchies.unescaped(words[4])
    return found


def host_root(pid: int) -> str:
    """Compare its root directory with the host's."""
    inside, ours = os.stat(f"/proc/{pid}/root/"), os.stat("/")
    if (inside.st_dev, inside.st_ino) != (ours.st_dev, ours.st_ino):
        return ""
    return "its root is the host's: every file of the host, such as /etc/shadow"
