"""Try what this kernel permits, in a child: everything that it made ends with it.

A kernel's version does not tell what a host offers: a part may not be built in, and a sysctl, a
security module or an outer container may forbid it. So the attempt itself is the answer.
Namespaces, and the mounts and links in them, end with their processes.
"""

from __future__ import annotations

import json
import os

from minicontainer.errors import Error, KernelError, Unsupported
from minicontainer.kernel import mounts, namespaces, pidfds, process
from minicontainer.kernel.namespaces import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from minicontainer.kernel.namespaces import Namespace

_PLACE = "/tmp"  # every root file system has it; it is covered in the trial's own mount namespace


def in_child(act: Callable[[], str]) -> str:
    """Call *act* in a forked child, and return its result.

    Args:
        act: may leave behind anything that ends with its process.
    Raises:
        KernelError: a call of *act* failed.
        Unsupported: any other error, or a signal ended the child.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _report(act, writer)
    os.close(writer)
    try:
        with open(reader) as file:
            told = file.read()
    finally:
        status = pidfds.wait_exit(pid)
    if not told:
        raise Unsupported(f"the attempt ended with status {status}, without a message")
    outcome = json.loads(told)
    if "errno" in outcome:
        raise KernelError(outcome["errno"], outcome["text"], outcome["call"])
    if "error" in outcome:
        raise Unsupported(outcome["error"])
    return str(outcome["found"])


def _report(act: Callable[[], str], writer: int) -> NoReturn:
    outcome: dict[str, object]
    try:
        process.die_with_parent()
        outcome = {"found": act()}
    except OSError as error:
        outcome = {"errno": error.errno or 0, "text": error.strerror, "call": error.filename}
    except Error as error:
        outcome = {"error": str(error)}
    except BaseException as error:  # the process ends here
        outcome = {"error": f"{type(error).__name__}: {error}"}
    os.write(writer, json.dumps(outcome).encode())
    os._exit(0)


def become_root_inside() -> None:
    """Enter a new user namespace as its root; root itself stays where it is.

    There an ordinary user may do what only root may do outside: mount, make links.

    Raises:
        KernelError: ordinary users may not make user namespaces here.
    See: user_namespaces(7).
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return
    namespaces.unshare(namespaces.CLONE_NEWUSER)
    namespaces.write_id_maps(
        os.getpid(),
        [IdMap(container_id=0, host_id=uid, size=1)],
        [IdMap(container_id=0, host_id=gid, size=1)],
    )


def new_namespace(kind: Namespace) -> str:
    """Make a namespace, with a process in it for a moment.

    Returns:
        The kernel's name for it, `net:[4026532281]`; "" if this process may not read it.
    Raises:
        KernelError: of clone3(2).
    """
    reader, writer = os.pipe()
    pid, pidfd = namespaces.clone3(kind.flag)
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)  # until the other end closes, at the latest when its process ends
        finally:
            os._exit(0)
    made = namespaces.identity(pid, kind.link)
    for fd in (reader, writer, pidfd):
        os.close(fd)
    os.waitpid(pid, 0)
    return made


def mount_overlay() -> None:
    """Mount an overlay; read a lower file through it, and find a written file in the upper
    directory.

    Raises:
        KernelError: ENODEV without the filesystem, EPERM.
        Unsupported: it mounts, but does not work.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    # before the first mount, or the host would see it
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    mounts.mount("tmpfs", _PLACE, "tmpfs", 0)
    lower, upper, work, merged = (f"{_PLACE}/{name}" for name in ("lower", "upper", "work", "all"))
    for directory in (lower, upper, work, merged):
        os.mkdir(directory)
    os.mkdir(f"{lower}/from-below")
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mounts.mount("overlay", merged, "overlay", 0, layers)
    os.mkdir(f"{merged}/written")
    if os.listdir(upper) != ["written"] or "from-below" not in os.listdir(merged):
        raise Unsupported("an overlay mounts here, but does not join its layers")
