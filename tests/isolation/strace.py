"""What strace(1) saw, put into the form of events.

strace knows nothing of minicontainer: it stops the processes at each system call and writes down
what the kernel was asked and what it answered. Here a call is read from that text, sorted out if it
changes no kernel state, and shaped as `steps.note` would tell of it. `call_of` shapes an event so.

What counts as kernel state: namespaces, mounts, ids, capabilities, limits, filters, sessions,
signals, links, processes, and what is made or written in /proc, in a cgroup file system or in the
container's root. What does not: reading and opening; a process's own memory, descriptors,
directory, umask and signal handlers; a terminal's size and modes; and the command's plain files
below its data and exec roots, which `ls` shows as well.
"""

from __future__ import annotations

import ast
import errno
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from minicontainer.event import Event
from minicontainer.kernel import namespaces

# Every system call by which the kernel's state can change, as said above, on any path through the
# engine that one could think of: also those that it does not make today.
TRACED = (
    "clone", "clone3", "fork", "unshare", "setns", "execve", "execveat", "chroot", "pivot_root",
    "mount", "umount2", "fsopen", "fspick", "fsconfig", "fsmount", "open_tree", "move_mount",
    "mount_setattr", "sethostname", "setdomainname", "setuid", "setgid", "setreuid", "setregid",
    "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "capset", "prctl", "seccomp",
    "prlimit64", "setrlimit", "setpriority", "sched_setaffinity", "sched_setscheduler",
    "sched_setattr", "ioprio_set", "set_mempolicy", "personality", "bpf", "ioctl", "keyctl",
    "setsid", "setpgid", "syncfs", "kill", "tkill", "tgkill", "pidfd_send_signal",
    "mknod", "mknodat", "mkdir", "mkdirat", "rmdir", "unlink",
    "unlinkat", "symlink", "symlinkat", "link", "linkat", "rename", "renameat", "renameat2",
    "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "setxattr",
    "fsetxattr", "lsetxattr", "write", "pwrite64", "writev", "sendto", "sendmsg",
)  # fmt: skip
# Whether a netlink request succeeded is in the kernel's answer.
ANSWERS = ("recvfrom", "recvmsg")

_WRITES = {"write", "pwrite64", "writev"}
_FILES = {*TRACED[TRACED.index("mknod") : TRACED.index("write")]}
_STATE_DIRECTORIES = ("/proc/", "/sys/")
_STATE_FILE = re.compile(r"/proc/|/sys/|/\d+/")  # the last in a procfs that is mounted nowhere
_OPEN_TREE_CLONE = 0x1
_CLONE_THREAD = 0x10000
_CLONE_VFORK = 0x4000
_BPF_CHANGES = {"BPF_PROG_LOAD", "BPF_PROG_ATTACH", "BPF_PROG_DETACH"}
_PRCTL_CHANGES = ("PR_SET_", "PR_CAPBSET_DROP", "PR_CAP_AMBIENT")
_IOCTL_CHANGES = ("SIOCS", "TIOCSCTTY", "TIOCSPGRP")
_RTM_BASE, _RTM_GET = 16, 2
_NETLINK_TYPES = {
    16: "RTM_NEWLINK", 17: "RTM_DELLINK", 20: "RTM_NEWADDR", 24: "RTM_NEWROUTE",
}  # fmt: skip


class Call(NamedTuple):
    """A call in the form of an event."""

    name: str
    args: tuple[Any, ...]
    result: int
    errno: int


class Number(int):
    """A number with what strace wrote beside it.

    Args:
        name: of the constant, or of all flags.
        path: of the file behind a descriptor.
    """

    name = ""
    path = ""


_LINE = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<.*>)?(?: (E[A-Z0-9]+) \(.*\)| \(.*\))?$")
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|/\*.*?\*/|<[^<>]*(?:->[^<>]*)?>(?:\(deleted\))?|=>|[][{}(),=|]|[^][{}(),=|"<\s/]+'
)


def read(trace: str, pid: int, *, inside: bool) -> Iterator[Call]:
    """Yield the calls in a process's trace that change kernel state, as events tell them.

    Args:
        trace: what `strace -ff -y -X verbose` wrote for the process *pid*.
        inside: it is a process of the container: then all files that it makes are in its root.
    """
    return (call for _, call in read_numbered(trace.splitlines(), pid, inside=inside))


def read_numbered(lines: list[str], pid: int, *, inside: bool) -> Iterator[tuple[int, Call]]:
    """Yield such calls with the numbers of their lines."""
    for i, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            # signals, the end, also where another process had killed this one, and calls that never
            # came back, or began anew after a signal
            assert line.startswith(("+++", "---", "???(")) or re.search(r" = \?( E|$)", line), line
            continue
        name, text, result, error = found.groups()
        if name in ANSWERS:
            continue
        args = list(_values(_TOKEN.findall(text), ""))
        if _changes_state(name, args, text, inside):
            shaped = _SHAPES.get(name, _as_they_are)(args)
            if name == "write":
                shaped = (_proc_self(shaped[0], pid, inside), *shaped[1:])
            if name in ("sendto", "sendmsg"):
                code = _netlink_answer(text, lines[i + 1 :])
                yield i, Call(_netlink_type(text), shaped, -1 if code else 0, code)
            else:
                code = getattr(errno, error) if error else 0
                yield i, Call(_RENAMED.get(name, name), shaped, int(result), code)


def _values(tokens: list[str], end: str) -> Iterator[Any]:
    """Read values, up to a closing bracket: numbers, strings, None, lists, dictionaries."""
    while tokens and tokens[0] != end:
        token = tokens.pop(0)
        if token in (",", "=>", "|") or token.startswith("/*"):
            continue
        if tokens and tokens[0] == "=":
            tokens.pop(0)
            yield token, _value(tokens.pop(0), tokens)
        else:
            yield _value(token, tokens)
    del tokens[:1]


def _value(token: str, tokens: list[str]) -> Any:
    if token == "{":
        fields: dict[str, Any] = {}
        for field in _values(tokens, "}"):
            if isinstance(field, tuple):
                fields[field[0]] = field[1]
            else:  # the higher word of a capability set, written LOWER|HIGHER
                fields["higher " + [*fields][-1]] = field
        return fields
    if token == "[":
        return tuple(_values(tokens, "]"))
    if token.startswith('"'):
        return os.fsdecode(ast.literal_eval(f"b{token}"))
    if token == "makedev":
        tokens.pop(0)
        return os.makedev(*_values(tokens, ")"))
    if not re.match(r"-?\d", token):
        return None if token == "NULL" else token
    octal = re.fullmatch(r"0\d+", token)
    number = Number(int(token, 8 if octal else 0))
    while tokens and tokens[0].startswith(("/*", "<")):
        beside = tokens.pop(0)
        if beside.startswith("<"):
            number.path = beside.removesuffix("(deleted)")[1:-1]
        else:
            number.name = beside[2:-2].strip()
    return number


def _changes_state(name: str, args: list[Any], text: str, inside: bool) -> bool:
    """Say whether a call is one that an event must tell of; see the top of this file."""
    match name:
        case "clone" | "clone3":
            # not threads of a library, nor programs that one asks for something (posix_spawn(3))
            return not _clone_flags(args) & (_CLONE_THREAD | _CLONE_VFORK)
        case "open_tree":
            return bool(args[2] & _OPEN_TREE_CLONE)  # else it opens a place
        case "prctl":
            option = _name(args[0])  # PR_SET_VMA names memory
            return option.startswith(_PRCTL_CHANGES) and option != "PR_SET_VMA"
        case "prlimit64":
            return args[2] is not None
        case "seccomp":
            # with NULL for the filter it is libseccomp, asking which flags the kernel knows
            return _name(args[0]) == "SECCOMP_SET_MODE_FILTER" and args[2] is not None
        case "bpf":
            return _name(args[0]) in _BPF_CHANGES
        case "ioctl":
            return _name(args[1]).startswith(_IOCTL_CHANGES)
        case "sendto" | "sendmsg":
            return bool(_netlink_type(text))
        case _ if name in _FILES:
            return inside or _place(args).startswith(_STATE_DIRECTORIES)
        case _:
            return name not in _WRITES or bool(_STATE_FILE.match(args[0].path))


def _name(arg: object) -> str:
    return arg.name if isinstance(arg, Number) else ""


def _place(args: list[Any]) -> str:
    """Find the file that a call is about: by path, by descriptor, or by both."""
    names = [arg.path if isinstance(arg, Number) else arg for arg in args]
    return os.path.join(*(name for name in names if isinstance(name, str)))


def _clone_flags(args: list[Any]) -> int:
    fields = args[0] if isinstance(args[0], dict) else dict(a for a in args if isinstance(a, tuple))
    flags = fields["flags"]
    return flags if isinstance(flags, int) else 0


def _netlink_type(text: str) -> str:
    """Name a request that changes something, "" for others.

    By its number: strace knows the protocol only of sockets in its own network namespace.
    """
    found = re.search(r"nlmsg_type=(0x[0-9a-f]+)", text)
    kind = int(found[1], 16) if found else 0
    if kind < _RTM_BASE or kind % 4 == _RTM_GET:
        return ""
    return _NETLINK_TYPES.get(kind, f"netlink message {kind}")


def _as_they_are(args: list[Any]) -> tuple[Any, ...]:
    return tuple(_fields(arg) if isinstance(arg, dict) else arg for arg in args)


def _proc_self(path: str, pid: int, inside: bool) -> str:
    """Name a file of /proc as events do: by `self`, and as if its instance were mounted there."""
    path = path.replace(f"/proc/{pid}/", "/proc/self/")
    if inside:  # its number there is another
        path = re.sub(r"^/\d+/", "/proc/self/", path)
    path = re.sub(r"^/(?=\d+/)", "/proc/", path)
    return re.sub(r"^/sys/(?=(net|kernel|fs/mqueue|user)/)", "/proc/sys/", path)


def _bits(words: tuple[int, ...]) -> list[int]:
    return [
        bit
        for i, word in enumerate(words)
        for bit in range(64 * i, 64 * i + 64)
        if word >> bit - 64 * i & 1
    ]


def _fields(structure: dict[str, Any]) -> dict[str, int]:
    """Give the fields that are numbers and not 0, as an event does."""
    return {name: value for name, value in structure.items() if isinstance(value, int) and value}


def _netlink_answer(request: str, later: list[str]) -> int:
    """Give the error that the kernel answered a request with, or 0."""
    (number,) = re.findall(r"nlmsg_seq=(\d+)", request)
    pattern = re.compile(rf"recv\w+\(.*nlmsg_type=0x2 .*nlmsg_seq={number},.*{{error=-?(\w+)")
    found = next(filter(None, map(pattern.match, later)), None)
    if found is None:  # none was asked for
        return 0
    return int(found[1]) if found[1].isdigit() else int(getattr(errno, found[1]))


def _prctl(args: list[Any]) -> tuple[Any, ...]:
    """Name options, signals and capabilities; leave out what is 0 in the end."""
    named = [
        arg.name if isinstance(arg, Number) and arg.name.startswith(("PR_", "SIG", "CAP_")) else arg
        for arg in args
    ]
    while named[-1] == 0:
        named.pop()
    return tuple(named)


def _ioctl(args: list[Any]) -> tuple[Any, ...]:
    """Give the request, and then what it is about: a link's name, or a terminal and its group."""
    fd, request, about = args
    if isinstance(about, dict):
        return request.name, about["ifr_name"]
    return request.name, fd, *(about if isinstance(about, tuple) else ())


def _capset(args: list[Any]) -> tuple[Any, ...]:
    """Split each set into two words, as the structure has them."""
    header, sets = args
    words = {
        f"{kind.removeprefix('higher ')}{int(kind.startswith('higher '))}": word
        for kind, word in sets.items()
    }
    return _fields(header), _fields(words)


# How an event tells of a call, where it does not list the very arguments.
_RENAMED = {"clone": "fork"}
_SHAPES: dict[str, Callable[[list[Any]], tuple[Any, ...]]] = {
    "clone": lambda args: (),
    "clone3": lambda args: (_clone_flags(args),),
    "write": lambda args: (args[0].path, args[1]),
    "ioprio_set": lambda args: tuple(args[:3]),  # what the third is made of comes after it
    "set_mempolicy": lambda args: (args[0], ",".join(map(str, _bits(args[1])))),
    "sched_setaffinity": lambda args: (args[0],),
    "prctl": _prctl,
    "capset": _capset,
    "prlimit64": lambda args: (args[0], args[1].name, *args[2].values()),
    "ioctl": _ioctl,
    "setgroups": lambda args: (args[1] or (),),
    "execve": lambda args: (args[0], args[1], f"{args[2].name.split()[0]} variables"),
    "mknodat": lambda args: (*args, 0)[:4],  # the device is shown where there can be one
    "sendto": lambda args: (),
    "sendmsg": lambda args: (),
}


# -- events --------------------------------------------------------------------------------------


def call_of(event: Event) -> Call:
    """Put an event into the same form."""
    args: list[Any] = [_plain(arg) for arg in event.args]
    if event.call == "clone3":
        args = [sum(getattr(namespaces, name) for name in str(args[0]).split("|"))]
    elif event.call == "prlimit64":
        args[2:] = [value % 2**64 for value in args[2:]]
    elif event.call == "sched_setaffinity":
        args = args[:1]  # a mask there, a list here
    elif event.call == "prctl":
        while args[-1] == 0:
            args.pop()
    elif event.call == "bpf":
        args[1].pop("license", None)  # an address here, the text there
    elif event.call.startswith("RTM_"):
        args = []  # told in iproute2's words; tests/network looks at what they do
    return Call(event.call, tuple(args), event.result or 0, event.errno)


def _plain(value: Any) -> Any:
    """Read the text of a structure, as an event has it; leave other values."""
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        pairs = (pair.split("=") for pair in value[1:-1].split(", ") if pair)
        return {name: int(number) for name, number in pairs}
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value
