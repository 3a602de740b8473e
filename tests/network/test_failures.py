"""What fails is undone, what was killed is coped with, and what is wrong is said."""

from __future__ import annotations

import os
import re
import signal
from tempfile import TemporaryDirectory

import pytest

from minicontainer import steps
from minicontainer.errors import Conflict, KernelError, Unsupported
from minicontainer.event import Event
from minicontainer.kernel.namespaces import in_network
from minicontainer.network import nat, networks

from .conftest import EVENTS_OF_A_CONNECT, ID, OTHER, Host, Make, Netns, names


class Interrupted(Exception):
    """What a test throws in the middle."""


@pytest.mark.parametrize("failing", range(1, EVENTS_OF_A_CONNECT + 1))
def test_when_a_step_fails_what_was_done_is_undone(
    host: Host, container: Netns, failing: int
) -> None:
    """Interrupted after any change to the kernel, a connect leaves host and container clean."""

    def interrupt(event: Event) -> None:
        nonlocal failing
        failing -= 1
        if failing == 0:
            raise Interrupted(event.call)

    before = host.everything()
    with in_network(host.fd):
        steps.listen(interrupt, "engine")
        try:
            with pytest.raises(Interrupted):
                networks.connect(host.network, ID, container.fd, host.state_dir)
        finally:
            steps.listen(None, "engine")
    assert host.everything() == before
    assert names(container) == {"lo"}


@pytest.mark.parametrize("killed_at", range(1, EVENTS_OF_A_CONNECT + 1))
def test_what_a_killed_predecessor_left_is_coped_with(
    host: Host, container: Netns, killed_at: int
) -> None:
    """Killed after any change, the next connect works, and its disconnect leaves nothing."""
    before = host.everything()
    _connect_and_die(host, container, killed_at)
    endpoint = host.connect(ID, container)
    with container.listening(), host.reach(endpoint.address):
        pass
    host.disconnect(ID)
    assert host.everything() == before


@pytest.mark.parametrize("killed_at", range(1, EVENTS_OF_A_CONNECT + 1))
def test_what_a_killed_predecessor_left_goes_with_a_disconnect(
    host: Host, container: Netns, killed_at: int
) -> None:
    """The container has died too, and another's disconnect is all that ever comes."""
    before = host.everything()
    _connect_and_die(host, container, killed_at)
    host.disconnect(ID)
    assert host.everything() == before


def _connect_and_die(host: Host, container: Netns, killed_at: int) -> None:
    """Connect in a child that is killed when it has noted *killed_at* events."""
    child = os.fork()
    if child == 0:
        seen = []

        def die(event: Event) -> None:
            seen.append(event)
            if len(seen) == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with in_network(host.fd):
                steps.listen(die, "engine")
                networks.connect(host.network, ID, container.fd, host.state_dir)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_dead_containers_lease_is_given_to_the_next(host: Host, netns: Make) -> None:
    """A container that vanished without a disconnect blocks no address for ever."""
    dead, living = netns(), netns()
    address = host.connect(ID, dead).address
    host.run("ip link delete mc4f1c0d112233")  # as the kernel does when its namespace ends
    assert host.connect(OTHER, living).address == address


def test_connecting_at_the_same_time(host: Host, netns: Make) -> None:
    """Four processes at once: four addresses, one bridge, and all reach the gateway."""
    before = host.everything()
    containers = {f"{number}abcdef": netns() for number in range(4)}
    children = []
    for container_id, container in containers.items():
        child = os.fork()
        if child == 0:
            status = 1
            try:
                host.connect(container_id, container)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    addresses = {
        container.ip("-4 address show dev eth0")[0]["addr_info"][0]["local"]
        for container in containers.values()
    }
    assert addresses == {f"172.29.0.{last}" for last in range(2, 6)}
    with host.listening():
        for container in containers.values():
            container.reach("172.29.0.1").close()
    for container_id in containers:
        host.disconnect(container_id)
    assert host.everything() == before


def test_a_name_taken_by_another_kind_of_link(host: Host, container: Netns) -> None:
    """It is named, with its kind and the way out; and it stays."""
    host.run("ip link add minic0 type veth peer name end")
    before = host.everything()
    with pytest.raises(Conflict, match=r"minic0 exists and is no bridge \(veth\): .*ip link set"):
        host.connect(ID, container)
    assert host.everything() == before


def test_ids_that_begin_alike(host: Host, netns: Make) -> None:
    """The second is refused, and the first keeps its link."""
    first = netns()
    host.connect("exercise-one-a", first)
    before = host.everything()
    with pytest.raises(Conflict, match="needs the link mcexercise-one, which exercise-one-a has"):
        host.connect("exercise-one-b", netns())
    host.disconnect("exercise-one-b")
    assert names(first) == {"lo", "eth0"}
    assert host.everything() == before


def test_no_address_left(host: Host, netns: Make) -> None:
    """A subnet of two hosts has room for one container; the next is told so, the first stays."""
    host.network = networks.Network(subnets=("172.29.0.0/30",))
    host.connect(ID, netns())
    before = host.everything()
    with pytest.raises(Conflict, match=r"no address left in 172.29.0.0/30: 1 "):
        host.connect(OTHER, netns())
    assert host.everything() == before


def test_a_subnet_in_use_is_passed_over(host: Host, container: Netns) -> None:
    """By an address on one link and a route through another; the third candidate is free."""
    host.run(
        "ip link add wire type veth peer name end; ip link set wire up;"
        "ip address add 172.29.5.1/24 dev wire; ip route add 172.16.0.0/12 dev wire"
    )
    assert host.connect(ID, container).gateway == "10.231.0.1"


def test_no_subnet_is_free(host: Host, container: Netns) -> None:
    """Said in one line, and nothing is made."""
    host.run(
        "ip link add wire type veth peer name end; ip link set wire up;"
        "ip route add 172.16.0.0/12 dev wire; ip route add 10.0.0.0/8 dev wire"
    )
    before = host.everything()
    with pytest.raises(Conflict, match=r"no free subnet: .*: remove a route, or use --net none"):
        host.connect(ID, container)
    assert host.everything() == before


def test_nft_is_missing(host: Host, container: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said, and what was made before is undone."""
    monkeypatch.setattr(nat, "_NFT_PLACES", ("/nonexistent/nft",))
    before = host.everything()
    with pytest.raises(Unsupported, match="apt-get install nftables"):
        host.connect(ID, container)
    assert host.everything() == before


def test_an_ordinary_user_is_told_what_to_do(host: Host, container: Netns) -> None:
    """Without CAP_NET_ADMIN: the call, the reason, the way out, on one line."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # Not pytest's directory: the way there is closed to other users.
            with in_network(host.fd), TemporaryDirectory() as state_dir:
                os.chmod(state_dir, 0o777)
                os.seteuid(65534)
                try:
                    networks.connect(host.network, ID, container.fd, state_dir)
                except KernelError as error:
                    os.write(tell, str(error).encode())
                finally:
                    os.seteuid(0)  # to find the way back
        finally:
            os._exit(0)
    os.close(tell)
    os.waitpid(child, 0)
    with open(told) as message:
        assert re.fullmatch(
            r"RTM_NEWLINK\(add, minic0, .*\): Operation not permitted: .*CAP_NET_ADMIN.*as root.*",
            message.read(),
        )


def test_a_state_directory_that_can_not_be(host: Host, container: Netns) -> None:
    """A file in its place is named."""
    host.state_dir += "/lock/below"
    with pytest.raises(KernelError, match=r"lock/below/lock\): Not a directory"):
        host.connect(ID, container)
