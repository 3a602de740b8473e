"""Limits that suit the program and not the making of its container, and a caller that has such."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import PATIENCE_S

from .runtime import Runtime, Spec

LIMITS = [
    ("AS", 20_000_000, "v", "19531"),
    ("DATA", 1_000_000, "d", "976"),
    ("STACK", 65_536, "s", "64"),
    ("FSIZE", 1 << 20, "f", "2048"),
    ("NOFILE", 8, "n", "8"),
    ("NOFILE", 3, "n", "3"),
]


@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize(("name", "value", "letter", "shown"), LIMITS)
def test_a_limit_of_the_program_does_not_hinder_the_runtime(
    runtime: Runtime, name: str, value: int, letter: str, shown: str, no_new_privileges: bool
) -> None:
    """The program has it; with a seccomp filter that comes before or after."""

    def limited(config: Spec) -> None:
        limit = {"type": f"RLIMIT_{name}", "soft": value, "hard": value}
        config["process"] |= {"rlimits": [limit], "noNewPrivileges": no_new_privileges}
        allowed = {"names": ["chroot"], "action": "SCMP_ACT_ERRNO"}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [allowed]}

    done = runtime.run(f"ulimit -{letter}; ulimit -H -{letter}", limited)
    assert (done.status, done.output.split()) == (0, [shown, shown]), done.errors


@pytest.mark.parametrize("allowed", [4, 5, 6, 7, 8, 9, 12, 16, 20, 24, 40])
def test_a_caller_with_few_descriptors(runtime: Runtime, allowed: int) -> None:
    """It runs, or it is refused with the limit named; the name stays free either way."""
    bundle, name = runtime.bundle("true"), runtime.name()
    words = [*runtime.program, "--root", str(runtime.root), "run", "--bundle", str(bundle), name]
    for _ in range(2):
        done = subprocess.run(
            ["prlimit", f"--nofile={allowed}:", *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert runtime.containers() == []
        assert "exists" not in done.stderr
        if done.returncode:
            assert "open files" in done.stderr
    assert done.returncode == 0 or allowed < 40
