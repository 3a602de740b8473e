"""What an update asks for, and what becomes of the limits that hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cgroups.limits import (
    BlockIO,
    Cpu,
    DeviceRate,
    DeviceRule,
    HugepageLimit,
    Memory,
    Pids,
    Rdma,
    Resources,
)
from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.runtime.cli.command_line import COMMANDS, options_of
from minicontainer.runtime.container import updates

MIB = 1 << 20


def test_every_option_of_the_command_is_read() -> None:
    """The table and the help text name the same ones."""
    told = {name for name, _ in options_of(COMMANDS["update"]).values()}
    others = {"resources", *updates.IGNORED, "l3-cache-schema", "mem-bw-schema"}
    assert told == set(updates.OPTIONS) | others


@pytest.mark.parametrize(
    ("given_options", "resources"),
    [
        ({"memory": "64m", "memory-swap": "-1"}, {"memory": {"limit": 64 * MIB, "swap": -1}}),
        ({"cpu-quota": "-1", "cpu-burst": "0"}, {"cpu": {"quota": -1, "burst": 0}}),
        ({"cpuset-cpus": "0-1", "cpu-share": "9"}, {"cpu": {"cpus": "0-1", "shares": 9}}),
        ({"pids-limit": "-1", "blkio-weight": "10"},
         {"pids": {"limit": -1}, "blockIO": {"weight": 10}}),
        ({"memory": "", "kernel-memory": "5m"}, {}),
    ],
)  # fmt: skip
def test_options_name_limits(given_options: dict[str, str], resources: dict[str, Any]) -> None:
    """As the same limits in JSON do."""
    assert updates.from_options(given_options) == updates.from_json(json.dumps(resources))


@pytest.mark.parametrize("option", [name for name in updates.OPTIONS if "cpuset" not in name])
def test_a_value_without_sense_is_named_by_its_option(option: str) -> None:
    """Before anything is done."""
    with pytest.raises(InvalidArgument, match=rf"^--{option}: invalid (size|number): '1x'"):
        updates.from_options({option: "1x"})


def test_caches_and_bandwidth_are_refused() -> None:
    """Clearly, and not passed over."""
    with pytest.raises(Unsupported, match=r"--l3-cache-schema: .* not supported"):
        updates.from_options({"l3-cache-schema": "L3:0=f"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "--resources: not JSON"), ("{", "--resources: not JSON"),
        ("[" * 100000, "--resources: not JSON"),
        ("[]", "linux.resources: expected an object"),
        ('{"memory": {"limit": "1"}}', "linux.resources.memory.limit: expected a whole number"),
    ],
)  # fmt: skip
def test_json_without_sense_is_refused(text: str, says: str) -> None:
    """By its path."""
    with pytest.raises(InvalidArgument, match=says):
        updates.from_json(text)


def test_devices_are_not_updated() -> None:
    """A list in the change is passed over, and the one that holds stays."""
    text = '{"devices": [{"allow": true}], "pids": {"limit": 5}}'
    assert updates.from_json(text) == Resources(pids=Pids(limit=5))
    present = Resources(devices=(DeviceRule(allow=False),))
    assert updates.merged(present, updates.from_json(text)).devices == present.devices


def test_what_a_change_does_not_name_stays() -> None:
    """Values one by one; lists by what their items are about."""
    present = Resources(
        memory=Memory(limit=5, swap=7),
        cpu=Cpu(shares=3, cpus="0"),
        block_io=BlockIO(throttle_read_bps_device=(DeviceRate(major=8, minor=0, rate=1),)),
        hugepage_limits=(HugepageLimit(page_size="2MB", limit=1),),
        rdma={"a": Rdma(hca_handles=1, hca_objects=2)},
        unified={"memory.high": "1"},
    )
    change = Resources(
        memory=Memory(limit=6),
        cpu=Cpu(shares=0, burst=0, cpus=""),
        pids=Pids(limit=0),
        block_io=BlockIO(
            throttle_read_bps_device=(
                DeviceRate(major=8, minor=0, rate=9), DeviceRate(major=8, minor=16, rate=2),
            )
        ),
        hugepage_limits=(HugepageLimit(page_size="1GB", limit=4),),
        rdma={"a": Rdma(hca_objects=5)},
        unified={"io.weight": "2"},
    )  # fmt: skip
    assert updates.merged(present, change) == Resources(
        memory=Memory(limit=6, swap=7),
        cpu=Cpu(shares=3, cpus="0", burst=0),
        pids=Pids(limit=0),
        block_io=BlockIO(
            throttle_read_bps_device=(
                DeviceRate(major=8, minor=0, rate=9), DeviceRate(major=8, minor=16, rate=2),
            )
        ),
        hugepage_limits=(
            HugepageLimit(page_size="2MB", limit=1), HugepageLimit(page_size="1GB", limit=4),
        ),
        rdma={"a": Rdma(hca_handles=1, hca_objects=5)},
        unified={"memory.high": "1", "io.weight": "2"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("present", "change", "written"),
    [
        (Memory(limit=5, swap=9), Memory(limit=7), Memory(limit=7, swap=9)),
        (Memory(limit=5, swap=9), Memory(limit=-1), Memory(limit=-1, swap=-1)),
        (Memory(limit=5), Memory(limit=7), Memory(limit=7)),
        (Memory(limit=5, swap=9), Memory(limit=7, swap=8), Memory(limit=7, swap=8)),
        (Memory(limit=5, swap=9), Memory(reservation=3), Memory(reservation=3)),
        (Memory(check_before_update=True), Memory(limit=7),
         Memory(limit=7, check_before_update=True)),
    ],
)  # fmt: skip
def test_the_sum_of_memory_and_swap_stays_when_memory_changes(
    present: Memory, change: Memory, written: Memory
) -> None:
    """On v1 by itself; v2 counts swap alone, and must be told."""
    asked, now = Resources(memory=change), Resources(memory=present)
    assert updates.completed(asked, updates.merged(now, asked)) == Resources(memory=written)


def test_the_shares_come_back_when_a_group_is_no_longer_idle() -> None:
    """The kernel would give it the usual ones; and a change of something else names none."""
    now = Resources(cpu=Cpu(shares=512, idle=1))
    for change, written in (
        (Cpu(idle=0), Cpu(idle=0, shares=512)),
        (Cpu(idle=0, shares=7), Cpu(idle=0, shares=7)),
        (Cpu(idle=1), Cpu(idle=1)),
        (Cpu(quota=5), Cpu(quota=5)),
    ):
        asked = Resources(cpu=change)
        assert updates.completed(asked, updates.merged(now, asked)) == Resources(cpu=written)


@given(st.builds(Resources, memory=st.none() | st.builds(Memory, limit=st.integers(min_value=1))))
def test_a_change_over_nothing_is_the_change(change: Resources) -> None:
    """And over itself too."""
    assert updates.merged(Resources(), change) == change
    assert updates.merged(change, change) == change
    assert updates.merged(change, Resources()) == change
