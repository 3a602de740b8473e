"""Kernel parameters of the container's own namespaces: set there, and nowhere else.

See: runtime-spec config-linux.md "Sysctl"; CVE-2025-52881.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, NetworkNamespace
from tests.isolation.conftest import Bundles, Spec

FORWARD = "/proc/sys/net/ipv4/ip_forward"
SETTINGS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.lo.forwarding": "1",
    "net/ipv4/ping_group_range": "5\t6",
    "kernel.shmmax": "123456",
    "kernel.sem": "100\t200\t300\t400",
    "kernel.msgmax": "4321",
    "fs.mqueue.msg_max": "7",
    "kernel.domainname": "example.org",
}
PATHS = {
    "net.ipv4.ip_forward": "net/ipv4/ip_forward",
    "net.ipv4.conf.lo.forwarding": "net/ipv4/conf/lo/forwarding",
    "net/ipv4/ping_group_range": "net/ipv4/ping_group_range",
    "kernel.shmmax": "kernel/shmmax",
    "kernel.sem": "kernel/sem",
    "kernel.msgmax": "kernel/msgmax",
    "fs.mqueue.msg_max": "fs/mqueue/msg_max",
    "kernel.domainname": "kernel/domainname",
}
LOOK = "".join(f"cat /proc/sys/{path};" for path in PATHS.values())


def every_setting(spec: Spec) -> None:
    """Ask for one of each kind."""
    spec["linux"]["sysctl"] = SETTINGS


@pytest.mark.oci("linux.sysctl")
def test_parameters_are_set_inside_and_not_on_the_host(bundles: Bundles) -> None:
    """One of each kind; the host's own are what they were."""
    before = [Path("/proc/sys", path).read_text() for path in PATHS.values()]
    assert bundles(LOOK, every_setting).output.splitlines() == list(SETTINGS.values())
    assert [Path("/proc/sys", path).read_text() for path in PATHS.values()] == before


def test_without_them_they_are_the_kernels(bundles: Bundles) -> None:
    """The control: none of the values above is what a new namespace has anyway."""
    found = bundles(LOOK).output.splitlines()
    assert not [pair for pair in zip(found, SETTINGS.values(), strict=True) if pair[0] == pair[1]]


def in_user_namespace(spec: Spec) -> None:
    """Give it a user namespace too."""
    spec["linux"]["namespaces"].append({"type": "user"})
    maps = [{"containerID": 0, "hostID": 100_000, "size": 65536}]
    spec["linux"] |= {"uidMappings": maps, "gidMappings": maps}


def test_in_a_user_namespace(bundles: Bundles) -> None:
    """Root of the container's namespaces may set theirs, and how many more there may be."""

    def change(spec: Spec) -> None:
        in_user_namespace(spec)
        spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "user.max_uts_namespaces": "3"}

    done = bundles(f"cat {FORWARD} /proc/sys/user/max_uts_namespaces", change)
    assert done.output.split() == ["1", "3"]


def test_in_a_network_namespace_that_is_joined(bundles: Bundles) -> None:
    """It is another than the host's, so it may be set."""
    other = NetworkNamespace()
    try:

        def change(spec: Spec) -> None:
            for namespace in spec["linux"]["namespaces"]:
                if namespace["type"] == "network":
                    namespace["path"] = other.path
            spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}

        assert bundles(f"cat {FORWARD}", change).output.strip() == "1"
    finally:
        other.close()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("kernel.core_pattern", "linux.sysctl.kernel.core_pattern: belongs to the whole host"),
        ("vm.swappiness", "belongs to the whole host"),
        ("kernel/../kernel/core_pattern", "expected a name like"),
        ("net/../kernel/core_pattern", "expected a name like"),
        ("net.ipv4/.", "expected a name like"),
        ("net", "expected a name like"),
        ("", "expected a name like"),
        ("kernel.hostname", "linux.sysctl.kernel.hostname: set `hostname` instead"),
        ("user.max_user_namespaces", "needs the container's own user namespace"),
        ("net.ipv4.nonsense", "linux.sysctl.net.ipv4.nonsense: this kernel has no such parameter"),
        ("net.ipv4.ip_forward", "the kernel does not take 'x': Invalid argument"),
    ],
)
def test_a_parameter_that_can_not_be_set(bundles: Bundles, name: str, says: str) -> None:
    """Because it is the host's, or nobody's; or because of its value."""
    done = bundles("true", lambda spec: spec["linux"].update(sysctl={name: "x"}))
    assert done.status == 1
    assert says in done.errors
    assert done.errors.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "name"), [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shmmax")]
)
@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.oci("linux.sysctl")
def test_a_namespace_of_the_hosts(bundles: Bundles, kind: str, name: str, by_path: bool) -> None:
    """Left out, or joined by a path that leads to the host's: the parameter would be the host's."""
    link = {"network": "net", "ipc": "ipc"}[kind]

    def change(spec: Spec) -> None:
        rest = [row for row in spec["linux"]["namespaces"] if row["type"] != kind]
        joined = [{"type": kind, "path": f"/proc/self/ns/{link}"}] if by_path else []
        spec["linux"] |= {"namespaces": rest + joined, "sysctl": {name: "1"}}

    done = bundles("true", change)
    assert done.status == 1
    assert f"linux.sysctl.{name}: needs the container's own {kind} namespace" in done.errors


def covered(bundles: Bundles, words: list[str], canary: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where a file lies over the host's ip_forward."""
    canary.write_text("untouched")
    script = f'mount --bind {canary} {FORWARD} && exec "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def test_what_covers_the_hosts_proc_is_not_written_to(bundles: Bundles) -> None:
    """The parameter is the kernel's, whatever file was laid over its name."""
    canary = bundles.directory / "canary"
    words = bundles.write(
        f"cat {FORWARD}", lambda spec: spec["linux"].update(sysctl={"net.ipv4.ip_forward": "1"})
    )
    done = covered(bundles, words, canary)
    assert (done.stdout.strip(), done.stderr) == ("1", "")
    assert canary.read_text() == "untouched"


def test_a_plain_write_goes_to_what_covers_it(bundles: Bundles) -> None:
    """The control: by its path, the file is what is written to."""
    canary = bundles.directory / "canary"
    covered(bundles, ["sh", "-c", f"echo 1 > {FORWARD}"], canary)
    assert canary.read_text() == "1\n"
