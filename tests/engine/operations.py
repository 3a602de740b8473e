"""The engine's operations, as a table for tests that interrupt each of them.

An operation is prepared, then done, while something is killed. What may be true afterwards is said
by `check`; that nothing is left behind holds for all of them, and `Machine.wrong` looks for that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import wait_until
from tests.engine.faults import Machine

Json = Any


class Operation(NamedTuple):
    """One operation.

    Args:
        prepare: makes what it works on; gives the ID that the others get.
        act: does it.
        statuses: those that the container may have afterwards; "" for: it is gone.
    """

    prepare: Callable[[Machine], str]
    act: Callable[[Machine, str], object]
    statuses: str


def _nothing(machine: Machine) -> str:
    return ""


def _created(machine: Machine) -> str:
    return machine.create()


def _running(machine: Machine) -> str:
    return machine.run()


def _paused(machine: Machine) -> str:
    made = machine.run()
    machine.did("POST", f"/containers/{made}/pause")
    return made


def _with_network(machine: Machine) -> str:
    made = machine.run()
    machine.did("POST", "/networks/create", {"Name": "other"})
    return made


def _on_network(machine: Machine) -> str:
    made = _with_network(machine)
    machine.did("POST", "/networks/other/connect", {"Container": made})
    return made


def _with_volume(machine: Machine) -> str:
    machine.did("POST", "/volumes/create", {"Name": "alone"})
    return machine.create()


def _post(path: str, body: Json = None) -> Callable[[Machine, str], object]:
    return lambda machine, made: machine.did("POST", path.format(made), body)


def _delete(path: str) -> Callable[[Machine, str], object]:
    return lambda machine, made: machine.did("DELETE", path.format(made))


def _end(machine: Machine, made: str) -> None:
    pid = machine.did("GET", f"/containers/{made}/json")["State"]["Pid"]
    root = Path(f"/proc/{pid}/root")
    wait_until((root / "ready").exists, "the program, which removes an older /go")
    (root / "go").touch()
    machine.did("POST", f"/containers/{made}/wait")


def _exec(machine: Machine, made: str) -> None:
    body = {"Cmd": ["true"], "AttachStdout": True}
    one = machine.did("POST", f"/containers/{made}/exec", body)["Id"]
    machine.did("POST", f"/exec/{one}/start", {"Detach": True})


OPERATIONS: dict[str, Operation] = {
    "create": Operation(_nothing, lambda machine, _: machine.create(), "created"),
    "start": Operation(_created, _post("/containers/{}/start"), "created running exited"),
    "end": Operation(_running, _end, "exited"),
    "stop": Operation(_running, _post("/containers/{}/stop?t=0"), "running exited"),
    "kill": Operation(_running, _post("/containers/{}/kill"), "running exited"),
    "restart": Operation(_running, _post("/containers/{}/restart?t=0"), "running exited"),
    "pause": Operation(_running, _post("/containers/{}/pause"), "running paused exited"),
    "unpause": Operation(_paused, _post("/containers/{}/unpause"), "running paused exited"),
    "exec": Operation(_running, _exec, "running exited"),
    "rename": Operation(_created, _post("/containers/{}/rename?name=another"), "created"),
    "update": Operation(_running, _post("/containers/{}/update", {"Memory": 32 << 20}),
                        "running exited"),
    "remove": Operation(_created, _delete("/containers/{}?v=1"), "created gone"),
    "remove-force": Operation(_running, _delete("/containers/{}?v=1&force=1"),
                              "running exited gone"),
    "prune": Operation(_created, _post("/containers/prune"), "created gone"),
    "commit": Operation(_created, _post("/commit?container={}&repo=committed"), "created"),
    "network-create": Operation(_created, _post("/networks/create", {"Name": "other"}), "created"),
    "network-connect": Operation(
        _with_network,
        lambda machine, made: machine.did("POST", "/networks/other/connect", {"Container": made}),
        "running exited",
    ),
    "network-disconnect": Operation(
        _on_network,
        lambda machine, made: machine.did(
            "POST", "/networks/other/disconnect", {"Container": made}
        ),
        "running exited",
    ),
    "volume-create": Operation(_created, _post("/volumes/create", {"Name": "alone"}), "created"),
    "volume-remove": Operation(_with_volume, _delete("/volumes/alone"), "created"),
}  # fmt: skip


def check(machine: Machine, operation: Operation, made: str, killed: str) -> None:
    """See that no container is lost and no exit status, and that all that is there works.

    Args:
        killed: the process that was.
    """
    machine.settle()
    shown = machine.containers()
    if made:
        status = shown[made]["State"]["Status"] if made in shown else "gone"
        assert status in operation.statuses.split(), (status, machine.tail())
        if operation.act is _end and killed not in ("monitor", "creator"):
            assert shown[made]["State"]["ExitCode"] == 7
    for key, one in shown.items():
        state = one["State"]
        assert state["Paused"] == is_frozen(machine, key), (state, machine.tail())
        if state["Paused"]:
            machine.did("POST", f"/containers/{key}/unpause")
            if killed == "init":  # it was frozen when it was killed: now it ends
                wait_until(lambda one=key: not _runs(machine, one), "its end")  # type: ignore[misc]  # one is bound at once
                machine.settle()
        if not _runs(machine, key):
            machine.did("POST", f"/containers/{key}/start")
        assert machine.did("GET", f"/containers/{key}/json")["State"]["Status"] == "running"
    machine.settle()


def _runs(machine: Machine, key: str) -> bool:
    return bool(machine.did("GET", f"/containers/{key}/json")["State"]["Running"])


def is_frozen(machine: Machine, key: str) -> bool:
    """Ask the kernel whether a container is frozen."""
    root = Path("/sys/fs/cgroup")
    for place in (root / machine.cgroup / key, root / "freezer" / machine.cgroup / key):
        for name, word in (("cgroup.freeze", "1"), ("freezer.state", "FROZEN")):
            if os.path.exists(place / name) and (place / name).read_text().strip() == word:
                return True
    return False
