"""rtnetlink, through pyroute2: a socket, and requests whose refusals look like those of system
calls.

`import pyroute2` takes 100 to 190 ms, whichever of its modules is named, since its package imports
all of them. So it is imported inside the functions: a command without a socket does not pay for it.

See: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.contexts import contextmanager
from minicontainer.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def open_socket() -> Any:
    """Open a socket in the network namespace that this thread is in; the socket stays in it.

    Only this thread may use it: pyroute2 would open another one in another thread.
    """
    from pyroute2 import IPRoute  # 100 ms

    # No groups: this reads answers to requests, and not the kernel's broadcasts.
    return IPRoute(groups=0)


@contextmanager
def named(told: str) -> Iterator[None]:
    """Turn the kernel's refusal of a request into a KernelError.

    Args:
        told: the request's name in the error.
    """
    from pyroute2 import NetlinkError  # loaded with the socket

    try:
        yield
    except NetlinkError as error:
        raise KernelError(error.code, os.strerror(error.code), told) from None


def change(
    call: str, args: tuple[object, ...], name: str, shell: str, request: Callable[[], object]
) -> None:
    """Send one request that changes the link *name*, and note it.

    Args:
        call, args: the message's type, RTM_NEWLINK and so on, and its contents.
        shell: the iproute2 command that sends the same.
        request: sends it.
    Raises:
        KernelError: EPERM, EEXIST, ENODEV, …
    """
    result, number = 0, 0
    try:
        with named(f"{call}({', '.join(map(str, args))})"):
            request()
    except KernelError as error:
        result, number = -1, error.errno or 0
        raise
    finally:
        steps.note(call, args, result, number, object=f"link:{name}", shell=shell)
