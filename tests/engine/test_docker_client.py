"""Every command of the docker client, typed against the engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.engine.docker_client import PROGRAM, EngineProcess, can_run
from tests.terminal import Terminal

pytestmark = [
    pytest.mark.skipif(not can_run(), reason="needs root and the docker client"),
    pytest.mark.timeout(300),
]

LOOP = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done"


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    """Give an engine with a container that runs: `web`."""
    engine = EngineProcess()
    try:
        program = f"trap exit TERM; mkdir /srv; echo hello >/srv/index.html; {LOOP}"
        engine.docker(
            "run", "-d", "--name", "web", "-p", "8080:80", "--label", "tier=front",
            "busybox", "sh", "-c", program,
        )  # fmt: skip
        wait_until(lambda: "line 2" in engine.docker("logs", "web"), "its first lines")
        yield engine
    finally:
        engine.close()


# command, what its output must hold (a regular expression). Each is typed on its own.
COMMANDS = (
    ("image inspect --platform linux/amd64 --format {{.Os}} busybox", r"^linux$"),
    ("image ls --tree", r"busybox:latest +[0-9a-f]{12}.*\n.*linux/amd64 +[0-9a-f]{12}"),
    ("version", r"Server: minicontainer .*[\s\S]* API version: +1\.50 \(minimum version 1\.24\)"),
    ("info", r"Storage Driver: overlay2[\s\S]* Swarm: inactive[\s\S]* Runtimes: "),
    ("ps", r"CONTAINER ID +IMAGE +COMMAND[\s\S]*busybox.* Up .*0\.0\.0\.0:8080->80/tcp.* web"),
    ("ps -a --filter label=tier=front --format {{.Names}}", r"^web$"),
    ("ps -a --filter publish=80 --format {{.Names}}", r"^$"),
    ("ps -a --filter publish=8080 --format {{.Names}}", r"^web$"),  # the host's port
    ("ps -a --filter expose=80 --format {{.Names}}", r"^web$"),  # the container's
    ("ps -a --filter status=exited --format {{.Names}}", r"^$"),
    ("ps -q --no-trunc", r"^[0-9a-f]{64}$"),
    ("ps -s", r"web +[0-9.]+k?B \(virtual [0-9.]+MB\)"),
    ("container ls -l", r"web"),
    ("port web", r"80/tcp -> 0\.0\.0\.0:8080"),
    ("logs --tail 1 web", r"^line \d+$"),
    ("logs -t --tail 1 web", r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line \d+$"),
    ("logs --since 1h web", r"line 1\n"),
    ("logs --until 1h web", r"^$"),
    ("exec web id", r"uid=0\(root\)"),
    ("exec -u 33:44 -w /srv -e A=b web sh -c 'id -u; pwd; echo $A'", r"^33\n/srv\nb$"),
    ("exec -d web touch /detached", r"^$"),
    ("top web", r"UID +PID +PPID[\s\S]* sh -c "),
    ("top web -o pid,comm", r"PID +COMMAND"),
    ("stats --no-stream web", r"web +\d+\.\d+% +[0-9.]+[KM]iB / "),
    ("stats --no-stream", r"web +\d+\.\d+%"),
    ("diff web", r"C /srv\nA /srv/index\.html"),
    ("cp web:/srv/index.html -", r"hello"),
    ("inspect web --format {{.State.Status}}:{{.Config.Image}}", r"^running:busybox$"),
    ("inspect -s web --format {{.SizeRootFs}}", r"^\d{6,}$"),
    ("inspect busybox --format {{.Architecture}}", r"^\w+$"),
    ("inspect bridge --format {{.Driver}}", r"^bridge$"),
    ("pause web", r"^web$"),
    ("unpause web", r"^web$"),
    ("kill -s HUP web", r"^web$"),
    ("update --memory 64m --memory-swap 128m web", r"^web$"),
    ("update --restart on-failure:3 web", r"^web$"),
    ("inspect web", r'"Name": "on-failure",\s+"MaximumRetryCount": 3\s'),  # their order is Docker's
    ("update --restart no web", r"^web$"),
    ("rename web web2", r"^$"),
    ("rename web2 web", r"^$"),
    ("images", r"REPOSITORY +TAG[\s\S]*busybox +latest"),
    ("image ls -q --no-trunc", r"^sha256:[0-9a-f]{64}$"),
    ("history busybox", r"IMAGE +CREATED +CREATED BY"),
    ("network ls", r"bridge +bridge +local\n.* host +host +local\n.* none +null +local"),
    ("network inspect bridge --format {{.Name}}", r"^bridge$"),
    ("volume ls", r"DRIVER +VOLUME NAME"),
    ("system df", r"Images +\d+ +\d+ +[0-9.]+MB"),
    ("system df -v", r"Containers space usage:"),
    ("events --since 1h --until 0s --filter container=web", r"container create [0-9a-f]{64} \("),
    ("events --since 1h --until 0s --format json --filter event=start", r'"Action":"start"'),
    ("container prune -f", r"^Total reclaimed space: 0B$"),
    ("run --rm --link web:w busybox cat /etc/hosts", r"\d\tw [0-9a-f]{12} web\n"),
    ("run --rm --name peer --link web:w busybox env", r"\nW_NAME=/peer/w\n"),
    (
        "run --rm --mac-address 02:42:ac:11:00:99 busybox cat /sys/class/net/eth0/address",
        r"^02:42:ac:11:00:99$",
    ),
    ("plugin ls", r"ID +NAME"),
    ("context ls", r"default"),
)


@pytest.mark.parametrize(("command", "expected"), COMMANDS, ids=[row[0][:40] for row in COMMANDS])
def test_a_command_says_what_docker_says(
    engine: EngineProcess, command: str, expected: str
) -> None:
    """The command ends well, and its output has the expected form."""
    output = engine.docker(*shlex.split(command))
    assert re.search(expected, output), output


# command, exit status, what standard error must hold.
FAILURES = (
    (
        "image inspect --platform linux/arm64 busybox",
        1,
        "image with reference busybox was found but its platform (linux/amd64) does not match the "
        "specified platform (linux/arm64)",
    ),
    ("history --platform linux/arm64 busybox", 1, "does not match the specified platform"),
    ("save --platform linux/arm64 busybox", 1, "no suitable export target found for platform"),
    ("rmi --platform linux/arm64 busybox", 1, "does not match the specified platform"),
    (
        "run --rm --platform linux/arm64 busybox true",
        125,
        "Unable to find image 'busybox:latest' locally",
    ),
    ("search --limit 101 redis", 1, "outside the range of [1, 100]"),
    ("search --filter nonsense=1 redis", 1, "invalid filter 'nonsense'"),
    ("start nosuch", 1, "Error response from daemon: No such container: nosuch"),
    ("inspect nosuch", 1, "No such object: nosuch"),
    ("stop nosuch", 1, "No such container: nosuch"),
    ("rm web", 1, "container is running: stop the container before removing or force remove"),
    ("rename web web", 1, "same name"),
    ("run --name web busybox true", 125, 'The container name "/web" is already in use'),
    ("run --rm busybox nosuch", 127, "executable file not found in $PATH"),
    ("run --rm busybox /etc", 126, "is a directory"),
    ("run --rm busybox /etc/passwd", 126, "permission denied"),
    ("run --rm --network none -p 80:80 --memory 1k busybox true", 125, "Minimum memory limit"),
    ("run --rm --network nosuch busybox true", 125, "network nosuch not found"),
    ("run --rm busybox sh -c 'exit 7'", 7, ""),
    ("run --rm --link nosuch busybox true", 125, "could not get container for nosuch"),
    ("run --rm --gpus all busybox true", 125, 'device driver "" with capabilities: [[gpu]]'),
    ("run --rm --storage-opt size=1G busybox true", 125, "--storage-opt is supported only for"),
    ("run --rm --network container:web -p 1:1 busybox true", 125, "options: port publishing"),
    ("exec web nosuch", 127, "OCI runtime exec failed: exec failed: unable to start container "),
    ("exec web nosuch", 127, "executable file not found in $PATH"),
    ("exec web sh -c 'exit 3'", 3, ""),
    ("kill -s NOSIG web", 1, "invalid signal: NOSIG"),
    ("network rm bridge", 1, "is a pre-defined network and cannot be removed"),
    ("rmi busybox", 1, "conflict: unable to "),
    ("service ls", 1, "This node is not a swarm manager"),
    ("ps --filter colour=red", 1, "invalid filter 'colour'"),
    ("logs nosuch", 1, "No such container: nosuch"),
    ("cp web:/nosuch /tmp", 1, "Could not find the file /nosuch in container web"),
    ("login -u x -p y 127.0.0.1:1", 1, "Error response from daemon: "),
    ("run --rm 127.0.0.1:1/x true", 125, "Unable to find image '127.0.0.1:1/x:latest' locally"),
)


@pytest.mark.parametrize(
    ("command", "status", "words"), FAILURES, ids=[row[0][:40] for row in FAILURES]
)
def test_a_failure_has_dockers_status_and_words(
    engine: EngineProcess, command: str, status: int, words: str
) -> None:
    """Scripts look at both."""
    told = engine.docker(*shlex.split(command), status=status, errors=None)
    assert words in told


def test_a_failed_start_is_told_once(engine: EngineProcess) -> None:
    """By the start, and not by the client's wait beside it as well."""
    told = engine.docker("run", "--name", "once", "busybox", "nosuch", status=127, errors=None)
    engine.docker("rm", "once")
    assert told.count("executable file not found") == 1, told


def test_run_detached_tells_the_id_of_what_cannot_start(engine: EngineProcess) -> None:
    """As Docker's client does: the container is there, and has to be removed."""
    words = [str(PROGRAM), "--host", f"unix://{engine.socket}", "run", "-d", "busybox", "nosuch"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 127, ended.stderr
    engine.docker("rm", ended.stdout.strip())


def test_a_containers_life(engine: EngineProcess) -> None:
    """Create, start, stop, start, restart, wait, remove: what each of them prints and leaves."""
    docker = engine.docker
    identifier = docker(
        "create", "--name", "life", "busybox", "sh", "-c", "trap exit TERM; sleep 99"
    )
    assert re.fullmatch(r"[0-9a-f]{64}", identifier)
    state = ("inspect", "life", "--format", "{{.State.Status}} {{.State.ExitCode}}")
    assert docker(*state) == "created 0"
    assert docker("start", "life") == "life"
    assert docker("start", "life") == "life"  # 304
    assert docker(*state) == "running 0"
    assert docker("stop", "-t", "0", "life") == "life"
    assert docker(*state) == "exited 137"
    assert docker("restart", "-t", "0", "life") == "life"
    assert docker(*state) == "running 0"
    assert docker("kill", "life") == "life"
    assert docker("wait", "life") == "137"
    assert docker("rm", "life") == "life"
    assert docker("rm", "-f", "life", errors=True).startswith("Error response from daemon: No such")


def test_run_in_the_foreground_carries_all_streams(engine: EngineProcess) -> None:
    """Standard input to its end, both outputs apart, the exit status."""
    docker = engine.docker
    assert docker("run", "-i", "--rm", "busybox", "cat", stdin="a\nb\n") == "a\nb"
    both = ("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert docker(*both, status=5) == "out"
    assert docker(*both, status=5, errors=True) == "err"
    large = docker("run", "-i", "--rm", "busybox", "wc", "-c", stdin="x" * 3_000_000)
    assert large.strip() == "3000000"


def test_start_attached_and_follow_logs(engine: EngineProcess) -> None:
    """`start -a` shows what the container writes; `logs -f` ends with the container."""
    docker = engine.docker
    docker("create", "--name", "talks", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; done")
    assert docker("start", "-a", "talks") == "1\n2\n3"
    docker("start", "talks")
    assert docker("logs", "-f", "talks").split() == ["1", "2", "3"] * 2
    docker("rm", "talks")


def test_rm_option_removes_the_container(engine: EngineProcess) -> None:
    """Also one in the background, when it ends."""
    docker = engine.docker
    docker("run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "99")
    docker("stop", "-t", "0", "gone")
    wait_until(lambda: not docker("ps", "-aq", "--filter", "name=gone"), "the removal")


def test_files_go_both_ways(engine: EngineProcess, tmp_path: Path) -> None:
    """A directory in, the same out; a stopped container as well."""
    docker = engine.docker
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file").write_text("content")
    (tmp_path / "in" / "link").symlink_to("deep/file")
    docker("cp", str(tmp_path / "in"), "web:/copied")
    assert docker("exec", "web", "cat", "/copied/link") == "content"
    docker("cp", "web:/copied", str(tmp_path / "out"))
    assert (tmp_path / "out" / "link").read_text() == "content"
    assert os.readlink(tmp_path / "out" / "link") == "deep/file"


def test_an_image_is_made_saved_loaded_and_removed(engine: EngineProcess, tmp_path: Path) -> None:
    """commit, tag, save, rmi, load, import, export."""
    docker = engine.docker
    identifier = docker(
        "commit", "-m", "said", "-c", 'CMD ["cat", "/srv/index.html"]', "web", "made:1"
    )
    assert docker("run", "--rm", "made:1") == "hello"
    docker("tag", "made:1", "team/made:2")
    archive = str(tmp_path / "image.tar")
    docker("save", "-o", archive, "made:1")
    removed = docker("rmi", "made:1", "team/made:2")
    assert "Untagged: made:1" in removed
    assert f"Deleted: {identifier}" in removed
    assert docker("load", "-i", archive) == "Loaded image: made:1"
    assert docker("run", "--rm", "made:1") == "hello"
    docker("rmi", "made:1")
    files = str(tmp_path / "files.tar")
    docker("export", "-o", files, "web")
    assert docker("import", "-c", "CMD cat /srv/index.html", files, "flat:1").startswith("sha256:")
    assert docker("run", "--rm", "flat:1") == "hello"
    docker("rmi", "flat:1")


def test_networks_of_users(engine: EngineProcess) -> None:
    """Create, connect, disconnect, remove; one in use is not removed."""
    docker = engine.docker
    assert re.fullmatch(r"[0-9a-f]{64}", docker("network", "create", "--label", "x=y", "mine"))
    docker("network", "connect", "mine", "web")
    shown = json.loads(docker("network", "inspect", "mine"))[0]
    assert [one["Name"] for one in shown["Containers"].values()] == ["web"]
    assert "has active endpoints" in docker("network", "rm", "mine", status=1, errors=True)
    assert "already exists" in docker("network", "create", "mine", status=1, errors=True)
    docker("network", "disconnect", "mine", "web")
    assert docker("network", "rm", "mine") == "mine"
    docker("network", "create", "unused")
    assert "unused" in docker("network", "prune", "-f")


def test_volumes_keep_their_data(engine: EngineProcess) -> None:
    """Named ones until they are removed, anonymous ones as long as their container."""
    docker = engine.docker
    assert docker("volume", "create", "kept") == "kept"
    docker("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo x > /data/file")
    assert docker("run", "--rm", "-v", "kept:/data", "busybox", "cat", "/data/file") == "x"
    docker("create", "--name", "uses", "-v", "kept:/data", "busybox")
    assert "volume is in use" in docker("volume", "rm", "kept", status=1, errors=True)
    docker("rm", "uses")
    assert docker("volume", "rm", "kept") == "kept"
    docker("run", "--rm", "-v", "/anonymous", "busybox", "true")
    assert docker("volume", "ls", "-q") == ""


def test_a_terminal(engine: EngineProcess) -> None:
    """Its size is the user's, also when that changes; Ctrl-C reaches the program; exit status."""
    docker = ["docker", "-H", f"unix://{engine.socket}"]
    terminal = Terminal([*docker, "run", "-it", "--rm", "busybox", "sh"], rows=24, columns=80)
    try:
        terminal.expect("# ")
        terminal.type("stty size\r")
        terminal.expect("24 80")
        terminal.resize(30, 100)
        terminal.type("while ! stty size | grep 30; do :; done\r")
        terminal.expect("30 100")
        terminal.type("sh -c \"echo be''gun; exec sleep 99\"\r")
        terminal.expect("begun")
        terminal.type("\x03")
        terminal.expect("# ")
        terminal.type("exit 7\r")
        assert terminal.end() == 7
    finally:
        terminal.close()


def test_a_client_detaches_and_comes_back(engine: EngineProcess) -> None:
    """The container goes on meanwhile."""
    docker = ["docker", "-H", f"unix://{engine.socket}"]
    terminal = Terminal([*docker, "run", "-it", "--name", "stays", "busybox", "sh"])
    try:
        terminal.expect("# ")
        terminal.type("\x10\x11")
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert engine.docker("ps", "-q", "--filter", "name=stays")
    terminal = Terminal([*docker, "attach", "stays"])
    try:
        terminal.type("echo ba''ck\r")
        terminal.expect("back")
        terminal.type("exit 3\r")
        assert terminal.end() == 3
    finally:
        terminal.close()
    engine.docker("rm", "stays")


def test_system_prune_ends_well(engine: EngineProcess) -> None:
    """It calls the prune of each kind, builds as well."""
    engine.docker("create", "--name", "old", "busybox", "true")
    output = engine.docker("system", "prune", "-f")
    assert "Deleted Containers:" in output
    assert "Total reclaimed space:" in output
    engine.docker("inspect", "web")


def test_two_engines_later_the_container_still_runs(engine: EngineProcess) -> None:
    """Killed and stopped by a signal; the container has not noticed."""
    before = engine.docker("inspect", "web", "--format", "{{.State.Pid}} {{.State.StartedAt}}")
    for number in (signal.SIGKILL, signal.SIGTERM):
        engine.signal(number)
        engine.start()
        after = engine.docker("inspect", "web", "--format", "{{.State.Pid}} {{.State.StartedAt}}")
        assert after == before
        assert engine.docker("exec", "web", "echo", "alive") == "alive"


def test_a_renamed_container_is_found_by_its_new_name(engine: EngineProcess) -> None:
    """At once, by those that run on its network, and by those that come; and by no other name."""
    docker = engine.docker
    docker("network", "create", "named")
    try:
        for name in ("before", "beside"):
            docker("run", "-d", "--name", name, "--network", "named", "busybox", "sleep", "1000")
        docker("rename", "before", "after")
        for words in (("exec", "beside"), ("run", "--rm", "--network", "named", "busybox")):
            found = docker(*words, "cat", "/etc/hosts")
            assert re.search(r"\tafter [0-9a-f]{12}\b", found), found
            assert "before" not in found
    finally:
        docker("rm", "-f", "before", "after", "beside")
        docker("network", "rm", "named")
