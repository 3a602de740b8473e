"""Profiles of a bundle, felt by a program. tests/kernel has what the compiler makes of them.

See: runtime-spec config-linux.md "Seccomp"; seccomp(2).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.isolation.conftest import status_of

from .runtime import WAITS, Change, Runtime, Spec

PROTOCOL_ERROR = 71  # EPROTO: no file system answers with it
MAKE = "mkdir /tmp/made 2>&1; echo"
LET_ALL = "SCMP_ACT_ALLOW"


def filtered(default: str, *rules: dict[str, Any], **more: Any) -> Change:
    """Make the change that puts a profile into the configuration."""
    return lambda spec: spec["linux"].update(
        seccomp={"defaultAction": default, "syscalls": list(rules), **more}
    )


def refusal(*names: str, **more: Any) -> dict[str, Any]:
    """Write a rule that makes calls fail as nothing else does."""
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": PROTOCOL_ERROR, **more}


@pytest.mark.oci("linux.seccomp.syscalls[].names", "linux.seccomp.syscalls[].errnoRet")
def test_a_call_fails_as_its_rule_says(runtime: Runtime) -> None:
    """mkdir(2), which without the rule gets as far as the read-only root: the control."""
    done = runtime.run(MAKE, filtered(LET_ALL, refusal("mkdir", "mkdirat")))
    assert "Protocol error" in done.output
    assert "Read-only file system" in runtime.run(MAKE, filtered(LET_ALL)).output


@pytest.mark.oci("linux.seccomp.defaultAction", "linux.seccomp.defaultErrnoRet")
def test_what_has_no_rule_fails_by_default(runtime: Runtime) -> None:
    """All calls have one but mkdir(2): a list of what is let through, as engines write them."""
    rules = _dockers()
    done = runtime.run(MAKE, filtered("SCMP_ACT_ERRNO", *rules, defaultErrnoRet=PROTOCOL_ERROR))
    assert "Protocol error" in done.output
    allowed = {"names": ["mkdir", "mkdirat"], "action": LET_ALL}
    done = runtime.run(
        MAKE, filtered("SCMP_ACT_ERRNO", *rules, allowed, defaultErrnoRet=PROTOCOL_ERROR)
    )
    assert "Read-only file system" in done.output


def _dockers() -> list[dict[str, Any]]:
    """Give the default profile's rules, without mkdir(2)."""
    from minicontainer.runtime.config.seccomp_profile import default_profile

    rules: list[dict[str, Any]] = default_profile(()).to_json()["syscalls"]
    return [
        {**rule, "names": [name for name in rule["names"] if name not in ("mkdir", "mkdirat")]}
        for rule in rules  # which are shared with the profile, so they must stay as they are
    ]


KILL = "sleep 600 & kill -USR1 $! 2>&1; kill -USR2 $!; wait $!; echo ended with $?"


@pytest.mark.oci("linux.seccomp.syscalls[].args")
def test_an_argument_decides(runtime: Runtime) -> None:
    """One signal can't be sent; the other one, the control, ends who gets it."""
    signal = {"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}
    done = runtime.run(KILL, filtered(LET_ALL, refusal("kill", args=[signal])))
    assert "Protocol error" in done.output
    assert done.output.endswith(f"ended with {128 + 12}\n")


@pytest.mark.oci("linux.seccomp.syscalls[].args[].valueTwo", "linux.seccomp.syscalls[].args[].op")
def test_bits_of_an_argument_decide(runtime: Runtime) -> None:
    """A mode with the set-user-ID bit alone of three is refused, whatever else is in it."""
    rules = [
        refusal(name, args=[{"index": i, "value": 0o7000, "valueTwo": 0o4000,
                             "op": "SCMP_CMP_MASKED_EQ"}])
        for name, i in (("chmod", 1), ("fchmodat", 2), ("fchmodat2", 2))
    ]  # fmt: skip
    script = "touch /dev/shm/x; for m in 755 4711 2755 6755; do chmod $m /dev/shm/x 2>&1; done; "
    done = runtime.run(script + "stat -c %a /dev/shm/x", filtered(LET_ALL, *rules))
    assert done.output.count("Protocol error") == 1
    assert done.output.splitlines()[-1] == "6755"


@pytest.mark.oci("linux.seccomp.syscalls[].action")
@pytest.mark.parametrize(
    ("action", "status"), [("SCMP_ACT_KILL_PROCESS", 128 + 31), (LET_ALL, 0)], ids=str
)
def test_an_action_ends_the_program(runtime: Runtime, action: str, status: int) -> None:
    """SIGSYS for the process that makes the call; let through, nothing happens: the control."""
    rule = {"names": ["sched_yield", "sync"], "action": action}
    default = "SCMP_ACT_LOG" if action == LET_ALL else LET_ALL
    assert runtime.run(("/bin/sync",), filtered(default, rule)).status == status


@pytest.mark.ours("runc takes flags since 1.2")
@pytest.mark.oci("linux.seccomp.flags")
def test_flags_reach_the_kernel(runtime: Runtime) -> None:
    """Which refuses one that makes no sense without a listener, and takes the rest."""
    rule = refusal("mkdir", "mkdirat")
    taken = filtered(LET_ALL, rule, flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"])
    assert status_of(runtime.start(WAITS, taken).pid)["Seccomp"] == "2"
    refused = filtered(LET_ALL, rule, flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
    done = runtime.run(("/bin/true",), refused)
    assert done.status == 1, json.dumps(done.errors)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"names": ["mkdir"], "action": "SCMP_ACT_NONE"}, "linux.seccomp.syscalls[0].action"),
        ({"names": [""], "action": "SCMP_ACT_LOG"}, "linux.seccomp.syscalls[0].names"),
    ],
)
@pytest.mark.ours("runc looks at a profile when the container is made, if at all")
def test_what_makes_no_sense_is_found_before_there_is_anything(
    runtime: Runtime, rule: dict[str, Any], says: str
) -> None:
    """So no hook has anything to clear up; it would after a good one, which is the control."""
    note = runtime.base / runtime.name()
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {note}"]}

    def change(config: Spec) -> None:
        filtered(LET_ALL, rule)(config)
        config["hooks"] = {"poststop": [hook]}

    bundle = runtime.bundle(WAITS, change)
    runtime.refused("create", "--bundle", str(bundle), runtime.name(), says=says)
    assert not note.exists()
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_LOG"}
    container = runtime.create(WAITS, change)
    runtime.ok("delete", "--force", container.id)
    assert note.exists()
