"""linux.resources and cgroupsPath: what the kernel then has."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.cgroups import hierarchies
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.cgroups.limits import DeviceRule
from minicontainer.runtime.config import defaults, seccomp_profile
from tests.conftest import wait_until

from .kernel import cgroups_of, control_file
from .runtime import WAITS, Call, Change, Runtime, Spec

MIB = 1 << 20
ON_V2 = hierarchies.mounted().version == "v2"


def with_limits(version: str | None = None, **resources: Any) -> Change:
    """Make the change that sets limits, and perhaps the specification's version."""

    def change(config: Spec) -> None:
        config["linux"]["resources"] |= copy.deepcopy(resources)
        config["ociVersion"] = version or config["ociVersion"]

    return change


def swap_is_counted() -> bool:
    """Say whether this kernel limits swap: v1 in a sum with the memory, v2 by itself."""
    mounted = hierarchies.mounted()
    for hierarchy in mounted.v1:
        if "memory" in hierarchy.controllers:
            return os.path.exists(f"{hierarchy.mount_point}/memory.memsw.limit_in_bytes")
    return "swap" in Path("/proc/swaps").read_text() or Path("/sys/fs/cgroup/init.scope").exists()


# ---- small memory


@pytest.mark.parametrize("filtered", [False, True], ids=["plain", "seccomp"])
@pytest.mark.parametrize("mebibytes", [4, 5, 6, 8])
def test_it_starts_with_little_memory(runtime: Runtime, mebibytes: int, filtered: bool) -> None:
    """What the runtime itself needs is not the container's."""

    def change(config: Spec) -> None:
        with_limits(memory={"limit": mebibytes * MIB})(config)
        if filtered:
            profile = seccomp_profile.default_profile(defaults.CAPABILITIES)
            config["linux"]["seccomp"] = profile.to_json()

    for _ in range(3):
        done = runtime.run(("true",), change)
        if not runtime.is_ours and done.status:
            pytest.skip(f"this runtime does not start with {mebibytes} MiB either")
        assert (done.status, done.errors) == (0, "")


def test_a_program_in_little_memory_is_held_to_it(runtime: Runtime) -> None:
    """The limit holds all the same: who wants more is killed."""
    done = runtime.run(
        "x=a; while :; do x=$x$x; done", with_limits(memory={"limit": 4 * MIB, "swap": 4 * MIB})
    )
    assert done.status == 137


# ---- tasks


@pytest.mark.ours("runc 1.1 knows version 1.0 of the specification alone")
@pytest.mark.parametrize(
    ("version", "limit", "held"),
    [("1.3.0", 0, "1"), ("1.0.2-dev", 0, "max"), ("1.3.0", -1, "max"), ("1.3.0", 7, "7")],
)
@pytest.mark.oci("ociVersion", "linux.resources.pids.limit")
def test_how_many_tasks(runtime: Runtime, version: str, limit: int, held: str) -> None:
    """No task was no limit before 1.3: so Docker 20.10 writes it into every container."""
    container = runtime.create(WAITS, with_limits(version, pids={"limit": limit}))
    assert control_file(container.pid, "pids.max", "pids.max") == held


# ---- what is refused


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}}, "memory"),
        ({"cpu": {"cpus": "999"}}, "999"),
        ({"cpu": {"quota": 10}}, "cpu"),
        ({"unified": {"../memory.max": "1"}}, "unified"),
        ({"unified": {"memory.nothing": "1"}}, "memory.nothing" if ON_V2 else "unified"),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 5}]}, "hugetlb.3MB"),
    ],
    ids=str,
)
def test_a_limit_that_makes_no_sense(
    runtime: Runtime, resources: dict[str, Any], says: str
) -> None:
    """The container is not made, and nothing of it is left."""
    bundle = runtime.bundle(WAITS, with_limits(**resources))
    if "hugepageLimits" in resources and not runtime.is_ours:
        pytest.skip("runc 1.1 passes over sizes of huge pages that the kernel does not have")
    runtime.refused("create", "--bundle", str(bundle), runtime.name(), says=says)


# ---- where the group is


def with_path(path: str) -> Change:
    """Make the change that sets cgroupsPath."""

    def change(config: Spec) -> None:
        config["linux"]["cgroupsPath"] = path

    return change


@pytest.fixture
def place(runtime: Runtime) -> Iterator[str]:
    """A group's name that the runtime's leftovers are found by; what is above goes afterwards."""
    name = f"/{runtime.prefix}-place"
    yield name
    mounted = hierarchies.mounted()
    for top in [h.mount_point for h in (*mounted.v1, mounted.unified) if h]:
        if os.path.isdir(top + name):
            os.rmdir(top + name)


@pytest.mark.oci("linux.cgroupsPath")
def test_an_absolute_path_counts_from_the_top(runtime: Runtime, place: str) -> None:
    """In every hierarchy; and `delete` takes the group away."""
    container = runtime.create(WAITS, with_path(f"{place}/web"))
    mounted = hierarchies.mounted()
    tops = {h.mount_point for h in (*mounted.v1, mounted.unified) if h}
    assert set(cgroups_of(container.pid).values()) == {f"{top}{place}/web" for top in tops}
    runtime.ok("delete", "--force", container.id)
    assert not any(os.path.exists(f"{top}{place}/web") for top in tops)


@pytest.mark.ours("runc takes the dots away, and makes the group elsewhere")
@pytest.mark.parametrize("path", ["../x", "/../x", "/a/../../x", "a/..", "/", "."])
def test_a_path_that_climbs_is_refused(runtime: Runtime, path: str) -> None:
    """Nothing is made anywhere."""
    bundle = runtime.bundle(WAITS, with_path(path))
    runtime.refused("create", "--bundle", str(bundle), runtime.name(), says="cgroup path")


@pytest.mark.oci("linux.cgroupsPath")
def test_a_relative_path_is_found_again_from_elsewhere(runtime: Runtime, place: str) -> None:
    """By a command in another cgroup than that of `create`."""
    container = runtime.create(WAITS, with_path(f"{place[1:]}/web"))
    directories = set(cgroups_of(container.pid).values())
    assert all(f"{place}/web" in directory for directory in directories)
    done = container("pause")
    assert (done.status, done.errors) == (0, "")
    runtime.ok("delete", "--force", container.id)
    assert not any(os.path.exists(directory) for directory in directories)
    for directory in directories:  # above: made for it, and not known to be anybody's
        if os.path.isdir(above := os.path.dirname(directory)) and place in above:
            os.rmdir(above)


# ---- changes


def test_the_sum_of_memory_and_swap_stays(runtime: Runtime) -> None:
    """A later change knows what was set before, at the creation and since."""
    if not swap_is_counted():
        pytest.skip("this kernel does not count swap")
    container = runtime.start(WAITS, with_limits(memory={"limit": 64 * MIB, "swap": 128 * MIB}))

    def swap() -> int:
        text = control_file(container.pid, "memory.memsw.limit_in_bytes", "memory.swap.max")
        memory = control_file(container.pid, "memory.limit_in_bytes", "memory.max")
        return int(text) + (int(memory) if ON_V2 else 0)

    assert swap() == 128 * MIB
    runtime.ok("update", "--memory", "100m", container.id)
    assert swap() == 128 * MIB
    runtime.ok("update", "--memory-swap", "160m", container.id)
    runtime.ok("update", "--memory", "50m", container.id)
    assert swap() == 160 * MIB
    runtime.refused("update", "--memory", "161m", container.id, says="memory")
    assert swap() == 160 * MIB


@pytest.mark.ours("runc writes the limits one by one")
def test_a_change_happens_whole_or_not_at_all(runtime: Runtime) -> None:
    """What the kernel took before it refused the rest is taken back."""
    container = runtime.start(WAITS, with_limits(memory={"limit": 64 * MIB}, pids={"limit": 20}))
    runtime.refused(
        "update", "--memory", "32m", "--pids-limit", "9", "--cpuset-cpus", "999", container.id,
        says="999",
    )  # fmt: skip
    assert control_file(container.pid, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert control_file(container.pid, "pids.max", "pids.max") == "20"


@pytest.mark.oci("linux.resources.memory.checkBeforeUpdate")
def test_a_limit_below_the_use_is_refused_if_asked(runtime: Runtime) -> None:
    """checkBeforeUpdate: on v2 the kernel would kill until the rest fits."""
    container = runtime.start(
        "head -c 33554432 /dev/zero > /dev/shm/kept; echo ready; exec sleep 600",
        with_limits(memory={"limit": 64 * MIB}),
    )
    change = {"memory": {"limit": 16 * MIB, "checkBeforeUpdate": True}}
    runtime.refused("update", "-r", "-", container.id, stdin=json.dumps(change), says="limit")
    assert control_file(container.pid, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert container.status == "running"


# ---- want of memory


def kinds(call: Call) -> list[str]:
    """List the events that a command has told of so far."""
    return [json.loads(line)["type"] for line in call.stdout.read_text().splitlines(keepends=True)
            if line.endswith("\n")]  # fmt: skip


def finish(runtime: Runtime, call: Call) -> None:
    """See the command end with its container; runc's does not notice it on a hybrid host."""
    if not runtime.is_ours:
        call.process.kill()
    call.wait()


def test_a_want_of_memory_is_an_event(runtime: Runtime) -> None:
    """A line of its own, and none before; and the command ends with the container."""
    container = runtime.create(
        "x=a; while :; do x=$x$x; done", with_limits(memory={"limit": 32 * MIB, "swap": 32 * MIB})
    )
    call = runtime.begin(runtime.words("events", "--interval", "100ms", container.id))
    wait_until(lambda: kinds(call), "the first line")
    assert "oom" not in kinds(call)
    container.start()
    wait_until(lambda: "oom" in kinds(call), "the want of memory")
    finish(runtime, call)


def test_without_a_want_of_memory_there_is_none(runtime: Runtime) -> None:
    """The control."""
    container = runtime.start(WAITS, with_limits(memory={"limit": 64 * MIB}))
    call = runtime.begin(runtime.words("events", "--interval", "100ms", container.id))
    wait_until(lambda: kinds(call), "the first line")
    container.kill()
    finish(runtime, call)
    assert set(kinds(call)) == {"stats"}


# ---- the namespace of cgroups, and who may divide a group


def test_exec_has_the_containers_cgroup_as_its_root(runtime: Runtime) -> None:
    """It is in the same groups as the first process; both see them as the root."""
    container = runtime.start(WAITS, namespaces("cgroup"))
    seen = container.sh("cat /proc/self/cgroup")
    assert seen == container.sh("cat /proc/1/cgroup")
    assert all(line.endswith(":/") for line in seen.splitlines())


def namespaces(kind: str, path: str | None = None) -> Change:
    """Make the change that asks for one more namespace, or joins it."""

    def change(config: Spec) -> None:
        others = [one for one in config["linux"]["namespaces"] if one["type"] != kind]
        added = {"type": kind} | ({"path": path} if path else {})
        config["linux"]["namespaces"] = [*others, added]

    return change


def test_a_cgroup_namespace_can_be_joined(runtime: Runtime) -> None:
    """From a group that is not in it: the path then leads up."""
    first = runtime.start(WAITS, namespaces("cgroup"))
    done = runtime.run(
        ("cat", "/proc/self/cgroup"), namespaces("cgroup", f"/proc/{first.pid}/ns/cgroup")
    )
    assert (done.status, done.errors) == (0, "")
    mounted = hierarchies.mounted()
    names = {",".join(h.controllers) for h in mounted.v1} | ({""} if mounted.unified else set())
    paths = {line.split(":", 2)[2] for line in done.output.splitlines()
             if line.split(":", 2)[1] in names}  # fmt: skip
    assert paths
    assert all(path.startswith("/../") for path in paths)


@pytest.mark.skipif(not ON_V2, reason="needs cgroup v2: v1 refuses the rule, not the device")
@pytest.mark.parametrize("allowed", [False, True])
def test_a_group_above_may_deny_the_null_device(runtime: Runtime, allowed: bool) -> None:
    """As Podman's for a pod may: the kernel asks all groups on the way up. Allowed: the control."""
    above = open_cgroup(f"/minicontainer-above-{os.getpid()}")
    above.create()
    try:
        above.allow_devices((DeviceRule(allow=allowed, access="rwm"),))
        bundle = runtime.bundle(("true",), with_path(f"{above.path}/inner"))
        done = runtime("run", "-b", str(bundle), runtime.name())  # its input is the null device
    finally:
        above.remove()
    assert (done.status == 0) == allowed
    assert ("open /dev/null" in done.errors) == (not allowed)


def own_users(*, writable: bool) -> Change:
    """Make the change to a user namespace, with the cgroup mounted for writing, or not."""

    def change(config: Spec) -> None:
        namespaces("cgroup")(config)
        namespaces("user")(config)
        ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        config["linux"] |= {"uidMappings": ids, "gidMappings": ids}
        for mount in config["mounts"]:
            if mount["type"] == "cgroup" and writable:
                mount["options"] = [word for word in mount["options"] if word != "ro"]

    return change


@pytest.mark.skipif(not ON_V2, reason="needs cgroup v2: groups of v1 are not given away")
def test_root_inside_may_divide_its_group(runtime: Runtime) -> None:
    """If it has it mounted for writing: systemd in a container does so."""
    container = runtime.start(WAITS, own_users(writable=True))
    container.sh("mkdir /sys/fs/cgroup/below && echo $$ > /sys/fs/cgroup/below/cgroup.procs")
    (group,) = set(cgroups_of(container.pid).values())
    assert os.stat(group).st_uid == os.stat(f"{group}/cgroup.procs").st_uid == 100000
    assert os.stat(f"{group}/memory.max").st_uid == 0  # but not its own limits


@pytest.mark.skipif(not ON_V2, reason="needs cgroup v2: groups of v1 are not given away")
def test_otherwise_the_group_stays_the_hosts(runtime: Runtime) -> None:
    """The control."""
    container = runtime.start(WAITS, own_users(writable=False))
    assert "Read-only file system" in container.exec("mkdir", "/sys/fs/cgroup/below").errors
    (group,) = set(cgroups_of(container.pid).values())
    assert os.stat(group).st_uid == os.stat(f"{group}/cgroup.procs").st_uid == 0
