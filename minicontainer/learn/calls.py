"""A call as a reader of the manual pages would write it: names instead of numbers.

An event holds the arguments as the kernel got them. This module knows which of them are flags and
by which constants, which are modes, devices or descriptors, and how a result reads. It is imported
while a start is told, and by a replay on any system, so it does without re and all that is Linux's.
"""

from __future__ import annotations

import stat

from minicontainer import jsontext
from minicontainer.learn import constants
from minicontainer.learn.words import translated, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.event import Event

_SHOWN = 100  # characters of an argument; a mount's options or a program's text can be long
_LONG_ID = 64  # characters of a container's ID;  _SHORT_ID: as Docker prints it
_SHORT_ID = 12
_HEX = "0123456789abcdef"
_SYMBOL = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"
# What no word has, as blanks.
_BLANKS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_NAMESPACE = r"(\w+):\[(\d+)\]"


class Calls:
    """Writes calls, and remembers what the descriptors in them stand for.

    Args:
        lang: of the few words beside them.
    """

    def __init__(self, lang: str = "en") -> None:
        self._lang = lang
        # What is behind the descriptors that the calls of a step gave: {(pid, fd): name}.
        self._open: dict[tuple[int, int], str] = {}

    def forget(self, pid: int = 0) -> None:
        """Forget the descriptors: another step begins, and their numbers are used again.

        Args:
            pid: the process that begins the step; 0 forgets those of all.
        """
        self._open = {key: name for key, name in self._open.items() if pid and key[0] != pid}

    def text(self, event: Event) -> str:
        """Write one call with its arguments and its result; a request is written as it is sent."""
        if " " in event.call:
            return short_ids(translated(event.call, self._lang))
        told = ", ".join(self._argument(event, i) for i in range(len(event.args)))
        self._remember_descriptors(event)
        return f"{shorten(event.call)}({told}){_result(event, self._lang)}"

    def _argument(self, event: Event, place: int) -> str:
        value = event.args[place]
        if place == 0 and isinstance(value, int) and (event.pid, value) in self._open:
            return f"{value}<{self._open[event.pid, value]}>"
        if (event.call, place) == ("move_mount", 2):
            return shorten(f"{value}<{(event.object or '').removeprefix('mount:')}>")
        read = _READERS.get((event.call, place))
        if read is not None and isinstance(value, read[0]):
            return read[1](value)
        if event.call in _SYMBOLIC and isinstance(value, str) and _is_symbol(value):
            return value
        return shorten(_plain(value))

    def _remember_descriptors(self, event: Event) -> None:
        """Know what a descriptor stands for, from the call that gave it to the last that uses it.

        Of others nothing is known here: opening a file is no event.
        """
        if event.errno or event.result is None:
            return
        if event.call in ("fsmount", "move_mount") and isinstance(event.args[0], int):
            name = self._open.pop((event.pid, event.args[0]), "")
            if event.call == "fsmount":
                self._open[event.pid, event.result] = name
        elif event.call == "fsopen":
            self._open[event.pid, event.result] = f"new {event.args[0]}"
        elif event.call == "open_tree" and event.args[1]:
            self._open[event.pid, event.result] = shorten(f"copy of {event.args[1]}")


# -- arguments -----------------------------------------------------------------------------------


def _is_symbol(text: str) -> bool:
    """Say whether a text is the name of a constant, or several with | between them."""
    return text[:1].isalpha() and all(word and not word.strip(_SYMBOL) for word in text.split("|"))


def flag_names(value: int, names: dict[str, int]) -> str:
    """Spell a set of flags by their names; what has none, as a number."""
    return _spelled(value, _most_bits_first(names))


def _most_bits_first(names: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(names.items(), key=lambda item: -item[1].bit_count())


def _spelled(value: int, names: list[tuple[str, int]]) -> str:
    found = []
    for name, bits in names:
        if bits and value & bits == bits:
            found.append(name)
            value &= ~bits
    return "|".join([*found, *([f"{value:#x}"] if value else [])]) or "0"


def _number_name(value: int, names: dict[str, int]) -> str:
    return next((name for name, number in names.items() if number == value), str(value))


def _named(names: dict[str, int], *prefixes: str) -> dict[str, int]:
    return {name: value for name, value in names.items() if name.startswith(prefixes)}


def _mode(value: int) -> str:
    """Spell a mode: S_IFCHR|0666."""
    kinds = {stat.S_IFREG: "S_IFREG|", stat.S_IFCHR: "S_IFCHR|", stat.S_IFBLK: "S_IFBLK|",
             stat.S_IFIFO: "S_IFIFO|"}  # fmt: skip
    return f"{kinds.get(stat.S_IFMT(value), '')}{stat.S_IMODE(value):#05o}".replace("0o", "0")


def _device(value: int) -> str:
    """Spell a device number, which has the major and the minor one in two parts: makedev(3)."""
    major = value >> 8 & 0xFFF | value >> 32 & ~0xFFF
    minor = value & 0xFF | value >> 12 & ~0xFF
    return f"makedev({major}, {minor})" if value else "0"


def _mount_attr(text: str) -> str:
    """Spell the fields of struct mount_attr."""
    fields = dict(_fields(text))
    told = [
        f"{name}={_spelled(fields[name], names)}"
        for name, names in _MOUNT_ATTR.items()
        if name in fields
    ]
    told += [f"userns_fd={fields['userns_fd']}"] if "userns_fd" in fields else []
    return "{" + ", ".join(told) + "}"


def _capability_sets(text: str) -> str:
    """Join the two words of each set, and count what is in it: its names are in the command."""
    sets: dict[str, int] = {"effective": 0, "permitted": 0, "inheritable": 0}
    for name, half in _fields(text):
        sets[name[:-1]] |= half << 32 * int(name[-1])
    told = (f"{kind}={mask.bit_count()} capabilities" for kind, mask in sets.items())
    return "{" + ", ".join(told) + "}"


def _fields(text: str) -> Iterator[tuple[str, int]]:
    for pair in filter(None, text.strip("{}").split(", ")):
        name, _, value = pair.partition("=")
        yield name, int(value)


def _program(text: str) -> str:
    return f"{{{dict(_fields(text)).get('len', 0)} instructions}}"


def _flags(names: dict[str, int]) -> tuple[type, Callable[[int], str]]:
    sorted_names = _most_bits_first(names)
    return int, lambda value: _spelled(value, sorted_names)


def _one_of(names: dict[str, int]) -> tuple[type, Callable[[int], str]]:
    return int, lambda value: _number_name(value, names)


_MOUNT_FLAGS = _named(constants.MOUNTS, "MS_")
_MOUNT_ATTR = {
    "attr_set": _most_bits_first(_named(constants.MOUNTS, "MOUNT_ATTR_")),
    "attr_clr": _most_bits_first(_named(constants.MOUNTS, "MOUNT_ATTR_")),
    "propagation": _most_bits_first(_MOUNT_FLAGS),
}
# How to read an argument: {(call, place): (its type, a reader)}. Others are shown as they are.
_READERS: dict[tuple[str, int], tuple[type, Callable[..., str]]] = {
    ("mount", 3): _flags(_MOUNT_FLAGS),
    ("umount2", 1): _flags(_named(constants.MOUNTS, "MNT_")),
    ("open_tree", 0): _one_of(_named(constants.MOUNTS, "AT_FDCWD")),
    ("open_tree", 2): _flags(_named(constants.MOUNTS, "OPEN_TREE_", "AT_EMPTY", "AT_RECURSIVE")),
    ("move_mount", 4): _flags(_named(constants.MOUNTS, "MOVE_MOUNT_")),
    ("mount_setattr", 2): _flags(_named(constants.MOUNTS, "AT_EMPTY", "AT_RECURSIVE")),
    ("mount_setattr", 3): (str, _mount_attr),
    ("fsopen", 1): _flags(_named(constants.MOUNTS, "FSOPEN_")),
    ("fsconfig", 1): _one_of(
        _named(constants.MOUNTS, "FSCONFIG_") | _named(constants.OVERLAY, "FSCONFIG_")
    ),
    ("fsmount", 1): _flags(_named(constants.MOUNTS, "FSMOUNT_")),
    ("fsmount", 2): _flags(_named(constants.MOUNTS, "MOUNT_ATTR_")),
    ("unshare", 0): _flags(_named(constants.NAMESPACES, "CLONE_")),
    ("setns", 1): _flags(_named(constants.NAMESPACES, "CLONE_")),
    ("mkdir", 1): (int, _mode),
    ("mkdirat", 2): (int, _mode),
    ("mknodat", 2): (int, _mode),
    ("mknodat", 3): (int, _device),
    ("pidfd_send_signal", 1): _one_of(constants.SIGNALS),
    ("seccomp", 0): _one_of(_named(constants.SECCOMP, "SECCOMP_SET_MODE_")),
    ("seccomp", 1): _flags(constants.SECCOMP_FLAGS),
    ("seccomp", 2): (str, _program),
    ("execve", 2): (str, str),
    ("keyctl", 0): _one_of(_named(constants.KEYRING, "KEYCTL_")),
    ("keyctl", 2): (int, hex),
    ("bpf", 0): _one_of(_named(constants.BPF, "BPF_PROG_")),
    ("capset", 0): (str, lambda text: "version 3"),
    ("capset", 1): (str, _capability_sets),
}
# Calls whose events name constants.
_SYMBOLIC = {"clone3", "ioctl", "prctl", "prlimit64"}


def _plain(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, str) and not value.startswith("{"):
        return jsontext.quote(value)
    return str(value)


def short_ids(text: str) -> str:
    """Shorten the container IDs in a text to twelve digits, as Docker prints them."""
    if len(text) < _LONG_ID:
        return text
    parts, place = [], 0
    for piece in text.translate(_BLANKS).split(" "):
        end = place + len(piece)
        is_id = len(piece) == _LONG_ID and not piece.strip(_HEX)
        parts.append(f"{piece[:_SHORT_ID]}…" if is_id else piece)
        parts.append(text[end : end + 1])  # what stood where the blank is
        place = end + 1
    return "".join(parts)


def shorten(text: str) -> str:
    """Shorten ids as Docker does, and what is still too long in its middle: ends tell most."""
    text = short_ids(text)
    half = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[:half]}…{text[-half:]}"


# -- results -------------------------------------------------------------------------------------


def _result(event: Event, lang: str) -> str:
    if event.result is None:
        return f" = ? {word('(it comes back only if it fails)', lang)}"
    if event.errno:
        name, meaning = constants.ERRORS.get(event.errno, (str(event.errno), "unknown error"))
        return f" = -1 {name} ({meaning})"
    return f" = {event.result}"


def changes(event: Event, lang: str = "en") -> Iterator[str]:
    """Say which kernel object was changed, and how; a line for each namespace.

    Args:
        lang: of the few words that are the engine's own: whether an image is here.
    """
    if event.object is None or event.errno:
        return
    import re  # here: a recording does without its 3 ms

    before = dict(re.findall(_NAMESPACE, event.before or ""))
    after = dict(re.findall(_NAMESPACE, event.after or ""))
    if after:
        for kind, number in after.items():
            yield f"ns:{kind}: {before.get(kind, '?')} → {number}"
    elif event.before and event.after and event.before != event.after:
        yield f"{event.object}: {event.before} → {event.after}"
    elif event.after:
        yield f"{event.object}: {new_value(event, lang)}"
    elif not _is_told_by(event.object, event):
        yield event.object


def new_value(event: Event, lang: str) -> str:
    """Give what an object has become: of an image in words, which have a language."""
    after = event.after or ""
    return translated(after, lang) if (event.object or "").startswith("image:") else after


def _is_told_by(name: str, event: Event) -> bool:
    """Say whether a call's arguments, or the command, name the object already."""
    told = (*event.args, *(event.shell or "").split())
    last = name.rpartition(":")[2]
    return any(isinstance(arg, str) and arg.endswith(last) for arg in told)
