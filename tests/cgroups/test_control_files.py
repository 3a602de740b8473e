"""Every field of linux.resources ends in its control file, on the version that this host has.

What the limits do to programs is in test_limits_hold.py. A limit that this kernel or version has no
file for is refused by name, never passed over.

See: kernel cgroup-v1/*.rst, cgroup-v2.rst.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minicontainer.cgroups.cgroup import Cgroup
from minicontainer.cgroups.limits import Resources
from minicontainer.errors import InvalidArgument, Unsupported

from .conftest import control_file, directory_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
Texts = dict[str, str]


def fields(**parts: Any) -> Resources:
    """Read limits as config.json has them."""
    return Resources.from_json(parts, "linux.resources")


@pytest.mark.parametrize(
    ("part", "asked", "v1", "v2"),
    [
        pytest.param(
            "memory", {"limit": 64 * MIB},
            {"memory.limit_in_bytes": str(64 * MIB)}, {"memory.max": str(64 * MIB)},
            marks=pytest.mark.oci("linux.resources.memory.limit"),
        ),
        pytest.param(
            "memory", {"reservation": 32 * MIB},
            {"memory.soft_limit_in_bytes": str(32 * MIB)}, {"memory.low": str(32 * MIB)},
            marks=pytest.mark.oci("linux.resources.memory.reservation"),
        ),
        pytest.param(
            "memory", {"limit": 64 * MIB, "swap": 96 * MIB},
            {"memory.memsw.limit_in_bytes": str(96 * MIB)}, {"memory.swap.max": str(32 * MIB)},
            marks=pytest.mark.oci("linux.resources.memory.swap"),
        ),
        pytest.param(
            "memory", {"kernelTCP": 8 * MIB}, {"memory.kmem.tcp.limit_in_bytes": str(8 * MIB)}, {},
            marks=pytest.mark.oci("linux.resources.memory.kernelTCP"),
        ),
        pytest.param(
            "memory", {"swappiness": 13}, {"memory.swappiness": "13"}, {},
            marks=pytest.mark.oci("linux.resources.memory.swappiness"),
        ),
        pytest.param(
            "memory", {"disableOOMKiller": True}, {"memory.oom_control": "oom_kill_disable 1"}, {},
            marks=pytest.mark.oci("linux.resources.memory.disableOOMKiller"),
        ),
        pytest.param(
            "cpu", {"shares": 512}, {"cpu.shares": "512"}, {"cpu.weight": "59"},
            marks=pytest.mark.oci("linux.resources.cpu.shares"),
        ),
        pytest.param(
            "cpu", {"quota": 30000, "period": 50000, "burst": 10000},
            {"cpu.cfs_quota_us": "30000", "cpu.cfs_period_us": "50000",
             "cpu.cfs_burst_us": "10000"},
            {"cpu.max": "30000 50000", "cpu.max.burst": "10000"},
            marks=pytest.mark.oci(
                "linux.resources.cpu.quota", "linux.resources.cpu.period",
                "linux.resources.cpu.burst",
            ),
        ),
        pytest.param(
            "cpu", {"idle": 1}, {"cpu.idle": "1"}, {"cpu.idle": "1"},
            marks=pytest.mark.oci("linux.resources.cpu.idle"),
        ),
        pytest.param(
            "cpu", {"realtimePeriod": 500000}, {"cpu.rt_period_us": "500000"}, {},
            marks=pytest.mark.oci("linux.resources.cpu.realtimePeriod"),
        ),
        pytest.param(
            "cpu", {"cpus": "0", "mems": "0"},
            {"cpuset.cpus": "0", "cpuset.mems": "0"}, {"cpuset.cpus": "0", "cpuset.mems": "0"},
            marks=pytest.mark.oci("linux.resources.cpu.cpus", "linux.resources.cpu.mems"),
        ),
        pytest.param(
            "pids", {"limit": 77}, {"pids.max": "77"}, {"pids.max": "77"},
            marks=pytest.mark.oci("linux.resources.pids.limit"),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_limit_stands_in_its_file(
    group: Cgroup, part: str, asked: dict[str, Any], v1: Texts, v2: Texts
) -> None:
    """And before it was asked for, something else stood there: the control."""
    wanted = v2 if group.version == "v2" else v1
    before = {file: control_file(group, file) for file in wanted}
    if not wanted:
        with pytest.raises(Unsupported, match=rf"{part}\.\w+: cgroup v2 has no such limit"):
            group.limit(fields(**{part: asked}))
        return
    group.limit(fields(**{part: asked}))
    for file, text in wanted.items():
        assert text in (found := control_file(group, file)).splitlines(), file
        assert found != before[file] or file == "cpuset.mems", file  # there is but one node


@pytest.mark.oci("linux.resources.cpu.realtimeRuntime")
def test_time_for_real_time_tasks(group: Cgroup) -> None:
    """A share of what the group above has got, which is nothing unless somebody gives it."""
    asked = fields(cpu={"realtimeRuntime": 1000})
    if group.version == "v2":
        with pytest.raises(Unsupported, match=r"cpu\.realtimeRuntime: cgroup v2 has no such limit"):
            group.limit(asked)
        return
    above = directory_of(group, "cpu").parent / "cpu.rt_runtime_us"
    if not above.exists():
        pytest.skip("this kernel gives real-time tasks no shares (CONFIG_RT_GROUP_SCHED)")
    with pytest.raises(InvalidArgument, match=r"cpu\.realtimeRuntime: '1000': the kernel"):
        group.limit(asked)
    above.write_text("2000")
    group.limit(asked)
    assert control_file(group, "cpu.rt_runtime_us") == "1000"


# ---- block devices


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """Find a whole disk: the one that this test's files are on, or any other."""
    device = os.stat(tmp_path).st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not place.exists():
        places = [entry for entry in Path("/sys/block").glob("*") if (entry / "device").exists()]
        if not places:
            pytest.skip("needs a disk")
        place = places[0]
    if (place / "partition").exists():
        place = place.resolve().parent
    return (place / "dev").read_text().strip()


@pytest.mark.parametrize(
    ("field", "v1", "v2"),
    [
        pytest.param(
            "throttleReadBpsDevice", "read_bps_device", "rbps",
            marks=pytest.mark.oci("linux.resources.blockIO.throttleReadBpsDevice"),
        ),
        pytest.param(
            "throttleWriteBpsDevice", "write_bps_device", "wbps",
            marks=pytest.mark.oci("linux.resources.blockIO.throttleWriteBpsDevice"),
        ),
        pytest.param(
            "throttleReadIOPSDevice", "read_iops_device", "riops",
            marks=pytest.mark.oci("linux.resources.blockIO.throttleReadIOPSDevice"),
        ),
        pytest.param(
            "throttleWriteIOPSDevice", "write_iops_device", "wiops",
            marks=pytest.mark.oci("linux.resources.blockIO.throttleWriteIOPSDevice"),
        ),
    ],
)  # fmt: skip
def test_a_throttle_stands_in_its_file(
    group: Cgroup, disk: str, field: str, v1: str, v2: str
) -> None:
    """With the device's numbers; none other changes, and before there was none: the control."""
    file = "io.max" if group.version == "v2" else f"blkio.throttle.{v1}"
    assert control_file(group, file) == ""
    major, minor = map(int, disk.split(":"))
    group.limit(fields(blockIO={field: [{"major": major, "minor": minor, "rate": 7 * MIB}]}))
    if group.version == "v2":
        kinds = ("rbps", "wbps", "riops", "wiops")
        told = [f"{kind}={7 * MIB if kind == v2 else 'max'}" for kind in kinds]
        assert control_file(group, file) == " ".join([disk, *told])
    else:
        assert control_file(group, file) == f"{disk} {7 * MIB}"


@pytest.mark.oci("linux.resources.blockIO.weight")
def test_a_weight_at_disks(group: Cgroup) -> None:
    """By whichever scheduler's file the kernel has; refused by name where it has none."""
    files = {
        # io.weight counts from 1 to 10000, the others from 10 to 1000
        "v2": {"io.bfq.weight": "default 300", "io.weight": "default 2930"},
    }.get(group.version, {"blkio.weight": "300", "blkio.bfq.weight": "300"})
    before = {file: text for file in files if (text := control_file(group, file))}
    if not before:
        with pytest.raises(Unsupported, match=r"blockIO\.weight: this kernel has no"):
            group.limit(fields(blockIO={"weight": 300}))
        pytest.skip("refused, as it should be: no disk scheduler here knows weights (BFQ, iocost)")
    group.limit(fields(blockIO={"weight": 300}))
    file = next(iter(before))
    assert files[file] in control_file(group, file).splitlines()
    assert files[file] not in before[file].splitlines()


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    """A disk of this test's own, whose scheduler knows weights; give its numbers."""
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    made = subprocess.run(
        ["losetup", "--find", "--show", image], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"needs a loop device: {made.stderr.strip()}")
    device = made.stdout.strip()
    place = Path("/sys/block", Path(device).name)
    scheduler = place / "queue/scheduler"
    before = scheduler.read_text()
    try:
        if "bfq" not in before:
            pytest.skip("needs a kernel with the disk scheduler BFQ (CONFIG_BFQ_GROUP_IOSCHED)")
        scheduler.write_text("bfq")
        yield (place / "dev").read_text().strip()
        scheduler.write_text(before[before.index("[") + 1 : before.index("]")])
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.oci("linux.resources.blockIO.weightDevice")
def test_a_weight_at_one_disk(group: Cgroup, loop_device: str) -> None:
    """Beside that of all others; before, there was none for it: the control."""
    major, minor = map(int, loop_device.split(":"))
    names = ("io.bfq.weight",) if group.version == "v2" else (
        "blkio.bfq.weight", "blkio.bfq.weight_device",
    )  # fmt: skip
    assert not [name for name in names if f"{loop_device} " in control_file(group, name)]
    row = {"major": major, "minor": minor, "weight": 300}
    group.limit(fields(blockIO={"weightDevice": [row]}))
    found = control_file(group, names[-1]).splitlines()
    assert f"{loop_device} 300" in found
    assert "default 100" in found


@pytest.mark.oci("linux.resources.blockIO.weightDevice")
def test_a_weight_at_a_disk_without_weights(group: Cgroup, disk: str) -> None:
    """Refused by name: it would not hold."""
    name = Path(f"/sys/dev/block/{disk}").resolve().name
    if "[bfq]" in Path(f"/sys/block/{name}/queue/scheduler").read_text():
        pytest.skip(f"{name} has a scheduler that knows weights")
    if control_file(group, "io.weight"):
        pytest.skip("this kernel weighs every disk (CONFIG_BLK_CGROUP_IOCOST)")
    major, minor = map(int, disk.split(":"))
    row = {"major": major, "minor": minor, "weight": 300}
    with pytest.raises((InvalidArgument, Unsupported), match=r"^linux\.[\w.]+\.weightDevice"):
        group.limit(fields(blockIO={"weightDevice": [row]}))


@pytest.mark.oci(
    "linux.resources.blockIO.leafWeight", "linux.resources.blockIO.weightDevice[].leafWeight"
)
def test_weights_of_leaves_are_refused(group: Cgroup, disk: str) -> None:
    """The scheduler that knew them was dropped in Linux 5.0; v2 never had them."""
    major, minor = map(int, disk.split(":"))
    row = {"major": major, "minor": minor, "leafWeight": 300}
    for asked, why in (
        ({"leafWeight": 300}, r"blockIO\.leafWeight: "),
        ({"weightDevice": [row]}, r"blockIO\.weightDevice.*: "),
    ):
        with pytest.raises(Unsupported, match=why):
            group.limit(fields(blockIO=asked))


# ---- what few kernels have


@pytest.mark.oci("linux.resources.rdma")
def test_handles_of_an_adapter(group: Cgroup) -> None:
    """Both limits in its line, and no other adapter's; before there were none: the control."""
    adapters = sorted(entry.name for entry in Path("/sys/class/infiniband").glob("*"))
    if not adapters or not control_file(group, "rdma.max"):
        pytest.skip("needs an RDMA adapter (/sys/class/infiniband) and the rdma controller")
    name = adapters[0]
    assert f"{name} hca_handle=max hca_object=max" in control_file(group, "rdma.max").splitlines()
    group.limit(fields(rdma={name: {"hcaHandles": 3, "hcaObjects": 10}}))
    assert f"{name} hca_handle=3 hca_object=10" in control_file(group, "rdma.max").splitlines()


@pytest.mark.oci("linux.resources.rdma")
def test_handles_of_an_adapter_that_is_not_there(group: Cgroup) -> None:
    """No such adapter, or no such controller: either is named."""
    asked = fields(rdma={"nothing0": {"hcaHandles": 3, "hcaObjects": 10}})
    with pytest.raises((InvalidArgument, Unsupported), match=r"linux\.resources\.rdma"):
        group.limit(asked)


MARKS = [
    pytest.param(
        {"classID": 0x100001}, "net_cls.classid", str(0x100001),
        id="class",
    ),
    pytest.param(
        {"priorities": [{"name": "lo", "priority": 3}]}, "net_prio.ifpriomap", "lo 3",
        id="priorities",
    ),
]  # fmt: skip


@pytest.mark.oci("linux.resources.network.classID", "linux.resources.network.priorities")
@pytest.mark.parametrize(("asked", "file", "text"), MARKS)
def test_marks_on_packets(group: Cgroup, asked: dict[str, Any], file: str, text: str) -> None:
    """Where v1's controllers for it are mounted."""
    before = control_file(group, file)
    if not before:
        pytest.skip(f"needs the controller {file.partition('.')[0]} of cgroup v1, mounted")
    group.limit(fields(network=asked))
    assert text in control_file(group, file).splitlines()
    assert text not in before.splitlines()


@pytest.mark.oci("linux.resources.network.classID", "linux.resources.network.priorities")
@pytest.mark.parametrize(("asked", "file", "text"), MARKS)
def test_no_marks_on_packets(group: Cgroup, asked: dict[str, Any], file: str, text: str) -> None:
    """Refused by name where they are not, and on v2, which has none."""
    if control_file(group, file):
        pytest.skip(f"this host has {file}, in which {text} can stand")
    with pytest.raises(Unsupported, match=r"network\.\w+: (no net_\w+ controller|cgroup v2)"):
        group.limit(fields(network=asked))
