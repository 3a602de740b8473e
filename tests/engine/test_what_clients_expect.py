"""Small things that clients of Docker rely on: what is refused, what is shown, and when."""

from __future__ import annotations

import os
import signal
import tarfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer.engine import bundles
from minicontainer.errors import Conflict, Error, InvalidArgument, NotFound
from tests.engine.conftest import (
    PATIENCE_S,
    eventually,
    frames,
    mounts_below,
    payload,
    stream,
)

if TYPE_CHECKING:
    from tests.engine.conftest import Daemon, Lab


@pytest.mark.parametrize(
    ("config", "host", "says"),
    [
        ({"Env": [""]}, {}, "invalid environment variable"),
        ({"Env": ["=x"]}, {}, "invalid environment variable"),
        ({"Env": ["A=1", ""]}, {}, "invalid environment variable: "),
        ({"Env": ["=b"]}, {}, "invalid environment variable: expected NAME=VALUE or NAME$"),
        ({}, {"Annotations": {"": "x"}}, "invalid Annotations: the empty string is not permitted"),
        ({}, {"ExtraHosts": ["x"]}, 'bad format for add-host: "x"'),
        ({}, {"ExtraHosts": ["x:y"]}, 'invalid IP address in add-host: "y"'),
        ({}, {"Dns": ["x"]}, "bad nameserver address x"),
        ({}, {"ShmSize": -1}, "SHM size can not be less than 0"),
        ({}, {"CpuShares": -1}, r"invalid CPU shares \(-1\): value must be a positive integer"),
        ({}, {"PidMode": "what"}, "invalid PID mode: what"),
        ({}, {"UTSMode": "what"}, "invalid UTS mode: what"),
        ({}, {"Tmpfs": {"rel": ""}}, "invalid mount path: 'rel' mount path must be absolute"),
        ({}, {"Tmpfs": {"//": ""}}, "invalid specification: destination can't be '/'"),
        ({}, {"SecurityOpt": ["writable-cgroups=1"]}, 'invalid --security-opt 2: "writable-cgr'),
    ],
)
def test_what_makes_no_sense_is_refused(
    lab: Lab, config: dict[str, Any], host: dict[str, Any], says: str
) -> None:
    """When the container is created, in Docker's words; before there is one."""
    with pytest.raises(InvalidArgument, match=says):
        lab.create("true", host=host, **config)
    assert not lab.engine.containers.all()


def test_a_wait_counts_an_end_that_a_restart_follows(lab: Lab) -> None:
    """`docker attach` waits like this: it would hang for as long as the policy holds."""
    made = lab.start("sleep", "1000", host={"RestartPolicy": {"Name": "always"}})
    waiting = lab.engine.containers.wait(made, "not-running")
    os.kill(lab.state(made)["Pid"], signal.SIGKILL)
    assert waiting.result()["StatusCode"] == 137


def test_kill_returns_when_the_container_has_ended(lab: Lab) -> None:
    """So that `docker kill web && docker rm web` works."""
    made = lab.start("sleep", "1000")
    with pytest.raises(InvalidArgument, match="invalid signal: SIG42"):
        lab.engine.containers.kill(made, "SIG42")
    lab.engine.containers.kill(made)
    assert lab.state(made)["Status"] == "exited"
    lab.engine.containers.remove(made)


def test_an_execs_client_chooses_how_its_stream_is_framed(lab: Lab) -> None:
    """It says so when it starts the program; the terminal's size may come with either request."""
    made = lab.start("sleep", "1000")
    body = {
        "Cmd": ["stty", "size"], "Tty": True, "AttachStdout": True, "ConsoleSize": [57, 123],
    }  # fmt: skip
    framed = stream()
    lab.engine.execs.start(lab.engine.execs.create(made, body)["Id"], {}, framed)
    framed.socket.close()
    assert payload(framed.received()) == b"57 123\r\n"
    raw = stream()
    lab.engine.execs.start(lab.engine.execs.create(made, body)["Id"], {"Tty": True}, raw)
    raw.socket.close()
    assert raw.received() == b"57 123\r\n"
    both = {"Cmd": ["sh", "-c", "echo one; echo two >&2"], "AttachStdout": True}
    wanted = {**both, "AttachStderr": True}
    raw = stream()
    lab.engine.execs.start(lab.engine.execs.create(made, wanted)["Id"], {"Tty": True}, raw)
    raw.socket.close()
    assert sorted(raw.received().split()) == [b"one", b"two"]


def test_an_exec_is_for_one_start_of_its_container(lab: Lab) -> None:
    """After the end it can neither be started nor resized."""
    made = lab.start("sleep", "1000")
    one = lab.engine.execs.create(made, {"Cmd": ["true"]})["Id"]
    running = lab.engine.execs.create(made, {"Cmd": ["sleep", "1000"], "Tty": True})["Id"]
    lab.engine.execs.start(running, {}, None)
    lab.engine.execs.resize(running, 40, 40)
    lab.engine.containers.kill(made)
    with pytest.raises(Conflict, match="is not running"):
        lab.engine.execs.resize(running, 40, 40)
    lab.engine.containers.start(made)
    with pytest.raises(NotFound, match=f"No such exec instance: {one}"):
        lab.engine.execs.start(one, {}, None)


def test_an_exec_waits_for_the_end_of_a_pause(lab: Lab) -> None:
    """What is refused meanwhile can be started afterwards; the name is the user's own."""
    made = lab.start("sleep", "1000", name="web")
    one = lab.engine.execs.create("web", {"Cmd": ["true"]})["Id"]
    lab.engine.containers.pause(made)
    with pytest.raises(Conflict, match="Container web is paused, unpause the container before"):
        lab.engine.execs.create("web", {"Cmd": ["true"]})
    with pytest.raises(Conflict, match="is paused"):
        lab.engine.execs.start(one, {}, None)
    lab.engine.containers.unpause(made)
    lab.engine.execs.start(one, {}, None)
    eventually(lambda: lab.engine.execs.inspect(one)["ExitCode"] == 0, "the exec to end")


def test_processors_are_limited_in_one_way(lab: Lab) -> None:
    """An update can't change to the other one."""
    made = lab.create("true", host={"NanoCpus": 10**9})
    with pytest.raises(Conflict, match="CPU Quota cannot be updated as NanoCPUs has already been"):
        lab.engine.containers.update(made, {"CpuQuota": 50_000})
    made = lab.create("true", host={"CpuPeriod": 50_000})
    with pytest.raises(Conflict, match="Nano CPUs cannot be updated as CPU Period has already"):
        lab.engine.containers.update(made, {"NanoCpus": 10**9})


def test_a_pid_limit_is_taken_away(lab: Lab) -> None:
    """By any number that is no limit."""
    for number in (0, -1):
        made = lab.start("sleep", "1000", host={"PidsLimit": 32})
        lab.engine.containers.update(made, {"PidsLimit": number})
        assert lab.engine.containers.inspect(made)["HostConfig"]["PidsLimit"] == 0
        assert lab.engine.containers.stats(made, False, True).__next__()["pids_stats"].get(
            "limit", 0
        ) in (0, 2**64 - 1)


def test_a_restart_policy_does_not_go_with_automatic_removal(lab: Lab) -> None:
    """A conflict with what the container is, not a bad request."""
    made = lab.start("sleep", "1000", host={"AutoRemove": True})
    with pytest.raises(Conflict, match="cannot be updated because AutoRemove is enabled"):
        lab.engine.containers.update(made, {"RestartPolicy": {"Name": "always"}})


def test_the_working_directory_is_there_before_the_start(lab: Lab) -> None:
    """`docker create --workdir /srv/app`, then `docker cp`."""
    made = lab.create("pwd", WorkingDir="/srv//app/")
    assert lab.engine.containers.inspect(made)["Config"]["WorkingDir"] == "/srv/app"
    data = BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    lab.engine.containers.archive_put(made, "/srv/app", BytesIO(data.getvalue()), False, False)
    assert lab.engine.containers.archive_stat(made, "/srv/app/file")["size"] == 0
    with pytest.raises(InvalidArgument, match="not a directory"):
        lab.engine.containers.archive_stat(made, "/srv/app/file/")
    lab.engine.containers.start(made)
    assert lab.engine.containers.wait(made, "not-running").result()["StatusCode"] == 0
    assert [part for _, part in frames(lab.logs(made))] == [b"/srv/app\n"]


def test_links_are_shown_with_both_names(lab: Lab) -> None:
    """In `inspect`, and among the names that `ps` shows of the other container."""
    lab.create("true", name="postgres")
    web = lab.create("true", name="web", host={"Links": ["postgres:db"]})
    shown = lab.engine.containers.inspect(web)["HostConfig"]["Links"]
    assert shown == ["/postgres:/web/db"]
    listed = lab.engine.containers.list(True, -1, False, {"name": ["^postgres$"]})
    assert listed[0]["Names"] == ["/postgres", "/web/db"]
    again = lab.create("true", name="again", host={"Links": shown})  # as a client sends it back
    assert lab.engine.containers.inspect(again)["HostConfig"]["Links"] == ["/postgres:/again/db"]


def test_a_container_is_found_by_a_links_name(lab: Lab) -> None:
    """Also when the one that has the link is called otherwise; `rm --link` takes it away."""
    db = lab.create("true", name="postgres")
    web = lab.create("true", name="web", host={"Links": ["postgres:/db"]})
    lab.engine.containers.rename(web, "shop")
    assert lab.engine.containers.inspect("shop/db")["Id"] == db
    for nobody in ("shop/cache", "nobody/db"):
        with pytest.raises(NotFound, match=f"No such container: {nobody}"):
            lab.engine.containers.inspect(nobody)
    with pytest.raises(Conflict, match="cannot remove the default link name of the container"):
        lab.engine.containers.remove("shop", link=True)
    with pytest.raises(NotFound, match="link cache"):
        lab.engine.containers.remove("shop/cache", link=True)
    lab.engine.containers.remove("/shop/db", link=True)
    assert lab.engine.containers.inspect(web)["HostConfig"]["Links"] is None
    assert lab.engine.containers.inspect("postgres")["Id"] == db


def test_a_link_to_its_own_name_leads_nowhere(lab: Lab) -> None:
    """A user's network does not ask whether a link leads somewhere; `ps` looks at all links."""
    lab.engine.networks.create({"Name": "back"})
    made = lab.create("true", name="web", host={"NetworkMode": "back", "Links": ["web/db:db"]})
    listed = lab.engine.containers.list(True, -1, False, {})
    assert [one["Id"] for one in listed] == [made]
    with pytest.raises(NotFound, match="No such container: web/db"):
        lab.engine.containers.inspect("web/db")
    lab.engine.containers.remove(made)
    lab.engine.networks.remove("back")


def test_hidden_paths_are_shown(lab: Lab) -> None:
    """Also where the client sent null, as Go's do; a privileged container has none."""
    usual = lab.create("true", host={"MaskedPaths": None, "ReadonlyPaths": None})
    host = lab.engine.containers.inspect(usual)["HostConfig"]
    assert "/proc/kcore" in host["MaskedPaths"]
    assert "/proc/sys" in host["ReadonlyPaths"]
    none = lab.create("true", host={"MaskedPaths": []})
    assert lab.engine.containers.inspect(none)["HostConfig"]["MaskedPaths"] == []
    bare = lab.create("true", host={"MaskedPaths": None, "Privileged": True})
    assert lab.engine.containers.inspect(bare)["HostConfig"]["MaskedPaths"] is None


def test_annotations_are_listed(lab: Lab) -> None:
    """With the container's network mode."""
    lab.create("true", host={"Annotations": {"who": "me"}})
    host = lab.engine.containers.list(True, -1, False, {})[0]["HostConfig"]
    assert host == {"NetworkMode": "none", "Annotations": {"who": "me"}}


def test_a_private_ipc_namespace_is_not_joined(lab: Lab) -> None:
    """The other container must be willing; and it must run."""
    for mode in ("private", "none"):
        other = lab.start("sleep", "1000", host={"IpcMode": mode})
        made = lab.create("true", host={"IpcMode": f"container:{other}"})
        with pytest.raises(InvalidArgument, match="non-shareable IPC"):
            lab.engine.containers.start(made)
    stopped = lab.create("true")
    made = lab.create("true", host={"PidMode": f"container:{stopped}"})
    with pytest.raises(Error, match=f"failed to join PID namespace: container {stopped} is not ru"):
        lab.engine.containers.start(made)
    made = lab.create("true", host={"NetworkMode": f"container:{stopped}"})
    with pytest.raises(Conflict, match=r"network namespace of a non running .* is created"):
        lab.engine.containers.start(made)


def test_shared_memory_is_shared(lab: Lab) -> None:
    """With --ipc shareable and --ipc container:NAME: the same files, and the size is right."""
    host = {"IpcMode": "shareable", "ShmSize": 1 << 20}
    one = lab.start("sh", "-c", "echo told >/dev/shm/it; sleep 1000", host=host)
    eventually(lambda: os.path.exists(f"/proc/{lab.state(one)['Pid']}/root/dev/shm/it"), "it")
    joins = {"IpcMode": f"container:{one}"}
    script = "cat /dev/shm/it; df -P /dev/shm | tail -n 1; echo back >/dev/shm/back"
    two = lab.run("sh", "-c", script, host=joins)[0]
    three = lab.create("cat", "/dev/shm/back", host={"IpcMode": f"container:{two}"})
    told = payload(lab.logs(two)).split()
    assert (told[0], told[2]) == (b"told", b"1024")
    with open(f"/proc/{lab.state(one)['Pid']}/root/dev/shm/back") as file:
        assert file.read() == "back\n"
    base = lab.engine.exec_root
    assert len(mounts_below(Path(base) / "shm")) == 1
    with pytest.raises(Error, match=r"container .* is not running"):
        lab.engine.containers.start(three)
    lab.engine.containers.kill(one)
    lab.engine.supervisor.wait_for_monitor(lab.engine.containers.find(one), PATIENCE_S)
    assert mounts_below(Path(base) / "shm") == []


def test_a_start_that_fails_unmounts_shared_memory(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before a monitor has heard of it."""
    made = lab.create("true", host={"IpcMode": "shareable"})

    def fail(*_: object) -> None:
        raise Error("no room")

    monkeypatch.setattr(bundles, "write_bundle", fail)
    with pytest.raises(Error, match="no room"):
        lab.engine.containers.start(made)
    assert not mounts_below(Path(lab.engine.exec_root) / "shm")


def test_the_next_engine_unmounts_shared_memory(daemon: Daemon) -> None:
    """Of a container that ended while there was no engine."""
    made = daemon.run("sleep", "1000", host={"IpcMode": "shareable"})
    place = daemon.base / "exec/shm"
    assert len(mounts_below(place)) == 1
    pid = daemon.inspect(made)["State"]["Pid"]
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    daemon.start()
    eventually(lambda: not mounts_below(place), "the mount to go")


def test_the_containers_own_names_and_files(lab: Lab) -> None:
    """A hostname with a domain is found without it; a read-only root has no file to write."""
    script = "touch /etc/hosts || echo refused; cat /etc/hosts"
    made = lab.run("sh", "-c", script, host={"ReadonlyRootfs": True})[0]
    assert b"refused\n" in payload(lab.logs(made))
    assert lab.run("touch", "/etc/hosts")[1] == 0


def test_what_a_shared_network_rules_out(lab: Lab) -> None:
    """Links, and ports, which would be another container's."""
    other = lab.start("sleep", "1000")
    hosts = lab.start("sleep", "1000", host={"NetworkMode": "host"})
    shared = {"NetworkMode": f"container:{other}"}
    for config, host, says in (
        ({}, {"NetworkMode": "host", "Links": ["x"]}, "host type networking can't be used with"),
        ({}, {"NetworkMode": "bridge", "Links": [hosts]}, "host type networking can't be used"),
        ({}, {"NetworkMode": "container"}, "invalid container format container:<name.id>"),
        ({}, {"NetworkMode": "container:x", "Dns": ["9.9.9.9"]}, "dns and the network mode"),
        ({}, {"NetworkMode": "container:x"}, "joining network namespace of .*: No such container"),
        ({}, {**shared, "Links": ["x"]}, "container type network can't be used with links. This"),
        ({}, {**shared, "PublishAllPorts": True}, "port publishing and the container type"),
        ({"ExposedPorts": {"80/tcp": {}}}, shared, "port exposing and the container type network"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            lab.create("true", host=host, **config)
    with pytest.raises(InvalidArgument, match=r"one of the networks in private .none. mode"):
        lab.engine.networks.connect("bridge", {"Container": other})


def test_a_volume_is_mounted_and_unmounted(lab: Lab) -> None:
    """Events tell both, with the place and the container."""
    heard = lab.engine.events.subscribe(0, 0, {"type": ["volume"]})
    made = lab.run("true", host={"Binds": ["data:/data:ro"]})[0]
    lab.engine.containers.remove(made)
    lab.engine.volumes.remove("data")
    told = [next(heard) for _ in range(4)]
    assert [one["Action"] for one in told] == ["create", "mount", "unmount", "destroy"]
    assert told[1]["Actor"] == {
        "ID": "data",
        "Attributes": {
            "container": made, "destination": "/data", "driver": "local", "propagation": "",
            "read/write": "false",
        },
    }  # fmt: skip
    assert told[2]["Actor"]["Attributes"] == {"container": made, "driver": "local"}


def test_cgroups_are_writable_on_request(lab: Lab) -> None:
    """For a program that makes groups of its own; otherwise they are read-only."""
    make = "for at in /sys/fs/cgroup/pids /sys/fs/cgroup; do mkdir $at/mine && exit; done"
    wanted = {"SecurityOpt": ["writable-cgroups"]}
    assert lab.run("sh", "-c", make, host=wanted)[1] == 0
    assert lab.run("sh", "-c", make)[1] != 0
    no = {"SecurityOpt": ["writable-cgroups=false"]}
    assert lab.run("sh", "-c", make, host=no)[1] != 0
