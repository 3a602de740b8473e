"""The events of a connection are what happened, and their commands do the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer import steps
from minicontainer.event import Event
from minicontainer.kernel.namespaces import in_network
from minicontainer.network import networks

from .conftest import EVENTS_OF_A_CONNECT, ID, Host, Make, Netns


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
    # strace knows netlink sockets of its own network namespace alone: in the container's it shows
    # numbers (linux/rtnetlink.h). Who moves there is our process; nft is not the question.
    numbers = {"0x10": "RTM_NEWLINK", "0x14": "RTM_NEWADDR", "0x18": "RTM_NEWROUTE"}
    lines = trace.read_text().splitlines()
    (pid,) = {line.split()[0] for line in lines if "setns(" in line}
    ours = "\n".join(line for line in lines if line.split()[0] == pid)
    found = re.findall(r"nlmsg_type=(\w+)|(setns)\(", ours)
    called = [numbers.get(kind, kind) or call for kind, call in found]
    seen = [call for call in called if re.match("RTM_(NEW|DEL|SET)|setns", call)]
    told = [call for call in done.stdout.split() if call.startswith("RTM_") or call == "setns"]
    assert told == seen
    assert (
        len(told) == EVENTS_OF_A_CONNECT
    )  # 10 netlink messages to connect and disconnect, 2 setns


def test_the_shell_equivalents_do_the_same(host: Host, container: Netns, netns: Make) -> None:
    """Played by hand on a second host, they make the same links, addresses and routes."""
    events: list[Event] = []
    with in_network(host.fd):
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
