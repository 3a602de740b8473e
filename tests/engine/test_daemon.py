"""`minicontainer daemon` as a service: sockets from outside, readiness, reload, idleness, load."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.conftest import PATIENCE_S, wait_until
from tests.engine.docker_client import PROGRAM, EngineProcess, can_run

pytestmark = [
    pytest.mark.skipif(not can_run(), reason="needs root and the docker client"),
    pytest.mark.timeout(300),
]
PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def running(*options: str) -> Iterator[EngineProcess]:
    """Give an engine with these options."""
    engine = EngineProcess(*options)
    try:
        yield engine
    finally:
        engine.close()


def threads_and_descriptors(engine: EngineProcess) -> tuple[int, int]:
    """Count what clients could leave behind in the engine's process."""
    process = Path(f"/proc/{engine.process.pid}")
    return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))


def come_back(engine: EngineProcess, before: tuple[int, int]) -> None:
    """Wait until no more threads and descriptors are there than *before*."""

    def are_back() -> bool:
        now = threads_and_descriptors(engine)
        return now[0] <= before[0] and now[1] <= before[1]

    wait_until(are_back, f"{before} threads and descriptors")


def test_an_idle_engine_ends_unless_a_container_runs() -> None:
    """It is started again by the next client."""
    with running("--idle-timeout", "2") as engine:
        engine.docker("run", "-d", "--name", "stays", "--network", "none", "busybox", "sleep", "4")
        assert engine.process.wait(PATIENCE_S) == 0
        log = engine.log.read_text()
        assert "ending after 2 idle seconds" in log
        engine.start()
        assert engine.docker("wait", "stays") == "0"


def test_the_configuration_is_read_again(tmp_path: Path) -> None:
    """On SIGHUP; a file that makes no sense changes nothing."""
    file = tmp_path / "daemon.toml"
    file.write_text("idle-timeout = 0\n")
    with running("--config-file", str(file)) as engine:
        file.write_text("idle-timeout = true\n")
        engine.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays as it was" in engine.log.read_text(), "the refusal")
        file.write_text("idle-timeout = 1\n")
        engine.process.send_signal(signal.SIGHUP)
        assert engine.process.wait(PATIENCE_S) == 0


def test_a_second_engine_on_the_same_data_is_refused() -> None:
    """In one line, and the first one goes on."""
    with running() as engine:
        told = subprocess.run(
            [PROGRAM, "daemon", "--data-root", engine.base / "data", "--exec-root",
             engine.base / "other"], capture_output=True, text=True,
        )  # fmt: skip
        assert told.returncode == 125
        assert "another engine works on" in told.stderr.splitlines()[-1]
        engine.docker("ps")


def test_two_roots_are_two_directories(tmp_path: Path) -> None:
    """The engine does not take its own lock for another engine's."""
    again = f"{tmp_path}/../{tmp_path.name}"
    told = subprocess.run(
        [PROGRAM, "daemon", "--data-root", tmp_path, "--exec-root", again],
        capture_output=True, text=True,
    )  # fmt: skip
    words = f"minicontainer: {tmp_path} is data root and exec root: name two directories\n"
    assert (told.returncode, told.stderr) == (125, words)


def test_systemds_sockets_and_its_notifications(tmp_path: Path) -> None:
    """Descriptor 3 is the socket; READY comes when the engine answers, STOPPING at its end."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{tmp_path}/api.sock")
    listening.listen()
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(f"{tmp_path}/notify")
    notify.settimeout(PATIENCE_S)
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); "
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
        "os.set_inheritable(3, True); os.execv(sys.argv[2], sys.argv[2:])"
    )
    data = tmp_path / "data"
    words = [sys.executable, "-c", code, str(listening.fileno()), str(PROGRAM), "daemon", "--host"]
    words += ["fd://", "--data-root", str(data), "--exec-root", str(tmp_path / "run")]
    environ = {**os.environ, "NOTIFY_SOCKET": f"{tmp_path}/notify"}
    process = subprocess.Popen(words, env=environ, pass_fds=[listening.fileno()])
    try:
        assert notify.recv(100) == b"READY=1"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/api.sock")
            client.sendall(PING)
            assert b"200" in client.recv(1000)
        process.send_signal(signal.SIGHUP)
        assert notify.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert notify.recv(100) == b"READY=1"
        process.send_signal(signal.SIGTERM)
        assert notify.recv(100) == b"STOPPING=1"
        assert process.wait(PATIENCE_S) == 0
        assert Path(f"{tmp_path}/api.sock").exists()  # it is systemd's
    finally:
        process.kill()
        process.wait()
        listening.close()
        notify.close()


def test_a_hundred_clients_that_vanish_leave_nothing() -> None:
    """In streams, in the middle of requests, in execs: threads and descriptors come back."""
    with running() as engine:
        engine.docker("run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "999")
        engine.docker("exec", "web", "true")
        before = threads_and_descriptors(engine)
        requests = (
            b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /containers/web/stats HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /containers/web/wait HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
            b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
            b"GET /_ping HTTP/1.1\r\nX: ",
        )

        def vanish(number: int) -> None:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(engine.socket))
                sock.sendall(requests[number % len(requests)])
                sock.settimeout(0.3)
                with contextlib.suppress(TimeoutError):
                    sock.recv(100)

        clients = [threading.Thread(target=vanish, args=(number,)) for number in range(100)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        # One that attached to a container that never starts is noticed by the next that does.
        engine.docker("create", "--name", "never", "--network", "none", "busybox")
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(engine.socket))
                sock.sendall(
                    b"POST /containers/never/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
                    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
                )
                sock.recv(100)
        come_back(engine, (before[0], before[1] + 1))
        engine.docker("rm", "never")
        come_back(engine, before)
        assert engine.docker("exec", "web", "echo", "alive") == "alive"


def only_child(pid: int) -> int:
    """Give the only child of a process; any of its threads may be the parent."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    [child] = " ".join(path.read_text() for path in tasks).split()
    return int(child)


def test_many_descriptors_are_the_engines_alone() -> None:
    """It raises its own limit; a container's stays what the engine was started with.

    That of the next spawner's containers too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        with running() as engine:
            limits = Path(f"/proc/{engine.process.pid}/limits").read_text()
            own = next(line for line in limits.splitlines() if line.startswith("Max open files"))
            assert own.split()[3:5] == [str(hard), str(hard)]
            run = ("run", "--rm", "--network", "none", "busybox", "sh", "-c", "ulimit -n")
            assert engine.docker(*run) == str(min(1024, hard))
            spawner = only_child(engine.process.pid)
            os.kill(spawner, signal.SIGKILL)
            engine.docker(*run)  # by the process that waited
            assert engine.docker(*run) == str(min(1024, hard))
            assert only_child(engine.process.pid) != spawner
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_docker_py_drives_a_container() -> None:
    """Create, start, exec, logs, stats, archive, wait, remove: as a Python program does it."""
    with running() as engine:
        client = docker.DockerClient(base_url=f"unix://{engine.socket}", version="auto")
        try:
            said = client.containers.run("busybox", ["echo", "hello"], remove=True)
            assert said == b"hello\n"
            web = client.containers.run(
                "busybox", ["sh", "-c", "echo started; sleep 999"], detach=True, name="web",
                network_mode="none", labels={"tier": "front"},
            )  # fmt: skip
            wait_until(lambda: web.logs() == b"started\n", "the log")
            assert [one.name for one in client.containers.list(filters={"label": "tier"})] == [
                "web"
            ]
            assert web.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True) == (
                3, (b"out\n", b"err\n"),
            )  # fmt: skip
            assert web.stats(stream=False)["pids_stats"]["current"] >= 1
            parts, stat = web.get_archive("/etc/hostname")
            assert stat["name"] == "hostname"
            assert b"".join(parts)
            assert web.put_archive("/tmp", b"\0" * 1024)
            web.pause()
            web.reload()
            assert web.status == "paused"
            web.unpause()
            web.stop(timeout=0)
            assert web.wait()["StatusCode"] == 137
            web.remove()
            with pytest.raises(docker.errors.ImageNotFound):
                client.images.get("nosuch:1")
        finally:
            client.close()


def test_the_garbage_of_requests_is_collected_in_time() -> None:
    """A command collects none before its end; an engine answers many."""
    with running() as engine:
        ask = b"GET /containers/nosuch/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

        def grown_kib(requests: int) -> int:
            before = _resident_kib(engine)
            for _ in range(requests):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(engine.socket))
                    client.sendall(ask)
                    while client.recv(65_536):
                        pass
            return _resident_kib(engine) - before

        grown_kib(600)  # what the first ones need stays
        assert grown_kib(2000) < 2000


def _resident_kib(engine: EngineProcess) -> int:
    status = Path(f"/proc/{engine.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
