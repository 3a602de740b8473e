"""A story whose steps wait: each goes on, or the start is given up there and leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.cli import hosts
from minicontainer.cli.client import Client, EngineError
from minicontainer.cli.exits import Lost
from tests.conftest import PATIENCE_S, wait_until
from tests.learn.conftest import Engine

PARENT = f"/step-{os.getpid()}"  # the cgroup of these tests' containers
BODY: dict[str, Any] = {
    "Image": "busybox",
    "Cmd": ["true"],
    "HostConfig": {"NetworkMode": "none", "CgroupParent": PARENT},
}
Decide = Callable[[dict[str, Any]], str]  # for a step that waits: go, abort, leave, look on


class Reader:
    """The reader of a story, who decides about each of its steps.

    Attributes:
        waited: the events of the steps that have waited.
    """

    def __init__(self, engine: Engine, decide: Decide) -> None:
        self.client = client_of(engine)
        self.client.headers["Minicontainer-Trace"] = self.name = os.urandom(4).hex()
        self.path = f"/minicontainer/traces/{self.name}"
        self.waited: list[dict[str, Any]] = []
        self._decide = decide
        self._other = client_of(engine)
        self._response = self._other.request("GET", self.path, {"step": True})
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, EngineError):
            for event in self._response.messages():
                if not event.get("waiting"):
                    continue
                self.waited.append(event)
                decision = self._decide(event)
                if decision == "leave":
                    break
                if decision == "look on":
                    continue
                self._other.post(f"{self.path}/continue", None, {"Abort": decision == "abort"})
        self._response.close()

    def finish(self) -> list[str]:
        """End the story; name the steps that have waited."""
        self.client.headers.clear()
        self.client.delete(self.path)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return [event["step"] for event in self.waited]


def client_of(engine: Engine) -> Client:
    """Connect to the engine."""
    return Client(hosts.parse(f"unix://{engine.socket}"))


def start(reader: Reader, body: dict[str, Any]) -> str:
    """Create and start a container; give its ID."""
    made = str(reader.client.post("/containers/create", None, body)["Id"])
    reader.client.post(f"/containers/{made}/start")
    return made


def run(engine: Engine, decide: Decide, body: dict[str, Any] = BODY) -> list[str]:
    """Create, start and remove a container; name the steps that have waited.

    Raises:
        EngineError: it was given up.
    """
    reader = Reader(engine, decide)
    try:
        made = start(reader, body)
        reader.client.post(f"/containers/{made}/wait")
    finally:
        steps = reader.finish()
    reader.client.delete(f"/containers/{made}", {"force": True})
    return steps


def left_by(engine: Engine) -> set[str]:
    """List what containers have on the host, when nothing of it is just going away."""
    found = _left_by(engine)
    while (later := _left_by(engine)) != found:
        found = later
    return found


def _left_by(engine: Engine) -> set[str]:
    """List processes, mounts, links, cgroups, files."""
    base = str(engine.base)
    links = ["nsenter", "-t", str(engine.process.pid), "-n", "ip", "-brief", "link"]
    shown = subprocess.run(links, check=True, capture_output=True, text=True).stdout
    veths = {line.split("@")[0] for line in shown.splitlines() if "@" in line}
    found = {line for line in Path("/proc/self/mountinfo").read_text().splitlines() if base in line}
    # the cgroup too shows that a process is left: it could not be removed
    found |= {f"process {pid}" for pid in engine.monitors()}
    for place in ("data/containers", "exec/containers", "exec/monitors"):
        names = (path.name for path in (engine.base / place).glob("[!.]*"))
        found |= {f"{place}/{name}" for name in names}
    for pattern in (f"{PARENT[1:]}/*/", f"*{PARENT}/*/"):  # v2, v1
        found |= {str(path) for path in Path("/sys/fs/cgroup").glob(pattern)}
    return found | veths | set(engine("ps", "-aq").output.split())


@pytest.fixture(scope="module", autouse=True)
def parent_cgroup() -> Iterator[None]:
    """Remove the cgroup that the containers' own were in: the engine leaves it, as Docker does."""
    yield
    for pattern in (PARENT[1:], f"*{PARENT}"):  # v2, v1
        for cgroup in Path("/sys/fs/cgroup").glob(pattern):
            cgroup.rmdir()


def at(step: str, decision: str) -> Decide:
    """Let every step begin but one."""
    return lambda event: decision if event["step"] == step else "go"


@pytest.fixture(scope="module")
def order(engine: Engine) -> list[str]:
    """Name the steps of a start, in the order in which they wait."""
    engine("run", "--rm", "--net", "none", "busybox", "true")  # its first one has a step more
    return run(engine, lambda event: "go")


def test_every_step_waits(engine: Engine, order: list[str]) -> None:
    """Those of engine, creator and init, each once, and none of the undo.

    What was done ahead can't wait. While the creator's steps do, the monitor takes its container.
    """
    assert len(set(order)) == len(order)
    told = engine("run", "--rm", "--net", "none", "--json", "busybox", "true").errors
    begun = [event["step"] for event in map(json.loads, told.splitlines()) if not event.get("call")]
    undo = {"end-init", "end-processes", "remove-cgroup", "disconnect-container"}
    ahead = {"fork-child", "fork-creator", "become-creator"}
    others = {"send-request", "become-monitor", "take-container", "discard-directory"}
    assert set(order) == set(begun) - undo - ahead - others
    for earlier, later in (
        ("resolve-image", "hand-to-monitor"),
        ("hand-to-monitor", "create-cgroup"),
        ("fork-init", "isolate-mounts"),
        ("enter-rootfs", "become-user"),
        ("wait-for-start", "start-program"),
        ("start-program", "run-program"),
    ):
        assert order.index(earlier) < order.index(later)


def test_a_start_given_up_at_any_step_leaves_nothing(engine: Engine, order: list[str]) -> None:
    """Neither process, mount, cgroup nor container: everything that the story made is undone."""
    before = left_by(engine)
    for step in order:
        with pytest.raises(EngineError, match=f"aborted before {step}: everything was undone"):
            run(engine, at(step, "abort"))
        assert left_by(engine) == before, step


def test_a_start_with_everything_is_given_up_as_well(engine: Engine) -> None:
    """A network, a port, a user namespace, a terminal, a volume, a process 1 that stays."""
    host = {
        "CgroupParent": PARENT, "UsernsMode": "private", "Init": True, "Memory": 64 << 20,
        "SecurityOpt": ["no-new-privileges"], "Binds": ["stepped:/data"], "OomScoreAdj": 100,
        "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}, "Ulimits": [{"Name": "nofile",
        "Soft": 512, "Hard": 512}],
    }  # fmt: skip
    body = {**BODY, "HostConfig": host, "Tty": True, "Domainname": "lab"}
    order = run(engine, lambda event: "go", body)
    assert {"write-id-maps", "stay-as-reaper", "open-terminal", "filter-if-unprivileged"} < set(
        order
    )
    before = left_by(engine)
    for step in order:
        with pytest.raises(EngineError, match=f"aborted before {step}: everything was undone"):
            run(engine, at(step, "abort"), body)
        assert left_by(engine) == before, step
    engine("volume", "rm", "stepped")


@pytest.mark.parametrize("step", ["make-directory", "enter-rootfs", "connect-container"])
def test_a_reader_who_leaves_gives_the_start_up(engine: Engine, step: str) -> None:
    """As a client does that is killed, or whose terminal is closed."""
    before = left_by(engine)
    with pytest.raises(EngineError, match="aborted before"):
        run(engine, at(step, "leave"))
    assert left_by(engine) == before


def test_the_steps_of_a_story_wait_for_one_reader(engine: Engine) -> None:
    """Another one is refused; and one who only listens does not keep a story that was left."""
    before = left_by(engine)
    reader = Reader(engine, at("enter-rootfs", "leave"))
    with pytest.raises(EngineError, match="wait for another reader"):
        client_of(engine).request("GET", reader.path, {"step": True})
    listener = client_of(engine).request("GET", reader.path)
    with pytest.raises(EngineError, match="aborted before enter-rootfs"):
        start(reader, BODY)
    listener.close()
    reader.finish()
    assert left_by(engine) == before


def test_what_is_left_is_found(engine: Engine) -> None:
    """The control: `left_by` sees a container that is held at a step."""
    seen: set[str] = set()

    def look(event: dict[str, Any]) -> str:
        if event["step"] == "enter-rootfs":
            seen.update(left_by(engine))
        return "go"

    run(engine, look)
    assert any(one.startswith("process ") for one in seen)
    assert any(PARENT in one for one in seen)
    assert any(one.startswith("exec/containers/") for one in seen)


def test_others_look_in_while_a_step_waits(engine: Engine) -> None:
    """The half-made container is listed and inspected; its process is where the event says."""
    seen: dict[str, Any] = {}

    def look(event: dict[str, Any]) -> str:
        if event["step"] == "set-hostname":
            seen["listed"] = engine("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}")
            seen["inspected"] = engine("inspect", "-f", "{{.State.Status}}", event["container"])
            seen["container"] = event["container"]
            seen["namespace"] = os.readlink(f"/proc/{event['pid']}/ns/uts")
            seen["root"] = os.listdir(f"/proc/{event['pid']}/root")
            seen["other"] = engine("run", "--rm", "busybox", "echo", "another container")
            engine("stop", event["container"])
            engine("exec", event["container"], "true", status=1)
            engine("logs", event["container"])
        return "go"

    run(engine, look)
    assert f"{seen['container']} created" in seen["listed"].output
    assert seen["inspected"].output == "created\n"
    assert seen["other"].output == "another container\n"
    assert seen["namespace"] != os.readlink("/proc/self/ns/uts")
    assert "bin" in seen["root"]


def test_a_container_whose_start_waits_is_removed_by_force_alone(engine: Engine) -> None:
    """Without force, the refusal says who is in the way; with it, the start is given up."""
    before = left_by(engine)
    refused: list[str] = []

    def remove(event: dict[str, Any]) -> str:
        if event["step"] == "mount-filesystems":
            refused.append(engine("rm", event["container"], status=1).errors)
            engine("rm", "-f", event["container"])
            return "leave"
        return "go"

    with pytest.raises(EngineError, match="aborted before mount-filesystems"):
        run(engine, remove)
    assert "its start waits for a reader (--step): continue there, or force remove" in refused[0]
    assert left_by(engine) == before


def test_a_start_given_up_keeps_a_container_of_another_story(engine: Engine) -> None:
    """`start --step` undoes the start alone: the container stays, and can be started again."""
    made = engine("create", "--net", "none", "busybox", "true").output.strip()
    reader = Reader(engine, at("enter-rootfs", "abort"))
    with pytest.raises(EngineError, match="aborted before enter-rootfs"):
        reader.client.post(f"/containers/{made}/start")
    reader.finish()
    assert engine("start", "-a", made).output == ""
    engine("rm", made)


def test_a_monitor_that_is_killed_ends_the_wait(engine: Engine) -> None:
    """Nobody continues; the engine sees the end by itself, and clears away."""
    before = left_by(engine)

    def kill(event: dict[str, Any]) -> str:
        if event["step"] != "create-cgroup":
            return "go"
        os.kill(event["pid"], 9)
        return "look on"

    with pytest.raises(EngineError, match="monitor was killed before the program ran"):
        run(engine, kill)
    engine("rm", *engine("ps", "-aq").output.split())
    # the kernel closes the files of the killed one in their order: the engine's connection is early
    wait_until(lambda: left_by(engine) == before, "its end")


@pytest.mark.parametrize("step", ["make-directory", "set-hostname", "connect-container"])
def test_an_engine_that_ends_gives_the_start_up(step: str) -> None:
    """It neither waits for the reader, nor leaves anything."""
    engine = Engine()
    ending: list[int] = []

    def end(event: dict[str, Any]) -> str:
        if event["step"] != step:
            return "go"
        engine.process.send_signal(signal.SIGTERM)
        ending.append(engine.process.wait(PATIENCE_S))
        return "leave"

    reader = Reader(engine, end)
    with pytest.raises((EngineError, Lost, OSError)):
        start(reader, BODY)
    wait_until(lambda: bool(ending), "the engine's end")
    assert ending == [0]
    wait_until(lambda: not engine.monitors(), "the end of the monitor")
    for place in ("data/containers", "exec/containers"):
        assert not [*(engine.base / place).glob("[!.]*")]
    shutil.rmtree(engine.base)


VARIANTS: dict[str, dict[str, Any]] = {
    "no new privileges": {"SecurityOpt": ["no-new-privileges"]},
    "--init": {"Init": True},
    "a user namespace": {"UsernsMode": "private"},
    "the host's namespaces": {"PidMode": "host", "IpcMode": "host", "CgroupnsMode": "host"},
    "a network": {"NetworkMode": "bridge"},
    "a part left out": {"Without": ["seccomp"]},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_recipes_wait_as_well(engine: Engine, name: str) -> None:
    """With a filter that comes last, a process 1 that stays, a joiner, ids that are mapped."""
    host = {**BODY["HostConfig"], **VARIANTS[name]}
    waited = run(engine, lambda event: "go", {**BODY, "HostConfig": host})
    assert waited[-1] == "run-program"


def test_the_joiner_waits_as_well(engine: Engine) -> None:
    """In another container's network, a process between monitor and init sets itself up first."""
    engine("run", "-d", "--name", "web", "--net", "none", "busybox", "sleep", "1000")
    host = {**BODY["HostConfig"], "NetworkMode": "container:web", "OomScoreAdj": 100}
    body = {**BODY, "HostConfig": host}
    actors: dict[str, str] = {}

    def look(event: dict[str, Any]) -> str:
        actors.setdefault(event["step"], event["actor"])
        return "go"

    assert run(engine, look, body)[-1] == "run-program"
    assert actors["set-oom-score"] == "joiner"
    before = left_by(engine)
    for step in ("set-oom-score", "join-cgroups", "run-program"):
        with pytest.raises(EngineError, match=f"aborted before {step}: everything was undone"):
            run(engine, at(step, "abort"), body)
        assert left_by(engine) == before, step
    engine("rm", "-f", "web")


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/minicontainer/traces/none/continue", {}, "no story none whose steps wait"),
        ("/minicontainer/traces/{story}/continue", {}, "no step of this story waits"),
        ("/minicontainer/traces/{story}/continue", {"Abort": 1}, "expected true or false"),
    ],
)
def test_what_continue_refuses(engine: Engine, path: str, body: object, says: str) -> None:
    """In one line: no such story, nothing that waits, nonsense."""
    reader = Reader(engine, lambda event: "go")
    with pytest.raises(EngineError, match=says):
        reader.client.post(path.format(story=reader.name), None, body)
    reader.finish()


def test_everybodys_story_waits_for_nobody(engine: Engine) -> None:
    """A reader of `all` could otherwise stop every start of the host."""
    with pytest.raises(EngineError, match="everybody's"):
        client_of(engine).request("GET", "/minicontainer/traces/all", {"step": True})


@pytest.mark.parametrize(
    ("call", "last"), [("write", "filter-if-unprivileged"), ("read", "run-program")]
)
def test_a_filter_that_forbids_to_wait(engine: Engine, call: str, last: str) -> None:
    """What comes after it can't wait any more; the program runs as it does without a story."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    options = ["no-new-privileges", f"seccomp={json.dumps(profile)}"]
    host = {**BODY["HostConfig"], "SecurityOpt": options}
    waited = run(engine, lambda event: "go", {**BODY, "HostConfig": host})
    assert waited[-1] == last
