"""The container's terminal: opened inside; its master is sent to the caller's socket.

See: pty(7); runtime-spec config.md "Process", terminal; CVE-2025-52565, CVE-2026-88264.
"""

from __future__ import annotations

import errno
import os

from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.kernel import files, mounts, paths, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.config.spec_process import Process
    from minicontainer.runtime.inputs import Options

_PTMX = (5, 2)


def open_for(root_fd: int, options: Options, asked: Process, *, shown: bool = True) -> None:
    """Make a terminal the standard streams and the controlling terminal of this process.

    Args:
        root_fd: the container's root, with its devpts mounted at /dev/pts.
        options: names the socket that gets the master, by SCM_RIGHTS.
        asked: the process of the specification: window size, and the user who owns the terminal.
        shown: whether it becomes the container's /dev/console too.
    Raises:
        InvalidArgument: there is no devpts, or no place for /dev/console.
    """
    master = _open_master(root_fd)
    slave = terminal.open_peer(master)
    if asked.console_size is not None:
        terminal.set_window_size(slave, asked.console_size.height, asked.console_size.width)
    if options.plain_lines:
        terminal.keep_newlines(slave)
    # tty(1) and ssh look at the owner; the mode and group came from the devpts mount
    files.change_owner_of(slave, asked.user.uid, -1, where="/dev/console")
    if shown:
        _bind_console(root_fd, slave)
    terminal.send_descriptor(options.console, master, "/dev/ptmx")
    os.close(master)
    options.console.close()
    for number in (0, 1, 2):
        os.dup2(slave, number)
    os.close(slave)
    terminal.become_controlling(0)


def _open_master(root_fd: int) -> int:
    """Open the multiplexer of the container's devpts, and no other device of that name."""
    try:
        master = paths.open_device(root_fd, "/dev/pts/ptmx", *_PTMX)
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        raise InvalidArgument(
            "process.terminal: needs a mount of type devpts at /dev/pts"
        ) from None
    if master is None:
        raise InvalidArgument("process.terminal: /dev/pts/ptmx is not a terminal multiplexer")
    return master


def _bind_console(root_fd: int, slave: int) -> None:
    """Bind the terminal on /dev/console: on a plain file of that name in /dev itself, never through
    a link.

    The source of the bind is the terminal's own descriptor, and not its name under /dev/pts.
    """
    with files.opened(paths.open_in_root(root_fd, "/dev", os.O_PATH | os.O_DIRECTORY)) as dev:
        try:
            place = paths.make_file_in(dev, "console", where="/dev/console")
        except KernelError as error:
            if error.errno != errno.ELOOP:
                raise
            raise InvalidArgument(
                "/dev/console is a symbolic link in the root file system: the terminal is shown "
                "on a real file only"
            ) from None
    with files.opened(place), files.opened(mounts.open_tree(f"/proc/self/fd/{slave}")) as tree:
        mounts.move_mount(tree, place, where="/dev/console")
