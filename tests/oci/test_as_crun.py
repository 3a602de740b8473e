"""What crun does and runc refuses: no cgroup at all, and a user namespace without its ids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .runtime import Runtime, Spec

pytestmark = pytest.mark.ours("as crun; runc refuses it")


def test_disabled_is_no_cgroup(runtime: Runtime) -> None:
    """The container's processes stay in the caller's, and its limits are passed over."""

    def limited(config: Spec) -> None:
        spaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [one for one in spaces if one["type"] != "cgroup"]
        config["linux"]["resources"] = {"pids": {"limit": 1}}

    bundle, name = runtime.bundle("cat /proc/self/cgroup", limited), runtime.name()
    before = runtime.traces()
    done = runtime("--cgroup-manager", "disabled", "run", "--bundle", str(bundle), name)
    assert (done.status, done.errors) == (0, "")
    assert done.output == Path("/proc/self/cgroup").read_text()
    runtime.expect_nothing_new(before)


def test_what_needs_a_cgroup_is_refused(runtime: Runtime) -> None:
    """With the reason; the container can be deleted as any other."""
    bundle, name = runtime.bundle(), runtime.name()
    words = ("run", "--detach", "--bundle", str(bundle), name)
    assert runtime("--cgroup-manager", "disabled", *words).status == 0
    refused = runtime("pause", name)
    assert refused.status == 1
    assert "the container has no cgroup of its own" in refused.errors
    assert runtime("exec", name, "true").status == 0
    assert runtime("delete", "--force", name).status == 0


def test_another_manager_is_refused(runtime: Runtime) -> None:
    """The known ones are named."""
    refused = runtime("--cgroup-manager", "what", "list")
    assert "expected cgroupfs, systemd or disabled, got 'what'" in refused.errors


def test_a_user_namespace_without_ids_has_the_callers(runtime: Runtime) -> None:
    """Root may map all that it has, as the same numbers."""

    def unmapped(config: Spec) -> None:
        config["linux"]["namespaces"].append({"type": "user"})

    done = runtime.run(
        "cat /proc/self/uid_map /proc/self/gid_map; readlink /proc/self/ns/user", unmapped
    )
    maps = [Path(f"/proc/self/{kind}_map").read_text().split() for kind in ("uid", "gid")]
    expected = [(first, first, size) for first, _, size in maps]
    lines = done.output.splitlines()
    assert [tuple(line.split()) for line in lines[:2]] == expected, done.errors
    assert lines[2] != os.readlink("/proc/self/ns/user")


@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_a_name_that_is_too_long_is_named(runtime: Runtime, field: str) -> None:
    """And not the kernel's call."""
    refused = runtime.run("true", lambda config: config.update({field: "x" * 65}))
    assert refused.status == 1
    assert f"{field}: at most 64 bytes, got 65" in refused.errors
    assert runtime.run("true", lambda config: config.update({field: "x" * 64})).status == 0


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_a_profile_that_allows_nothing_is_refused(runtime: Runtime, action: str) -> None:
    """The kernel would kill the process before its program runs, without a word."""

    def profile(*names: str) -> dict[str, object]:
        rules = [{"names": list(names), "action": "SCMP_ACT_ALLOW"}] if names else []
        return {"seccomp": {"defaultAction": action, "syscalls": rules}}

    refused = runtime.run("true", lambda config: config["linux"].update(profile("read")))
    assert refused.status == 1
    assert "linux.seccomp: allows no execve: the program could not be started" in refused.errors
    tried = runtime.run("true", lambda config: config["linux"].update(profile("execve")))
    assert "allows no execve" not in tried.errors


def test_a_directory_that_was_removed(runtime: Runtime) -> None:
    """The caller stands in it."""
    place = runtime.base / "gone"
    place.mkdir()
    before = Path.cwd()
    os.chdir(place)
    try:
        place.rmdir()
        refused = runtime("run", runtime.name())
    finally:
        os.chdir(before)
    assert "the current directory was removed: change to another one" in refused.errors
