"""A part of a volume, while another container that has the volume changes it.

The attacker's moment is between the engine's look at the part and the mount. `faults` stops the
engine there.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, wait_until
from tests.engine.faults import Machine

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.skipif(not shutil.which("nft"), reason="nft is missing"),
]


@pytest.fixture
def machine(busybox: Path) -> Iterator[Machine]:
    """An engine that can be stopped anywhere."""
    made = Machine(busybox)
    yield made
    made.close()


def victim(machine: Machine) -> str:
    """Create a container that gets a part of the volume."""
    part: dict[str, Any] = {"Type": "volume", "Source": "kept", "Target": "/part",
                            "VolumeOptions": {"Subpath": "sub/part"}}  # fmt: skip
    return machine.create(network="none", Mounts=[part], Binds=[])


@pytest.mark.parametrize("swapped", [False, True])
def test_a_part_that_becomes_a_link_to_the_host(machine: Machine, swapped: bool) -> None:
    """The start is refused; without a swap, which is the control, the part is mounted."""
    attacker = machine.run(network="none")
    pid = machine.did("GET", f"/containers/{attacker}/json")["State"]["Pid"]
    volume = Path(f"/proc/{pid}/root/kept")
    (volume / "sub/part").mkdir(parents=True)
    (volume / "sub/part/mine").touch()
    made = victim(machine)
    paused = machine.stop_at("after write-bundle")
    starting = threading.Thread(target=machine.call, args=("POST", f"/containers/{made}/start"))
    starting.start()
    wait_until(paused.exists, "the engine's look")
    if swapped:
        (volume / "sub").rename(volume / "before")
        (volume / "sub").mkdir()
        (volume / "sub/part").symlink_to("/etc")
    paused.unlink()
    starting.join(PATIENCE_S)
    state = machine.did("GET", f"/containers/{made}/json")["State"]
    if swapped:
        assert not state["Running"]
        assert "Too many levels of symbolic links" in state["Error"]
    else:
        assert os.listdir(f"/proc/{state['Pid']}/root/part") == ["mine"]
