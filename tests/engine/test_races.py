"""Many clients at once on the same three containers, with every operation in any order.

Each answer is one that a client can understand, and in the end the host has just what belongs to
the containers that run.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S
from tests.engine.faults import Machine, body_of

Json = Any
CLIENTS = 8
# An attacker or a stress test has more time: see CONTRIBUTING.md.
DURATION_S = float(os.environ.get("MINICONTAINER_RACE_S", "3"))
NAMES = ("a", "b", "c")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.skipif(not shutil.which("nft"), reason="nft is missing"),
]


def requests(chance: random.Random) -> list[tuple[str, str, Json]]:
    """List requests about one of the containers."""
    name, other = chance.choice(NAMES), chance.choice(NAMES)
    container = f"/containers/{name}"
    policy = {"Name": chance.choice(("no", "always"))}
    body = body_of((), chance.choice(("bridge", "none")), PortBindings={}, RestartPolicy=policy)
    return [
        *[("POST", f"/containers/create?name={name}", body)] * 2,
        *[("POST", f"{container}/start", None)] * 3,
        ("POST", f"{container}/stop?t=0", None),
        ("POST", f"{container}/kill", None),
        ("POST", f"{container}/restart?t=0", None),
        ("POST", f"{container}/pause", None),
        ("POST", f"{container}/unpause", None),
        ("DELETE", f"{container}?force=1&v=1", None),
        ("DELETE", container, None),
        ("POST", f"{container}/rename?name={other}", None),
        ("POST", f"{container}/update", {"Memory": 64 << 20}),
        ("GET", f"{container}/json?size=1", None),
        ("GET", f"{container}/top", None),
        ("GET", f"{container}/stats?stream=0", None),
        ("GET", f"{container}/logs?stdout=1", None),
        ("GET", f"{container}/changes", None),
        ("GET", "/containers/json?all=1&size=1", None),
        ("GET", "/system/df", None),
        ("POST", f"{container}/exec", {"Cmd": ["true"]}),
        ("POST", "/networks/create", {"Name": "net"}),
        ("DELETE", "/networks/net", None),
        ("POST", "/networks/net/connect", {"Container": name}),
        ("POST", "/networks/net/disconnect", {"Container": name}),
        ("DELETE", "/volumes/kept", None),
        ("POST", "/containers/prune", None),
    ]


def hurry(machine: Machine, seed: int, wrong: list[object]) -> None:
    """Be one of the clients."""
    chance = random.Random(seed)
    deadline = time.monotonic() + DURATION_S
    while time.monotonic() < deadline:
        method, path, body = chance.choice(requests(chance))
        try:
            status, answer = machine.call(method, path, body)
            if path.endswith("/exec") and status == 201:
                path = f"/exec/{answer['Id']}/start"
                status, answer = machine.call("POST", path, {"Detach": True})
        except Exception as error:  # the thread ends here, and the test says why
            wrong.append((method, path, repr(error)))
            return
        if status >= 500:
            wrong.append((method, path, status, answer))


@pytest.mark.timeout(300)
def test_many_clients_on_the_same_containers(busybox: Path) -> None:
    """No request fails by the engine's fault, and nothing is left behind."""
    machine = Machine(busybox)
    try:
        wrong: list[object] = []
        seed = random.randrange(10**6)
        clients = [
            threading.Thread(target=hurry, args=(machine, seed + number, wrong))
            for number in range(CLIENTS)
        ]
        for one in clients:
            one.start()
        for one in clients:
            one.join(PATIENCE_S + DURATION_S)
        assert not any(one.is_alive() for one in clients), f"seed {seed}: a request has no end"
        assert wrong == [], f"seed {seed}"
        assert "Traceback" not in (machine.base / "log").read_text(), f"seed {seed}"
    finally:
        machine.close()
