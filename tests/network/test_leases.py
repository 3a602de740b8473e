"""No address is leased twice, and none that is not a container's to have."""

from __future__ import annotations

import os
import signal
from ipaddress import IPv4Interface
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer.errors import Conflict
from minicontainer.network.leases import Leases, anywhere, locked

ids = st.sampled_from([f"container{number}" for number in range(10)])
actions = st.lists(st.tuples(st.booleans(), ids), max_size=40)


@settings(deadline=None)
@given(actions, st.integers(28, 30), st.integers(0, 12))
def test_leases_are_what_a_model_says(
    asked: list[tuple[bool, str]], prefix: int, gateway_at: int
) -> None:
    """Takes and releases in any order, on small subnets, compared with a dictionary."""
    subnet = IPv4Interface(f"172.29.0.16/{prefix}").network
    hosts = list(subnet.hosts())
    gateway = IPv4Interface((hosts[gateway_at % len(hosts)], prefix))
    may_have = [str(host) for host in hosts if host != gateway.ip]
    model: dict[str, str] = {}
    with TemporaryDirectory() as state_dir:
        leases = Leases(state_dir, "minic0")
        for takes, container_id in asked:
            if not takes:
                leases.release(container_id)
                model = {addr: holder for addr, holder in model.items() if holder != container_id}
            elif free := [address for address in may_have if address not in model]:
                assert leases.take(container_id, gateway) == free[0]
                model[free[0]] = container_id
            else:
                with pytest.raises(Conflict, match=f"no address left in {subnet}"):
                    leases.take(container_id, gateway)
            assert leases.all() == model
            assert anywhere(state_dir) == bool(model)


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    """The kernel gives it back: nobody waits for the dead."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(str(tmp_path)):
            os.write(tell, b".")
            signal.pause()
    os.read(ready, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)
    os.close(tell)
    with locked(str(tmp_path)):
        pass


def test_the_lock_keeps_the_second_out(tmp_path: Path) -> None:
    """While one holds it, another process waits, and gets it afterwards."""
    ready, tell = os.pipe()
    with locked(str(tmp_path)):
        child = os.fork()
        if child == 0:
            with locked(str(tmp_path)):
                os.write(tell, b"child")
            os._exit(0)
        # The child can't be seen waiting in flock(2) but by its not being through.
        os.write(tell, b"first")
    os.waitpid(child, 0)
    assert os.read(ready, 100) == b"firstchild"
    os.close(ready)
    os.close(tell)
