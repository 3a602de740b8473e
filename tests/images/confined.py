"""Runs in a confined process, and says what it can do there."""

from __future__ import annotations

import os
import socket
import sys

from minicontainer.errors import KernelError
from minicontainer.images import confinement
from minicontainer.kernel import capabilities, mounts


def main() -> None:
    """Enter the directory, look around, and tell."""
    directory, talk = map(int, sys.argv[1:3])
    channel = confinement.channel_to_parent(talk)
    confinement.enter(directory)
    sets = capabilities.own_sets()
    try:
        mounts.mount("none", "/", "tmpfs", 0)
        refused = ""
    except KernelError as error:
        refused = error.strerror or ""
    told = {
        "what": "done",
        "root": os.listdir("/"),
        "above": os.listdir("/../.."),
        "capabilities": list(capabilities.names_in(sets["permitted"])),
        "bounding": list(capabilities.names_in(capabilities.own_bounding())),
        "links": [name for _, name in socket.if_nameindex()],
        "mount": refused,
    }
    confinement.tell(channel, told)
    os._exit(0)
