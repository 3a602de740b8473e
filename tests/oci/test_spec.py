"""spec and features: what is asked of the runtime itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .runtime import Runtime

MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/sched_debug")


def test_spec_in_the_callers_directory(runtime: Runtime, tmp_path: Path) -> None:
    """A configuration that is complete but for the root file system."""
    assert runtime.ok("spec", cwd=tmp_path) == ""
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["ociVersion"].startswith("1.")
    assert config["process"]["args"] == ["sh"]
    assert config["root"] == {"path": "rootfs", "readonly": True}


@pytest.mark.parametrize("option", ["--bundle", "-b"])
def test_spec_in_a_bundle(runtime: Runtime, tmp_path: Path, option: str) -> None:
    """Where the option says."""
    runtime.ok("spec", option, str(tmp_path))
    assert (tmp_path / "config.json").exists()


def test_spec_overwrites_nothing(runtime: Runtime, tmp_path: Path) -> None:
    """It may be the user's own."""
    (tmp_path / "config.json").write_text("mine")
    runtime.refused("spec", "-b", str(tmp_path), says="exists")
    assert (tmp_path / "config.json").read_text() == "mine"


def test_spec_where_nothing_can_be_written(runtime: Runtime, tmp_path: Path) -> None:
    """One line."""
    runtime.refused("spec", "-b", str(tmp_path / "none"), says="no such file")


def test_spec_is_closed_to_the_outside(runtime: Runtime, tmp_path: Path) -> None:
    """Namespaces of all kinds, few capabilities, no new privileges, masked paths."""
    runtime.ok("spec", "-b", str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    kinds = {one["type"] for one in config["linux"]["namespaces"]}
    assert kinds >= {"pid", "network", "ipc", "uts", "mount"}
    assert config["process"]["noNewPrivileges"] is True
    held = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
    for kind in ("bounding", "effective", "permitted"):
        assert set(config["process"]["capabilities"][kind]) == held
    assert not config["process"]["capabilities"].get("inheritable")
    assert set(config["linux"]["maskedPaths"]) >= set(MASKED)
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(config["linux"]["readonlyPaths"])
    first = config["linux"]["resources"]["devices"][0]
    assert (first["allow"], first.get("type", "a"), first["access"]) == (False, "a", "rwm")


def test_spec_rootless(runtime: Runtime, tmp_path: Path) -> None:
    """A user namespace that maps root to the caller; no resources, no network namespace's sysfs."""
    runtime.ok("spec", "--rootless", "-b", str(tmp_path))
    linux = json.loads((tmp_path / "config.json").read_text())["linux"]
    assert "user" in {one["type"] for one in linux["namespaces"]}
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    assert not (linux.get("resources") or {}).get("devices")


def test_what_rootless_writes_can_be_run(runtime: Runtime, tmp_path: Path) -> None:
    """With a root file system."""
    runtime.ok("spec", "--rootless", "-b", str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    config["root"]["path"] = str(runtime.config["root"]["path"])
    config["process"] |= {"terminal": False, "args": ["id", "-u"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert runtime.ok("run", "-b", str(tmp_path), runtime.name()) == "0\n"
