"""A real distribution runs: a Debian built by rootfs/debian, or the one built before."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Run

_BUILT = Path("/var/lib/minicontainer/rootfs/debian")


@pytest.fixture(scope="session")
def debian(everyones: Path) -> Path:
    """The tree: it takes a minute to build, and needs a mirror."""
    if _BUILT.is_dir():
        return _BUILT
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        pytest.skip("needs root and mmdebstrap, or a tree built by rootfs/debian")
    target = everyones / "debian"
    built = subprocess.run([CHECKOUT / "rootfs" / "debian", target], capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"rootfs/debian: {built.stderr.strip()}")
    return target


@pytest.mark.timeout(600)
def test_apt_tells_its_version(run: Run, debian: Path) -> None:
    """A program with many libraries and its own configuration."""
    result = run("apt-get --version", "--rootfs", str(debian))
    assert result.output.startswith("apt "), result.errors


def test_a_pipeline_runs(run: Run, debian: Path) -> None:
    """Several processes, pipes, SIGPIPE: `yes` must end when its reader does."""
    script = "seq 1 1000 | sort -rn | head -3 | tr '\\n' ' '; yes | head -1"
    result = run(("/bin/bash", "-o", "errexit", "-c", script), "--rootfs", str(debian))
    assert result.status == 0, result.errors
    assert result.output.startswith("1000 999 998 y\n")


def test_python_runs(run: Run, debian: Path) -> None:
    """If it is installed there: threads, processes, sockets, time."""
    if not (debian / "usr" / "bin" / "python3").exists():
        pytest.skip("no python3 in this Debian")
    code = (
        "import os, socket, threading; a, b = socket.socketpair(); a.send(b'x');"
        "t = threading.Thread(target=print, args=(b.recv(1),)); t.start(); t.join();"
        "print(os.getpid(), os.waitpid(os.fork() or os._exit(3), 0)[1] >> 8, flush=True)"
    )
    result = run(("python3", "-c", code), "--rootfs", str(debian))
    assert result.output == "b'x'\n1 3\n", result.errors


def test_packages_can_be_changed(run: Run, debian: Path) -> None:
    """dpkg(1) unlinks, renames and chowns in the container's own layer."""
    purge = "dpkg --purge --force-all hostname >/dev/null"
    script = f"{purge} && ! dpkg -s hostname 2>/dev/null && echo gone"
    assert run(script, "--rootfs", str(debian)).output == "gone\n"
    assert (
        run("dpkg -s hostname | head -1", "--rootfs", str(debian)).output == "Package: hostname\n"
    )


def test_users_can_be_switched(run: Run, debian: Path) -> None:
    """By its own su(1), and in a user namespace too."""
    for options in ((), ("--userns", "private")):
        result = run("su nobody -s /bin/sh -c id", "--rootfs", str(debian), *options)
        assert "uid=65534(nobody)" in result.output, result.errors
