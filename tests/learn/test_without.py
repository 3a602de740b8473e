"""A part that is left out leaks, and the report tells; what is not left out does not leak."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer import steps
from minicontainer.engine import parts, probes
from minicontainer.errors import InvalidArgument
from minicontainer.runtime.child import init
from tests.learn.conftest import Engine, begun

RUN = ("run", "--rm", "--net", "none")
# part: the options that ask for it, a program that looks, what the program must then print
SEEN: dict[str, tuple[tuple[str, ...], str, str]] = {
    "pid": ((), "ls -d /proc/$OUTER && echo seen", "seen"),
    "network": ((), "readlink /proc/self/ns/net", "{net}"),
    "ipc": ((), "readlink /proc/self/ns/ipc", "{ipc}"),
    "uts": ((), "hostname", "{hostname}"),
    "cgroup": (("--cgroupns", "private"), "cat /proc/self/cgroup", "/minicontainer-learn-"),
    "user": (("--userns", "private"), "cat /proc/self/uid_map", "4294967295"),
    "memory": (("--memory", "64m"), "true", ""),
    "cpus": (("--cpus", "0.5"), "true", ""),
    "pids-limit": (("--pids-limit", "50"), "true", ""),
    "devices": ((), "mknod /k c 1 11; (: > /k) 2>/dev/null && echo opened", "opened"),
    "capabilities": ((), "grep CapEff /proc/self/status", "{caps}"),
    "seccomp": ((), "grep Seccomp: /proc/self/status", "\t0"),
    "masks": ((), "test -f /proc/interrupts && echo seen", "seen"),
    "mount-proc": ((), "test -e /proc/self || echo none", "none"),
    "mount-sys": ((), "test -e /sys/class || echo none", "none"),
}
# step: the options that ask for it, a program that looks, what it must then print
SEEN_OF_STEPS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "join-cgroups": (("--cgroupns", "host"), "cat /proc/self/cgroup", ""),
    "reset-signals": ((), "grep SigIgn /proc/self/status | grep '[^0]...$'", "SigIgn"),
    "start-session": ((), "true", ""),
    "unshare-cgroup": (("--cgroupns", "private"), "cat /proc/self/cgroup", "/minicontainer-learn-"),
    "mount-filesystems": ((), "test -e /proc/self || echo none", "none"),
    "protect-paths": ((), "test -f /proc/interrupts && echo seen", "seen"),
    "make-rootfs-readonly": (("--read-only",), "touch /x 2>/dev/null && echo written", "written"),
    "set-hostname": ((), "hostname", "{hostname}"),
    "raise-loopback": ((), "ping -c 1 -W 1 127.0.0.1 >/dev/null 2>&1 || echo down", "down"),
    "forbid-new-privileges": (
        ("--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"),
        "grep NoNewPrivs /proc/self/status", "\t0",
    ),
    "filter-if-privileged": ((), "grep Seccomp: /proc/self/status", "\t0"),
    "drop-bounding-set": ((), "grep CapEff /proc/self/status", "{caps}"),
    "become-user": (("--user", "1000"), "id -u | grep -x 0", "0"),
}  # fmt: skip


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
    names = {part.name for part in parts.PARTS}
    assert set(SEEN) == names
    measured = {probe.part for probe in probes.PROBES}
    assert names <= measured
    assert measured <= names | {step.name for step in parts.STEPS} | parts.HARMFUL.keys()
    of_steps = {step.name for step in parts.STEPS if (step.like or step.name) in measured}
    assert set(SEEN_OF_STEPS) == of_steps - {"filter-if-unprivileged", "set-capabilities"}
    assert of_steps == {step.name for step in parts.STEPS if not step.command}


def test_every_step_of_the_recipe_can_be_left_out_or_says_why_not() -> None:
    """A new step needs a row in one of the three tables."""
    recipe = [steps.step_name(step) for step in init.RECIPE]
    known = [*(step.name for step in parts.STEPS), *parts.HARMFUL, *parts.NEEDED]
    assert sorted(recipe) == sorted(name for name in known if name != "mount")


@pytest.mark.parametrize("part", [*SEEN, *SEEN_OF_STEPS])
def test_what_is_left_out_leaks(engine: Engine, part: str) -> None:
    """Seen from inside, and found by the probes; with the part in place, neither."""
    options, program, expected = (SEEN | SEEN_OF_STEPS)[part]
    expected = expected.format(**own_view(engine))
    words = (*RUN, *options, "-e", f"OUTER={os.getpid()}")
    script = ("busybox", "sh", "-c", program)
    left_out = engine(*words, "--without", part, *script)
    assert expected in left_out.output
    lines = left_out.errors.splitlines()
    assert lines[0] == f"minicontainer: without {part}: for learning only, not for use"
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
        "--userns", "private", "--cgroupns", "private", "--read-only", "--user", "1000",
        "--security-opt", "no-new-privileges",
        "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50",
    )  # fmt: skip
    made = engine("run", "-d", "--net", "none", *options, "busybox", "sleep", "1000").output
    pid = int(engine("inspect", "-f", "{{.State.Pid}}", made.strip()).output)
    found = {f"{probe.part}: {probe.what}": probes.look(probe, pid) for probe in probes.PROBES}
    if "devices.list" not in engine("exec", made.strip(), "ls", "/sys/fs/cgroup/devices").output:
        del found["devices: allow-list"]  # on v2 it is a program, which can't be read back
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
        ("set-hostnam", "did you mean set-hostname?"),
        ("mask-path", "did you mean mask-paths?"),
        ("mount", "not possible: every mount of the container would be one of the host's own"),
        ("create-cgroup", "not possible: it is a step of the monitor, and only"),
        ("run-program", "not possible: there would be no program"),
        ("isolate-mounts", "refused: the container's mounts would appear on the host"),
        ("isolate-mounts", "marked as a lab (the file /etc/minicontainer/lab is there)"),
        ("enter-rootfs", "or add --without-force"),
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
        parts.left_out({"HostConfig": {"Without": value}})


def test_a_profile_of_seccomp_goes_and_the_rest_stays() -> None:
    """Other security options are other parts."""
    host = {"SecurityOpt": ["no-new-privileges", "seccomp=/a.json"], "Without": ["seccomp"]}
    changed = parts.left_out({"HostConfig": host})["HostConfig"]
    assert changed["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]
    assert parts.left_out({"Image": "x"}) == {"Image": "x"}


def test_a_lab_may_leave_out_what_the_host_needs() -> None:
    """By its mark, or by force; what makes no container at all is refused there too."""
    host = {"Without": ["isolate-mounts", "mask-paths"]}
    with pytest.raises(InvalidArgument, match="marked as a lab"):
        parts.left_out({"HostConfig": host}, is_lab=False)
    for allowed in (
        parts.left_out({"HostConfig": host}, is_lab=True),
        parts.left_out({"HostConfig": host | {"WithoutForce": True}}, is_lab=False),
    ):
        assert allowed["HostConfig"]["Without"] == ["isolate-mounts", "protect-paths"]
    with pytest.raises(InvalidArgument, match="not possible"):
        parts.left_out({"HostConfig": {"Without": ["mount-rootfs"]}}, is_lab=True)


@pytest.fixture
def sharing_engine() -> Iterator[Engine]:
    """Give an engine on a host whose mounts are shared, as systemd makes them."""
    with begun(("unshare", "--mount", "--propagation", "shared")) as made:
        yield made


def test_mounts_that_are_not_isolated_appear_on_the_host(sharing_engine: Engine) -> None:
    """The kernel refuses to go on then; what has appeared is reported, and taken back."""

    def left() -> str:
        return Path(f"/proc/{sharing_engine.pid}/mountinfo").read_text()

    before = left()
    words = (*RUN, "--without", "isolate-mounts", "--without-force", "busybox", "true")
    errors = sharing_engine(*words, status=125).errors
    assert errors.startswith("minicontainer: without isolate-mounts: for learning only")
    assert "isolate-mounts: mounts: mounts on the host (" in errors
    assert max(map(len, errors.splitlines()[:-1])) <= 80
    assert "Invalid argument" in errors.splitlines()[-1]
    assert left() == before


def test_a_root_that_is_not_entered_is_the_hosts(engine: Engine, tmp_path: Path) -> None:
    """Forced: the program finds the host's files; the report says so."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    found = engine(
        *RUN, "--without", "enter-rootfs", "--without-force", "busybox", "cat", str(secret)
    )
    assert found.output == "of the host"
    assert "its root is the host's" in found.errors


def test_a_step_that_is_left_out_is_told(engine: Engine) -> None:
    """In the story it stands in its place, and makes no call."""
    words = (*RUN, "--without", "raise-loopback", "--json", "busybox", "true")
    told = [json.loads(line) for line in engine(*words).errors.splitlines() if line[0] == "{"]
    (left_out,) = (e for e in told if e["step"] == "raise-loopback" and e["call"])
    assert left_out["call"] == "left out, as --without asks"
