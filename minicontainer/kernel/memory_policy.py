"""The memory nodes on which pages are allocated.

See: set_mempolicy(2), numa(7).
"""

from __future__ import annotations

import sys

from minicontainer import steps
from minicontainer.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
HIGHEST_NODE = 1023

_MASK_SIZE = (HIGHEST_NODE + 1) // 8  # bytes


def set_mempolicy(mode: str, nodes: frozenset[int], flags: Iterable[str] = ()) -> None:
    """set_mempolicy(2), for this process and its future children.

    Args:
        mode, flags: of MODES and FLAGS.
        nodes: 0 to HIGHEST_NODE.
    Raises:
        KernelError: EINVAL for nodes that do not exist or are not allowed, or that the mode does
            not use; ENOSYS if the kernel has no memory nodes.
    """
    number = MODES[mode] | sum(FLAGS[flag] for flag in set(flags))
    mask = sum(1 << node for node in nodes)
    # the kernel reads one bit less than the length says
    given = (mask.to_bytes(_MASK_SIZE, sys.byteorder), _MASK_SIZE * 8 + 1) if nodes else (None, 0)
    listed = ",".join(map(str, sorted(nodes)))
    steps.noted(
        "set_mempolicy", (number, listed),
        lambda: libc.quiet_call("set_mempolicy", number, *given),
        object="process:mempolicy", after=f"{mode} {listed}".strip(),
    )  # fmt: skip
