"""The control files of cgroup v1, by cgroupspy's controllers.

A `Controller` of cgroupspy has the control files of one group as attributes, each with the type of
its text. This module adds what it lacks, in the same form: the controllers pids, freezer, hugetlb
and rdma, and newer files. Its `Node`s and trees are not used: they search all of /sys/fs/cgroup,
and import `logging`, 6 ms at each start. A controller only needs the path of a node.

See: kernel admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import _collections_abc
import errno
import os
import sys

from minicontainer.errors import KernelError
from minicontainer.kernel import files

# cgroupspy imports one name from collections.abc; the package around that costs a start 1 ms. So
# that module is put in place without the package, during these imports.
_had_abc = "collections.abc" in sys.modules
sys.modules.setdefault("collections.abc", _collections_abc)
from cgroupspy import controllers  # noqa: E402
from cgroupspy.interfaces import BaseFileInterface, IntegerFile  # noqa: E402

if not _had_abc:
    del sys.modules["collections.abc"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Place:
    """The part of a node that a controller needs."""

    def __init__(self, full_path: str, path: str) -> None:
        self.full_path, self.path = full_path, path


class OurController(controllers.Controller):  # type: ignore[misc]  # cgroupspy has no types
    """A controller whose files are read and written like all others of this project."""

    node: Place

    def filepath(self, filename: bytes | str) -> str:
        """Return a control file's full path; cgroupspy's own paths are bytes."""
        return f"{self.node.full_path}/{os.fsdecode(filename)}"

    def set_property(self, filename: bytes | str, value: object) -> None:
        """Write a control file with one write(2), noted."""
        name = os.fsdecode(filename)
        files.write_file(self.filepath(name), str(value), object=f"cgroup:{self.node.path}/{name}")

    def get_property(self, filename: bytes | str) -> str:
        """Read a control file."""
        return files.read_file(self.filepath(filename)).strip()

    def known(self, name: str, otherwise: Any) -> Any:
        """Read the attribute *name*; return *otherwise* if this kernel has no such file."""
        try:
            return getattr(self, name)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                return otherwise
            raise


class CpuAcct(OurController, controllers.CpuAcctController):  # type: ignore[misc]  # no types
    """Processor time."""

    usage_user = IntegerFile("cpuacct.usage_user", readonly=True)
    usage_sys = IntegerFile("cpuacct.usage_sys", readonly=True)

    def by_processor(self, mode: str) -> tuple[int, ...]:
        """Read the nanoseconds of each processor in one mode: user or sys."""
        try:
            text = self.get_property(f"cpuacct.usage_percpu_{mode}")
        except KernelError:  # before Linux 4.7
            return ()
        return tuple(map(int, text.split()))


class Cpu(OurController, controllers.CpuController):  # type: ignore[misc]  # no types
    """Shares and quotas of processor time."""


class CpuSet(OurController, controllers.CpuSetController):  # type: ignore[misc]  # no types
    """The processors and memory nodes."""


class Memory(OurController, controllers.MemoryController):  # type: ignore[misc]  # no types
    """Memory."""


class Devices(OurController, controllers.DevicesController):  # type: ignore[misc]  # no types
    """The devices that may be used."""


class BlkIO(OurController, controllers.BlkIOController):  # type: ignore[misc]  # no types
    """Block devices: cgroupspy has the sums; these are by device: "DEVICE OPERATION NUMBER"."""

    bytes = BaseFileInterface("blkio.throttle.io_service_bytes_recursive", readonly=True)
    operations = BaseFileInterface("blkio.throttle.io_serviced_recursive", readonly=True)
    bfq_bytes = BaseFileInterface("blkio.bfq.io_service_bytes_recursive", readonly=True)
    bfq_operations = BaseFileInterface("blkio.bfq.io_serviced_recursive", readonly=True)


class Pids(OurController):
    """Tasks."""

    current = IntegerFile("pids.current", readonly=True)
    max = BaseFileInterface("pids.max")  # a number, or the word max


class Freezer(OurController):
    """Freeze and thaw: THAWED, FREEZING, FROZEN."""

    state = BaseFileInterface("freezer.state")


class Rdma(OurController):
    """RDMA devices."""

    current = BaseFileInterface("rdma.current", readonly=True)


CONTROLLERS: dict[str, type[OurController]] = {
    "blkio": BlkIO,
    "cpu": Cpu,
    "cpuacct": CpuAcct,
    "cpuset": CpuSet,
    "devices": Devices,
    "freezer": Freezer,
    "memory": Memory,
    "pids": Pids,
    "rdma": Rdma,
}  # the others have only the files that every controller has
