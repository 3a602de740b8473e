"""Nothing of the root file system is run or believed before it is the program's turn.

See: crun's SECURITY.md: the root file system is hostile; and what it holds is not to be trusted.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Run
from tests.isolation.conftest import Bundles, Spec

from .conftest import rooted

MARK = "executed"
# What a runtime, an interpreter or a library could call or load, if it took the container's.
PROGRAMS = (
    "usr/bin/newuidmap", "usr/bin/newgidmap", "sbin/nft", "usr/sbin/nft", "sbin/ldconfig",
    "usr/bin/python3", "usr/bin/env", "sbin/modprobe", "bin/mount", "usr/bin/nsenter",
)  # fmt: skip
LIBRARIES = (
    "lib/x86_64-linux-gnu/libc.so.6", "lib/libnss_files.so.2", "usr/lib/libnss_files.so.2",
    "lib64/ld-linux-x86-64.so.2", "usr/lib/gconv/gconv-modules", "etc/ld.so.preload",
    "etc/ld.so.cache", "etc/nsswitch.conf", "etc/localtime", "usr/share/zoneinfo/UTC",
)  # fmt: skip


@pytest.fixture
def trap(tree: Path) -> Path:
    """A root file system full of what must not be used: it leaves a mark, or breaks the user."""
    for name in PROGRAMS:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\ntouch /{MARK}\n")
        path.chmod(0o755)
    for name in LIBRARIES:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not what you think\n")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    code = f"open('/{MARK}', 'w').close()\n"
    for directory in {f"usr/lib/{version}", f"usr/local/lib/{version}", *_import_paths()}:
        for name in ("sitecustomize", "signal", "socket", "json/__init__", "termios", "array",
                     "encodings/idna", "minicontainer/__init__"):  # fmt: skip
            path = tree / directory / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code)
    return tree


def _import_paths() -> list[str]:
    """List where the command itself imports from, as a place in the container."""
    return [path.lstrip("/") for path in sys.path if path.startswith("/usr")]


def _everything(config: Spec) -> None:
    maps = [{"containerID": 0, "hostID": 0, "size": 65_536}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": maps, "gidMappings": maps}
    config["process"]["cwd"] = "/made/for/it"
    config["process"]["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}


def test_nothing_of_it_is_run(bundles: Bundles, trap: Path) -> None:
    """By create and by exec: no program, no library, no module."""

    def change(config: Spec) -> None:
        rooted(trap)(config)
        _everything(config)

    container = bundles.start("echo ready; sleep 60", change)
    assert bundles.exec(container, "id", "-u").output == "7\n"
    assert bundles(("/bin/missing",), change).status != 0
    assert not (trap / MARK).exists()


def test_a_run_uses_nothing_of_it(run: Run, trap: Path) -> None:
    """With names to look up, and a reaper."""
    result = run(
        "id -u", "--rootfs", str(trap), "--user", "nobody", "--init", "--userns", "private"
    )
    assert result.status == 0, result.errors
    assert not (trap / MARK).exists()


def test_the_trap_is_one(trap: Path) -> None:
    """The control: what is found in it by its name, and run, leaves the mark."""
    subprocess.run(["chroot", trap, "/usr/bin/newuidmap"], check=True)
    assert (trap / MARK).exists()


@pytest.mark.parametrize("by", ["run", "exec"])
def test_nothing_is_opened_in_it(bundles: Bundles, trap: Path, tmp_path: Path, by: str) -> None:
    """Once the root is the container's, and until the program runs: no file, only places.

    But for the null device, for the standard streams, and passwd(5), for HOME: both are looked at
    before they are opened, and after.
    """
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    words = bundles.write("true", rooted(trap))
    if by == "exec":
        container = bundles.start("echo ready; sleep 60", rooted(trap))
        words = bundles.oci("exec", container.state["id"], "/bin/true")
    calls = "open,openat,openat2,execve,pivot_root,setns"
    trace = ["strace", "-ff", "-e", f"trace={calls}", "-o", str(tmp_path / "trace")]
    subprocess.run([*trace, *words], check=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
    entered = "pivot_root(" if by == "run" else "setns("
    opened, executed = [], []
    for path in tmp_path.glob("trace.*"):
        lines = iter(path.read_text().splitlines())
        if any(line.startswith(entered) for line in lines):
            inside = [*itertools.takewhile(lambda line: not line.startswith("execve("), lines)]
            opened += [line for line in inside if line.startswith("open") and "O_PATH" not in line]
            executed.append(len(inside))
    known = ('"/dev/null", {flags=O_RDWR|', '"etc/passwd", {flags=O_RDONLY|O_NOCTTY|O_NONBLOCK|')
    assert [line for line in opened if not any(each in line for each in known)] == []
    assert len(executed) == (1 if by == "run" else 2)  # the joiner, and its child
