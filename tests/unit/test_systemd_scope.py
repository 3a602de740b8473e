"""What systemd is asked, and what is left alone: a bus that answers from a table, plain files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minicontainer.cgroups import systemd_bus
from minicontainer.cgroups.hierarchies import Hierarchy
from minicontainer.cgroups.limits import Cpu, Memory, Pids, Resources
from minicontainer.cgroups.systemd import SystemdCgroup, unit_of
from minicontainer.cgroups.systemd_bus import RefusedError
from minicontainer.cgroups.v2 import V2Cgroup
from minicontainer.errors import Conflict, NotFound
from minicontainer.runtime.container import operations
from minicontainer.runtime.container.state import State, Store

UNIT = unit_of("test.slice:minicontainer:web")
FILES = ("cgroup.procs", "memory.max", "memory.swap.max", "pids.max", "cpu.weight", "cpu.idle")


def refused(word: str) -> RefusedError:
    """Make systemd's refusal."""
    return RefusedError(f"org.freedesktop.systemd1.{word}", word, "call")


class Bus:
    """Notes what is asked; answers with the errors that it was given.

    Args:
        slice: that the unit is in; "" for none.
        errors: by method: each raised once.
    """

    def __init__(self, slice: str = "test.slice", **errors: list[Exception]) -> None:
        self.slice = slice
        self.errors = errors
        self.asked: list[str] = []
        self.told: dict[str, Any] = {}

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def slice_of(self, unit: str) -> str:
        """Answer for one unit."""
        assert unit == UNIT.name
        return self.slice

    def call(self, method: str, signature: str = "", *body: Any, shell: str = "") -> None:
        """Note a call."""
        self.asked.append(method)
        if self.errors.get(method):
            raise self.errors[method].pop(0)
        if method in ("StartTransientUnit", "SetUnitProperties"):
            self.told = {name: value for name, (_, value) in body[2]}

    run_job = call


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A directory that looks like the scope's group."""
    directory = tmp_path.joinpath(UNIT.path[1:])
    directory.mkdir(parents=True)
    for file in FILES:
        directory.joinpath(file).touch()
    tmp_path.joinpath("test.slice/cgroup.subtree_control").write_text("cpu memory pids")
    tmp_path.joinpath("cgroup.controllers").touch()
    return directory


class Files(V2Cgroup):
    """The driver, of which some things can't be had in a plain directory."""

    ends: tuple[str, ...] = ()

    def kill(self, timeout_s: float = 10) -> None:
        """Note it."""
        self.ends += ("kill",)

    def remove(self, timeout_s: float = 5) -> None:
        """Note it."""
        self.ends += ("remove",)

    def complete(self) -> None:
        """Pass on nothing."""


def scope_of(group: Path, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> tuple[SystemdCgroup, Files]:
    """Make the scope's driver, and give that of its files too."""
    monkeypatch.setattr(systemd_bus, "SystemdBus", lambda: bus)
    monkeypatch.setattr(systemd_bus, "require_systemd", lambda: None)
    files = Files(Hierarchy(mount_point=str(group.parents[1])), UNIT.path)
    return SystemdCgroup(UNIT, files), files


def test_a_scope_of_ours_is_stopped(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who made it, and by who finds it later: the control of those that are left alone."""
    bus = Bus()
    scope, files = scope_of(group, bus, monkeypatch)
    scope.create()
    scope.adopt(1, {})
    scope.kill()
    scope.remove()
    assert bus.asked == ["StartTransientUnit", "StopUnit", "ResetFailedUnit"]
    assert files.ends == ("kill", "remove")
    later, _ = scope_of(group, bus, monkeypatch)
    later.remove()
    assert bus.asked[3:] == ["StopUnit", "ResetFailedUnit"]


def test_a_scope_that_was_there_before_is_left_alone(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither stopped nor its processes killed, when what was to be a container is taken back."""
    bus = Bus(StartTransientUnit=[refused("UnitExists"), refused("UnitExists")])
    scope, files = scope_of(group, bus, monkeypatch)
    scope.create()
    with pytest.raises(Conflict, match="exists already"):
        scope.adopt(1, {})
    scope.kill()
    scope.remove()
    assert "StopUnit" not in bus.asked
    assert files.ends == ()


def test_a_scope_of_that_name_in_another_slice_is_left_alone(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when there is none: what the files still have goes nevertheless."""
    for slice in ("other.slice", ""):
        bus = Bus(slice)
        scope, files = scope_of(group, bus, monkeypatch)
        scope.remove()
        assert bus.asked == []
        assert files.ends == ("remove",)


@pytest.mark.parametrize(("manager", "ends"), [("systemd", ()), ("cgroupfs", ("remove",))])
def test_a_create_that_died_before_its_first_process_had_no_scope(
    group: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manager: str,
    ends: tuple[str, ...],
) -> None:
    """Whatever is at its path is another's; a directory of our own making goes if it is empty."""
    bus = Bus()
    scope, files = scope_of(group, bus, monkeypatch)
    monkeypatch.setattr(operations, "cgroup_of", lambda _: scope if manager == "systemd" else files)
    store = Store(str(tmp_path / "run"))
    os.close(store.reserve("web"))
    store.save(State(id="web", bundle="/b", cgroup=UNIT.path, cgroup_manager=manager))
    operations.delete("web", store, force=True)
    assert bus.asked == []
    assert files.ends == ends
    assert store.names() == []


def test_a_scope_that_was_begun_is_taken_back(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systemd may make it after all."""
    bus = Bus(StartTransientUnit=[Conflict("timeout")])
    scope, files = scope_of(group, bus, monkeypatch)
    scope.create()
    with pytest.raises(Conflict, match="timeout"):
        scope.adopt(1, {})
    scope.kill()
    scope.remove()
    assert "StopUnit" in bus.asked
    assert files.ends == ("kill", "remove")


def test_what_is_left_of_a_failed_scope_makes_way(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try is ours."""
    bus = Bus(StartTransientUnit=[refused("UnitExists")])
    scope, files = scope_of(group, bus, monkeypatch)
    scope.create()
    scope.adopt(1, {})
    scope.kill()
    assert bus.asked == ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]
    assert files.ends == ("kill",)


@pytest.mark.parametrize("error", [refused("NoSuchUnit"), Conflict("the result is canceled")])
def test_a_scope_that_goes_by_itself_is_no_failure(
    group: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Its last process may end between our question and our wish."""
    scope, files = scope_of(group, Bus(StopUnit=[error]), monkeypatch)
    scope.remove()
    assert files.ends == ("remove",)


def test_that_there_is_to_be_no_swap_is_told_at_once(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the group is there, and so before one can see whether this kernel counts swap."""
    bus = Bus()
    scope, _ = scope_of(group, bus, monkeypatch)
    scope.create()
    scope.limit(Resources(memory=Memory(limit=64, swap=64)))
    for file in FILES:
        group.joinpath(file).unlink()
    with pytest.raises(NotFound):  # it asked, and then looked for the group
        scope.adopt(1, {})
    assert bus.told["MemorySwapMax"] == 0


def test_what_systemd_refuses_is_taken_back(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the files say what systemd knows, and what is kept of the last change."""
    group.joinpath("pids.max").write_text("50")
    group.joinpath("memory.max").write_text("max")
    bus = Bus()
    scope, _ = scope_of(group, bus, monkeypatch)
    change = Resources(pids=Pids(limit=9), memory=Memory(limit=64))
    bus.errors = {"SetUnitProperties": [refused("NoSuchUnit")]}
    with pytest.raises(RefusedError):
        scope.limit(change)
    assert group.joinpath("pids.max").read_text()[:2] == "50"
    assert group.joinpath("memory.max").read_text()[:3] == "max"
    scope.limit(change)  # the control: it does write
    assert group.joinpath("pids.max").read_text()[:1] == "9"
    assert bus.told == {"TasksMax": 9, "MemoryMax": 64}


def test_an_idle_scope_becomes_a_busy_one(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In systemd's eyes too, or its next reload made it idle again."""
    bus = Bus()
    scope, _ = scope_of(group, bus, monkeypatch)
    scope.limit(Resources(cpu=Cpu(idle=1)))
    assert bus.told == {"CPUWeight": 0}
    scope.limit(Resources(cpu=Cpu(idle=0)))
    assert bus.told == {"CPUWeight": 2**64 - 1}  # the usual one
    scope.limit(Resources(cpu=Cpu(idle=0, shares=1024)))
    assert bus.told == {"CPUWeight": 100}
