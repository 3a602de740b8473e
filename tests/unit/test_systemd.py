"""Names of units, and limits as their properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cgroups.limits import DeviceRule, Resources
from minicontainer.cgroups.systemd import unit_of
from minicontainer.cgroups.systemd_properties import (
    INFINITY,
    annotated,
    bits,
    device_properties,
    properties,
)
from minicontainer.errors import InvalidArgument
from minicontainer.runtime.config.defaults import DENY_ALL_DEVICES, DEVICE_RULES
from minicontainer.runtime.container.usage import numbers


@pytest.mark.parametrize(
    ("path", "scope", "inside"),
    [
        ("system.slice:docker:0a1b", "docker-0a1b.scope", "/system.slice"),
        (":runc:web", "runc-web.scope", "/system.slice"),
        ("-:runc:web", "runc-web.scope", ""),
        ("-.slice:runc:web", "runc-web.scope", ""),
        ("system.slice::web", "web.scope", "/system.slice"),
        ("a-b-c.slice:cri:x", "cri-x.scope", "/a.slice/a-b.slice/a-b-c.slice"),
        (":minicontainer:a+b", r"minicontainer-a\x2bb.scope", "/system.slice"),
    ],
)
def test_a_path_names_a_scope_in_a_slice(path: str, scope: str, inside: str) -> None:
    """A dash in a slice's name means that it is in another one; the path is found again."""
    unit = unit_of(path)
    assert (unit.name, unit.path) == (scope, f"{inside}/{scope}")
    again = unit_of(unit.path)
    assert (again.name, again.slice, again.path) == (unit.name, unit.slice, unit.path)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "expected slice:prefix:name"),
        ("/minicontainer/web", "expected slice:prefix:name"),
        ("web", "expected slice:prefix:name"),
        ("a.slice:b", "expected slice:prefix:name"),
        ("a.slice:b:c:d", "expected slice:prefix:name"),
        ("a.slice:b:", "expected slice:prefix:name"),
        ("a:b:c", "'a' is not a slice"),
        (".slice:b:c", "'.slice' is not a slice"),
        ("a--b.slice:b:c", "'a--b.slice' is not a slice"),
        ("-a.slice:b:c", "'-a.slice' is not a slice"),
        ("a.slice/b.slice:c:d", "takes no unit 'a.slice/b.slice'"),
        ("../a.slice:c:d", "takes no unit"),
        ("a.slice:c:../../d", "takes no unit 'c-../../d.scope'"),
        ("a.slice:c/d:e", "takes no unit"),
        ("a.slice:c:d\n", "takes no unit"),
        ("a.slice:c:" + "d" * 250, "at most 255"),
        ("a.slice:c:d.slice", "a container needs a scope"),
        ("/system.slice/../x.scope", "is not a slice"),
        ("/x/y.scope", "'x' is not a slice"),
    ],
)
def test_what_systemd_can_not_have_is_refused(path: str, says: str) -> None:
    """Before anything is asked of it; and no name climbs out of its slice."""
    with pytest.raises(InvalidArgument, match=r"^linux\.cgroupsPath: ") as refused:
        unit_of(path)
    assert says in str(refused.value)


def told(resources: dict[str, Any], version: str, now: dict[str, str] | None = None) -> Any:
    """Give the properties for *resources*, as JSON has them, without their D-Bus types."""
    present = now or {}
    found = properties(Resources.from_json(resources), version, lambda file: present.get(file, ""))
    return {name: value for name, (_, value) in found}


@pytest.mark.parametrize(
    ("resources", "v1", "v2"),
    [
        ({"memory": {"limit": 64}}, {"MemoryLimit": 64}, {"MemoryMax": 64}),
        (
            {"memory": {"limit": -1}},
            {"MemoryLimit": INFINITY},
            {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY},
        ),
        ({"memory": {"reservation": 5}}, {}, {"MemoryLow": 5}),
        (
            {"memory": {"limit": 64, "swap": 64}},
            {"MemoryLimit": 64},
            {"MemoryMax": 64, "MemorySwapMax": 0},
        ),
        (
            {"memory": {"limit": 64, "swap": 100}},
            {"MemoryLimit": 64},
            {"MemoryMax": 64, "MemorySwapMax": 36},
        ),
        ({"cpu": {"shares": 1024}}, {"CPUShares": 1024}, {"CPUWeight": 100}),
        ({"cpu": {"idle": 1, "shares": 1024}}, {"CPUShares": 1024}, {"CPUWeight": 0}),
        (
            {"cpu": {"quota": 12345, "period": 50000}},
            {"CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": 250000},
            {"CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": 250000},
        ),
        (
            {"cpu": {"quota": -1}},
            {"CPUQuotaPerSecUSec": INFINITY},
            {"CPUQuotaPerSecUSec": INFINITY},
        ),
        (
            {"cpu": {"quota": 50000}},
            {"CPUQuotaPerSecUSec": 500000},
            {"CPUQuotaPerSecUSec": 500000},
        ),
        (
            {"cpu": {"cpus": "0-1,9", "mems": "0"}},
            {},
            {"AllowedCPUs": b"\x03\x02", "AllowedMemoryNodes": b"\x01"},
        ),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}, {"TasksMax": INFINITY}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}, {"TasksMax": 1}),
        ({"blockIO": {"weight": 100}}, {"BlockIOWeight": 100}, {"IOWeight": 910}),
        ({"memory": {"limit": 0}, "cpu": {"shares": 0, "quota": 0, "cpus": ""}}, {}, {}),
    ],
)
def test_limits_are_properties(
    resources: dict[str, Any], v1: dict[str, Any], v2: dict[str, Any]
) -> None:
    """As runc tells them to systemd; the rest is for the files alone."""
    assert told(resources, "v1") == v1
    assert told(resources, "v2", {"memory.swap.max": "max"}) == v2
    assert told(resources, "v2") == v2  # there is no group yet, nor its files


def test_a_period_alone_keeps_the_quota() -> None:
    """Read from the files that hold."""
    asked = {"cpu": {"period": 50000}}
    expected = {"CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": 400000}
    assert told(asked, "v2", {"cpu.max": "20000 100000"}) == expected
    now = {"cpu.cfs_quota_us": "20000", "cpu.cfs_period_us": "100000"}
    assert told(asked, "hybrid", now) == expected
    assert told(asked, "hybrid", {"cpu.cfs_quota_us": "-1"})["CPUQuotaPerSecUSec"] == INFINITY


def test_unified_files_that_systemd_knows_are_properties() -> None:
    """Others are written only."""
    unified = {"memory.high": "5", "pids.max": "max", "cpuset.cpus": "1", "io.max": "8:0 rbps=1"}
    assert told({"unified": unified}, "v2") == {
        "MemoryHigh": 5, "TasksMax": INFINITY, "AllowedCPUs": b"\x02",
    }  # fmt: skip
    with pytest.raises(InvalidArgument, match=r"unified\.memory\.high: expected a number or max"):
        told({"unified": {"memory.high": "5G"}}, "v2")


@given(st.sets(st.integers(0, 1000), min_size=1))
def test_a_mask_has_a_bit_for_each_number(chosen: set[int]) -> None:
    """Whatever the list looks like."""
    mask = int.from_bytes(bits(",".join(map(str, chosen))), "little")
    assert {n for n in range(1001) if mask >> n & 1} == chosen


@pytest.mark.parametrize("text", ["x", "3-1", "1-", "-1", "1,,2", "99999999999"])
def test_what_is_no_list_is_refused(text: str) -> None:
    """With the form that is."""
    with pytest.raises(InvalidArgument, match="not a list like 0-2,7"):
        bits(text)
    assert numbers("0-2,7") == [0, 1, 2, 7]


def test_devices_are_named_as_systemd_does() -> None:
    """All of a kind, a driver's by its name in /proc/devices, or one by its number."""
    policy, allowed = device_properties((DENY_ALL_DEVICES, *DEVICE_RULES))
    assert policy == ("DevicePolicy", ("s", "strict"))
    listed = dict(allowed[1][1])
    assert listed["char-*"] == listed["block-*"] == "m"
    assert listed["/dev/char/1:3"] == "rwm"
    assert listed["char-pts"] == "rwm"


def test_a_list_of_all_but_some_is_for_the_file_alone() -> None:
    """Systemd can't say it."""
    rules = (DeviceRule(allow=True), DeviceRule(allow=False, type="c", major=1, minor=3))
    assert device_properties(rules) == [
        ("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", [])),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", ("b", True)), ("false", ("b", False)), ("5", ("i", 5)), ("-5", ("i", -5)),
        ("uint64 123456789", ("t", 123456789)), (" int64 -1 ", ("x", -1)), ("'hi'", ("s", "hi")),
        ('"hi"', ("s", "hi")), ("''", ("s", "")), ("[]", ("as", [])),
        ("['a.service', 'b.service']", ("as", ["a.service", "b.service"])),
    ],
)  # fmt: skip
def test_annotations_are_read_as_gvariant_texts(text: str, value: object) -> None:
    """The form that runc and crun take."""
    assert annotated({"org.systemd.property.Some": text, "x": "y"}) == [("Some", value)]


@pytest.mark.parametrize(
    "text",
    ["", "x", "'", "'a", "a'b", "'a'b'", "uint64", "uint64 x", "float 1", "[1]", "['a'", "['a',]",
     "1.5"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    """By the annotation's name."""
    with pytest.raises(
        InvalidArgument, match=r"annotations\.org\.systemd\.property\.Some: expected"
    ):
        annotated({"org.systemd.property.Some": text})
    with pytest.raises(InvalidArgument, match="not a property's name"):
        annotated({"org.systemd.property.A-b": "true"})
