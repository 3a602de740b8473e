"""The default profile against the published one that it must have the effect of."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from typing import Any

import pytest

from minicontainer.kernel.seccomp import Seccomp
from minicontainer.runtime.config.seccomp_profile import (
    ALWAYS,
    HIGHER_SOCKET_FAMILIES,
    WITH_CAPABILITY,
    default_profile,
)

Rule = tuple[str, str, int, frozenset[tuple[int, int, int, str]]]

DOCKERS_CAPABILITIES = [
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW"),
    *("CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE"),
    *("CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"),
]
GO_NAMES = {
    "x86_64": "amd64",
    "i686": "x86",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loongarch64",
}


@pytest.fixture(scope="module")
def published() -> Any:
    """Read the published profile, from the directory of specifications that the tester names."""
    path = os.path.join(os.environ.get("MINICONTAINER_SPECS", ""), "seccomp/moby-default.json")
    if not os.path.isfile(path):
        pytest.skip("MINICONTAINER_SPECS names no directory with seccomp/moby-default.json")
    with open(path) as file:
        return json.load(file)


def _asked_for(rule: Any, capabilities: frozenset[str], machine: str, kernel: Any) -> bool:
    """Say whether a published rule holds: what it includes, less what it excludes."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    arch = GO_NAMES[machine]
    since = tuple(map(int, includes.get("minKernel", "0.0").split(".")))
    return (
        ("arches" not in includes or arch in includes["arches"])
        and capabilities.issuperset(includes.get("caps", ()))
        and kernel >= since
        and arch not in excludes.get("arches", ())
        and not capabilities.intersection(excludes.get("caps", ()))
    )


def _socket(family: int, op: str) -> Rule:
    return ("socket", "SCMP_ACT_ALLOW", 0, frozenset({(0, family, 0, op)}))


def _effect(profile: Seccomp) -> set[Rule]:
    return {
        (
            name,
            rule.action,
            rule.errno_ret or 0,
            frozenset((arg.index, arg.value, arg.value_two, arg.op) for arg in rule.args),
        )
        for rule in profile.syscalls
        for name in rule.names
    }


@pytest.mark.parametrize(
    "capabilities",
    [[], DOCKERS_CAPABILITIES, [*WITH_CAPABILITY], *([name] for name in WITH_CAPABILITY)],
    ids=lambda names: names[0] + f"+{len(names) - 1}" if names else "none",
)
def test_it_has_the_effect_of_the_published_profile(
    published: Any, capabilities: list[str]
) -> None:
    """The same calls, conditions and answers, for every capability, machine and kernel.

    Less the one that lets 2**32 + AF_VSOCK through: there the families are named.
    """
    held = frozenset(capabilities)
    for machine, kernel in itertools.product(GO_NAMES, [(4, 4), (4, 8), (6, 1)]):
        rules = [rule for rule in published["syscalls"] if _asked_for(rule, held, machine, kernel)]
        expected = Seccomp.from_json({**published, "syscalls": rules})
        profile = default_profile(held, machine, kernel)
        assert _effect(profile) == _effect(expected) - {_socket(40, "SCMP_CMP_GT")} | {
            _socket(family, "SCMP_CMP_EQ") for family in HIGHER_SOCKET_FAMILIES
        }, f"{machine}, Linux {kernel}"
        assert profile.default_action == expected.default_action
        assert profile.default_errno_ret == expected.default_errno_ret


def test_it_lists_the_published_architectures(published: Any) -> None:
    """A 64-bit machine also runs its 32-bit programs."""
    compatible = {row["architecture"]: row["subArchitectures"] for row in published["archMap"]}
    for machine in GO_NAMES:
        own = "SCMP_ARCH_" + machine.upper()
        expected = (own, *(compatible[own] or ())) if own in compatible else ()
        assert default_profile((), machine).architectures == expected


def test_the_published_conditions_name_no_capability_that_we_lack(published: Any) -> None:
    """The control of the cases above: they go through every capability there is a rule for."""
    asked = {
        name for rule in published["syscalls"] for name in rule.get("includes", {}).get("caps", ())
    }
    assert asked == set(WITH_CAPABILITY)


def test_no_call_stands_in_the_table_twice() -> None:
    """A call that stands for two purposes would be removed from one and stay allowed."""
    counts = Counter(name for _, names in ALWAYS for name in names.split())
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(
    "name", ["keyctl", "add_key", "io_uring_setup", "userfaultfd", "kexec_load", "swapon", "vm86"]
)
def test_no_capability_opens_what_reaches_past_namespaces(name: str) -> None:
    """The module's own list of what is left out."""
    everything = default_profile([*WITH_CAPABILITY])
    assert name not in {name for name, *_ in _effect(everything)}


def test_a_clone_may_make_no_namespace() -> None:
    """clone(2)'s flags for namespaces, from <linux/sched.h>; CLONE_NEWTIME is not among clone's."""
    clone = [rule for rule in default_profile(()).syscalls if rule.names == ("clone",)]
    newns, newcgroup, newuts, newipc = 0x20000, 0x2000000, 0x4000000, 0x8000000
    newuser, newpid, newnet = 0x10000000, 0x20000000, 0x40000000
    flags = newns | newcgroup | newuts | newipc | newuser | newpid | newnet
    assert [(arg.value, arg.value_two) for rule in clone for arg in rule.args] == [(flags, 0)]
