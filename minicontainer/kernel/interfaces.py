"""Network interfaces by ioctl(2): the one change that every container needs, without netlink.

See: netdevice(7).
"""

from __future__ import annotations

import fcntl
import os
import struct

from minicontainer import steps
from minicontainer.errors import KernelError
from minicontainer.kernel import libc

_AF_INET = 2
_SOCK_DGRAM = 2
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = "16sH22x"  # struct ifreq: the name, and the flags from the union


def set_up(name: str) -> None:
    """Bring up an interface of this network namespace.

    Raises:
        KernelError: ENODEV if there is no such interface, EPERM without CAP_NET_ADMIN.
    """
    sock = libc.quiet_call("socket", _AF_INET, _SOCK_DGRAM | os.O_CLOEXEC, 0)
    try:
        asked = struct.pack(_IFREQ, name.encode(), 0)
        _, flags = struct.unpack(_IFREQ, fcntl.ioctl(sock, _SIOCGIFFLAGS, asked))
        wanted = struct.pack(_IFREQ, name.encode(), flags | _IFF_UP)
        steps.noted(
            "ioctl", ("SIOCSIFFLAGS", name), lambda: fcntl.ioctl(sock, _SIOCSIFFLAGS, wanted),
            object=f"link:{name}", before="up" if flags & _IFF_UP else "down", after="up",
            shell=f"ip link set {name} up",
        )  # fmt: skip
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"ioctl(SIOCSIFFLAGS, {name})") from None
    finally:
        os.close(sock)
