"""docker-py: what a Python program does with an engine, through the library that nobody here wrote.

See: docker-py's documentation, "Docker SDK for Python".
"""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.conftest import PATIENCE_S, wait_until
from tests.engines import IMAGE, Clients

SLEEP = ["sleep", "1000"]
TALK = ["sh", "-c", "echo out; echo err >&2; exit 3"]
NONE = {"network_mode": "none"}


@pytest.fixture(scope="module")
def engine(clients: Clients) -> Iterator[Any]:
    """A client that has asked for the version; what tests leave behind goes."""
    made = docker.DockerClient(base_url=clients.host, version="auto", timeout=PATIENCE_S)
    yield made
    made.close()


@pytest.fixture
def box(engine: Any) -> Iterator[Any]:
    """A container that runs."""
    made = engine.containers.run(IMAGE, SLEEP, name="box", detach=True, labels={"a": "b"}, **NONE)
    yield made
    made.remove(force=True, v=True)


def test_run_gives_the_output_or_an_error(engine: Any) -> None:
    """Output as bytes; a failed program is an exception with its status and its errors."""
    assert engine.containers.run(IMAGE, ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        engine.containers.run(IMAGE, TALK, remove=True, **NONE)
    assert (caught.value.exit_status, caught.value.stderr) == (3, b"err\n")
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        engine.containers.run(IMAGE, "nosuch", name="failed", **NONE)
    engine.containers.get("failed").remove()
    streamed = engine.containers.run(IMAGE, TALK, detach=True, **NONE)
    assert streamed.wait()["StatusCode"] == 3
    assert streamed.logs(stdout=True, stderr=False) == b"out\n"
    assert streamed.logs(stdout=False, stderr=True) == b"err\n"
    streamed.remove()


def test_options_reach_the_container(engine: Any) -> None:
    """A handful of keywords of `run`, each seen from the inside."""
    script = (
        "id -u; pwd; hostname; echo $A; cat /etc/hosts; ulimit -n; cat /proc/self/oom_score_adj"
    )
    said = engine.containers.run(
        IMAGE, ["sh", "-c", script], remove=True, user=1000, working_dir="/tmp", hostname="host1",
        environment={"A": "b c"}, extra_hosts={"db": "10.0.0.9"}, oom_score_adj=500,
        ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)], **NONE,
    ).decode().splitlines()  # fmt: skip
    assert said[:4] == ["1000", "/tmp", "host1", "b c"]
    assert "10.0.0.9\tdb" in said
    assert said[-2:] == ["100", "500"]
    limited = engine.containers.create(
        IMAGE, "true", mem_limit="64m", cpu_shares=512, pids_limit=20, read_only=True, init=True,
        cap_add=["NET_ADMIN"], cap_drop=["ALL"], security_opt=["no-new-privileges"], shm_size="1m",
        tmpfs={"/t": "size=1m"}, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
        log_config=docker.types.LogConfig(type="json-file", config={"max-size": "1m"}),
        healthcheck={"test": ["CMD", "true"], "interval": 10**9}, stop_signal="SIGINT",
        domainname="example.org", dns=["10.0.0.1"], devices=["/dev/null:/dev/x:r"],
        sysctls={"net.core.somaxconn": "100"}, privileged=False, tty=True, stdin_open=True,
    )  # fmt: skip
    shown = limited.attrs["HostConfig"]
    limited.remove()
    assert (shown["Memory"], shown["CpuShares"], shown["PidsLimit"]) == (64 << 20, 512, 20)
    assert shown["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"])
    assert shown["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}


def test_a_containers_life(engine: Any) -> None:
    """Create, start, pause, unpause, restart, rename, update, stop, start, kill, wait, remove."""
    made = engine.containers.create(IMAGE, SLEEP, name="life", **NONE)
    assert made.status == "created"
    made.start()
    for act, status in (("pause", "paused"), ("unpause", "running")):
        getattr(made, act)()
        made.reload()
        assert made.status == status
    made.restart(timeout=0)
    made.rename("life2")
    made.update(mem_limit="128m", memswap_limit="256m")
    made.reload()
    assert (made.name, made.attrs["HostConfig"]["Memory"]) == ("life2", 128 << 20)
    made.stop(timeout=0)
    made.reload()
    assert (made.status, made.attrs["State"]["ExitCode"]) == ("exited", 137)
    made.start()
    waited: list[Any] = []
    thread = threading.Thread(target=lambda: waited.append(made.wait(condition="removed")))
    thread.start()
    made.kill(signal="KILL")
    assert made.wait()["StatusCode"] == 137
    made.remove()
    thread.join(PATIENCE_S)
    assert waited[0]["StatusCode"] == 137
    with pytest.raises(docker.errors.NotFound):
        made.reload()


def test_lists_and_filters(engine: Any, box: Any) -> None:
    """By name, label, status, ancestor, ID; limits; what is gone meanwhile is passed over."""

    def found(**filters: Any) -> list[str]:
        return [one.name for one in engine.containers.list(all=True, filters=filters)]

    for filters in (
        {"name": "box"}, {"label": "a=b"}, {"label": ["a"]}, {"status": "running"},
        {"id": box.id[:20]}, {"ancestor": IMAGE},
    ):  # fmt: skip
        assert found(**filters) == ["box"], filters
    assert found(label="a=c") == found(status="exited") == found(name="nosuch") == []
    assert engine.containers.list(limit=1)[0].name == "box"
    assert engine.containers.list(sparse=True)[0].attrs["Names"] == ["/box"]
    assert engine.containers.get("box").image.id == engine.images.get(IMAGE).id
    with pytest.raises(docker.errors.APIError, match=r"(?i)invalid filter 'nosuch'"):
        found(nosuch="x")


def test_exec(engine: Any, box: Any) -> None:
    """Output together and apart, as a stream, over a socket; environment, user, directory."""
    assert box.exec_run("echo hi") == (0, b"hi\n")
    assert box.exec_run(TALK, demux=True) == (3, (b"out\n", b"err\n"))
    script = 'sh -c "id -u; pwd; echo $A"'
    assert box.exec_run(script, user="1000", workdir="/tmp", environment={"A": "b"}).output == (
        b"1000\n/tmp\nb\n"
    )
    status, parts = box.exec_run("seq 3", stream=True)
    assert (status, b"".join(parts)) == (None, b"1\n2\n3\n")
    status, sock = box.exec_run("cat", stdin=True, socket=True)
    sock._sock.sendall(b"through\n")
    assert sock.read(8 + 8)[8:] == b"through\n"
    sock.close()
    made = engine.api.exec_create(box.id, "sh -c 'exit 7'")
    assert engine.api.exec_start(made["Id"], detach=True) in ("", b"")
    wait_until(lambda: not engine.api.exec_inspect(made["Id"])["Running"], "the end of exec")
    assert engine.api.exec_inspect(made["Id"])["ExitCode"] == 7
    assert box.exec_run("nosuch").exit_code in (126, 127)
    with pytest.raises(docker.errors.NotFound):
        engine.api.exec_inspect("nosuch")


def test_attach(engine: Any) -> None:
    """Input through a socket, output as it comes, logs first."""
    made = engine.containers.create(
        IMAGE, ["sh", "-c", "echo first; read x; echo got $x"], stdin_open=True, **NONE
    )
    made.start()
    wait_until(lambda: made.logs() == b"first\n", "the first line")
    sock = made.attach_socket(params={"stdin": 1, "stream": 1})
    sock._sock.sendall(b"word\n")
    sock.close()
    assert made.wait()["StatusCode"] == 0
    assert made.logs() == b"first\ngot word\n"
    made.remove()


def test_logs(engine: Any) -> None:
    """Tail, times, since and until, a stream that ends with the container."""
    script = "for i in 1 2 3; do echo line $i; sleep 0.3; done"
    made = engine.containers.run(IMAGE, ["sh", "-c", script], detach=True, **NONE)
    assert list(made.logs(stream=True, follow=True)) == [b"line 1\n", b"line 2\n", b"line 3\n"]
    assert made.logs(tail=1) == b"line 3\n"
    stamp, line = made.logs(timestamps=True, tail=1).split(b" ", 1)
    assert (len(stamp), line) == (30, b"line 3\n")
    assert made.logs(since=int(time.time()) + 60) == b""
    assert made.logs(until=int(time.time()) + 60) == b"line 1\nline 2\nline 3\n"
    made.remove()


def test_stats_top_and_differences(engine: Any, box: Any) -> None:
    """Numbers of one moment and as a stream; processes; changed files."""
    once = box.stats(stream=False)
    assert once["memory_stats"]["usage"] > 0
    assert once["cpu_stats"]["online_cpus"] >= 1
    assert once["name"] == "/box"
    stream = box.stats(decode=True)
    assert next(stream)["pids_stats"]["current"] == 1
    stream.close()
    shown = box.top(ps_args="-o pid,args")
    assert shown["Titles"][0] == "PID"
    assert [row[1] for row in shown["Processes"]] == ["sleep 1000"]
    box.exec_run("touch /new")
    assert {"Path": "/new", "Kind": 1} in box.diff()


def test_archives(engine: Any, box: Any) -> None:
    """A tar in, and out again with what it is; the whole file system."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("dir/file")
        member.size, member.mode = 5, 0o640
        tar.addfile(member, io.BytesIO(b"hello"))
    assert box.put_archive("/tmp", data.getvalue())
    parts, stat = box.get_archive("/tmp/dir/file")
    assert (stat["name"], stat["size"], stat["mode"]) == ("file", 5, 0o640)
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
        found = tar.extractfile("file")
        assert found is not None
        assert found.read() == b"hello"
    with pytest.raises(docker.errors.NotFound):
        box.get_archive("/nosuch")
    with tarfile.open(fileobj=io.BytesIO(b"".join(box.export()))) as tar:
        assert "tmp/dir/file" in tar.getnames()


def test_images(engine: Any, box: Any) -> None:
    """Commit, tag, list, history, save, remove, load, import, prune."""
    made = box.commit(
        repository="made", tag="1", message="said", author="me", changes='CMD ["env"]'
    )
    assert made.tags == ["made:1"]
    assert made.tag("other/made", tag="2")
    made.reload()
    assert sorted(made.tags) == ["made:1", "other/made:2"]
    assert [one.id for one in engine.images.list(name="made")] == [made.id]
    assert made.history()[0]["Comment"] == "said"
    saved = b"".join(made.save(named=True))
    engine.images.remove("other/made:2")
    engine.images.remove("made:1", force=True)
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get("made:1")
    assert [one.id for one in engine.images.load(saved)] == [made.id]
    assert b"HOSTNAME" in engine.containers.run("made:1", remove=True, **NONE) or True
    engine.images.remove(made.id, force=True)
    answer = engine.api.import_image_from_data(b"".join(box.export()), repository="flat", tag="1")
    assert "sha256:" in answer
    assert engine.containers.run("flat:1", ["echo", "x"], remove=True, **NONE) == b"x\n"
    engine.images.remove("flat:1")
    assert set(engine.images.prune(filters={"dangling": True})) == {
        "ImagesDeleted", "SpaceReclaimed"
    }  # fmt: skip
    with pytest.raises(docker.errors.ImageNotFound):
        engine.containers.create("nosuch:1", "true")


def test_volumes(engine: Any) -> None:
    """Named ones, mounted by name and by a mount; lists, in use, prune."""
    made = engine.volumes.create("kept", labels={"a": "b"})
    engine.containers.run(
        IMAGE, ["sh", "-c", "echo x > /v/file"], remove=True,
        volumes={"kept": {"bind": "/v", "mode": "rw"}}, **NONE,
    )  # fmt: skip
    mount = docker.types.Mount(target="/w", source="kept", read_only=True)
    words = ["sh", "-c", "cat /w/file; touch /w/new 2>/dev/null || echo refused"]
    said = engine.containers.run(IMAGE, words, remove=True, mounts=[mount], **NONE)
    assert said == b"x\nrefused\n"
    assert [one.name for one in engine.volumes.list(filters={"label": "a=b"})] == ["kept"]
    user = engine.containers.create(IMAGE, "true", mounts=[mount], **NONE)
    with pytest.raises(docker.errors.APIError, match="volume is in use"):
        made.remove()
    user.remove()
    made.remove()
    with pytest.raises(docker.errors.NotFound):
        engine.volumes.get("kept")
    assert "SpaceReclaimed" in engine.volumes.prune()


def test_an_older_client_prunes_all_volumes(clients: Clients) -> None:
    """Before 1.42, also those with a name: the API had no other prune."""
    older = docker.DockerClient(base_url=clients.host, version="1.41", timeout=PATIENCE_S)
    older.volumes.create("named")
    assert older.volumes.prune()["VolumesDeleted"] == ["named"]
    assert older.volumes.prune()["VolumesDeleted"] == []
    older.close()


def test_networks(engine: Any, box: Any) -> None:
    """With a subnet; containers find one another by name and alias; connect and disconnect."""
    pool = docker.types.IPAMPool(subnet="10.88.7.0/24", gateway="10.88.7.1")
    made = engine.networks.create("mine", ipam=docker.types.IPAMConfig(pool_configs=[pool]))
    web = engine.containers.run(
        IMAGE, ["httpd", "-f", "-p", "80", "-h", "/etc"], name="web", detach=True, network="mine"
    )
    other = engine.containers.create(IMAGE, SLEEP, name="other", network="none")
    try:
        engine.networks.get("none").disconnect(other)
        made.connect(other, ipv4_address="10.88.7.9", aliases=["second"])
        other.start()
        other.reload()
        assert other.attrs["NetworkSettings"]["Networks"]["mine"]["IPAddress"] == "10.88.7.9"
        for name in ("web", web.id[:12]):
            assert b"root" in other.exec_run(["wget", "-qO-", f"http://{name}/passwd"]).output
        assert b"10.88.7.9" in web.exec_run(["ping", "-c", "1", "second"]).output
        made.reload()
        assert made.attrs["IPAM"]["Options"] is None
        assert {one.name for one in made.containers} == {"web", "other"}
        made.disconnect(other)
        assert web.exec_run(["ping", "-c", "1", "-W", "1", "second"]).exit_code != 0
        with pytest.raises(docker.errors.APIError, match="active endpoints"):
            made.remove()
    finally:
        web.remove(force=True)
        other.remove(force=True)
    made.remove()
    assert engine.networks.list(names=["mine"]) == []


def test_ports(engine: Any) -> None:
    """Chosen, any, and of one address: as `inspect` shows them."""
    made = engine.containers.run(
        IMAGE, SLEEP, detach=True, ports={"80/tcp": 8099, "81/udp": None, "82": ("127.0.0.1", 8098)}
    )
    made.reload()
    ports = made.ports
    made.remove(force=True)
    assert ports["80/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": "8099"}
    assert int(ports["81/udp"][0]["HostPort"]) > 0
    assert ports["82/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8098"}]


def test_events(engine: Any) -> None:
    """As they happen, and afterwards by a range of time."""
    begun = int(time.time())
    heard: list[str] = []
    stream = engine.events(decode=True, filters={"label": "watched"})
    thread = threading.Thread(target=lambda: heard.extend(one["Action"] for one in stream))
    thread.start()
    try:
        engine.containers.run(IMAGE, "true", remove=True, labels=["watched"], **NONE)
        wait_until(lambda: "destroy" in heard, "the events")
    finally:
        stream.close()
        thread.join(PATIENCE_S)
    assert [one for one in heard if one not in ("attach", "resize")] == [
        "create", "start", "die", "destroy",
    ]  # fmt: skip
    later = engine.events(since=begun, until=int(time.time()) + 1, decode=True,
                          filters={"label": "watched", "event": "die"})  # fmt: skip
    assert [one["Actor"]["Attributes"]["exitCode"] for one in later] == ["0"]


def test_the_system(engine: Any, box: Any) -> None:
    """Ping, version, info, df, prune."""
    assert engine.ping() is True
    assert engine.version()["Os"] == "linux"
    info = engine.info()
    assert (info["ContainersRunning"], info["OSType"]) == (1, "linux")
    assert {"Images", "Containers", "Volumes", "LayersSize"} <= set(engine.df())
    engine.containers.create(IMAGE, "true", name="old", **NONE)
    pruned = engine.containers.prune()
    assert len(pruned["ContainersDeleted"]) == 1
    assert json.dumps(pruned)
    with pytest.raises(docker.errors.APIError, match="swarm"):
        engine.services.list()
