"""Attributes of config.json that few containers have: what is refused, and in which words."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.kernel import scheduling, security, sysctls
from minicontainer.runtime.config import defaults, spec_check
from minicontainer.runtime.config.spec import Spec


def spec_with(path: str, value: Any) -> Spec:
    """Give the default specification with another value at *path*."""
    document = defaults.default_spec().to_json()
    *before, last = path.split(".")
    at = document
    for name in before:
        at = at[name]
    at[last] = value
    return Spec.from_json(document)


DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 6, "period": 7}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.scheduler", {"policy": "SCHED_FIFO", "priority": 1}),
        ("process.scheduler", {"policy": "SCHED_BATCH", "nice": -20}),
        ("process.scheduler", {"policy": "SCHED_RR", "priority": 1, "nice": 19}),
        ("process.scheduler", DEADLINE | {"flags": ["SCHED_FLAG_RECLAIM"]}),
        ("process.scheduler", {"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 6}),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_IDLE", "priority": 7}),
        ("process.execCPUAffinity", {"initial": "0-1, 3", "final": ""}),
        ("process.apparmorProfile", ""),
        ("process.selinuxLabel", ""),
        ("linux.personality", {}),
        ("linux.memoryPolicy", {"mode": "MPOL_DEFAULT"}),
        ("linux.memoryPolicy", {"mode": "MPOL_PREFERRED"}),
        ("linux.netDevices", {"eth0": {}, "eth1": {"name": "net%d"}, "eth2": {"name": "net%d"}}),
        ("linux.sysctl", {"net.ipv4.conf.eth0/100.forwarding": "1"}),
        ("hooks.prestart", [{"path": "/bin/true", "timeout": 1}]),
    ],
)
def test_what_makes_sense_is_taken(path: str, value: Any) -> None:
    """The control of the table below."""
    spec_check.check(spec_with(path, value))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("process.scheduler", {"policy": "x"}, "process.scheduler.policy: expected one of SCHED_"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 20}, "scheduler.nice: expected -2"),
        ("process.scheduler", DEADLINE | {"nice": -21}, "scheduler.nice: expected -20 to 19"),
        ("process.scheduler", {"policy": "SCHED_FIFO"}, "scheduler.priority: expected 1 to 99"),
        ("process.scheduler", {"policy": "SCHED_RR", "priority": 2**32 + 1}, "priority: expected"),
        ("process.scheduler", {"policy": "SCHED_IDLE", "priority": 1}, "priority: expected 0 to 0"),
        ("process.scheduler", {"policy": "SCHED_IDLE", "flags": ["x"]}, "scheduler.flags[0]: exp"),
        ("process.scheduler", {"policy": "SCHED_RR", "priority": 1, "runtime": 1}, "er.runtime: o"),
        ("process.scheduler", {"policy": "SCHED_DEADLINE"}, "process.scheduler: SCHED_DEADLINE ne"),
        ("process.scheduler", DEADLINE | {"period": 2**64}, "process.scheduler.period: expected 0"),
        ("process.ioPriority", {"class": "x"}, "process.ioPriority.class: expected one of IOPRIO"),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "priority: expected 0"),
        ("process.execCPUAffinity", {"initial": "x"}, "process.execCPUAffinity.initial: expected"),
        ("process.execCPUAffinity", {"final": "3-1"}, "process.execCPUAffinity.final: expected nu"),
        ("process.execCPUAffinity", {"final": "0-99999999"}, "final: expected numbers of 0 to 819"),
        ("process.execCPUAffinity", {"final": "1,,2"}, "final: expected a list like 0-3,7"),
        ("linux.personality", {"domain": "BSD"}, "linux.personality.domain: expected one of LINUX"),
        pytest.param(
            "linux.personality", {"flags": ["x"]}, "linux.personality.flags: expected none",
            marks=pytest.mark.oci("linux.personality.flags"),
        ),
        ("linux.memoryPolicy", {"mode": "x"}, "linux.memoryPolicy.mode: expected one of MPOL_DEF"),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND"}, "linux.memoryPolicy.nodes: expected a list"),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "1024"}, "nodes: expected numbers o"),
        ("linux.memoryPolicy", {"mode": "MPOL_LOCAL", "nodes": "0"}, "linux.memoryPolicy: MPOL_LO"),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0", "flags": ["x"]}, "flags[0]: e"),
        (
            "linux.memoryPolicy",
            {"mode": "MPOL_BIND", "nodes": "0",
             "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]},
            "linux.memoryPolicy.flags: nodes can't be both",
        ),
        ("linux.netDevices", {"a/b": {}}, "linux.netDevices.a/b: 'a/b' is not a name for a net"),
        ("linux.netDevices", {"e": {"name": "x" * 16}}, "linux.netDevices.e.name: 'xxxxxxxxxxxxxx"),
        ("linux.netDevices", {"a": {"name": "x"}, "x": {}}, "linux.netDevices.x.name: x is a's"),
        ("hooks.poststop", [{"path": "x"}], "hooks.poststop[0].path: must be absolute, got 'x'"),
        ("hooks.createRuntime", [{"path": "/x", "timeout": 0}], "hooks.createRuntime[0].timeout:"),
        ("process.env", ["A=1", "B"], "process.env[1]: expected NAME=VALUE"),
        ("process.env", ["=x"], "process.env[0]: expected NAME=VALUE"),
        (
            "process.rlimits",
            [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2,
            "process.rlimits[1].type: RLIMIT_CORE is listed twice",
        ),
        (
            "process.rlimits",
            [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}],
            "process.rlimits[0].soft: expected at most the hard limit, 1, got 2",
        ),
        ("linux.timeOffsets", {"realtime": {}}, "linux.timeOffsets.realtime: expected one of"),
        ("linux.devices", [{"path": "x", "type": "c"}], "linux.devices[0].path: must be absolute"),
        ("linux.resources", {"memory": {"limit": 2**63}}, "linux.resources.memory.limit: expected"),
        ("linux.resources", {"cpu": {"shares": -1}}, "linux.resources.cpu.shares: expected 0 to 1"),
        ("linux.resources", {"blockIO": {"weight": 65536}}, "resources.blockIO.weight: expected 0"),
        (
            "linux.resources",
            {"blockIO": {"throttleReadIOPSDevice": [{"major": 1, "minor": 2**70, "rate": 1}]}},
            "linux.resources.blockIO.throttleReadIOPSDevice[0].minor: expected -1 to",
        ),
        (
            "linux.resources",
            {"rdma": {"mlx": {"hcaHandles": 2**32}}},
            "linux.resources.rdma.mlx.hcaHandles: expected 0 to 4294967295",
        ),
        ("linux.resources", {"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}, "[0].limit: e"),
        ("linux.resources", {"network": {"classID": 2**32}}, "linux.resources.network.classID: ex"),
        ("linux.gidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "need a user namespac"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(path: str, value: Any, says: str) -> None:
    """Each by its place in the document, and with what was expected."""
    with pytest.raises(InvalidArgument) as caught:
        spec_check.check(spec_with(path, value))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [("linux.intelRdt", {}), ("linux.intelRdt", {"closID": "x"})],
)
@pytest.mark.oci("linux.intelRdt")
def test_what_this_program_has_not(path: str, value: Any) -> None:
    """It says so, and does not start the container without it."""
    with pytest.raises(Unsupported, match=path):
        spec_check.check(spec_with(path, value))


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("process.apparmorProfile", security.has_apparmor),
        ("process.selinuxLabel", security.has_selinux),
        ("linux.mountLabel", security.has_selinux),
    ],
)
@pytest.mark.oci("process.apparmorProfile", "process.selinuxLabel", "linux.mountLabel")
def test_a_label_without_what_enforces_it(path: str, there: Any) -> None:
    """A container that thinks itself confined must not run unconfined."""
    if there():
        spec_check.check(spec_with(path, "some-label"))
    else:
        with pytest.raises(Unsupported, match=f"{path}: can't apply 'some-label'"):
            spec_check.check(spec_with(path, "some-label"))


def test_the_program_user_must_be_mapped() -> None:
    """In a new user namespace; every id of it."""
    document = defaults.default_spec().to_json()
    document["linux"]["namespaces"].append({"type": "user"})
    maps = [{"containerID": 5, "hostID": 100, "size": 2}]
    document["linux"] |= {"uidMappings": maps, "gidMappings": maps}
    document["process"]["user"] = {"uid": 5, "gid": 6, "additionalGids": [5, 7]}
    with pytest.raises(InvalidArgument) as caught:
        spec_check.check(Spec.from_json(document))
    assert str(caught.value) == "process.user.additionalGids[1]: 7 is not in linux.gidMappings"
    document["process"]["user"]["additionalGids"] = [5]
    spec_check.check(Spec.from_json(document))


def test_capabilities_that_are_passed_over_are_warned_of() -> None:
    """Unknown ones. Not ambient ones that the kernel would refuse: each `runc spec` has some."""
    sets = {
        "bounding": ["CAP_KILL", "CAP_NONSENSE"],
        "permitted": ["CAP_KILL"],
        "inheritable": ["cap_chown"],
        "ambient": ["CAP_KILL"],
    }
    spec = spec_with("process.capabilities", sets)
    spec_check.check(spec)
    assert list(spec_check.warnings(spec)) == [
        "process.capabilities: unknown, and passed over: CAP_NONSENSE, cap_chown",
    ]
    assert list(spec_check.warnings(defaults.default_spec())) == []


@given(st.frozensets(st.integers(0, 200)))
def test_a_list_of_processors_reads_back(cpus: frozenset[int]) -> None:
    """Written number by number, or as runs."""
    assert scheduling.parse_list(",".join(map(str, cpus)), 200) == cpus
    assert scheduling.parse_list(",".join(f"{n}-{n}" for n in cpus), 200) == cpus


@given(st.text())
def test_no_text_breaks_the_reading_of_a_list(text: str) -> None:
    """It is a list, or refused; and nobody is made to count to a number of 30 digits."""
    with contextlib.suppress(InvalidArgument):
        assert max(scheduling.parse_list(text, 1000), default=0) <= 1000


@given(st.text(alphabet="./ab", min_size=1))
def test_a_parameter_stays_below_proc_sys(name: str) -> None:
    """Whatever its name, no part of its path leads up or nowhere."""
    path = sysctls.path_of(name)
    assert not {"", ".", ".."} & set(path.split("/")) or path == ""


@pytest.mark.parametrize(
    ("name", "path", "namespace"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "network"),
        ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding", "network"),
        ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding", "network"),
        ("kernel.sem", "kernel/sem", "ipc"),
        ("kernel.semaphore", "kernel/semaphore", ""),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max", "ipc"),
        ("kernel.hostname", "kernel/hostname", "uts"),
        ("user.max_net_namespaces", "user/max_net_namespaces", "user"),
        ("netx.ipv4", "netx/ipv4", ""),
        ("hostname", "", ""),
    ],
)
def test_whose_a_parameter_is(name: str, path: str, namespace: str) -> None:
    """By its path; both ways to write it are known."""
    assert sysctls.path_of(name) == path
    assert sysctls.namespace_of(path) == namespace
