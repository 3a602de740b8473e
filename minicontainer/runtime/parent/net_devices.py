"""Network interfaces of the host that move into the container.

On its way into another network namespace, an interface keeps its hardware address and MTU, but
loses its addresses and is switched off: both are restored there. When the namespace ends, the
kernel moves a physical interface back to the first namespace, and deletes a virtual one.

See: runtime-spec config-linux.md "Network Devices"; rtnetlink(7), network_namespaces(7).
"""

from __future__ import annotations

import errno
import os
from functools import partial

from minicontainer.contexts import ExitStack, contextmanager, suppress
from minicontainer.errors import Conflict, Error, InvalidArgument, KernelError, NotFound
from minicontainer.kernel import netlink
from minicontainer.kernel.namespaces import BY_TYPE, in_network, open_namespace
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minicontainer.runtime.config.spec_linux import NetDevice

_IFF_UP = 0x1
_IFA_F_PERMANENT = 0x80
_RT_SCOPE_UNIVERSE = 0
# The parts of an address: pyroute2's keywords, by the attributes that it reads.
_ADDRESS_PARTS = {"address": "IFA_ADDRESS", "local": "IFA_LOCAL", "broadcast": "IFA_BROADCAST"}


class _Device(Record):
    """An interface, as it was on the host.

    Args:
        name: on the host;  new_name: in the container; it may hold %d, which the kernel numbers.
        mac: its hardware address.
        up: whether it was switched on.
        addresses: those of global scope without an end of validity, as RTM_NEWADDR takes them.
    """

    name: str
    new_name: str
    mac: str | None
    up: bool
    addresses: tuple[dict[str, Any], ...]


def move_in(pid: int, devices: dict[str, NetDevice], undo: ExitStack) -> None:
    """Move interfaces of the host into the network namespace of a process, and switch them on.

    Args:
        devices: by their names on the host.
        undo: moves them back when it ends with an exception.
    Raises:
        NotFound: no such interface here.
        Conflict: the namespace has one of that name.
        InvalidArgument: the kernel does not let that one leave its namespace.
    """
    theirs = open_namespace(f"/proc/{pid}/ns/net", BY_TYPE["network"])
    undo.callback(os.close, theirs)
    with _sockets(theirs) as (here, there):
        known = set(_links(there))
        found = [_describe(here, name, device.name or name) for name, device in devices.items()]

        def bring_back(kind: object, *_: object) -> None:
            # an exception; otherwise the container exists, and they belong to it
            if kind is not None:
                _bring_back(found, known, theirs)

        undo.push(bring_back)
        for device in found:
            _carry(device, _find(here, device.name), device.new_name, here, there, theirs)


@contextmanager
def _sockets(theirs: int) -> Iterator[tuple[Any, Any]]:
    """Open two sockets of rtnetlink: in this process's network namespace, and in another."""
    with netlink.open_socket() as here, ExitStack() as stack:
        with in_network(theirs):
            there = stack.enter_context(netlink.open_socket())
        yield here, there


def _links(socket: Any) -> dict[int, Any]:
    return {link["index"]: link for link in socket.get_links()}


def _find(socket: Any, name: str) -> Any:
    found = (x for x in socket.get_links() if x.get_attr("IFLA_IFNAME") == name)
    return next(found, None)


def _describe(here: Any, name: str, new_name: str) -> _Device:
    link = _find(here, name)
    if link is None:
        raise NotFound(f"linux.netDevices.{name}: no such network interface here")
    return _Device(
        name=name,
        new_name=new_name,
        mac=link.get_attr("IFLA_ADDRESS"),
        up=bool(link["flags"] & _IFF_UP),
        addresses=tuple(_addresses(here, link["index"])),
    )


def _addresses(socket: Any, index: int) -> Iterator[dict[str, Any]]:
    for message in socket.get_addr(index=index):
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        if message["scope"] == _RT_SCOPE_UNIVERSE and flags & _IFA_F_PERMANENT:
            parts = {key: message.get_attr(name) for key, name in _ADDRESS_PARTS.items()}
            told = {key: value for key, value in parts.items() if value is not None}
            yield {"family": message["family"], "prefixlen": message["prefixlen"], **told}


def _carry(
    device: _Device,
    link: Any,
    name: str,
    source: Any,
    target: Any,
    target_fd: int,
    *,
    up: bool = True,
) -> None:
    """Move an interface, rename it in the same request, and restore what it lost.

    Args:
        link: the interface, as *source* returned it.
        source, target: sockets in the two namespaces;  target_fd: a descriptor of the second.
        up: switch it on there.
    """
    present = link.get_attr("IFLA_IFNAME")
    before = set(_links(target))
    try:
        netlink.change(
            "RTM_NEWLINK", ("set", present, f"netns={target_fd}", f"name={name}"), present,
            f"ip link set {present} netns /proc/{os.getpid()}/fd/{target_fd} name {name}",
            partial(source.link, "set", index=link["index"], net_ns_fd=target_fd, ifname=name),
        )  # fmt: skip
    except KernelError as error:
        raise _refusal(error, device) from None
    new = (
        index
        for index, found in _links(target).items()
        if index not in before and found.get_attr("IFLA_ADDRESS") == device.mac
    )
    index = next(new, None)
    if index is None:
        raise NotFound(f"linux.netDevices.{device.name}: it was removed meanwhile")
    for address in device.addresses:
        told = f"{address['address']}/{address['prefixlen']}"
        netlink.change(
            "RTM_NEWADDR", (name, told), name, f"ip address add {told} dev {name}",
            partial(target.addr, "add", index=index, **address),
        )  # fmt: skip
    if up:
        netlink.change(
            "RTM_NEWLINK", ("set", name, "up"), name, f"ip link set {name} up",
            partial(target.link, "set", index=index, state="up"),
        )  # fmt: skip


def _bring_back(devices: list[_Device], known: set[int], theirs: int) -> None:
    """Move interfaces back; if one can't, since its name is taken by now, the others still are."""
    ours = open_namespace("/proc/self/ns/net", BY_TYPE["network"])
    try:
        with _sockets(theirs) as (here, there):
            strays = [link for index, link in _links(there).items() if index not in known]
            for device in devices:
                mine = (link for link in strays if link.get_attr("IFLA_ADDRESS") == device.mac)
                link = None if _find(here, device.name) else next(mine, None)
                if link is not None:
                    strays.remove(link)
                    with suppress(Error):
                        _carry(device, link, device.name, there, here, ours, up=device.up)
    finally:
        os.close(ours)


def _refusal(error: KernelError, device: _Device) -> Error:
    """Explain why an interface can't move."""
    where = f"linux.netDevices.{device.name}"
    if error.errno == errno.EEXIST:
        return Conflict(
            f"{where}: the container's network namespace has a {device.new_name} already: choose "
            "another name, or net%d to have it numbered"
        )
    if error.errno == errno.EINVAL:
        return InvalidArgument(f"{where}: this one can't be moved to another network namespace")
    return error
