"""linux.resources read from JSON, and turned into the texts of control files."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cgroups import control_files
from minicontainer.cgroups.limits import Cpu, Memory, Resources
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
        ({"cpu": {"shares": 1024}}, [("cpu.shares", "1024")], [("cpu.weight", "39")]),
        (
            {"cpu": {"quota": 5000, "period": 10000}},
            [("cpu.cfs_period_us", "10000"), ("cpu.cfs_quota_us", "5000")],
            [("cpu.max", "5000 10000")],
        ),
        ({"cpu": {"quota": -1}}, [("cpu.cfs_quota_us", "-1")], [("cpu.max", "max")]),
        ({"cpu": {"cpus": "0-1"}}, [("cpuset.cpus", "0-1")], [("cpuset.cpus", "0-1")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")], [("pids.max", "max")]),
        ({"blockIO": {"weight": 1000}}, [("blkio.weight", "1000")], [("io.bfq.weight", "1000")]),
        (
            {"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}]}},
            [("blkio.throttle.read_iops_device", "8:0 7")],
            [("io.max", "8:0 riops=7")],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 5}]},
            [("hugetlb.2MB.limit_in_bytes", "5")],
            [("hugetlb.2MB.max", "5")],
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
    nothing = {"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0, "quota": 0, "period": 0}}
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


@pytest.mark.parametrize("version", [1, 2])
def test_a_sum_below_its_part_is_refused(version: int) -> None:
    """Memory and swap together are never less than memory."""
    with pytest.raises(InvalidArgument, match=r"memory\.swap: 10 .* 64"):
        written({"memory": {"limit": 64, "swap": 10}}, version)


def test_what_v2_does_not_have_is_refused_by_name() -> None:
    """A limit that would silently not hold is worse than none."""
    with pytest.raises(Unsupported, match=r"linux\.resources\.memory\.swappiness"):
        written({"memory": {"swappiness": 10}}, 2)


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


def test_a_limit_below_the_use_is_refused_if_asked() -> None:
    """checkBeforeUpdate: no process shall die of an update."""
    memory = Memory(limit=10, check_before_update=True)
    control_files.check_use(Resources(memory=memory), "10")
    with pytest.raises(Conflict, match="11 bytes are in use"):
        control_files.check_use(Resources(memory=memory), "11")


def test_every_json_path_exists() -> None:
    """The table's fields are those of the records."""
    paths = {Resources.json_path(row.field) for row in control_files.LIMITS}
    assert "linux.resources.blockIO.throttleReadIOPSDevice" in paths
    assert "linux.resources.network.classID" in paths


@given(st.integers(min_value=1), st.integers(min_value=1))
def test_weights_keep_the_order_of_shares(one: int, other: int) -> None:
    """More shares are never less weight, and every weight is one the kernel takes."""
    weights = [int(control_files.weight_of_shares(shares) or 0) for shares in sorted((one, other))]
    assert 1 <= weights[0] <= weights[1] <= 10000


@given(st.integers(10, 1000))
def test_a_block_weight_fits_the_range_of_v2(weight: int) -> None:
    """10 to 1000 becomes 1 to 10000."""
    assert 1 <= int(control_files.bfq_to_io_weight(weight) or 0) <= 10000


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
