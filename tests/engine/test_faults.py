"""SIGKILL of each process at each place, of each operation: nothing is lost and nothing stays.

The places are those that the processes themselves come by: every step of the recipes, and every
change of the engine's. By default each process is killed at its own places, once for each action;
`make test-faults` kills all six processes at all places, which takes half an hour.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.faults import Machine, Place
from tests.engine.operations import OPERATIONS, check

EVERYTHING = bool(os.environ.get("MINICONTAINER_ALL_FAULTS"))
VICTIMS = ("engine", "spawner", "waiting", "monitor", "creator", "init")
# The operations that change most; the others have only one or two places that these lack.
SHORT = ("create", "start", "end", "remove-force", "pause", "commit", "volume-remove")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.skipif(not shutil.which("nft"), reason="nft is missing"),
    pytest.mark.timeout(3600 if EVERYTHING else 600),
]


@pytest.fixture(scope="module")
def shared(busybox: Path) -> Iterator[list[Machine]]:
    """At most one engine with a network of its own."""
    made: list[Machine] = []
    yield made
    for one in made:
        one.close()


@pytest.fixture
def machine(busybox: Path, shared: list[Machine]) -> Iterator[Machine]:
    """That engine; after a test that failed, another one."""
    made = shared.pop() if shared else Machine(busybox)
    try:
        yield made
        made.empty()
    except BaseException:
        made.close()
        raise
    shared.append(made)


def chosen(places: list[Place], victim: str) -> list[Place]:
    """Choose the places at which to kill a process."""
    if EVERYTHING:
        return places
    both = ("monitor", "creator")  # the creator does a part of the monitor's work
    # the processes that wait for the next start come by no place themselves: they have no work
    whose = both if victim in both else ("engine",) if victim == "waiting" else (victim,)
    if victim == "engine":  # a start goes on without it
        whose = ("engine", "creator")
    own = [place for place in places if place.who in whose]
    # what follows one action is what precedes the next: one of the two is enough
    after = [place for place in own if place.name.startswith("after")]
    named = {place.name.partition(" ")[2] for place in after}
    return after + [place for place in own if place.name.partition(" ")[2] not in named]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("name", OPERATIONS if EVERYTHING else SHORT)
def test_a_kill_anywhere_in_an_operation(machine: Machine, name: str, victim: str) -> None:
    """Afterwards nothing is left, no container is lost, and all that is there works."""
    operation = OPERATIONS[name]
    made = operation.prepare(machine)
    places = machine.places(lambda: operation.act(machine, made))
    assert len(places) > 1  # the control: the processes do come by places
    machine.empty()
    for place in chosen(places, victim):
        made = operation.prepare(machine)
        killed = machine.kill_at(place, victim, lambda one=made: operation.act(machine, one))  # type: ignore[misc]  # one is bound at once
        try:
            if killed:
                check(machine, operation, made, victim)
            machine.empty()
        except AssertionError as error:
            raise AssertionError(f"{victim} killed {place}: {error}") from error


def test_what_a_killed_engine_leaves_is_found(machine: Machine) -> None:
    """The control of all others: the look at the host sees what is there, while no engine is."""
    made = machine.run()
    there = machine.wrong()
    assert there == {}
    os.unlink(machine.base / "run/monitors" / made)
    assert set(machine.wrong()) == {"sockets"}
    machine.empty()
