"""Overlay mounts: several directories shown as one; only the uppermost is written to.

mount(2) takes all of it in one option string: `lowerdir=/b:/a,upperdir=/u,workdir=/w`. The string
can have 4095 bytes, and a colon, comma or backslash in a name must be escaped. Linux 6.7 takes each
directory by a call of its own instead, without either limit: by its name, or since Linux 6.13 by a
descriptor. A descriptor costs two more calls, so it serves only for names over 255 bytes. On an
older kernel, a string that would be too long names descriptors too, by their links in /proc.

See: overlayfs.rst in the kernel's documentation; fsconfig(2).
"""

from __future__ import annotations

import errno
import os

from minicontainer import steps
from minicontainer.contexts import ExitStack
from minicontainer.errors import InvalidArgument, KernelError, shortened
from minicontainer.kernel import files, libc, mounts
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FSCONFIG_SET_FD = 5
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_BY_PARTS = (errno.EINVAL, errno.ENOSYS, errno.EBADF)
_LONGEST_STRING = 255  # bytes of one value of fsconfig(2)


class Overlay(Record):
    """The parts of an overlay.

    Args:
        lowers: the directories that are only read, the uppermost first.
        upper: takes every write;  work: an empty directory of the same filesystem; both "" for a
            read-only overlay.
        words: all other options: userxattr, metacopy=on, ….
    """

    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""
    words: tuple[str, ...] = ()

    def options(self) -> tuple[str, ...]:
        """Return the overlay as mount options, as in a config.json."""
        found = [f"lowerdir={':'.join(_escaped(path, ':') for path in self.lowers)}"]
        if self.upper:
            found += [f"upperdir={_escaped(self.upper)}", f"workdir={_escaped(self.work)}"]
        return (*found, *self.words)


def parse(options: Iterable[str]) -> Overlay | None:
    """Parse the result of `Overlay.options`.

    Returns:
        None for other options, such as layers of data alone (`lowerdir=a::b`).
    """
    found: dict[str, str] = {}
    words = []
    for word in options:
        key, _, value = word.partition("=")
        if key in ("lowerdir", "upperdir", "workdir"):
            found[key] = value
        else:
            words.append(word)
    lowers = _split(found.get("lowerdir", ""))
    if not all(lowers):
        return None
    return Overlay(
        lowers=tuple(lowers),
        upper=_unescaped(found.get("upperdir", "")),
        work=_unescaped(found.get("workdir", "")),
        words=tuple(words),
    )


def mount(overlay: Overlay, place: int, *, where: str, source: str = "overlay") -> int:
    """Mount an overlay.

    Args:
        place: a descriptor of the directory to mount on.
        where: that directory's path.
        source: the device that mountinfo will show.
    Returns:
        A descriptor of the mount's root.
    Raises:
        KernelError: ENODEV (no such filesystem), EPERM, EINVAL (such as an upper directory on a
            filesystem that can't have one), ENOENT.
        InvalidArgument: more directories than the kernel takes.
    """
    shell = None  # 0.2 ms for many layers
    if steps.listening():
        shell = f"mount -t overlay -o {' -o '.join(overlay.options())} {source} {where}"
    made = _by_parts(overlay, source)
    if made < 0:
        _by_old_call(overlay, source, place, where, shell)
        return _opened(where)
    try:
        mounts.move_mount(made, place, where=where, shell=shell)
    except KernelError:
        os.close(made)
        raise
    return made


def _by_parts(overlay: Overlay, source: str) -> int:
    """Make a detached mount by fsconfig(2); return -1 if the kernel does not take parts."""
    with ExitStack() as stack:
        try:
            context = libc.call("fsopen", "overlay", mounts.FSOPEN_CLOEXEC)
        except KernelError as error:
            if error.errno == errno.ENOSYS:
                return -1
            raise
        stack.callback(os.close, context)
        libc.call("fsconfig", context, mounts.FSCONFIG_SET_STRING, "source", source, 0)
        keys = [("lowerdir+", path) for path in overlay.lowers]
        if overlay.upper:
            keys += [("upperdir", overlay.upper), ("workdir", overlay.work)]
        for number, (key, path) in enumerate(keys):
            # the kernel removes backslashes from all names but those of `lowerdir+`
            name = path if key == "lowerdir+" else path.replace("\\", "\\\\")
            is_short = len(os.fsencode(name)) <= _LONGEST_STRING
            try:
                if is_short:
                    libc.call("fsconfig", context, mounts.FSCONFIG_SET_STRING, key, name, 0)
                else:
                    with files.opened(_opened(path)) as fd:
                        libc.call("fsconfig", context, FSCONFIG_SET_FD, key, None, fd)
            except KernelError as error:
                if error.errno in _NOT_BY_PARTS and (number == 0 or not is_short):
                    return -1
                os.close(_opened(path))  # if that is what fails, its error says more
                raise mounts.told_by(context, error) from None
        return mounts.finish_filesystem(context, overlay.words)
    return -1


def _by_old_call(overlay: Overlay, source: str, place: int, where: str, shell: str | None) -> None:
    """Mount by mount(2), with the directories' own names if they fit."""
    with ExitStack() as stack:

        def link(path: str) -> str:
            fd = _opened(path)
            stack.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        data = ",".join(overlay.options())
        if len(os.fsencode(data)) > mounts.LONGEST_DATA:
            by_links = overlay.replace(
                lowers=tuple(map(link, overlay.lowers)),
                upper=overlay.upper and link(overlay.upper),
                work=overlay.work and link(overlay.work),
            )
            data = ",".join(by_links.options())
        if len(os.fsencode(data)) > mounts.LONGEST_DATA:
            raise InvalidArgument(
                f"an overlay of {len(overlay.lowers)} layers is more than this kernel can mount"
            )
        target = f"/proc/self/fd/{place}"
        mounts.mount(source, target, "overlay", 0, data, where=where, shell=shell)


def _opened(path: str) -> int:
    try:
        return os.open(path, _DIRECTORY)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"open({shortened(path)})") from None


def _escaped(path: str, more: str = "") -> str:
    for special in f"\\,{more}":
        path = path.replace(special, f"\\{special}")
    return path


def _unescaped(text: str) -> str:
    return _split(text, "")[0]


def _split(text: str, separator: str = ":") -> list[str]:
    """Split at each separator without a backslash before it; remove the backslashes."""
    parts = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            parts[-1] += next(characters, "")
        elif character == separator:
            parts.append("")
        else:
            parts[-1] += character
    return parts
