"""Namespaces of a bundle, and the names in them.

See: runtime-spec config-linux.md "Namespaces"; namespaces(7).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.isolation.conftest import enter, namespace_of

from .runtime import WAITS, Runtime, Spec

# Their names in config.json, and in /proc/PID/ns.
KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}


def apart(pid: int, other: int | str) -> set[str]:
    """Name the kinds of which two processes have different namespaces."""
    return {
        kind for kind, link in KINDS.items() if namespace_of(pid, link) != namespace_of(other, link)
    }


@pytest.mark.oci("linux.namespaces[].type")
@pytest.mark.parametrize("path", [{}, {"path": ""}], ids=["no path", "empty path"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_that_is_listed_is_new(
    runtime: Runtime, kind: str, path: dict[str, str]
) -> None:
    """One that is not is the caller's: the control, of all the others."""

    def change(spec: Spec) -> None:
        spec.pop("hostname", None)
        spec["linux"]["namespaces"] = [{"type": "mount"}, {"type": kind, **path}]
        spec["linux"].pop("sysctl", None)
        # what belongs to namespaces that are missing here can't be mounted or is the host's
        spec["mounts"] = [row for row in spec["mounts"] if row["type"] in ("proc", "tmpfs")]

    pid = runtime.start(WAITS, change).pid
    assert apart(pid, "self") == {kind}
    assert namespace_of(pid, "mnt") != namespace_of("self", "mnt")


@pytest.mark.oci("linux.namespaces[].path")
@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_with_a_path_is_joined(runtime: Runtime, kind: str) -> None:
    """As containers of a pod do; the namespaces beside it are its own: the control."""
    first = runtime.start(WAITS).pid

    def change(spec: Spec) -> None:
        if kind == "uts":
            spec.pop("hostname", None)
        for row in spec["linux"]["namespaces"]:
            if row["type"] == kind:
                row["path"] = f"/proc/{first}/ns/{KINDS[kind]}"

    kinds = {row["type"] for row in runtime.config["linux"]["namespaces"]} & KINDS.keys()
    if kind not in kinds:
        pytest.skip(f"the default configuration has no {kind} namespace")
    second = runtime.start(WAITS, change).pid
    assert kinds - apart(second, first) == {kind}


@pytest.mark.oci("hostname")
def test_the_hosts_name(runtime: Runtime) -> None:
    """As its namespace has it; this test's own is another."""
    pid = runtime.start(WAITS, lambda spec: spec.update(hostname="box.example")).pid
    assert enter(pid, "cat /proc/sys/kernel/hostname", "-u") == "box.example\n"
    assert Path("/proc/sys/kernel/hostname").read_text() != "box.example\n"


@pytest.mark.ours("runc has it since 1.2")
@pytest.mark.oci("domainname")
def test_the_domains_name(runtime: Runtime) -> None:
    """Likewise; without it, the caller's is copied by the kernel: the control."""
    pid = runtime.start(WAITS, lambda spec: spec.update(domainname="nis.example")).pid
    assert enter(pid, "cat /proc/sys/kernel/domainname", "-u") == "nis.example\n"
    own = Path("/proc/sys/kernel/domainname").read_text()
    assert own != "nis.example\n"
    assert enter(runtime.start(WAITS).pid, "cat /proc/sys/kernel/domainname", "-u") == own
