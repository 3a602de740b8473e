"""The first command starts the engine by itself; what a command imports; who may not."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Result, command, wait_until
from tests.peers.machine import Machine
from tests.test_house_rules import ROOT, SLOW_TO_IMPORT

SAYS = "minicontainer: starting the engine; it ends by itself after 10 idle minutes\n"
MINE = command("minicontainer")


@pytest.fixture
def machine(busybox: Path) -> Iterator[Machine]:
    """A machine without an engine."""
    if os.geteuid() != 0:
        pytest.skip("a machine of one's own needs root")
    made = Machine("client-start", busybox, "/bin/true")
    yield made
    made.stop()


def engines(machine: Machine) -> list[str]:
    """Give the process IDs of the engines that run in the machine."""
    return machine("pgrep", "-x", "minic:engine").output.split()


def test_the_first_command_starts_the_engine(machine: Machine) -> None:
    """It says so once, and the next command finds the engine there."""
    first = machine(*MINE, "ps", "-q")
    assert (first.status, first.output, first.errors) == (0, "", SAYS)
    second = machine(*MINE, "ps", "-q")
    assert (second.status, second.output, second.errors) == (0, "", "")
    assert len(engines(machine)) == 1


def test_clients_that_come_at_once_start_one_engine(machine: Machine) -> None:
    """One starts it, the others wait."""
    done: list[Result] = []
    threads = [
        threading.Thread(target=lambda: done.append(machine(*MINE, "ps", "-q"))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.status for each in done] == [0] * 5
    assert sorted(each.errors for each in done) == ["", "", "", "", SAYS]
    assert len(engines(machine)) == 1


def test_roots_are_passed_on(machine: Machine) -> None:
    """Another engine, with its own socket and data."""
    roots = ("--data-root", "/run/other/data", "--exec-root", "/run/other/exec")
    assert machine(*MINE, *roots, "ps", "-q").errors == SAYS
    assert machine("test", "-S", "/run/other/exec/minicontainer.sock").status == 0
    assert machine(*MINE, "ps", "--exec-root", "/run/other/exec").errors == ""
    assert machine("test", "-e", "/run/minicontainer").status == 1


def test_an_engine_that_does_not_start_says_why(machine: Machine) -> None:
    """Its last line, and no other."""
    done = machine(*MINE, "--data-root", "/dev/null/x", "ps")
    assert done.status == 1
    assert done.errors.startswith(SAYS)
    assert "minicontainer: the engine did not start: " in done.errors
    assert done.errors.count("\n") == 2


def test_an_engine_that_was_killed_is_started_again(machine: Machine) -> None:
    """The socket that it left is in nobody's way."""
    machine(*MINE, "ps")
    machine("kill", "-KILL", *engines(machine))
    wait_until(lambda: not engines(machine), "the engine's end")
    assert machine(*MINE, "ps", "-q").errors == SAYS


@pytest.mark.parametrize("named", ["", "web"])
def test_stats_end_with_a_killed_engine(machine: Machine, named: str) -> None:
    """They say so, in place of figures that stay as they are."""
    assert machine(*MINE, "create", "--name", "web", "busybox").status == 0
    (engine,) = engines(machine)
    script = (
        f": >/run/out; {' '.join(MINE)} stats {named} >/run/out & "
        f"until grep -q NAME /run/out; do sleep 0.1; done; kill -KILL {engine}; wait $!"
    )
    done = machine("sh", "-c", script)
    words = "the engine closed the connection in the middle of an answer\n"
    assert (done.status, done.errors) == (1, words)


def test_an_ordinary_user_is_told_the_way_in(machine: Machine) -> None:
    """Without an engine, and with one whose socket is closed to the user."""
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    if machine(*nobody, *MINE, "--version").status != 0:
        pytest.skip("the checkout, or its interpreter, is closed to the user nobody")
    done = machine(*nobody, *MINE, "ps")
    assert (done.status, done.errors.count("\n")) == (1, 1)
    assert "use sudo once, or join the group minicontainer" in done.errors
    machine(*MINE, "ps")
    done = machine(*nobody, *MINE, "ps")
    assert (done.status, done.errors.count("\n")) == (1, 1)
    assert "permission denied at unix:///run/minicontainer/minicontainer.sock" in done.errors
    assert "use sudo" in done.errors


def test_another_engine_is_never_started(machine: Machine) -> None:
    """One that --host or DOCKER_HOST names: Docker's words, which scripts know."""
    where = "unix:///run/no.sock"
    says = f"Cannot connect to the Docker daemon at {where}. Is the docker daemon running?\n"
    for words in (("--host", where, "ps"), ("-H", where, "images")):
        done = machine(*MINE, *words)
        assert (done.status, done.errors) == (1, says)
    done = machine("env", f"DOCKER_HOST={where}", *MINE, "run", "busybox", "true")
    assert (done.status, done.errors) == (125, f"minicontainer: {says}")
    assert engines(machine) == []


@pytest.mark.parametrize("module", ["containers", "lifecycle", "images", "run", "exec", "streams"])
def test_a_command_imports_nothing_slow(module: str) -> None:
    """`ps` is to be as fast as Docker's: the interpreter's own start is most of it."""
    paths = [str(ROOT), sysconfig.get_path("purelib")]
    modules = f"minicontainer.cli.main, minicontainer.cli.{module}, minicontainer.cli.client"
    look = f"import sys; sys.path[:0] = {paths!r}; import {modules}; print(*sys.modules)"
    told = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", look],
        capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    # what os defines in Python costs a tenth of such a command: posix has the calls
    assert not set(told.stdout.split()) & (SLOW_TO_IMPORT | {"rich", "os"})


def test_a_program_in_the_place_of_an_image_is_told_what_to_type(machine: Machine) -> None:
    """Before there were images `run sh` was right; another unknown word is Docker's error alone."""
    refused = machine(*MINE, "run", "sh")
    assert refused.status == 125
    assert refused.errors.endswith("type: minicontainer run busybox sh\n")
    assert "type:" not in machine(*MINE, "run", "no-such-image").errors
