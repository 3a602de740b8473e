"""A part that is left out leaks, and the report tells; what is not left out does not leak."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minicontainer.engine import probes
from minicontainer.errors import InvalidArgument

if TYPE_CHECKING:
    from tests.learn.conftest import Engine

RUN = ("run", "--rm", "--net", "none")
# part: the options that ask for it, a program that looks, what the program must then print
SEEN: dict[str, tuple[tuple[str, ...], str, str]] = {
    "pid": ((), "ls -d /proc/$OUTER && echo seen", "seen"),
    "network": ((), "readlink /proc/self/ns/net", "{net}"),
    "ipc": ((), "readlink /proc/self/ns/ipc", "{ipc}"),
    "uts": ((), "hostname", "{hostname}"),
    "cgroup": (("--cgroupns", "private"), "cat /proc/self/cgroup", "/minicontainer/"),
    "user": (("--userns", "private"), "cat /proc/self/uid_map", "4294967295"),
    "memory": (("--memory", "64m"), "true", ""),
    "cpus": (("--cpus", "0.5"), "true", ""),
    "pids-limit": (("--pids-limit", "50"), "true", ""),
    "capabilities": ((), "grep CapEff /proc/self/status", "{caps}"),
    "seccomp": ((), "grep Seccomp: /proc/self/status", "\t0"),
    "masks": ((), "test -f /proc/interrupts && echo seen", "seen"),
}


def own_view(engine: Engine) -> dict[str, str]:
    """Give what a process of the engine's own namespaces sees."""
    pid = engine.process.pid
    status = Path("/proc/self/status").read_text()
    return {
        "net": os.readlink(f"/proc/{pid}/ns/net"),
        "ipc": os.readlink("/proc/self/ns/ipc"),
        "hostname": os.uname().nodename,
        "caps": next(line.split()[1] for line in status.splitlines() if "CapEff" in line),
    }


def test_every_part_is_tested_and_has_a_probe() -> None:
    """A new row of the table needs a row here, and something that measures it."""
    names = [part.name for part in probes.PARTS]
    assert list(SEEN) == names
    assert {probe.part for probe in probes.PROBES} == set(names)


@pytest.mark.parametrize("part", SEEN)
def test_what_is_left_out_leaks(engine: Engine, part: str) -> None:
    """Seen from inside, and found by the probes; with the part in place, neither."""
    options, program, expected = SEEN[part]
    expected = expected.format(**own_view(engine))
    words = (*RUN, *options, "-e", f"OUTER={os.getpid()}")
    script = ("busybox", "sh", "-c", program)
    left_out = engine(*words, "--without", part, *script)
    assert expected in left_out.output
    lines = left_out.errors.splitlines()
    assert (
        lines[0]
        == f"minicontainer: without {part}: this container is for learning, and not for use"
    )
    assert lines[1].startswith(f"  {part}: ")
    assert lines[2].startswith("    ")
    assert "contained all the same" not in left_out.errors
    assert "can't be looked at" not in left_out.errors
    whole = engine(*words, "busybox", "sh", "-c", f"{program}; true")
    assert not expected or expected not in whole.output
    assert whole.errors.replace(f"ls: /proc/{os.getpid()}: No such file or directory\n", "") == ""


def test_the_probes_find_nothing_in_a_whole_container(engine: Engine) -> None:
    """The control: they measure, and do not repeat what was asked for."""
    options = (
        "--userns", "private", "--cgroupns", "private",
        "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50",
    )  # fmt: skip
    made = engine("run", "-d", "--net", "none", *options, "busybox", "sleep", "1000").output
    pid = int(engine("inspect", "-f", "{{.State.Pid}}", made.strip()).output)
    found = {f"{probe.part}: {probe.what}": probe.look(pid) for probe in probes.PROBES}
    assert {name: told for name, told in found.items() if told} == {}
    engine("rm", "-f", made.strip())


def test_inspect_shows_what_was_left_out(engine: Engine) -> None:
    """In Docker's own fields, and in ours."""
    words = ("create", "--memory", "64m", "--without", "pid", "--without", "memory", "busybox")
    made = engine(*words).output.strip()
    shape = "{{.HostConfig.PidMode}} {{.HostConfig.Memory}} {{.HostConfig.Without}}"
    assert engine("inspect", "-f", shape, made).output == "host 0 [pid memory]\n"
    assert "look-for-leaks" in engine("start", "--explain=steps", made).errors


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pidd", "did you mean pid?"),
        ("memmory", "did you mean memory?"),
        ("xyz", "use pid, network, ipc"),
        ("mount", "every mount of the container would be made on the host"),
        ("isolate-mounts", "every mount of the container would be made on the host"),
        ("enter-rootfs", "the container's root would be the host's"),
    ],
)
def test_what_is_refused(engine: Engine, name: str, says: str) -> None:
    """In one line, and nothing was made."""
    before = engine("ps", "-aq").output
    errors = engine(*RUN, "--without", name, "busybox", "true", status=125).errors
    assert errors.startswith(f"minicontainer: Error response from daemon: --without {name}: ")
    assert says in errors
    assert errors.count("\n") == 1
    assert engine("ps", "-aq").output == before


@pytest.mark.parametrize("value", ["pid", [1], {"pid": True}])
def test_a_body_with_nonsense_is_refused(value: object) -> None:
    """The API takes a list of texts."""
    with pytest.raises(InvalidArgument, match="expected a list"):
        probes.left_out({"HostConfig": {"Without": value}})


def test_a_profile_of_seccomp_goes_and_the_rest_stays() -> None:
    """Other security options are other parts."""
    host = {"SecurityOpt": ["no-new-privileges", "seccomp=/a.json"], "Without": ["seccomp"]}
    changed = probes.left_out({"HostConfig": host})["HostConfig"]
    assert changed["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]
    assert probes.left_out({"Image": "x"}) == {"Image": "x"}
