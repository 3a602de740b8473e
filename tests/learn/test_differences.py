"""`diff` with two arguments: what the kernel made of two containers, or of the host and one."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minicontainer.errors import NotFound
from minicontainer.learn import differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.learn.conftest import Engine

Found = dict[tuple[str, str], tuple[str, str]]


@pytest.fixture(scope="module")
def two(engine: Engine) -> Iterator[tuple[str, str]]:
    """Give two containers with different limits, capabilities and environment."""
    common = ("run", "-d", "--net", "none", "--name")
    engine(*common, "one", "--memory", "64m", "-e", "ROLE=first", "busybox", "sleep", "1000")
    options = ("--cap-add", "SYS_TIME", "--security-opt", "seccomp=unconfined", "--user", "33:44")
    engine(*common, "two", *options, "-v", "/srv:/srv", "busybox", "sleep", "1000")
    yield "one", "two"
    engine("rm", "-f", "one", "two")


def found(engine: Engine, *words: str) -> Found:
    """Read what `diff --format json` prints."""
    lines = engine("diff", "--format", "json", *words).output.splitlines()
    rows = [json.loads(line) for line in lines]
    return {(r["table"], r["name"]): (r.get("left", ""), r.get("right", "")) for r in rows}


def test_two_containers(engine: Engine, two: tuple[str, str]) -> None:
    """Each table has what was asked for differently, and not what is the same."""
    seen = found(engine, *two)
    pids = [engine("inspect", "-f", "{{.State.Pid}}", name).output.strip() for name in two]
    links = [re.findall(r"\d+", os.readlink(f"/proc/{pid}/ns/pid"))[0] for pid in pids]
    assert seen["namespaces", "pid"] == tuple(links)
    assert ("namespaces", "user") not in seen  # both are in the host's
    limit = seen.get(("limits", "memory.max")) or seen["limits", "memory.limit_in_bytes"]
    assert limit == (str(64 << 20), "max")
    assert seen["capabilities", "CAP_SYS_TIME"][0] == ""
    assert "bounding" in seen["capabilities", "CAP_SYS_TIME"][1]
    assert "effective" in seen["capabilities", "CAP_CHOWN"][0]
    assert "effective" not in seen["capabilities", "CAP_CHOWN"][1]  # it is not root
    assert seen["seccomp", "system call filter"] == ("filter", "off")
    assert seen["ids", "users"] == ("0 0 0 0", "33 33 33 33")
    assert seen["mounts", "/srv"][0] == ""
    assert seen["environment", "ROLE"] == ("first", "")
    assert ("environment", "PATH") not in seen


def test_the_host_and_a_container(engine: Engine, two: tuple[str, str]) -> None:
    """The host has links, mounts and capabilities that the container lacks."""
    seen = found(engine, "host", two[0])
    assert seen["namespaces", "net"][0] == re.findall(r"\d+", os.readlink("/proc/self/ns/net"))[0]
    assert ("namespaces", "user") not in seen
    assert seen["capabilities", "CAP_SYS_ADMIN"][1] == ""
    assert seen["mounts", "/"][1].startswith("overlay")


def test_all_shows_also_what_is_the_same(engine: Engine, two: tuple[str, str]) -> None:
    """More lines, and the count of what is left out is gone."""
    short, whole = engine("diff", *two).output, engine("diff", "--all", *two).output
    assert len(whole.splitlines()) > len(short.splitlines())
    assert "the same)" in short
    assert "the same)" not in whole
    assert max(map(len, short.splitlines())) <= 100


def test_one_argument_is_dockers_diff(engine: Engine, two: tuple[str, str]) -> None:
    """Files, as ever."""
    engine("exec", two[0], "touch", "/new")
    assert "A /new\n" in engine("diff", two[0]).output


def test_a_process_and_itself_are_the_same() -> None:
    """Nothing differs, and something was looked at in every table."""
    # not this process: a thread of pytest may begin between the two looks
    words = ["sh", "-c", "echo ready; read never"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as quiet:
        try:
            assert quiet.stdout is not None
            quiet.stdout.readline()  # from now on it does nothing
            seen = differences.compare(quiet.pid, quiet.pid)
        finally:
            quiet.kill()
    assert [one for one in seen if one.left != one.right] == []
    assert {one.table for one in seen} == set(differences.TABLES)


def test_what_is_refused(engine: Engine, two: tuple[str, str]) -> None:
    """A container that does not run, or is unknown; a process that ended."""
    stopped = engine("create", "--net", "none", "busybox", "true").output.strip()
    errors = engine("diff", "host", stopped, status=125).errors
    assert errors == f"minicontainer: container {stopped} is not running: start it first\n"
    assert "No such container: nobody" in engine("diff", two[0], "nobody", status=1).errors
    assert "only json" in engine("diff", "--format", "x", *two, status=125).errors
    assert "--all and --format" in engine("diff", "--all", two[0], status=1).errors
    pid = int(Path("/proc/sys/kernel/pid_max").read_text())
    with pytest.raises(NotFound, match="has ended"):
        differences.compare(os.getpid(), pid)


def test_a_long_value_is_broken_after_commas_and_slashes() -> None:
    """No option is cut in two where it fits the column."""
    one = differences.Difference(
        table="mounts", name="/sys/fs/cgroup/cpu", left="-",
        right="cgroup cgroup of /minicontainer/web (ro,nosuid,nodev,noexec,relatime)",
    )  # fmt: skip
    told = [*differences.lines((one,), ("one", "two"), 72)]
    assert max(map(len, told)) <= 72
    cells = [line[47:].strip() for line in told if line.startswith("  ")]
    assert "\x1f" not in "".join(told)
    assert re.sub(r"\n", "", "".join(cells[1:])).endswith("(ro,nosuid,nodev,noexec,relatime)")
    assert all(cell.endswith((",", ")", "/", "of", "web")) for cell in cells[1:]), cells
