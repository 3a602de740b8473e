"""The ranges of numbers in `linux.resources`: the kernel would silently cut others to 64 bits.

Whether a controller accepts a number in range is for the kernel to decide.

See: runtime-spec config-linux.md "Control groups"; the types are those of its JSON schema.
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.cgroups.limits import Resources

_INT64 = (-(2**63), 2**63 - 1)
_UINT16 = (0, 2**16 - 1)
_UINT32 = (0, 2**32 - 1)
_UINT64 = (0, 2**64 - 1)
_DEVICE = (-1, 2**31 - 1)  # -1: every number

_RANGES = {
    "memory": {
        "limit": _INT64, "reservation": _INT64, "swap": _INT64, "kernelTCP": _INT64,
        "swappiness": _UINT64,
    },
    "cpu": {
        "shares": _UINT64, "quota": _INT64, "period": _UINT64, "burst": _UINT64, "idle": _INT64,
        "realtimeRuntime": _INT64, "realtimePeriod": _UINT64,
    },
    "pids": {"limit": _INT64},
    "blockIO": {
        "weight": _UINT16, "leafWeight": _UINT16, "major": _DEVICE, "minor": _DEVICE,
        "rate": _UINT64,
    },
    "hugepageLimits": {"limit": _UINT64},
    "network": {"classID": _UINT32, "priority": _UINT32},
    "rdma": {"hcaHandles": _UINT32, "hcaObjects": _UINT32},
    "devices": {"major": _DEVICE, "minor": _DEVICE},
}  # fmt: skip


def check(resources: Resources, where: str = "linux.resources") -> None:
    """Find numbers that no kernel accepts.

    Args:
        where: the place of *resources* in its document.
    Raises:
        InvalidArgument: it names the JSON path and what was expected.
    """
    for part, value in resources.to_json().items():
        for path, number in _numbers(value, f"{where}.{part}"):
            low, high = _RANGES.get(part, {}).get(path.rpartition(".")[2], _INT64)
            if not low <= number <= high:
                raise InvalidArgument(f"{path}: expected {low} to {high}, got {number}")


def _numbers(value: object, path: str) -> Iterator[tuple[str, int]]:
    """Yield every number in a document with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _numbers(inner, f"{path}[{i}]")
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path, value
