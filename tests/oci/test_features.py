"""features: what engines ask before they use something."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .runtime import Runtime


@pytest.fixture
def features(runtime: Runtime) -> Any:
    """What the runtime says of itself."""
    return json.loads(runtime.ok("features"))


def test_versions(features: Any) -> None:
    """The range of configurations that it takes."""
    assert features["ociVersionMin"] == "1.0.0"
    assert features["ociVersionMax"].startswith("1.")


def test_hooks_and_mount_options(features: Any) -> None:
    """All six kinds, and the words that everybody uses."""
    hooks = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart"}
    assert set(features["hooks"]) == hooks | {"poststop"}
    assert {"ro", "nosuid", "rbind", "rprivate", "relatime"} <= set(features["mountOptions"])


def test_linux(features: Any) -> None:
    """Namespaces, capabilities, cgroups, seccomp."""
    linux = features["linux"]
    namespaces = {"cgroup", "ipc", "mount", "network", "pid", "user", "uts"}
    assert set(linux["namespaces"]) >= namespaces
    assert {"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_NET_ADMIN"} <= set(linux["capabilities"])
    assert linux["cgroup"]["v1"] is True
    assert linux["cgroup"]["v2"] is True
    assert linux["seccomp"]["enabled"] is True
    assert {"SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"} <= set(linux["seccomp"]["actions"])
    assert "SCMP_CMP_EQ" in linux["seccomp"]["operators"]
    assert isinstance(linux["apparmor"]["enabled"], bool)
    assert isinstance(linux["selinux"]["enabled"], bool)


@pytest.mark.ours("runc 1.1.5 does not tell them yet")
def test_annotations_that_reach_beyond_the_container(features: Any) -> None:
    """Whoever passes on a stranger's annotations should know: a property of systemd, say."""
    told = features["potentiallyUnsafeConfigAnnotations"]
    assert any("org.systemd.property.Some".startswith(name) for name in told)
