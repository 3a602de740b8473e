"""The kernel's counters, from its own text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cgroups import stats
from minicontainer.cgroups.control_files import flat
from minicontainer.cgroups.v1_stats import by_device

names = st.text(st.characters(categories=["L", "N"]), min_size=1)
counts = st.integers(0, 2**64)


@given(st.dictionaries(names, counts))
def test_flat_files_read_back(counters: dict[str, int]) -> None:
    """One counter a line."""
    assert flat("".join(f"{key} {value}\n" for key, value in counters.items())) == counters


@given(st.dictionaries(names, st.dictionaries(names, counts)))
def test_nested_files_read_back(counters: dict[str, dict[str, int]]) -> None:
    """One device a line."""
    lines = (
        " ".join([name, *(f"{key}={value}" for key, value in pairs.items())])
        for name, pairs in counters.items()
    )
    assert stats.nested("\n".join(lines)) == counters


def test_a_limit_of_max_is_left_out() -> None:
    """rdma.max has words among the numbers."""
    assert stats.nested("mlx4_0 hca_handle=2 hca_object=max") == {"mlx4_0": {"hca_handle": 2}}


def test_pressure_reads_both_lines() -> None:
    """Some of the processes stood still, or all."""
    text = (
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=123\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    )
    read = stats.pressure(text)
    assert read.some == stats.Stall(avg10=1.5, avg60=0.25, total_us=123)
    assert read.full == stats.Stall(total_us=7)


def test_v1_counts_block_devices_by_operation() -> None:
    """The sum at the end is no device."""
    text = "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n"
    assert by_device(text) == {"8:0": {"Read": 10, "Write": 20, "Total": 30}}
