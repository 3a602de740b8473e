"""Capabilities and no_new_privs: capabilities(7), PR_SET_NO_NEW_PRIVS(2const)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minicontainer.kernel import capabilities
from tests.conftest import PATIENCE_S, Run, command

from .conftest import HOST_PYTHON, Bundles, Spec, leaks, parse_status, status_of

# Docker's fourteen, from its documentation.
DOCKERS = {
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETUID", "CAP_SYS_CHROOT",
}  # fmt: skip
SETS = ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")


def sets_of(status: dict[str, str]) -> list[set[str]]:
    """Read the five sets, in the order of SETS."""
    return [set(capabilities.names_in(int(status[name], 16))) for name in SETS]


def _sets(run: Run, *options: str) -> list[set[str]]:
    """Read them from inside and from outside: both must be the same."""
    container = run.start("cat /proc/self/status | tr '\\n' ';'; echo; sleep 60", *options)
    found = sets_of(status_of(container.pid))
    inside = run("cat /proc/self/status", *options).output
    assert sets_of(parse_status(inside)) == found
    return found


def test_root_has_dockers_fourteen(run: Run) -> None:
    """Bounding, permitted, effective; nothing is inheritable or ambient."""
    assert _sets(run) == [DOCKERS, DOCKERS, DOCKERS, set(), set()]
    assert leaks(run.start("echo ready; sleep 60").pid, "capabilities") == {}


def test_the_host_has_more(run: Run) -> None:
    """The control: this test's own sets are read in the same way."""
    assert sets_of(status_of("self"))[1] > DOCKERS


def test_one_can_be_added_and_dropped(run: Run) -> None:
    """In any spelling, as Docker."""
    wanted = DOCKERS - {"CAP_CHOWN"} | {"CAP_NET_ADMIN"}
    options = ("--cap-add", "net_admin", "--cap-drop", "CAP_CHOWN")
    assert _sets(run, *options) == [wanted, wanted, wanted, set(), set()]


def test_all_can_be_dropped_but_one(run: Run) -> None:
    """--cap-drop ALL --cap-add ONE."""
    one = {"CAP_KILL"}
    options = ("--cap-drop", "ALL", "--cap-add", "KILL")
    assert _sets(run, *options) == [one, one, one, set(), set()]
    none: list[set[str]] = [set(), set(), set(), set(), set()]
    assert _sets(run, "--cap-drop", "all") == none


def test_all_can_be_added_but_one(run: Run) -> None:
    """--cap-add ALL --cap-drop ONE; no more than root has here."""
    wanted = sets_of(status_of("self"))[1] - {"CAP_SYS_ADMIN"}
    options = ("--cap-add", "ALL", "--cap-drop", "SYS_ADMIN")
    assert _sets(run, *options) == [wanted, wanted, wanted, set(), set()]


def test_privileged_has_all_that_root_has(run: Run) -> None:
    """Some hosts' root has not all that the kernel knows: what there is."""
    everything = sets_of(status_of("self"))[1]
    assert _sets(run, "--privileged") == [everything, everything, everything, set(), set()]
    privileged = run.start("echo ready; sleep 60", "--privileged").pid
    assert "effective set" in leaks(privileged, "capabilities")


def test_another_user_has_none(run: Run) -> None:
    """But the bounding set, for what its programs' files grant."""
    assert _sets(run, "--user", "user") == [DOCKERS, set(), set(), set(), set()]


def test_they_mean_what_they_say(run: Run) -> None:
    """A right that was dropped is missed, with the control."""
    assert run("chown 7 /etc/passwd").status == 0
    dropped = run("chown 7 /etc/passwd", "--cap-drop", "CHOWN")
    assert "Operation not permitted" in dropped.errors


def test_an_unknown_one_is_refused(run: Run) -> None:
    """By its name."""
    result = run("true", "--cap-add", "SYS_MAGIC")
    assert result.status == 125
    assert 'unknown capability: "CAP_SYS_MAGIC"' in result.errors


# ---- programs whose files grant more

_SHOW = (
    "/granting/python -I -S -c "
    "'import os; print(os.geteuid(), open(\\\"/proc/self/status\\\").read())'"
)
# A copy of Python with the set-user-ID bit, or with CAP_NET_RAW on its file: user 1000 starts it.
# On a tmpfs, because the host's file system may be mounted nosuid.
_SETUID = f"""
cp -L /usr/bin/python3 /granting/python && chmod 4755 /granting/python &&
su user -c "{_SHOW}"
"""
_FILE_CAPABILITY = f"""
cp -L /usr/bin/python3 /granting/python &&
/granting/python -I -S -c 'import os, struct
os.setxattr("/granting/python", "security.capability",
    struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))' &&
su user -c "{_SHOW}"
"""


@pytest.mark.parametrize(
    ("script", "user", "gained"),
    [(_SETUID, "0", DOCKERS), (_FILE_CAPABILITY, "1000", {"CAP_NET_RAW"})],
    ids=["setuid", "file-capability"],
)
@pytest.mark.oci("process.noNewPrivileges")
def test_a_program_gains_what_its_file_grants(
    run: Run, script: str, user: str, gained: set[str]
) -> None:
    """Not with --no-new-privileges; without it, within the bounding set: the control."""
    options = (*HOST_PYTHON, "--tmpfs", "/granting:suid,exec")
    result = run(script, *options)
    assert result.output.split()[0] == user
    assert sets_of(parse_status(result.output))[2] == gained
    refused = run(script, *options, "--security-opt", "no-new-privileges")
    assert refused.output.split()[:1] in (["1000"], [])  # a file that grants may not even start
    if refused.output:
        assert sets_of(parse_status(refused.output))[2] == set()


@pytest.mark.oci("process.noNewPrivileges")
def test_the_flag_is_set_when_asked(run: Run) -> None:
    """NoNewPrivs in the status, with the control."""
    asked = run.start("echo ready; sleep 60", "--security-opt", "no-new-privileges")
    assert status_of(asked.pid)["NoNewPrivs"] == "1"
    assert status_of(run.start("echo ready; sleep 60").pid)["NoNewPrivs"] == "0"


def test_a_forged_status_file_is_not_believed(
    bundles: Bundles, busybox: Path, volume: Path
) -> None:
    """Without a proc of its own, /proc/self/status is the image's file, and may say anything."""
    image = volume / "image"
    shutil.copytree(busybox, image, symlinks=True)
    (image / "proc/self").mkdir(parents=True)
    (image / "proc/self/status").write_text("CapBnd:\t0\nCapPrm:\t1ffffffffff\n")

    def forge(config: dict[str, Any]) -> None:
        config["root"]["path"] = str(image)
        config["mounts"] = [each for each in config["mounts"] if each["destination"] != "/proc"]
        config["process"]["noNewPrivileges"] = False

    container = bundles.start("echo ready; exec sleep 600", forge)
    expected = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
    bounding, permitted, *_ = sets_of(status_of(container.pid))
    assert (bounding, permitted) == (expected, expected)


def unknown_ones(config: Spec) -> None:
    """Ask for a capability that no kernel has, beside a real one."""
    for kind in ("bounding", "permitted", "effective"):
        config["process"]["capabilities"][kind] = ["CAP_KILL", "CAP_NONSENSE"]


def test_an_unknown_capability_is_passed_over_with_a_warning(bundles: Bundles) -> None:
    """A newer engine may know of more than this kernel; what is known holds."""
    done = bundles("grep CapPrm /proc/self/status", unknown_ones)
    assert done.output.split() == ["CapPrm:", f"{1 << 5:016x}"]
    assert "warning: process.capabilities: unknown, and passed over: CAP_NONSENSE" in done.errors
    assert bundles("true").errors == ""


def test_a_warning_goes_to_the_log_and_not_into_the_programs_streams(bundles: Bundles) -> None:
    """The runtime's stderr is the container's: an engine reads the program's words there."""
    log = bundles.directory / "log"
    program, *words = bundles.write("true", unknown_ones)
    done = subprocess.run(
        [program, "--log", str(log), "--log-format", "json", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (line,) = log.read_text().splitlines()
    told = json.loads(line)
    assert (told["level"], "CAP_NONSENSE" in told["msg"]) == ("warning", True)


# ---- exec


def _sets_by_exec(bundles: Bundles, *options: str) -> list[set[str]]:
    """Start a container with the default specification; give the sets of a program by exec."""
    running = bundles.start("echo ready; exec sleep 600")
    done = subprocess.run(
        [*command("minicontainer-oci"), "--root", str(bundles.directory / "state"), "exec",
         *options, str(running.state["id"]), "cat", "/proc/self/status"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    return sets_of(parse_status(done.stdout))


@pytest.mark.parametrize(
    ("options", "more"),
    [((), set()), (("--cap", "CAP_NET_RAW"), {"CAP_NET_RAW"})],
    ids=["as it is", "one more"],
)
def test_exec_raises_no_inheritable_capability(
    bundles: Bundles, options: tuple[str, ...], more: set[str]
) -> None:
    """CVE-2022-29162: a file with inheritable ones would grant them to any user's program."""
    held = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"} | more
    assert _sets_by_exec(bundles, *options) == [held, held, held, set(), set()]
