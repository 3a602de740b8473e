"""While a container is created its root is the host's, and its cgroup may be another's."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until

from .runtime import Call, Container, Runtime, Spec

VERBS = (("create",), ("run",), ("run", "--detach"))


class Creation:
    """A container whose createRuntime hook waits, when the root is still the host's.

    Args:
        runtime: the runtime.
        verb: how it is created.
    """

    def __init__(self, runtime: Runtime, verb: tuple[str, ...]) -> None:
        self.going, self.on = runtime.base / "going", runtime.base / "on"
        script = f"echo > {self.going}; until test -e {self.on}; do sleep 0.01; done"

        def waits(config: Spec) -> None:
            hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
            config["hooks"] = {"createRuntime": [hook]}

        bundle = runtime.bundle(change=waits)
        name = runtime.name()
        self.call: Call = runtime.begin(runtime.words(*verb, "-b", str(bundle), name))
        self.container = Container(runtime, name, bundle, self.call.stdout)
        wait_until(self.going.exists, "the hook")

    def go_on(self) -> None:
        """Let the hook end."""
        self.on.touch()


@pytest.fixture(params=VERBS, ids=" ".join)
def creation(runtime: Runtime, request: pytest.FixtureRequest) -> Iterator[Creation]:
    """A creation that has come as far as its hook."""
    made = Creation(runtime, request.param)
    yield made
    made.go_on()
    runtime("kill", made.container.id, "KILL")
    made.call.wait()


@pytest.mark.ours("runc has no state before its hooks have run")
def test_its_status(creation: Creation) -> None:
    """As the specification names it, whatever created it."""
    assert creation.container.status == "creating"
    creation.go_on()
    wait_until(lambda: creation.container.status in ("created", "running"), "the rest")


def test_exec_would_run_on_the_host(creation: Creation, runtime: Runtime) -> None:
    """Refused, until the root is the container's: then it runs there."""
    mark = runtime.base / "mark"
    words = ("exec", creation.container.id, "/bin/sh", "-c", f"echo > {mark}; echo here")
    runtime.refused(*words, says=("creating", "does not exist"))
    assert not mark.exists()
    creation.go_on()
    wait_until(lambda: "here" in runtime(*words).output, "a container to run in")
    assert not mark.exists()


@pytest.mark.parametrize(
    "words",
    [("pause",), ("resume",), ("start",), ("kill", "--all"),
     pytest.param(("delete",), marks=pytest.mark.ours("runc's takes it away under its creator")),
     pytest.param(("delete", "--force"), marks=pytest.mark.ours("the same"))],
    ids=" ".join,
)  # fmt: skip
def test_other_commands(creation: Creation, runtime: Runtime, words: tuple[str, ...]) -> None:
    """Refused as well, and the creation comes to its end."""
    runtime.refused(*words, creation.container.id, says=("creat", "not", "exist"))
    creation.go_on()
    states = ('"created"', '"running"')
    wait_until(
        lambda: any(one in runtime("state", creation.container.id).output for one in states),
        "the rest",
    )


@pytest.mark.ours("of its own files")
def test_its_files_are_the_owner_s_alone(runtime: Runtime) -> None:
    """Whatever the caller's umask; that this one came through, the pid file shows."""
    pid_file, name = runtime.base / "pid", runtime.name()
    words = ("create", "-b", str(runtime.bundle()), "--pid-file", str(pid_file), name)
    subprocess.run(["sh", "-c", 'umask 0; exec "$@"', "sh", *runtime.words(*words)], check=True)
    assert stat.S_IMODE(pid_file.stat().st_mode) == 0o666
    for file in (runtime.root / name).iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    assert not (runtime.root / name).stat().st_mode & 0o022
    assert not runtime.root.stat().st_mode & 0o022


def test_a_start_that_others_watch(runtime: Runtime) -> None:
    """Looking at a container holds nobody up."""
    container = runtime.create()
    watch = 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do "$@"; done'
    watchers = [
        runtime.begin(["sh", "-c", watch, "sh", *runtime.words("state", container.id)])
        for _ in range(4)
    ]
    wait_until(lambda: all(os.path.getsize(one.stdout) for one in watchers), "the first looks")
    container.start()
    for one in watchers:
        done = one.wait()
        found = json.JSONDecoder()
        rest = done.output.strip()
        while rest:
            state, end = found.raw_decode(rest)
            assert state["status"] in ("created", "running")
            rest = rest[end:].strip()
