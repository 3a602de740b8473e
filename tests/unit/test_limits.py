"""linux.resources read from JSON, and turned into the texts of control files."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cgroups import control_files, conversions, limits
from minicontainer.cgroups.limits import Cpu, Memory, Pids, Resources
from minicontainer.errors import Conflict, InvalidArgument, KernelError, Unsupported

# JSON can write more, but nothing that a control file takes.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NEW_GROUP = {"cpu.max": "max 100000", "memory.max": "max", "memory.swap.max": "max"}


def written(
    resources: dict[str, Any], version: int, now: dict[str, str] | None = None
) -> list[tuple[str, str]]:
    """List what would be written for *resources*, as JSON has them."""
    found: list[tuple[str, str]] = []
    present = NEW_GROUP if now is None else now
    control_files.apply(
        Resources.from_json(resources),
        "/test",
        lambda row: version == 2,
        lambda where, file, text: found.append((file, text)),
        lambda file: present.get(file, ""),
    )
    return found


@pytest.mark.parametrize(
    ("resources", "v1", "v2"),
    [
        ({"memory": {"limit": 64}}, [("memory.limit_in_bytes", "64")], [("memory.max", "64")]),
        (
            {"memory": {"reservation": 9}},
            [("memory.soft_limit_in_bytes", "9")],
            [("memory.low", "9")],
        ),
        (
            {"memory": {"limit": 64, "swap": 100}},
            [("memory.limit_in_bytes", "64"), ("memory.memsw.limit_in_bytes", "100")],
            [("memory.max", "64"), ("memory.swap.max", "36")],
        ),
        ({"cpu": {"shares": 1024}}, [("cpu.shares", "1024")], [("cpu.weight", "100")]),
        (
            {"cpu": {"quota": 5000, "period": 10000}},
            [("cpu.cfs_period_us", "10000"), ("cpu.cfs_quota_us", "5000")],
            [("cpu.max", "5000 10000")],
        ),
        ({"cpu": {"quota": -1}}, [("cpu.cfs_quota_us", "-1")], [("cpu.max", "max")]),
        ({"cpu": {"cpus": "0-1"}}, [("cpuset.cpus", "0-1")], [("cpuset.cpus", "0-1")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")], [("pids.max", "max")]),
        ({"pids": {"limit": 0}}, [("pids.max", "1")], [("pids.max", "1")]),
        (
            {"cpu": {"idle": 0, "burst": 0}},
            [("cpu.cfs_burst_us", "0"), ("cpu.idle", "0")],
            [("cpu.max.burst", "0"), ("cpu.idle", "0")],
        ),
        ({"blockIO": {"weight": 1000}}, [("blkio.weight", "1000")], [("io.bfq.weight", "1000")]),
        (
            {"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}]}},
            [("blkio.throttle.read_iops_device", "8:0 7")],
            [("io.max", "8:0 riops=7")],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 5}]},
            [("hugetlb.2MB.limit_in_bytes", "5"), ("hugetlb.2MB.rsvd.limit_in_bytes", "5")],
            [("hugetlb.2MB.max", "5"), ("hugetlb.2MB.rsvd.max", "5")],
        ),
        (
            {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}}},
            [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10")],
            [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10")],
        ),
    ],
)
def test_a_limit_goes_into_the_file_of_its_version(
    resources: dict[str, Any], v1: list[tuple[str, str]], v2: list[tuple[str, str]]
) -> None:
    """One table, two columns."""
    assert written(resources, 1) == v1
    assert written(resources, 2) == v2


def test_zero_stands_for_a_field_left_out() -> None:
    """Engines send 0 for what nobody asked for."""
    nothing = {
        "memory": {"limit": 0, "swap": 0, "swappiness": -1, "disableOOMKiller": False},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0, "weightDevice": [{"major": 8, "minor": 0}]},
        "network": {"classID": 0, "priorities": []},
    }
    assert written(nothing, 1) == []
    assert written(nothing, 2) == []


def test_a_period_alone_keeps_the_quota() -> None:
    """v2 has both in one file, so an update of one reads the other."""
    assert written({"cpu": {"period": 50}}, 2, {"cpu.max": "20 100"}) == [("cpu.max", "20 50")]


def test_swap_alone_counts_from_the_present_memory_limit() -> None:
    """An update may name the sum only."""
    now = {"memory.max": "60", "memory.swap.max": "max"}
    assert written({"memory": {"swap": 100}}, 2, now) == [("memory.swap.max", "40")]


def test_no_memory_limit_means_no_limit_of_memory_and_swap() -> None:
    """Or the old sum would forbid the new part."""
    assert ("memory.swap.max", "max") in written({"memory": {"limit": -1}}, 2)
    assert ("memory.swap.max", "7") in written({"memory": {"limit": -1, "swap": 7}}, 2)


@pytest.mark.parametrize("version", [1, 2])
def test_a_sum_below_its_part_is_refused(version: int) -> None:
    """Memory and swap together are never less than memory."""
    with pytest.raises(InvalidArgument, match=r"memory\.swap: 10 .* 64"):
        written({"memory": {"limit": 64, "swap": 10}}, version)


def test_what_v2_does_not_have_is_refused_by_name() -> None:
    """A limit that would silently not hold is worse than none."""
    for asked, named in (
        ({"memory": {"swappiness": 10}}, "memory.swappiness"),
        ({"memory": {"kernelTCP": 4096}}, "memory.kernelTCP"),
        ({"cpu": {"realtimeRuntime": 100}}, "cpu.realtimeRuntime"),
        ({"network": {"classID": 1}}, "network.classID"),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 9}]}},
            "blockIO.weightDevice.leafWeight",
        ),
    ):
        with pytest.raises(Unsupported, match=rf"linux\.resources\.{named}: cgroup v2 has no"):
            written(asked, 2)


def test_a_page_size_can_not_name_another_file() -> None:
    """It becomes part of a path."""
    with pytest.raises(InvalidArgument, match="page size"):
        written({"hugepageLimits": [{"pageSize": "/../../MB", "limit": 5}]}, 1)


def test_what_bounds_a_limit_may_be_written_after_it() -> None:
    """Memory can be raised only after memory and swap: a refused write is tried once more."""
    files = {"memory.limit_in_bytes": 10, "memory.memsw.limit_in_bytes": 20}

    def write(where: str, file: str, text: str) -> None:
        after = {**files, file: int(text)}
        if after["memory.limit_in_bytes"] > after["memory.memsw.limit_in_bytes"]:
            raise KernelError(errno.EINVAL, "Invalid argument", file)
        files.update(after)

    for limit in (100, 5):
        control_files.apply(
            Resources(memory=Memory(limit=limit, swap=limit)),
            "/test",
            lambda row: False,
            write,
            lambda file: "",
        )
        assert set(files.values()) == {limit}


def test_what_was_written_is_taken_back_if_the_rest_is_refused() -> None:
    """An update happens whole or not at all; the last change goes first."""
    files = {"memory.max": "100", "pids.max": "max", "io.max": "8:0 rbps=1\n8:16 rbps=1"}
    before = dict(files)

    def write(where: str, file: str, text: str) -> None:
        if file == "cpu.idle":
            raise KernelError(errno.EINVAL, "Invalid argument", file)
        files[file] = text

    rates = [{"major": 8, "minor": 0, "rate": 5}]
    asked = Resources.from_json({
        "memory": {"limit": 5}, "cpu": {"idle": 7}, "pids": {"limit": 5},
        "blockIO": {"throttleReadBpsDevice": rates},
    })  # fmt: skip
    with pytest.raises(InvalidArgument, match=r"cpu\.idle: '7'"):
        control_files.apply(asked, "/test", lambda row: True, write, lambda f: files.get(f, ""))
    assert files.pop("io.max") == "8:0 rbps=5"  # a line of several is no command
    assert files == {name: text for name, text in before.items() if name != "io.max"}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"cpu": {"quota": 3, "period": 100_000}}, "cpu.quota and period: '3 100000': "),
        ({"cpu": {"quota": 3}}, "cpu.quota: '3': "),
        ({"unified": {"cpu.max": "3 100000"}}, "unified.cpu.max: '3 100000': "),
    ],
)
def test_a_refusal_names_all_that_was_written(
    asked: dict[str, dict[str, int | str]], named: str
) -> None:
    """v2's cpu.max takes two limits at once, of which either may be the wrong one."""

    def write(where: str, file: str, text: str) -> None:
        raise KernelError(errno.EINVAL, "Invalid argument", file)

    with pytest.raises(InvalidArgument) as refused:
        control_files.apply(
            Resources.from_json(asked), "/test", lambda row: True, write, lambda file: ""
        )
    assert str(refused.value).startswith(f"linux.resources.{named}")


def test_unified_values_are_written_line_by_line() -> None:
    """A file like io.max takes one device a write."""
    told = written({"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n", "memory.high": "5"}}, 2)
    assert told == [("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2"), ("memory.high", "5")]


@pytest.mark.parametrize("name", ["", ".", "memory", ".max", "memory.", "../memory.max", "a/b.c"])
def test_unified_names_are_control_files(name: str) -> None:
    """They become part of a path."""
    with pytest.raises(InvalidArgument, match="control file's name"):
        written({"unified": {name: "1"}}, 2)


@pytest.mark.parametrize(
    ("version", "limit"),
    [("1.0.2-dev", None), ("1.2.1", None), ("1.3.0", 0), ("2.0", 0), ("", None)],
)
@pytest.mark.oci("ociVersion")
def test_no_tasks_is_no_limit_before_version_1_3(version: str, limit: int | None) -> None:
    """Docker 20.10 writes a limit of 0 into every container."""
    kept = Resources(pids=Pids(limit=0)).as_of(version)
    assert (kept.pids.limit if kept.pids else None) == limit
    assert Resources(pids=Pids(limit=5)).as_of(version) == Resources(pids=Pids(limit=5))


def test_reservations_of_huge_pages_are_limited_where_the_kernel_counts_them() -> None:
    """Not before Linux 5.7; the pages themselves always."""
    found = []

    def write(where: str, file: str, text: str) -> None:
        if "rsvd" in file:
            raise KernelError(errno.ENOENT, "No such file", file)
        found.append(file)

    resources = Resources.from_json({"hugepageLimits": [{"pageSize": "2MB", "limit": 5}]})
    control_files.apply(resources, "/test", lambda row: True, write, lambda file: "")
    assert found == ["hugetlb.2MB.max"]


def test_a_missing_file_leads_to_the_next_row_of_the_field() -> None:
    """Which file a block device's weight has depends on the scheduler."""
    found = {}

    def write(where: str, file: str, text: str) -> None:
        if file == "io.bfq.weight":
            raise KernelError(errno.ENOENT, "No such file", file)
        found[file] = text

    resources = Resources.from_json({"blockIO": {"weight": 10}})
    control_files.apply(resources, "/test", lambda row: True, write, lambda file: "")
    assert found == {"io.weight": "1"}


@pytest.mark.oci("linux.resources.memory.checkBeforeUpdate")
def test_a_limit_below_the_use_is_refused_if_asked() -> None:
    """checkBeforeUpdate: no process shall die of an update."""
    memory = Memory(limit=10, check_before_update=True)
    control_files.check_use(Resources(memory=memory), "10")
    both = Memory(limit=-1, swap=10, check_before_update=True)
    for asked, name in ((memory, "limit"), (both, "swap")):
        with pytest.raises(Conflict, match=rf"memory\.{name}: 10: 11 bytes are in use"):
            control_files.check_use(Resources(memory=asked), "11")


def test_every_json_path_exists() -> None:
    """The table's fields are those of the records."""
    paths = {Resources.json_path(row.field) for row in control_files.LIMITS}
    assert "linux.resources.blockIO.throttleReadIOPSDevice" in paths
    assert "linux.resources.network.classID" in paths


class _MemoryOfTomorrow(Memory):
    """With the kernel's memory.zswap.max, which cgroup v1 does not have, and where 0 is a limit."""

    zswap: int | None = None


def test_a_limit_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up one, of v2 alone: it is written, also as 0; v1 refuses it by its name."""
    row = control_files.Limit("memory.zswap", [], [("memory.zswap.max", conversions.as_is)])
    monkeypatch.setattr(control_files, "LIMITS", (*control_files.LIMITS, row))
    monkeypatch.setitem(limits._PARTS, "memory", _MemoryOfTomorrow)
    found: list[tuple[str, str]] = []

    def apply(asked: Memory, version: int) -> None:
        control_files.apply(
            Resources(memory=asked), "/test", lambda row: version == 2,
            lambda where, file, text: found.append((file, text)), lambda file: "",
        )  # fmt: skip

    apply(_MemoryOfTomorrow(zswap=0), 2)
    apply(_MemoryOfTomorrow(zswap=4096), 2)
    assert found == [("memory.zswap.max", "0"), ("memory.zswap.max", "4096")]
    with pytest.raises(Unsupported, match=r"resources\.memory\.zswap: cgroup v1 has no such limit"):
        apply(_MemoryOfTomorrow(zswap=0), 1)
    apply(_MemoryOfTomorrow(), 1)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (512, 59), (1024, 100), (262144, 10000)])
def test_weights_meet_the_defaults(shares: int, weight: int) -> None:
    """The figures are those of runc since 1.3.2 and crun since 1.23."""
    assert conversions.weight_of_shares(shares) == str(weight)


@given(st.integers(min_value=1), st.integers(min_value=1))
def test_weights_keep_the_order_of_shares(one: int, other: int) -> None:
    """More shares are never less weight, and every weight is one the kernel takes."""
    weights = [int(conversions.weight_of_shares(shares) or 0) for shares in sorted((one, other))]
    assert 1 <= weights[0] <= weights[1] <= 10000


@given(st.integers(10, 1000))
def test_a_block_weight_fits_the_range_of_v2(weight: int) -> None:
    """10 to 1000 becomes 1 to 10000."""
    assert 1 <= int(conversions.bfq_to_io_weight(weight) or 0) <= 10000


@given(st.integers(1, 2**60), st.integers(0, 2**60))
def test_memory_and_swap_add_up_again(limit: int, swap: int) -> None:
    """What v2 gets is what v1 counts together."""
    text = dict(written({"memory": {"limit": limit, "swap": limit + swap}}, 2))
    assert int(text["memory.max"]) + int(text["memory.swap.max"]) == limit + swap


@given(
    st.builds(
        Resources,
        memory=st.none() | st.builds(Memory, limit=st.none() | st.integers()),
        cpu=st.none() | st.builds(Cpu, cpus=st.none() | texts, shares=st.integers()),
        unified=st.none() | st.dictionaries(texts, texts),
    )
)
def test_resources_read_what_they_wrote(resources: Resources) -> None:
    """To JSON and back is the same value."""
    assert Resources.from_json(resources.to_json()) == resources
