"""Time namespaces: clocks that count from another moment. time_namespaces(7)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .conftest import Bundles, Spec, is_ours

AHEAD_S = 1_000_000
_UPTIME = "cat /proc/uptime; cat /proc/self/timens_offsets"


def _ahead(config: Spec) -> None:
    config["linux"]["namespaces"].append({"type": "time"})
    config["linux"]["timeOffsets"] = {
        "boottime": {"secs": AHEAD_S, "nanosecs": 0},
        "monotonic": {"secs": AHEAD_S // 2, "nanosecs": 250_000_000},
    }


def _own_time(config: Spec) -> None:
    config["linux"]["namespaces"].append({"type": "time"})


def _uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.oci("linux.timeOffsets")
def test_the_clocks_are_shifted(bundles: Bundles) -> None:
    """Uptime is the host's and a million seconds more; the kernel shows both offsets."""
    before = _uptime_s()
    inside = bundles(_UPTIME, _ahead).output.split()
    after = _uptime_s()
    assert before + AHEAD_S - 1 <= float(inside[0]) <= after + AHEAD_S + 1
    assert inside[2:] == [
        "monotonic", str(AHEAD_S // 2), "250000000", "boottime", str(AHEAD_S), "0",
    ]  # fmt: skip


def test_without_offsets_they_are_the_hosts(bundles: Bundles) -> None:
    """The control, with a namespace of its own and without one."""
    for change in (_own_time, lambda _: None):
        before = _uptime_s()
        inside = bundles(_UPTIME, change).output.split()
        assert before - 1 <= float(inside[0]) <= _uptime_s() + 1
        assert inside[2:] == ["monotonic", "0", "0", "boottime", "0", "0"]


@pytest.mark.oci("linux.namespaces[].type")
def test_the_kernel_gives_it_another_namespace(bundles: Bundles) -> None:
    """With the control; and the host keeps its own."""
    container = bundles.start("echo ready; sleep 60", _ahead)
    assert not is_ours(container.pid, "time")
    assert Path(f"/proc/{container.pid}/timens_offsets").read_text().split()[1] == str(AHEAD_S // 2)
    assert Path("/proc/self/timens_offsets").read_text().split()[1] == "0"
    assert is_ours(bundles.start("echo ready; sleep 60").pid, "time")


@pytest.mark.oci("linux.timeOffsets")
def test_offsets_without_a_namespace_are_refused(bundles: Bundles) -> None:
    """They would be the host's."""

    def no_namespace(config: Spec) -> None:
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 1, "nanosecs": 0}}

    result = bundles("true", no_namespace)
    assert result.status == 1
    assert "linux.timeOffsets: needs a new time namespace" in result.errors


def test_a_clock_can_not_go_below_zero(bundles: Bundles) -> None:
    """The kernel refuses: ERANGE; nothing runs."""

    def before_boot(config: Spec) -> None:
        _own_time(config)
        config["linux"]["timeOffsets"] = {"boottime": {"secs": -(10**9), "nanosecs": 0}}

    result = bundles("true", before_boot)
    assert result.status == 1
    assert "timens_offsets" in result.errors
    assert "Numerical result out of range" in result.errors
