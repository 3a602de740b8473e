"""The words of a mount's options: one table, and a parser that sorts them by the call they are for.

See: mount(8), mount_setattr(2), fsconfig(2); runtime-spec config.md "Linux mount options".
"""

from __future__ import annotations

from minicontainer.kernel.mounts import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    Attributes,
)
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Option(Record):
    """A word of a mount's options, and its effect: one row of the table.

    Args:
        set, clear: attributes of this mount, MOUNT_ATTR_… bits.
        filesystem: the flag that it sets on the filesystem itself, by fsconfig(2).
        takes_back: such a flag of an earlier word, which it removes.
        propagation: MS_PRIVATE and the like, with MS_REC for a whole tree.
        bind: MS_BIND, or MS_BIND|MS_REC.
        runtime: no call takes it; the code that makes the mount reads it.
        locks: a less privileged mount namespace finds its attribute locked: mount_namespaces(7).
    """

    set: int = 0
    clear: int = 0
    filesystem: str = ""
    takes_back: str = ""
    propagation: int = 0
    bind: int = 0
    runtime: bool = False
    locks: bool = True


_ATTRIBUTES = {
    "ro": Option(set=MOUNT_ATTR_RDONLY, filesystem="ro"),
    "rw": Option(clear=MOUNT_ATTR_RDONLY, takes_back="ro"),
    "nosuid": Option(set=MOUNT_ATTR_NOSUID),
    "suid": Option(clear=MOUNT_ATTR_NOSUID),
    "nodev": Option(set=MOUNT_ATTR_NODEV),
    "dev": Option(clear=MOUNT_ATTR_NODEV),
    "noexec": Option(set=MOUNT_ATTR_NOEXEC),
    "exec": Option(clear=MOUNT_ATTR_NOEXEC),
    "nodiratime": Option(set=MOUNT_ATTR_NODIRATIME),
    "diratime": Option(clear=MOUNT_ATTR_NODIRATIME),
    "nosymfollow": Option(set=MOUNT_ATTR_NOSYMFOLLOW, locks=False),
    "symfollow": Option(clear=MOUNT_ATTR_NOSYMFOLLOW),
    # To set one of these, the whole field must be cleared: mount_setattr(2).
    "noatime": Option(set=MOUNT_ATTR_NOATIME, clear=MOUNT_ATTR__ATIME),
    "strictatime": Option(set=MOUNT_ATTR_STRICTATIME, clear=MOUNT_ATTR__ATIME),
    "relatime": Option(clear=MOUNT_ATTR__ATIME),
    "atime": Option(clear=MOUNT_ATTR__ATIME),
    "norelatime": Option(clear=MOUNT_ATTR__ATIME),
    "nostrictatime": Option(clear=MOUNT_ATTR__ATIME),
}
OPTIONS = {
    **_ATTRIBUTES,
    "bind": Option(bind=MS_BIND),
    "rbind": Option(bind=MS_BIND | MS_REC),
    "sync": Option(filesystem="sync"),
    "async": Option(takes_back="sync"),
    "dirsync": Option(filesystem="dirsync"),
    "nodirsync": Option(takes_back="dirsync"),
    "lazytime": Option(filesystem="lazytime"),
    "nolazytime": Option(takes_back="lazytime"),
    "mand": Option(filesystem="mand"),
    "nomand": Option(takes_back="mand"),
    "private": Option(propagation=MS_PRIVATE),
    "rprivate": Option(propagation=MS_PRIVATE | MS_REC),
    "slave": Option(propagation=MS_SLAVE),
    "rslave": Option(propagation=MS_SLAVE | MS_REC),
    "shared": Option(propagation=MS_SHARED),
    "rshared": Option(propagation=MS_SHARED | MS_REC),
    "unbindable": Option(propagation=MS_UNBINDABLE),
    "runbindable": Option(propagation=MS_UNBINDABLE | MS_REC),
    "remount": Option(runtime=True),
    "tmpcopyup": Option(runtime=True),
    "idmap": Option(runtime=True),
    "ridmap": Option(runtime=True),
    "src-nofollow": Option(runtime=True),
    "src-nosymlinks": Option(runtime=True),
    "dest-nofollow": Option(runtime=True),
    "copy-symlink": Option(runtime=True),
    # mount(8) knows these words, and they do nothing: the kernel's default, its log, a counter that
    # filesystems keep anyway.
    "defaults": Option(),
    "silent": Option(),
    "loud": Option(),
    "iversion": Option(),
    "noiversion": Option(),
}
# The bits for times of access; then the bits of all other attributes.
TIMES = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME


def _bits(options: Iterable[Option]) -> int:
    bits = 0
    for option in options:
        bits |= option.set & ~TIMES
    return bits


ATTRIBUTES = _bits(_ATTRIBUTES.values())
NEVER_LOCKED = _bits(option for option in _ATTRIBUTES.values() if not option.locks)
# rro, rnosuid, …: the same attribute for a whole tree of mounts, by mount_setattr(AT_RECURSIVE)
RECURSIVE_OPTIONS = {f"r{word}": option for word, option in _ATTRIBUTES.items()}


class Options(Record):
    """The options of one mount, sorted by the call that takes them.

    Args:
        attributes: of this mount; recursive: of every mount in its tree.
        flags, data: for the filesystem: words, and key=value pairs.
        propagation: MS_… values, in order.
        bind: 0, MS_BIND or MS_BIND|MS_REC.
        asked: words for the code that makes the mount: remount, idmap, ….
    """

    attributes: Attributes = Attributes()
    recursive: Attributes = Attributes()
    flags: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    propagation: tuple[int, ...] = ()
    bind: int = 0
    asked: tuple[str, ...] = ()


_MOST_KEPT = 256  # an engine checks the options of each container, which name its directories
_parsed: dict[tuple[tuple[str, ...], str | None], Options] = {}


def parse_options(words: tuple[str, ...], fstype: str | None = None) -> Options:
    """Sort the words of a mount's options; unknown ones belong to the filesystem.

    Results are kept: the parent and init both need them, and init inherits the parent's.

    Args:
        words: as in the specification.
        fstype: the mount's type; `bind` or `rbind` there means the same as the word.
    """
    asked = words, fstype
    found = _parsed.get(asked)
    if found is None:
        if len(_parsed) >= _MOST_KEPT:
            _parsed.clear()
        found = _parsed[asked] = _parse(words, fstype)
    return found


def _parse(words: tuple[str, ...], fstype: str | None) -> Options:
    attributes = recursive = Attributes()
    flags: list[str] = []
    data: list[str] = []
    propagation: list[int] = []
    asked: list[str] = []
    bind = OPTIONS[fstype].bind if fstype in ("bind", "rbind") else 0
    for word in words:
        option = OPTIONS.get(word)
        if option is None and word in RECURSIVE_OPTIONS:
            option = RECURSIVE_OPTIONS[word]
            recursive = recursive.then(option.set, option.clear)
            continue
        if option is None:
            data.append(word)
            continue
        attributes = attributes.then(option.set, option.clear)
        bind |= option.bind
        flags = [flag for flag in flags if flag != option.takes_back]
        flags += filter(None, (option.filesystem,))
        propagation += filter(None, (option.propagation,))
        asked += (word,) if option.runtime else ()
    return Options(
        attributes=attributes,
        recursive=recursive,
        flags=tuple(flags),
        data=tuple(data),
        propagation=tuple(propagation),
        bind=bind,
        asked=tuple(asked),
    )
