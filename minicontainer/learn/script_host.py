"""A script's part on the host: cgroup, bridge, links, addresses, rules."""

from __future__ import annotations

from ipaddress import IPv4Interface

from minicontainer.cgroups import device_filter, hierarchies
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.cgroups.v2 import CONTROLLERS
from minicontainer.learn.script_plan import cannot, comment, quoted
from minicontainer.learn.script_words import say
from minicontainer.network import nat
from minicontainer.runtime.config.defaults import DENY_ALL_DEVICES, DEVICE_RULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.engine.plans import NetworkPlan
    from minicontainer.learn.script_plan import Plan


def tops() -> list[str]:
    """Name the mount point of each hierarchy in which the container has a group."""
    found = hierarchies.mounted()
    both = (*found.v1, found.unified) if found.version != "v2" else (found.unified,)
    return [one.mount_point for one in both if one is not None]


def create_cgroup(plan: Plan) -> Iterator[str]:
    """Make the cgroup with its limits."""
    found = hierarchies.mounted()
    yield from _for_each('mkdir -p "$hierarchy$group"')
    if found.version == "v2":
        yield from _pass_controllers_on(plan)
    for hierarchy in found.v1:
        if "cpuset" in hierarchy.controllers:
            yield from _inherit_cpuset(plan, hierarchy.mount_point)
    resources = plan.spec.linux.resources.as_of(plan.spec.oci_version)
    writes = open_cgroup(plan.group).planned(resources)
    if not writes:
        yield from comment(say("no-limits", plan.lang))
    for path, text in writes:
        yield f"echo {quoted(text)} >{_in_group(path, plan)}"
    yield from _devices(plan, found)


def _for_each(*commands: str) -> Iterator[str]:
    yield "for hierarchy in $hierarchies; do"
    yield from (f"    {command}" for command in commands)
    yield "done"


def _in_group(path: str, plan: Plan) -> str:
    before, _, file = path.rpartition(f"{plan.group}/")
    return f'"{before}$group/{file}"'


def _above(plan: Plan) -> list[str]:
    """Name the groups above the container's."""
    return plan.group.strip("/").split("/")[:-1]


def _pass_controllers_on(plan: Plan) -> Iterator[str]:
    (top,) = tops()
    above = _above(plan)
    yield from comment(say("controllers", plan.lang))
    yield f"for controller in {' '.join(CONTROLLERS)}; do"
    for depth in range(len(above) + 1):
        file = "/".join([top, *above[:depth], "cgroup.subtree_control"])
        yield f'    echo "+$controller" >{quoted(file)} || :'
    yield "done 2>/dev/null"


def _inherit_cpuset(plan: Plan, top: str) -> Iterator[str]:
    yield from comment(say("cpuset", plan.lang))
    yield f"above={quoted(top)}"
    yield f'for part in {" ".join(map(quoted, _above(plan)))} "$id"; do'
    yield "    for file in cpuset.cpus cpuset.mems; do"
    yield '        [ -n "$(cat "$above/$part/$file")" ] ||'
    yield '            cat "$above/$file" >"$above/$part/$file"'
    yield "    done"
    yield "    above=$above/$part"
    yield "done"


def _devices(plan: Plan, found: hierarchies.Hierarchies) -> Iterator[str]:
    place = next((one.mount_point for one in found.v1 if "devices" in one.controllers), "")
    if not place:
        yield from cannot("device-rules", plan.lang, "")
        return
    listed = (DENY_ALL_DEVICES, *plan.spec.linux.resources.devices, *DEVICE_RULES)
    rules = device_filter.Rules(listed)
    first, each = ("allow", "deny") if rules.default else ("deny", "allow")
    yield from comment(say("devices", plan.lang))
    yield f'echo "a *:* rwm" >"{place}$group/devices.{first}"'
    exceptions = [quoted(" ".join(one)) for one in device_filter.for_v1(rules)]
    if exceptions:
        yield f"for rule in {' '.join(exceptions)}; do"
        yield f'    echo "$rule" >"{place}$group/devices.{each}"'
        yield "done"


def join_cgroups(_: Plan) -> Iterator[str]:
    """Move this very process into the groups."""
    yield from _for_each('echo 0 >"$hierarchy$group/cgroup.procs"')


def remove_cgroup(plan: Plan) -> Iterator[str]:
    """Kill what is left in the groups, and remove them; those above if they are empty."""
    above = _above(plan)
    uppers = ["/".join(above[:depth]) for depth in range(len(above), 0, -1)]
    yield from _for_each(
        'remove_group "$hierarchy$group"',
        *(f'rmdir "$hierarchy"/{quoted(one)} 2>/dev/null || : # if it is empty' for one in uppers),
    )


def table_of(plan: Plan) -> str:
    """Name the script's own table of nft."""
    return f"ip by_hand_{plan.id}"


def connect(plan: Plan, network: NetworkPlan) -> Iterator[str]:
    """Connect the container to a bridge."""
    end, bridge = network.endpoint, quoted(network.bridge)
    gateway = IPv4Interface(network.gateway)
    yield f"if ! ip link show dev {bridge} >/dev/null 2>&1; then"
    yield f"    ip link add {bridge} address {network.bridge_mac} type bridge"
    yield f'    bridges="{network.bridge} $bridges"'
    broadcast = gateway.network.broadcast_address
    yield f"    ip address add {gateway} broadcast {broadcast} dev {bridge}"
    yield f"    ip link set {bridge} up"
    yield "fi"
    if end.published:
        yield f"echo 1 >{quoted(f'/proc/sys/net/ipv4/conf/{network.bridge}/route_localnet')}"
    yield from _rules(plan, network, gateway)
    if not network.internal:
        yield "echo 1 >/proc/sys/net/ipv4/ip_forward"
    mtu = f"mtu {network.mtu} " if network.mtu else ""
    yield f"ip link add {end.host_interface} {mtu}type veth \\"
    yield f'    peer name {end.interface} address {end.mac} {mtu}netns "$pid"'
    yield f"ip link set {end.host_interface} master {bridge} up"
    if end.published:
        yield f"bridge link set dev {end.host_interface} hairpin on"
    address = IPv4Interface((end.address, end.prefix))
    yield f'nsenter --target "$pid" --net ip address add {address} \\'
    yield f"    broadcast {address.network.broadcast_address} dev {end.interface}"
    yield f'nsenter --target "$pid" --net ip link set {end.interface} up'
    if network.default_route:
        yield f'nsenter --target "$pid" --net ip route add default via {end.gateway} \\'
        yield f"    dev {end.interface} proto static"


def _rules(plan: Plan, network: NetworkPlan, gateway: IPv4Interface) -> Iterator[str]:
    rules = nat.ruleset(
        network.bridge, gateway.network, published=list(network.endpoint.published),
        internal=network.internal, masquerade=network.masquerade, table=table_of(plan),
    )  # fmt: skip
    yield "nft -f - <<'END'"
    yield f"add table {table_of(plan)}"
    yield from rules.splitlines()
    yield "END"


def disconnect(plan: Plan) -> Iterator[str]:
    """Take the network back."""
    for network in plan.networks:
        name = network.endpoint.host_interface
        yield f"ip link delete {name} 2>/dev/null || : # perhaps gone with its other end"
    yield f"nft delete table {table_of(plan)} 2>/dev/null || :"
    yield 'for bridge in $bridges; do ip link delete "$bridge"; done'
    yield 'echo "$forwarding" >/proc/sys/net/ipv4/ip_forward'
