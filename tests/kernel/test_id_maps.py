"""The maps of a user namespace, written from outside by root and by an ordinary user.

See: user_namespaces(7); CVE-2014-8989.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT, PATIENCE_S

# A process in a user namespace of its own; then its maps are written, or a map without more ado.
MAKE = """
import os, sys
sys.path[:0] = sys.argv[4].split(":")
from minicontainer.kernel import namespaces, process
from minicontainer.kernel.namespaces import IdMap
user, inside, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    process.set_dumpable(True)  # or the files in /proc would stay root's
reads, writes = os.pipe()
held, ends = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(ends)
    namespaces.unshare(namespaces.CLONE_NEWUSER)
    os.write(writes, b"x")
    os.read(held, 1)
    os._exit(0)
os.close(writes)
if not os.read(reads, 1):
    sys.exit("no user namespace")
maps = (IdMap(container_id=inside, host_id=user, size=1),)
try:
    if how == "bare":
        os.write(os.open(f"/proc/{pid}/gid_map", os.O_WRONLY), b"%d %d 1" % (inside, user))
    else:
        namespaces.write_id_maps(pid, maps, maps)
except OSError as error:
    print(error.errno)
for name in ("setgroups", "uid_map", "gid_map"):
    print(*open(f"/proc/{pid}/{name}").read().split())
"""
NOBODY = 65534
EPERM = 1


def written(user: int, how: str = "") -> list[str]:
    """Write the maps as a user; give the three files as the kernel then has them."""
    words = [str(user), "5", how, ":".join((str(CHECKOUT), *sys.path))]
    done = subprocess.run(
        [sys.executable, "-B", "-c", MAKE, *words],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    if "no user namespace" in done.stderr:
        pytest.skip("this host lets ordinary users have no user namespaces")
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture(autouse=True)
def root() -> None:
    """Who becomes another user must be root, and others must be able to read this checkout."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become an ordinary user")


@pytest.mark.oci("linux.uidMappings", "linux.gidMappings")
def test_an_ordinary_user_gives_up_setting_groups() -> None:
    """Before its group's map, which the kernel would not take otherwise: the control."""
    assert written(NOBODY) == ["deny", f"5 {NOBODY} 1", f"5 {NOBODY} 1"]
    assert written(NOBODY, "bare") == [str(EPERM), "allow", "", ""]


@pytest.mark.oci("linux.uidMappings", "linux.gidMappings")
def test_roots_containers_can_set_groups() -> None:
    """Nothing has to be given up by who may map any group."""
    assert written(0) == ["allow", "5 0 1", "5 0 1"]
