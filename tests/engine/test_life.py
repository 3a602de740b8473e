"""A container's life by the engine: create, start, wait, stop, kill, pause, remove."""

from __future__ import annotations

import errno
import io
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer.errors import Conflict, InvalidArgument, KernelError, NotFound, NotModified
from minicontainer.runtime.container import operations
from tests.engine.conftest import PATIENCE_S, cgroups_of, eventually, payload
from tests.images.conftest import tar_of

if TYPE_CHECKING:
    from tests.engine.conftest import Lab


def test_a_program_runs_and_its_status_and_output_are_kept(lab: Lab) -> None:
    """From create to the log, with every state on the way."""
    made = lab.create("sh", "-c", "echo out; echo err >&2; exit 3", name="web")
    assert lab.state(made)["Status"] == "created"
    waiting = lab.engine.containers.wait("web", "next-exit")
    lab.engine.containers.start("web")
    assert waiting.result() == {"StatusCode": 3}
    state = lab.state("web")
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 3, 0)
    assert state["StartedAt"] < state["FinishedAt"]
    assert payload(lab.logs("web"), 1) == b"out\n"
    assert payload(lab.logs("web"), 2) == b"err\n"


def test_a_program_ignores_no_signal(lab: Lab) -> None:
    """Not even those that glibc keeps to itself, which the start of the spawner leaves ignored."""
    made, _ = lab.run("grep", "SigIgn", "/proc/self/status")
    assert int(payload(lab.logs(made), 1).split()[1], 16) == 0


def test_a_container_runs_again_with_what_it_wrote(lab: Lab) -> None:
    """The writable layer lives as long as the container."""
    made, status = lab.run("sh", "-c", "cat /kept 2>/dev/null; echo once >> /kept")
    assert status == 0
    waiting = lab.engine.containers.wait(made, "next-exit")
    lab.engine.containers.start(made)
    waiting.result()
    assert payload(lab.logs(made)) == b"once\n"


def test_what_is_removed_leaves_nothing(lab: Lab) -> None:
    """No directory, no cgroup, no name."""
    made, _ = lab.run("true", name="gone")
    directory = lab.engine.containers.find(made).directory
    assert Path(directory).is_dir()
    lab.engine.containers.remove("gone")
    assert not Path(directory).exists()
    assert not cgroups_of(made)
    with pytest.raises(NotFound, match="No such container: gone"):
        lab.engine.containers.inspect("gone")
    lab.run("true", name="gone")


def test_only_fields_that_docker_has_are_shown(lab: Lab) -> None:
    """dockerode sends the parameters of the request in its body, too."""
    made = lab.create("true", Tty=True, platform="linux/amd64")
    shown = lab.engine.containers.inspect(made)["Config"]
    assert "platform" not in shown
    assert shown["Tty"] is True


def test_a_limit_is_checked_before_the_next_start(lab: Lab) -> None:
    """By `update` of a container that does not run; nothing is changed then."""
    made = lab.create("true")
    with pytest.raises(InvalidArgument, match="Minimum memory limit allowed is 6MB"):
        lab.engine.containers.update(made, {"Memory": 1000})
    assert lab.engine.containers.inspect(made)["HostConfig"]["Memory"] == 0


def test_a_container_that_runs_is_removed_only_by_force(lab: Lab) -> None:
    """Docker's words, which clients look for."""
    made = lab.start("sleep", "1000")
    pid = lab.state(made)["Pid"]
    with pytest.raises(Conflict, match="stop the container before removing or force remove"):
        lab.engine.containers.remove(made)
    lab.engine.containers.pause(made)
    with pytest.raises(Conflict, match="container is paused and must be unpaused first"):
        lab.engine.containers.remove(made)
    lab.engine.containers.remove(made, force=True)
    assert not Path(f"/proc/{pid}").exists()


def test_stop_asks_and_then_kills(lab: Lab) -> None:
    """A shell with a trap ends by itself; `sleep` as process 1 does not hear SIGTERM."""
    polite = lab.start("sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    eventually(lambda: payload(lab.logs(polite)), "the trap to be set")
    lab.engine.containers.stop(polite, 60)
    assert lab.state(polite)["ExitCode"] == 5
    deaf = lab.start("sleep", "1000")
    before = time.monotonic()
    lab.engine.containers.stop(deaf, 1)
    assert lab.state(deaf)["ExitCode"] == 137
    assert time.monotonic() - before >= 1
    with pytest.raises(NotModified):
        lab.engine.containers.stop(deaf)


def test_kill_sends_any_signal(lab: Lab) -> None:
    """By name, with and without SIG, and by number; a bad one changes nothing."""
    script = "trap 'echo usr1' USR1; trap 'echo hup' HUP; echo ready; while :; do sleep 0.01; done"
    made = lab.start("sh", "-c", script)
    eventually(lambda: payload(lab.logs(made)), "the traps to be set")
    for name, told in (("USR1", b"usr1"), ("SIGHUP", b"hup")):
        lab.engine.containers.kill(made, name)
        eventually(lambda told=told: told in payload(lab.logs(made)), f"{name} to arrive")  # type: ignore[misc]  # told is bound at once
    with pytest.raises(InvalidArgument, match="invalid signal: SIGNONE"):
        lab.engine.containers.kill(made, "SIGNONE")
    waiting = lab.engine.containers.wait(made, "not-running")
    lab.engine.containers.kill(made, str(int(signal.SIGKILL)))
    assert lab.state(made)["Running"] is False  # it has waited: `docker kill X; docker rm X`
    assert waiting.result()["StatusCode"] == 137
    with pytest.raises(Conflict, match="is not running"):
        lab.engine.containers.kill(made)
    with pytest.raises(NotFound, match="cannot kill container: no: No such container: no"):
        lab.engine.containers.kill("no")


def test_a_wait_ends_although_the_policy_restarts(lab: Lab) -> None:
    """With the status of that end: the container may run again when the wait is answered."""
    made = lab.create("sh", "-c", "sleep 0.2; exit 7", host={"RestartPolicy": {"Name": "always"}})
    lab.engine.containers.start(made)
    waits = [lab.engine.containers.wait(made, text) for text in ("not-running", "next-exit")]
    eventually(lambda: lab.engine.containers.inspect(made)["RestartCount"], "the next start")
    assert [wait.result()["StatusCode"] for wait in waits] == [7, 7]


def test_a_paused_container_stands_still(lab: Lab) -> None:
    """And can be stopped all the same."""
    made = lab.start("sh", "-c", "while :; do echo x; sleep 0.01; done")
    lab.engine.containers.pause(made)
    assert lab.state(made)["Status"] == "paused"
    assert lab.state(made)["Running"] is True
    size = len(lab.logs(made))
    eventually(lambda: len(lab.logs(made)) == size or _grown(lab, made), "output to end")
    with pytest.raises(Conflict, match="already paused"):
        lab.engine.containers.pause(made)
    with pytest.raises(Conflict, match="try unpause instead"):
        lab.engine.containers.start(made)
    lab.engine.containers.unpause(made)
    eventually(lambda: len(lab.logs(made)) > size, "more output")
    lab.engine.containers.pause(made)
    lab.engine.containers.stop(made, 0)
    assert lab.state(made)["Status"] == "exited"


@pytest.mark.parametrize(
    "error", [KernelError(errno.ENOENT, "No such file or directory", "open(freezer.state)"),
              NotFound("container x does not exist")]
)  # fmt: skip
def test_a_pause_comes_too_late(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The container has just ended, and only its monitor knows: `commit` does without a pause."""
    made = lab.create("sleep", "1000")
    image = lab.engine.containers.commit(made, {"repo": "base"}, {})["Id"]
    body = {"Image": image, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
    ended = lab.engine.containers.create(body, "ended")["Id"]
    lab.made.append(ended)
    lab.engine.containers.start(ended)

    def gone(*_: object) -> None:
        raise error

    monkeypatch.setattr(operations, "pause", gone)
    with pytest.raises(Conflict, match=f"Container {ended} is not running"):
        lab.engine.containers.pause(ended)
    assert lab.engine.containers.commit(ended, {"repo": "late"}, {})["Id"]


def _grown(lab: Lab, made: str) -> bool:
    before = len(lab.logs(made))
    time.sleep(0.05)
    return len(lab.logs(made)) == before


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", 127, "no such file or directory"),
        ("/etc", 126, "is a directory: permission denied"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_a_program_that_cannot_run(lab: Lab, program: str, code: int, told: str) -> None:
    """The client makes its exit status of the text; the state keeps both."""
    made = lab.create(program)
    with pytest.raises(InvalidArgument) as caught:
        lab.engine.containers.start(made)
    assert told in str(caught.value)
    state = lab.state(made)
    assert (state["Status"], state["ExitCode"]) == ("created", code)
    assert told in state["Error"]
    assert not cgroups_of(made)


def test_a_bad_hardware_address_is_refused_at_once(lab: Lab) -> None:
    """Whether it is given for the container or for its network."""
    for where in ({"MacAddress": "zz"}, _endpoint("zz")):
        with pytest.raises(InvalidArgument, match="zz is not a valid mac address"):
            lab.create("true", host={"NetworkMode": "bridge"}, **where)
    made = lab.create("true", host={"NetworkMode": "bridge"}, **_endpoint("02:42:ac:11:00:99"))
    assert lab.engine.containers.find(made).config.mac_address == "02:42:ac:11:00:99"


def _endpoint(mac: str) -> dict[str, Any]:
    return {"NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": mac}}}}


def test_what_the_hosts_network_discards_is_told(lab: Lab) -> None:
    """Published ports: the program listens on the host's own."""
    ports = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    host = {"NetworkMode": "host", "PortBindings": ports}
    body = {"Rootfs": str(lab.rootfs), "Cmd": ["true"], "HostConfig": host}
    made = lab.engine.containers.create(body, "")
    assert made["Warnings"] == ["Published ports are discarded when using host network mode"]
    lab.engine.containers.remove(made["Id"], False, False, False)


def test_an_image_for_another_processor_is_told(lab: Lab) -> None:
    """Unless the user named the platform; it may run nevertheless, by an emulator."""
    images = lab.engine.images
    for name, platform in (("arm", "linux/arm64"), ("intel", "linux/amd64"), ("old", "linux/386")):
        list(images.import_(io.BytesIO(tar_of({"x": b""})), name, "", "", [], platform))
    told: dict[str, list[str]] = {}
    for name, platform in (("arm", ""), ("arm", "linux/arm64"), ("intel", ""), ("old", "")):
        made = lab.engine.containers.create({"Image": name, "Cmd": ["x"]}, "", platform)
        told[f"{name} {platform}"] = made["Warnings"]
        lab.engine.containers.remove(made["Id"])
    (warning,) = told.pop("arm ")
    assert warning == (
        "The requested image's platform (linux/arm64) does not match the detected host platform "
        "(linux/amd64) and no specific platform was requested"
    )
    assert not any(told.values())


def test_names_are_found_and_taken_once(lab: Lab) -> None:
    """By name, with a slash, by ID and by its beginning; a name that is taken says by whom."""
    made = lab.create("true", name="one")
    for ref in ("one", "/one", made, made[:12], made[:4]):
        assert lab.engine.containers.find(ref).id == made
    with pytest.raises(Conflict, match=f'"/one" is already in use by container "{made}"'):
        lab.create("true", name="one")
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        lab.create("true", name="a b")
    lab.engine.containers.rename("one", "two")
    assert lab.engine.containers.inspect("two")["Name"] == "/two"
    with pytest.raises(NotFound):
        lab.engine.containers.find("one")
    generated = lab.engine.containers.inspect(lab.create("true"))["Name"]
    assert "_" in generated


def test_auto_remove(lab: Lab) -> None:
    """After the end, and after a start that failed."""
    made = lab.create("true", host={"AutoRemove": True})
    waiting = lab.engine.containers.wait(made, "removed")
    lab.engine.containers.start(made)
    assert waiting.result() == {"StatusCode": 0}
    missing = lab.create("nosuch", host={"AutoRemove": True})
    with pytest.raises(InvalidArgument):
        lab.engine.containers.start(missing)
    assert not lab.engine.containers.list(True, 0, False, {})


def test_a_wait_ends_when_its_client_leaves(lab: Lab) -> None:
    """From another thread."""
    made = lab.start("sleep", "1000")
    waiting = lab.engine.containers.wait(made, "not-running")
    thread = threading.Thread(target=waiting.result)
    thread.start()
    waiting.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_many_at_once(lab: Lab) -> None:
    """Twenty threads start containers; each ends with its own status."""
    found: dict[int, int] = {}

    def run(number: int) -> None:
        found[number] = lab.run("sh", "-c", f"exit {number}")[1]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert found == {number: number for number in range(20)}


def test_out_of_memory_is_told(lab: Lab) -> None:
    """The kernel kills; the state and an event say why."""
    subscription = lab.engine.events.subscribe(0, 0, {"event": ["oom"]})
    hungry = "a=x; while :; do a=$a$a; done"
    made, status = lab.run("sh", "-c", hungry, host={"Memory": 8 << 20, "MemorySwap": 8 << 20})
    assert status == 137
    assert lab.state(made)["OOMKilled"] is True
    assert next(iter(subscription))["Actor"]["ID"] == made
    subscription.close()
    calm, _ = lab.run("true", host={"Memory": 8 << 20})
    assert lab.state(calm)["OOMKilled"] is False


def test_no_descriptor_stays(lab: Lab) -> None:
    """Neither in the engine nor in what the container inherits."""
    lab.run("true")
    eventually(lambda: len(os.listdir("/proc/self/fd")) > 0, "a first look")
    before = _settled_descriptors()
    for _ in range(5):
        made, _ = lab.run("true")
        lab.engine.containers.remove(made)
    assert _settled_descriptors() <= before
    made, _ = lab.run("ls", "/proc/self/fd")
    assert payload(lab.logs(made)).split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory


def _settled_descriptors() -> int:
    last = -1
    while last != (last := len(os.listdir("/proc/self/fd"))):
        time.sleep(0.2)
    return last
