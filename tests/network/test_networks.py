"""A connected container reaches what it should, and nothing is left of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer import steps
from minicontainer.errors import Conflict, KernelError, Unsupported
from minicontainer.network import nat, networks
from minicontainer.network.links import in_namespace

from .conftest import Host, Netns

ID = "4f1c0d1122334455667788"
OTHER = "99be270011223344556677"
EVENTS_OF_A_CONNECT = 12
Make = Callable[[], Netns]


def names(netns: Netns) -> set[str]:
    """Name the links of a namespace."""
    return {link["ifname"] for link in netns.ip("link")}


# -- what a connection is ------------------------------------------------------------------------


def test_the_container_has_an_address_and_a_default_route(host: Host, container: Netns) -> None:
    """What `connect` returns is what the kernel shows inside."""
    endpoint = host.connect(ID, container)
    (eth0,) = container.ip("address show dev eth0")
    assert eth0["address"] == endpoint.mac
    assert "UP" in eth0["flags"]
    (inet,) = [info for info in eth0["addr_info"] if info["family"] == "inet"]
    assert (inet["local"], inet["prefixlen"]) == (endpoint.address, endpoint.prefix)
    (default,) = container.ip("route show default")
    assert (default["gateway"], default["dev"]) == (endpoint.gateway, "eth0")


def test_the_host_has_the_other_end_on_its_bridge(host: Host, container: Netns) -> None:
    """The veth pair's end is a port of the bridge, whose address is the gateway."""
    endpoint = host.connect(ID, container)
    (port,) = host.ip("-details link show master minic0")
    assert port["ifname"] == endpoint.host_interface == "mc4f1c0d112233"
    assert port["linkinfo"]["info_kind"] == "veth"
    (bridge,) = host.ip("-4 address show dev minic0")
    assert bridge["addr_info"][0]["local"] == endpoint.gateway == "172.29.0.1"


def test_host_and_container_reach_each_other(host: Host, container: Netns) -> None:
    """TCP in both directions, without NAT: each sees the other's own address."""
    endpoint = host.connect(ID, container)
    with container.listening() as server, host.reach(endpoint.address):
        assert server.accept()[1][0] == endpoint.gateway
    with host.listening() as server, container.reach(endpoint.gateway):
        assert server.accept()[1][0] == endpoint.address


def test_containers_reach_each_other(host: Host, netns: Make) -> None:
    """Two containers on one bridge have different addresses and see each other's own."""
    one, two = netns(), netns()
    first, second = host.connect(ID, one), host.connect(OTHER, two)
    assert first.address != second.address
    with one.listening() as server, two.reach(first.address):
        assert server.accept()[1][0] == second.address
    with two.listening() as server, one.reach(second.address):
        assert server.accept()[1][0] == first.address


def test_without_a_connection_nothing_is_reached(host: Host, netns: Make) -> None:
    """The control: beside a connected container, one that is not has nowhere to send to."""
    endpoint = host.connect(ID, netns())
    with pytest.raises(OSError, match="unreachable"):
        netns().reach(endpoint.gateway)


# -- the outside world ---------------------------------------------------------------------------


def test_the_world_is_reached_with_the_hosts_address(
    host: Host, container: Netns, world: Netns
) -> None:
    """The other machine has no route to the container, and answers all the same."""
    host.connect(ID, container)
    with world.listening() as server, container.reach("198.51.100.2"):
        assert server.accept()[1][0] == "198.51.100.1"


def test_without_the_rules_the_world_sees_the_containers_address(
    host: Host, container: Netns, world: Netns
) -> None:
    """The control: no masquerading, so answers come only where the world is told of the subnet."""
    endpoint = host.connect(ID, container)
    host.run("nft delete table ip minicontainer")
    with world.listening() as server:
        with pytest.raises(TimeoutError):
            container.reach("198.51.100.2")
        world.run("ip route add 172.29.0.0/16 via 198.51.100.1")
        with container.reach("198.51.100.2"):
            assert server.accept()[1][0] == endpoint.address


def test_the_world_does_not_reach_a_container(host: Host, container: Netns, world: Netns) -> None:
    """Forwarding, switched on for the container's sake, opens it to nobody who knows a route."""
    endpoint = host.connect(ID, container)
    world.run("ip route add 172.29.0.0/16 via 198.51.100.1")
    with container.listening(), pytest.raises(TimeoutError):
        world.reach(endpoint.address)
    # The control: it is our rule that keeps it out.
    host.run("nft delete table ip minicontainer")
    with container.listening(), world.reach(endpoint.address):
        pass


def test_rules_that_were_flushed_come_back(host: Host, netns: Make, world: Netns) -> None:
    """A restarted firewall flushes every table; the next connection puts ours back, once."""
    host.connect(ID, netns())
    rules = host.everything()["rules"]
    host.run("nft flush ruleset")
    host.connect(OTHER, netns())
    assert host.everything()["rules"] == rules


# -- what is left --------------------------------------------------------------------------------


def test_after_the_last_disconnect_all_is_as_before(host: Host, netns: Make) -> None:
    """Links, addresses, routes, rules, forwarding and state; the first disconnect keeps them."""
    before = host.everything()
    host.connect(ID, netns())
    host.connect(OTHER, netns())
    host.disconnect(ID)
    assert names(host) == {"lo", "minic0", "mc99be27001122"}
    assert "masquerade" in host.everything()["rules"]
    assert host.everything()["forwarding"] == "1\n"
    host.disconnect(OTHER)
    assert host.everything() == before


def test_disconnect_is_idempotent(host: Host, container: Netns) -> None:
    """Never connected, connected and disconnected twice: all fine."""
    before = host.everything()
    host.disconnect(ID)
    host.connect(ID, container)
    host.disconnect(ID)
    host.disconnect(ID)
    assert host.everything() == before
    assert names(container) == {"lo"}


def test_disconnect_after_the_container_is_gone(host: Host, container: Netns) -> None:
    """Whether the kernel has removed the dead container's links yet or not."""
    before = host.everything()
    host.connect(ID, container)
    container.close()
    host.disconnect(ID)
    assert host.everything() == before


def test_forwarding_that_was_on_stays_on(host: Host, container: Netns) -> None:
    """What was not switched on here is not switched off."""
    host.run("echo 1 > /proc/sys/net/ipv4/ip_forward")
    host.connect(ID, container)
    host.disconnect(ID)
    assert host.everything()["forwarding"] == "1\n"


def test_tables_of_others_are_not_touched(host: Host, container: Netns) -> None:
    """Another firewall's table is the same during and after."""
    theirs = "table ip theirs { chain c { type nat hook postrouting priority srcnat; accept; } }"
    host.run(f"nft '{theirs}'")
    before = host.everything()["rules"]
    host.connect(ID, container)
    assert before in host.everything()["rules"]
    host.disconnect(ID)
    assert host.everything()["rules"] == before


def test_a_bridge_that_somebody_else_uses_stays(host: Host, container: Netns) -> None:
    """A link that was attached by hand keeps the bridge."""
    host.connect(ID, container)
    host.run("ip link add theirs master minic0 type veth peer name end")
    host.disconnect(ID)
    assert names(host) == {"lo", "minic0", "theirs", "end"}


def test_networks_do_not_take_each_others_rules(host: Host, netns: Make) -> None:
    """Two bridges, one table: the first to go takes its own chains alone."""
    before = host.everything()
    default, second = host.network, networks.Network(name="second", bridge="minic1")
    host.connect(ID, netns())
    host.network = second
    assert host.connect(OTHER, netns()).address == "172.28.0.2"
    host.disconnect(OTHER)
    rules = host.everything()["rules"]
    assert "minic1" not in rules
    assert "minic0-postrouting" in rules
    host.network = default
    host.disconnect(ID)
    assert host.everything() == before


def test_no_descriptor_and_no_thread_is_left(host: Host, container: Netns) -> None:
    """pyroute2 works with an event loop and a socket; both go with the call."""
    host.connect(ID, container)
    host.disconnect(ID)
    descriptors = os.listdir("/proc/self/fd")
    own = os.readlink("/proc/thread-self/ns/net")
    host.connect(ID, container)
    host.disconnect(ID)
    assert os.listdir("/proc/self/fd") == descriptors
    assert threading.active_count() == 1
    assert os.readlink("/proc/thread-self/ns/net") == own


# -- failures and crashes ------------------------------------------------------------------------


class Interrupted(Exception):
    """What a test throws in the middle."""


@pytest.mark.parametrize("failing", range(1, EVENTS_OF_A_CONNECT + 1))
def test_when_a_step_fails_what_was_done_is_undone(
    host: Host, container: Netns, failing: int
) -> None:
    """Interrupted after any change to the kernel, a connect leaves host and container clean."""

    def interrupt(event: steps.Event) -> None:
        nonlocal failing
        failing -= 1
        if failing == 0:
            raise Interrupted(event.call)

    before = host.everything()
    with in_namespace(host.fd):
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

        def die(event: steps.Event) -> None:
            seen.append(event)
            if len(seen) == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with in_namespace(host.fd):
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
    with pytest.raises(Conflict, match="container exercise-one-a has the link mcexercise-one"):
        host.connect("exercise-one-b", netns())
    assert names(first) == {"lo", "eth0"}


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
    os.chmod(host.state_dir, 0o777)
    os.chmod(f"{host.state_dir}/lock", 0o666)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with in_namespace(host.fd):
                os.seteuid(65534)
                try:
                    # The lock's path goes through directories that are root's alone.
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setattr(networks.leases, "locked", _no_lock)
                        networks.connect(host.network, ID, container.fd, host.state_dir)
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


class _no_lock:
    """Stand for the lock where its file can't be opened."""

    def __init__(self, state_dir: str) -> None:
        """Take the place of `leases.locked`."""

    def __enter__(self) -> None:
        """Hold nothing."""

    def __exit__(self, *_: object) -> None:
        """Give nothing back."""


def test_a_state_directory_that_can_not_be(host: Host, container: Netns) -> None:
    """A file in its place is named."""
    host.state_dir += "/lock/below"
    with pytest.raises(KernelError, match=r"lock/below/lock\): Not a directory"):
        host.connect(ID, container)


# -- the events ----------------------------------------------------------------------------------


def test_events_are_what_strace_sees(host: Host, container: Netns, tmp_path: Path) -> None:
    """Each netlink message that changes something is an event, in the same order."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    program = (
        "import os, sys; sys.path[:] = eval(sys.argv[1])\n"
        "from minicontainer import steps; from minicontainer.network import networks\n"
        "steps.listen(lambda event: print(event.call), 'engine')\n"
        "fd = os.open(sys.argv[2], os.O_RDONLY)\n"
        "networks.connect(networks.Network(), sys.argv[3], fd, sys.argv[4])\n"
        "networks.disconnect(networks.Network(), sys.argv[3], sys.argv[4])\n"
    )
    trace = tmp_path / "trace"
    done = subprocess.run(
        ["nsenter", f"--net={host.path}", "strace", "-f", "-o", str(trace),
         "-e", "trace=sendto,sendmsg,setns",
         sys.executable, "-c", program, repr(sys.path), container.path, ID, host.state_dir],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    changes = re.compile(r"nlmsg_type=(RTM_(?:NEW|DEL|SET)\w+)|(setns)\(")
    seen = [kind or call for kind, call in changes.findall(trace.read_text())]
    told = [call for call in done.stdout.split() if call.startswith("RTM_") or call == "setns"]
    assert told == seen
    assert (
        len(told) == EVENTS_OF_A_CONNECT
    )  # 10 netlink messages to connect and disconnect, 2 setns


def test_the_shell_equivalents_do_the_same(host: Host, container: Netns, netns: Make) -> None:
    """Played by hand on a second host, they make the same links, addresses and routes."""
    events: list[steps.Event] = []
    with in_namespace(host.fd):
        steps.listen(events.append, "engine")
        try:
            networks.connect(host.network, ID, container.fd, host.state_dir)
        finally:
            steps.listen(None, "engine")
    assert len(events) == EVENTS_OF_A_CONNECT
    by_hand, its_container = netns(), netns()
    where = by_hand
    for event in events:
        assert event.shell is not None
        if event.call == "setns":
            where = its_container if where is by_hand else by_hand
        elif event.call in ("RTM_NEWLINK", "RTM_NEWADDR", "RTM_NEWROUTE", "nft"):
            where.run(re.sub(r"netns \S+", f"netns {its_container.holder.pid}", event.shell))
    for ours, theirs in ((host, by_hand), (container, its_container)):
        for look in ("ip -o -4 address", "ip -4 route show table all", "nft list ruleset"):
            assert ours.run(look) == theirs.run(look)
    assert (
        container.ip("link show eth0")[0]["address"]
        == (its_container.ip("link show eth0")[0]["address"])
    )


# -- the rest ------------------------------------------------------------------------------------


def test_pyroute2_is_not_loaded_before_it_is_needed() -> None:
    """Importing the module is cheap: whoever uses no bridge does not pay for netlink."""
    program = (
        "import sys; sys.path[:] = eval(sys.argv[1]); import minicontainer.network.networks\n"
        "print({'pyroute2', 'asyncio', 'subprocess', 'ipaddress'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, repr(sys.path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "set()\n"


subnets = st.ip_addresses(v=4).flatmap(
    lambda address: st.integers(8, 30).map(lambda prefix: f"{address}/{prefix}")
)


@given(st.lists(subnets, min_size=1, max_size=5), st.lists(subnets, max_size=5))
def test_the_chosen_subnet_overlaps_with_nothing(candidates: list[str], used: list[str]) -> None:
    """It is the first of the candidates with which no address is shared."""
    from ipaddress import IPv4Network

    offered = tuple(str(IPv4Network(text, strict=False)) for text in candidates)
    taken = [IPv4Network(text, strict=False) for text in used]
    free = [one for one in offered if not any(IPv4Network(one).overlaps(net) for net in taken)]
    if free:
        assert str(networks.choose_subnet(offered, taken)) == free[0]
    else:
        with pytest.raises(Conflict, match="no free subnet"):
            networks.choose_subnet(offered, taken)
