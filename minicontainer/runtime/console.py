"""The container's terminal: opened inside, its master sent to whoever asked for it.

See: pty(7); runtime-spec config.md "Process", terminal.
"""

from __future__ import annotations

import os

from minicontainer.kernel import files, mounts, paths, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from minicontainer.runtime.spec_process import Process


def open_for(root_fd: int, sock: socket.socket, asked: Process, *, shown: bool = True) -> None:
    """Make a terminal the standard streams and the controlling terminal of this process.

    Args:
        root_fd: the container's root, with its devpts mounted at /dev/pts.
        sock: where the master goes, by SCM_RIGHTS.
        asked: for the window size and for the user who shall own it.
        shown: whether it is the container's /dev/console too.
    """
    master = paths.open_in_root(root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    slave = terminal.open_peer(master)
    if asked.console_size is not None:
        terminal.set_window_size(slave, asked.console_size.height, asked.console_size.width)
    # tty(1) and ssh look at the owner; the mode and group came from the devpts mount
    files.change_owner_of(slave, asked.user.uid, -1, where="/dev/console")
    if shown:
        _bind_console(root_fd, slave)
    terminal.send_descriptor(sock, master, "/dev/ptmx")
    os.close(master)
    sock.close()
    for number in (0, 1, 2):
        os.dup2(slave, number)
    os.close(slave)
    terminal.become_controlling(0)


def _bind_console(root_fd: int, slave: int) -> None:
    """Show the terminal as /dev/console too, on a file that is no link: CVE-2025-52565."""
    place = paths.make_plain_in_root(root_fd, "/dev/console", directory=False)
    tree = mounts.open_tree(f"/proc/self/fd/{slave}")
    mounts.move_mount(tree, place, where="/dev/console")
    os.close(tree)
    os.close(place)
