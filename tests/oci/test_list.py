"""list and ps: the containers, and what runs in them."""

from __future__ import annotations

import json
import os
import pwd

import pytest

from tests.conftest import wait_until

from .kernel import descendants
from .runtime import Runtime


def test_no_containers(runtime: Runtime) -> None:
    """Before --root is even there."""
    assert runtime.ok("list", "--quiet") == ""
    assert json.loads(runtime.ok("list", "--format", "json")) in ([], None)
    assert runtime.ok("list").split()[:3] == ["ID", "PID", "STATUS"]


def test_the_table(runtime: Runtime) -> None:
    """One line a container, with its columns."""
    made = sorted((runtime.create(), runtime.start()), key=lambda one: one.id)
    heading, *lines = runtime.ok("list").splitlines()
    assert heading.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    for container, line in zip(made, lines, strict=True):
        assert line.split()[:4] == [
            container.id, str(container.pid), container.status, str(container.bundle)
        ]  # fmt: skip


@pytest.mark.parametrize("option", [("--quiet",), ("-q",)])
def test_names_alone(runtime: Runtime, option: tuple[str, ...]) -> None:
    """For scripts."""
    names = sorted(runtime.create().id for _ in range(3))
    assert runtime.ok("list", *option).splitlines() == names


@pytest.mark.parametrize("option", [("--format", "json"), ("-f", "json"), ("--format=json",)])
def test_json(runtime: Runtime, option: tuple[str, ...]) -> None:
    """The fields of `state`."""
    container = runtime.start()
    (found,) = json.loads(runtime.ok("list", *option))
    state = container.state()
    for name in ("id", "pid", "status", "bundle", "rootfs", "created"):
        assert found[name] == state[name], name
    assert found["owner"] == pwd.getpwuid(os.geteuid()).pw_name


def test_json_has_no_blanks(runtime: Runtime) -> None:
    """Scripts without a JSON parser cut the line as runc writes it."""
    container = runtime.start()
    assert f'"id":"{container.id}","pid":{container.pid},' in runtime.ok("list", "-f", "json")


def test_the_statuses(runtime: Runtime) -> None:
    """As the kernel has them."""
    created, paused, stopped = runtime.create(), runtime.start(), runtime.start()
    runtime.ok("pause", paused.id)
    stopped.kill()
    found = json.loads(runtime.ok("list", "--format", "json"))
    assert {one["id"]: one["status"] for one in found} == {
        created.id: "created", paused.id: "paused", stopped.id: "stopped"
    }  # fmt: skip


def test_a_format_that_is_not_there(runtime: Runtime) -> None:
    """Neither table nor json."""
    runtime.refused("list", "--format", "yaml", says="format")


def test_a_directory_that_is_no_container(runtime: Runtime) -> None:
    """One stray file does not keep the others from being listed."""
    container = runtime.create()
    (runtime.root / "stray-file").touch()
    (runtime.root / "stray-directory").mkdir()
    done = runtime("list", "--quiet")
    assert (done.status, container.id in done.output.splitlines()) == (0, True)
    (runtime.root / "stray-file").unlink()
    (runtime.root / "stray-directory").rmdir()


# ---- ps


def test_ps_numbers(runtime: Runtime) -> None:
    """All processes of the container, as the host counts: containerd asks this way."""
    container = runtime.start("sleep 600 & sleep 600 & echo ready; exec sleep 600")
    pid = container.pid
    wait_until(lambda: len(descendants(pid)) == 2, "both children")
    wanted = sorted([pid, *descendants(pid)])
    for option in (("--format", "json"), ("-f", "json")):
        assert sorted(json.loads(runtime.ok("ps", *option, container.id))) == wanted


def test_ps_table(runtime: Runtime) -> None:
    """The lines of ps(1) about them."""
    container = runtime.start()
    heading, line = runtime.ok("ps", container.id).splitlines()
    assert "PID" in heading.split()
    assert str(container.pid) in line.split()
    assert "sleep 600" in line


def test_ps_with_options_of_ps(runtime: Runtime) -> None:
    """They are passed on."""
    container = runtime.start()
    heading, line = runtime.ok("ps", container.id, "-o", "pid,comm").splitlines()
    assert heading.split() == ["PID", "COMMAND"]
    assert line.split() == [str(container.pid), "sleep"]


@pytest.mark.ours("runc takes a short line for a mistake")
def test_ps_with_lines_that_are_short(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that some processes have nothing in: those lines are about nobody."""
    container = runtime.start()
    stub = runtime.base / "bin" / "ps"
    stub.parent.mkdir()
    stub.write_text(f"#!/bin/sh\necho 'TTY PID'\necho\necho x\necho 'y {container.pid}'\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    assert runtime.ok("ps", container.id) == f"TTY PID\ny {container.pid}\n"


def test_ps_of_a_created_container(runtime: Runtime) -> None:
    """One process waits there."""
    container = runtime.create()
    assert json.loads(runtime.ok("ps", "--format", "json", container.id)) == [container.pid]


def test_ps_of_a_container_that_has_ended(runtime: Runtime) -> None:
    """None, or it says so."""
    container = runtime.start(("true",))
    container.wait_stopped()
    done = runtime("ps", "--format", "json", container.id)
    assert done.status >= 1 or json.loads(done.output) in ([], None)


def test_ps_of_an_unknown_container(runtime: Runtime) -> None:
    """The usual words."""
    runtime.refused("ps", runtime.name(), says="does not exist")


def test_ps_with_options_that_ps_does_not_have(runtime: Runtime) -> None:
    """ps(1) is what complains; one line of it is enough."""
    container = runtime.start()
    done = runtime("ps", container.id, "--no-such-option")
    assert done.status >= 1
    assert done.errors


def test_ps_does_not_show_the_hosts(runtime: Runtime) -> None:
    """Not even this test."""
    container = runtime.start()
    assert os.getpid() not in json.loads(runtime.ok("ps", "--format", "json", container.id))
