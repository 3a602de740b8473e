"""A procfs of one's own: what lies over the host's can't catch what is written.

Each case runs in a process with a mount namespace of its own, where things are laid over /proc.

See: kernel/procfs.py; CVE-2019-16884, CVE-2019-19921, CVE-2025-52881.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, PATIENCE_S

WRITE = """
import os, sys, json
sys.path[:] = json.loads(sys.argv[1])
from minicontainer.errors import Error
from minicontainer.kernel import files, procfs
try:
    CODE
except Error as error:
    print(type(error).__name__, error)
else:
    print(open(SCORE).read().strip())
"""
OWN = "with procfs.opened() as fd: procfs.write(fd, 'self/oom_score_adj', '321')"
HOSTS = "procfs.write(os.open('/proc', os.O_PATH), 'self/oom_score_adj', '321')"
PLAIN = "files.write_file('/proc/self/oom_score_adj', '321')"


def run(code: str, cover: str, *options: str) -> str:
    """Run *code* with something laid over /proc by a shell; give the process's score, or its error.

    Args:
        cover: is given the number of the process that writes.
        options: of unshare(1), beside a mount namespace.
    """
    # /proc as it was is kept aside, to look at what became of the score.
    script = f"""
mkdir -p "$1"/proc && mount --rbind /proc "$1"/proc && {cover.replace("PID", "$$")} &&
shift && exec "$@"
"""
    directory = subprocess.run(
        ["mktemp", "-d"], capture_output=True, text=True, check=True
    ).stdout.strip()  # fmt: skip
    text = WRITE.replace("CODE", code).replace(
        "SCORE", f"{directory + '/proc/self/oom_score_adj'!r}"
    )
    words = [sys.executable, "-c", text, json.dumps([str(CHECKOUT), *sys.path])]
    try:
        done = subprocess.run(
            ["unshare", "-m", *options, "sh", "-c", script, "sh", directory, *words],
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    finally:
        Path(directory, "proc").rmdir()
        Path(directory).rmdir()
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def as_root() -> None:
    """Mounts need root."""
    if os.geteuid() != 0:
        pytest.skip("mounts need root")


COVERED_FILE = "mount --bind /dev/null /proc/PID/oom_score_adj"
COVERED_DIRECTORY = "mount -t tmpfs x /proc/PID && echo untouched > /proc/PID/oom_score_adj"
COVERED_ROOT = "mount -t tmpfs x /proc && mkdir /proc/self && echo 0 > /proc/self/oom_score_adj"


@pytest.mark.parametrize("cover", ["true", COVERED_FILE, COVERED_DIRECTORY, COVERED_ROOT])
def test_what_is_written_arrives(cover: str) -> None:
    """At the process itself, whatever lies over its file, its directory or all of /proc."""
    assert run(OWN, cover) == "321"


@pytest.mark.parametrize("cover", [COVERED_FILE, COVERED_DIRECTORY, COVERED_ROOT])
def test_a_plain_write_does_not_arrive(cover: str) -> None:
    """The control: it goes to what lies there, and succeeds."""
    assert run(PLAIN, cover) == "0"


def test_a_plain_write_arrives_where_nothing_covers_it() -> None:
    """The control of the control."""
    assert run(PLAIN, "true") == "321"


@pytest.mark.parametrize("cover", [COVERED_FILE, COVERED_DIRECTORY])
def test_no_mount_in_a_procfs_is_crossed(cover: str) -> None:
    """Where the one at /proc must serve, what covers a part of it is refused."""
    assert "Invalid cross-device link" in run(HOSTS, cover)
    assert run(HOSTS, "true") == "321"


# In a user namespace that does not own its PID namespace there is no new procfs to be had.
USER = ("--user", "--map-root-user")


def test_without_a_procfs_of_its_own_the_hosts_serves() -> None:
    """It is one, and whole."""
    assert run(OWN, "true", *USER) == "321"


def test_what_is_no_procfs_is_refused() -> None:
    """A tmpfs at /proc."""
    assert "Unsupported /proc is not a procfs" in run(OWN, COVERED_ROOT, *USER)


def test_a_part_of_a_procfs_is_refused() -> None:
    """A directory of one, bound over /proc: it has no `self` of this process's."""
    told = run(OWN, "mount --bind /proc/self /proc", *USER)
    assert "Unsupported /proc is not a procfs" in told
