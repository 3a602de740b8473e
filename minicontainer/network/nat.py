"""Masquerading, forwarding, publishing: packets between a container and the world.

All rules are in the project's own table, `table ip minicontainer`, with a few chains for each
bridge.
nft(8) gets them as one file, which the kernel takes completely or not at all; no other table is
changed. A packet must pass the chains of all tables. So if another firewall drops forwarded packets
(Docker sets such a policy in iptables' FORWARD chain), an accept here does not help: that firewall
needs a rule for the bridge.

See: nft(8); kernel ip-sysctl.rst "ip_forward".
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.errors import Unsupported
from minicontainer.kernel import files
from minicontainer.network.ports import EVERY_ADDRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from minicontainer.network.ports import PublishedPort

_TABLE = "ip minicontainer"
_CHAINS = ("postrouting", "forward", "prerouting", "output", "guard")  # of a bridge
_FORWARDING = "/proc/sys/net/ipv4/ip_forward"
# Not $PATH: an ordinary user's has no sbin, and root must not run programs that a caller chose.
_NFT_PLACES = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft")


def write_rules(
    bridge: str,
    subnet: IPv4Network,
    *,
    published: list[PublishedPort] | None = None,
    internal: bool = False,
    masquerade: bool = True,
) -> None:
    """Write the rules of one bridge: for packets that leave its subnet, that enter it, for
    published ports.

    The bridge's old rules are replaced. So if a firewall's restart flushed them, or a command
    crashed half way, the next container restores them.

    Args:
        published: ports of the host that lead to containers on the bridge.
        internal: no packet leaves or enters the subnet.
        masquerade: packets that leave the subnet get the host's address.
    Raises:
        Unsupported: nft is not installed, or the kernel refuses the rules.
    """
    rules = ruleset(
        bridge, subnet, published=published, internal=internal, masquerade=masquerade
    )  # fmt: skip
    _nft(_without_chains(bridge) + rules)


def ruleset(
    bridge: str,
    subnet: IPv4Network,
    *,
    published: list[PublishedPort] | None = None,
    internal: bool = False,
    masquerade: bool = True,
    table: str = _TABLE,
) -> str:
    """Write the rules of one bridge as text for nft(8); the arguments are those of `write_rules`.

    Args:
        table: the family and the name of a table that exists.
    """
    postrouting, forward = f"{table} {bridge}-postrouting", f"{table} {bridge}-forward"
    rules = f"add chain {postrouting} {{ type nat hook postrouting priority srcnat; }}\n"
    if masquerade and not internal:
        rules += f'add rule {postrouting} ip saddr {subnet} oifname != "{bridge}" masquerade\n'
    rules += f"add chain {forward} {{ type filter hook forward priority filter; }}\n"
    if published:
        rules += _publishing(bridge, subnet, published, table)
        rules += f'add rule {forward} oifname "{bridge}" ct status dnat accept\n'
    rules += (
        f'add rule {forward} iifname != "{bridge}" oifname "{bridge}" '
        "ct state != { established, related } drop\n"
    )
    if internal:
        rules += f'add rule {forward} iifname "{bridge}" oifname != "{bridge}" drop\n'
    return rules


def _publishing(
    bridge: str, subnet: IPv4Network, published: list[PublishedPort], table: str
) -> str:
    """Write the rules that send packets for published ports to their containers.

    A packet from another host, or from a container, passes `prerouting`; one of the host's own
    programs passes `output`. If the answer would come to the sender from another address than it
    called (a container on the same bridge, or a program that calls 127.0.0.1), the container sees
    the bridge as the sender. With `route_localnet` a container's packet for 127.0.0.1 could reach
    the host's own services, so `guard` drops it.
    """
    before, out = f"{table} {bridge}-prerouting", f"{table} {bridge}-output"
    guard, after = f"{table} {bridge}-guard", f"{table} {bridge}-postrouting"
    lines = [
        f"add chain {before} {{ type nat hook prerouting priority dstnat; }}",
        f"add chain {out} {{ type nat hook output priority -100; }}",
        f"add chain {guard} {{ type filter hook prerouting priority raw; }}",
        f'add rule {guard} iifname "{bridge}" ip daddr 127.0.0.0/8 drop',
        f'add rule {after} ip saddr {{ 127.0.0.0/8, {subnet} }} oifname "{bridge}" '
        "ct status dnat masquerade",
    ]
    for port in published:
        here = (
            "fib daddr type local" if port.host_ip == EVERY_ADDRESS else f"ip daddr {port.host_ip}"
        )
        rule = f"{here} {port.protocol} dport {port.host_port} dnat to {port.address}:{port.port}"
        lines += [f"add rule {before} {rule}", f"add rule {out} {rule}"]
    return "\n".join(lines) + "\n"


def let_localhost_in(bridge: str) -> None:
    """Let a program of the host reach a published port at 127.0.0.1.

    The kernel would drop such a packet on its way to the bridge; see ip-sysctl.rst
    "route_localnet". The setting is the bridge's, and is removed with it.
    """
    path = f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet"
    if files.read_file(path).strip() != "1":
        name = f"net.ipv4.conf.{bridge}.route_localnet"
        files.write_file(path, "1", object=f"sysctl:{name}", shell=f"sysctl -w {name}=1")


def remove_chains(bridge: str) -> None:
    """Remove the rules that `write_rules` made for one bridge; do nothing if there are none."""
    if _find_nft():  # without it we have made no rules
        _nft(_without_chains(bridge))


def remove_table() -> None:
    """Remove the rules of all bridges; do nothing if there are none."""
    if _find_nft():
        _nft(f"add table {_TABLE}\ndelete table {_TABLE}\n")


def enable_forwarding(state_dir: str) -> None:
    """Let the host forward packets, and record it if it did not before.

    The record is made first: after a crash between the two, it changes nothing. The other order
    could leave a change that nobody undoes.
    """
    before = files.read_file(_FORWARDING).strip()
    if before != "1":
        with open(_remembered(state_dir), "w") as note:
            note.write(before)
        files.write_file(
            _FORWARDING, "1", object="sysctl:net.ipv4.ip_forward",
            shell="sysctl -w net.ipv4.ip_forward=1",
        )  # fmt: skip


def restore_forwarding(state_dir: str) -> None:
    """Restore forwarding, if `enable_forwarding` changed it."""
    if not os.path.exists(_remembered(state_dir)):
        return
    before = files.read_file(_remembered(state_dir))
    if before != files.read_file(_FORWARDING).strip():
        files.write_file(
            _FORWARDING, before, object="sysctl:net.ipv4.ip_forward",
            shell=f"sysctl -w net.ipv4.ip_forward={before}",
        )  # fmt: skip
    os.unlink(_remembered(state_dir))


def _remembered(state_dir: str) -> str:
    return f"{state_dir}/ip_forward.before"


def _without_chains(bridge: str) -> str:
    """Write rules that delete a bridge's chains, if there are any.

    Deleting a chain that does not exist is an error for the whole file, so each one is added first;
    and a chain must be empty to be deleted.
    """
    lines = [f"add table {_TABLE}"]
    for name in _CHAINS:
        chain = f"{_TABLE} {bridge}-{name}"
        lines += [f"add chain {chain}", f"flush chain {chain}", f"delete chain {chain}"]
    return "\n".join(lines) + "\n"


def _find_nft() -> str | None:
    return next((place for place in _NFT_PLACES if os.access(place, os.X_OK)), None)


def _nft(ruleset: str) -> None:
    """Load a ruleset into the kernel by nft, as one transaction, and note it."""
    import subprocess  # loaded with pyroute2

    nft = _find_nft()
    if nft is None:
        raise Unsupported(
            "nft not found: a bridge needs it for its NAT rules: "
            "install it (apt-get install nftables), or use --net none or --net host"
        )
    done = subprocess.run(
        [nft, "-f", "-"], input=ruleset, capture_output=True, text=True, check=False,
        env={"LC_ALL": "C"},
    )  # fmt: skip
    steps.note(
        "nft", ("-f", "-", ruleset), done.returncode, object=f"nft:{_TABLE}",
        shell=f"nft -f - <<'END'\n{ruleset}END",
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.strip().partition("\n")[0] or f"exit status {done.returncode}"
        raise Unsupported(
            f"nft refused the NAT rules: {said}: the kernel needs nf_tables with nat and "
            "masquerade (modprobe nft_masq), and we CAP_NET_ADMIN; or use --net none"
        )
