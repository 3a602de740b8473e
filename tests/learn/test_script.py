"""`explain --script`: the script, run by dash, makes the container that the engine makes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import TYPE_CHECKING, ClassVar

import pytest

from minicontainer import steps
from minicontainer.learn import attributes, differences, script, script_process, script_words
from minicontainer.runtime.child import init
from tests.conftest import CHECKOUT, PATIENCE_S, command, wait_until
from tests.learn.conftest import Engine as LearnEngine
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.learn.conftest import Engine

PROGRAM = ("busybox", "sleep", "1000")
SETS = {
    "no network": ("--net", "none"),
    "bridge and ports": ("-p", "18080:80", "-p", "127.0.0.1:18081:81/udp"),
    "limits": ("--net", "none", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50",
               "--ulimit", "nofile=100:200", "--oom-score-adj", "500"),
    "user": ("--net", "none", "--user", "33:44", "--group-add", "55", "--workdir", "/new/place",
             "--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--cap-add", "KILL"),
    "read-only": ("--net", "none", "--read-only", "--tmpfs", "/tmp:size=1m", "--tmpfs", "/run:ro",
                  "-e", "TEXT=it's $HOME", "--hostname", "by-hand", "--shm-size", "2m"),
    "volumes": ("--net", "none", "-v", "/srv:/srv:ro", "-v", "/srv:/a place:ro", "-v", "/none",
                "-v", "by-hand-volume:/etc", "--device", "/dev/null:/dev/nothing",
                "--sysctl", "net.ipv4.ip_forward=1"),
    "the host's": ("--net", "host", "--pid", "host", "--ipc", "host", "--uts", "host",
                   "--cap-add", "NET_ADMIN"),
    "parts left out": ("--net", "none", "--user", "7", "--ulimit", "nofile=100", *(
        f"--without={name}" for name in (
            "set-hostname", "protect-paths", "become-user", "find-home", "drop-bounding-set",
            "raise-loopback", "set-rlimits", "start-session", "uts", "mount-proc"))),
    "user namespace": ("--net", "none", "--userns", "private", "--memory", "64m",
                       "--user", "33:44", "--read-only", "--tmpfs", "/tmp:size=1m"),
    "user namespace and bridge": ("--userns", "private", "-p", "18080:80", "-v", "/srv:/srv:ro",
                                  "--domainname", "example"),
    "user namespace, others the host's": ("--userns", "private", "--net", "none", "--ipc", "host",
                                          "--uts", "host", "--without", "raise-loopback"),
    "privileged": ("--net", "none", "--privileged"),
}  # fmt: skip


def within(engine: Engine) -> list[str]:
    """Give the command that runs another on the engine's host: its network, its mounts."""
    of = f"/proc/{engine.process.pid}/ns"
    return ["nsenter", f"--net={of}/net", f"--mount={of}/mnt"]


def seen(pid: int, identity: str, *paths: str) -> dict[str, dict[str, str]]:
    """Look at a container's process; its names, numbers and directories are replaced by words.

    Args:
        identity: the container's ID, perhaps shortened.
        paths: directories of its own.
    """
    tables = differences.look_at(pid, {**differences.TABLES, **attributes.MORE})
    words = ["nsenter", "-t", str(pid), "-n", "ip", "-o", "address"]
    tables["addresses"] = {
        f"{line.split()[1]} {line.split()[2]}": line.split(" ", 3)[3]
        for line in subprocess.check_output(words, text=True).splitlines()
        if "inet6" not in line  # the kernel's own, from the hardware address
    }
    places = dict.fromkeys(paths, "DIRECTORY")
    found = differences.portable(tables, {**places, identity: "ID", identity[:12]: "ID"})
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    assert len(found["filesystems"]) == len(lines)  # no mount hides another
    # an overlay has it if the upper directory was empty before: a working directory is made early
    found["filesystems"]["/"] = found["filesystems"]["/"].replace(",uuid=on", "")
    return found


def id_of(text: str) -> str:
    """Read the ID of a script's container."""
    found = re.search("^id=(.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


class ByHand:
    """A script that runs, and the container that it has made.

    Args:
        engine: in whose network namespace it runs.
        text: of the script.
    """

    def __init__(self, engine: Engine, text: str) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="by-hand-"))
        file = self.base / "script"
        file.write_text(text)
        self.id = id_of(text)
        with (self.base / "said").open("w") as said:
            words = [*within(engine), "sh", str(file)]
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=said, stderr=said, cwd="/"
            )
        self.pid = 0
        wait_until(self._runs, "the script's container to run")

    def said(self) -> str:
        """Read what it wrote."""
        return (self.base / "said").read_text()

    def _runs(self) -> bool:
        assert self.process.poll() is None, self.said()
        for group in Path("/sys/fs/cgroup").glob(f"*/*/{self.id}"):
            with contextlib.suppress(OSError):
                for pid in (group / "cgroup.procs").read_text().split():
                    if (Path("/proc") / pid / "comm").read_text() == "sleep\n":
                        self.pid = int(pid)
                        return True
        return False

    def _interrupted(self, number: int) -> int | None:
        self.process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(10)
        return None

    def end(self, number: int = signal.SIGTERM) -> int:
        """Interrupt it, as often as a user would who waits for its end; give its exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while (status := self._interrupted(number)) is None:
            assert time.monotonic() < deadline, "it does not end"
        assert self.said() == ""
        shutil.rmtree(self.base)
        return status


def left(engine: Engine, identity: str) -> list[str]:
    """List what is left of a script's container on the host."""
    inside = within(engine)
    links = subprocess.check_output([*inside, "ip", "-br", "link"], text=True).split()
    tables = subprocess.check_output([*inside, "nft", "list", "tables"], text=True)
    return [
        *(str(path) for path in Path("/sys/fs/cgroup").glob(f"*/*/{identity}")),
        *(str(path) for path in (engine.base / "data").glob("by-hand.*")),
        *(name for name in links if identity in name or name == "minic0"),
        *re.findall("by_hand.*", tables),
        *re.findall(".*by-hand[.].*", Path("/proc/self/mountinfo").read_text()),
    ]


@pytest.fixture
def scripts(engine: Engine) -> Iterator[list[ByHand]]:
    """Give a list for scripts that run; what a failed test leaves there is ended."""
    running: list[ByHand] = []
    yield running
    for one in running:
        if one.process.poll() is None:
            one.end()


def compared(engine: Engine, scripts: list[ByHand], *options: str) -> dict[str, tuple[str, str]]:
    """Make a container by hand, then by the engine; give what differs and should not.

    Args:
        scripts: gets the script that runs.
        options: of `run`.
    """
    by_hand = ByHand(engine, engine("explain", "--script", *options, *PROGRAM).output)
    scripts.append(by_hand)
    (work,) = (engine.base / "data").glob("by-hand.*")
    volumes = [str(path) for path in work.glob("volume*")]
    mine = seen(by_hand.pid, by_hand.id, *volumes, str(work))
    assert by_hand.end() == 143
    assert left(engine, by_hand.id) == []
    identity = engine("run", "-d", *options, *PROGRAM).output.strip()
    pid = int(engine("inspect", "-f", "{{.State.Pid}}", identity).output)
    places = re.findall(r"\S+/volumes/[^/ ]+/_data", Path(f"/proc/{pid}/mountinfo").read_text())
    engines = seen(pid, identity, *places, str(engine.base / "data/containers" / identity))
    engine("rm", "-fv", identity)
    found = {
        (one.table, one.name): (one.left, one.right)
        for one in differences.between(engines, mine)
        if one.left != one.right
    }
    if "--privileged" not in options:  # the control: a difference is seen
        assert found["seccomp", "system call filter"] == ("filter", "off")
    known = {*script.DIFFERENCES}
    if "--userns" in options:
        known |= script.DIFFERENCES_MAPPED.keys()
        assert found["filesystems", "/"][1].startswith("rw,lowerdir=DIRECTORY/lower,")
    return {": ".join(key): found[key] for key in found if key not in known}


@pytest.mark.parametrize("name", SETS)
def test_it_is_the_engines_container(engine: Engine, scripts: list[ByHand], name: str) -> None:
    """Namespaces, mounts, limits, links, ids, capabilities, …: all but DIFFERENCES is the same."""
    assert compared(engine, scripts, *SETS[name]) == {}


def test_networks_of_users_and_of_others(engine: Engine, scripts: list[ByHand]) -> None:
    """A network with an address of one's own, an internal one; another container's namespaces."""
    engine("network", "create", "--subnet", "10.77.0.0/24", "own")
    engine("network", "create", "--internal", "inner")
    engine("run", "-d", "--name", "other", "--net", "none", *PROGRAM)
    try:
        assert compared(engine, scripts, "--net", "own", "--ip", "10.77.0.9") == {}
        assert compared(engine, scripts, "--net", "inner") == {}
        assert compared(engine, scripts, "--net", "container:other", "--ipc", "host") == {}
    finally:
        engine("rm", "-f", "other")
        engine("network", "rm", "own", "inner")


def test_links_of_the_image_do_not_lead_out(engine: Engine, scripts: list[ByHand]) -> None:
    """An absolute link, and one that goes up too far: both stay in the root, as in the engine's."""
    out = f"/{engine.base.name}-out"
    make = f"ln -s /run/../../..{out}/file /etc/link; ln -s ../../../..{out} /deep"
    engine("run", "--name", "maker", "--net", "none", "busybox", "sh", "-c", make)
    engine("commit", "maker", "links")
    engine("rm", "maker")
    options = ("--net", "none", "-v", "/etc/hostname:/etc/link", "-v", "/srv:/deep/volume")
    text = engine("explain", "--script", *options, "links", *PROGRAM[1:]).output
    by_hand = ByHand(engine, text)
    scripts.append(by_hand)
    mounted = differences.look_at(by_hand.pid)["mounts"]
    assert by_hand.end() == 143
    assert {f"{out}/file", f"{out}/volume"} <= mounted.keys()
    assert not Path(out).exists()


class OfV2(LearnEngine):
    """An engine that sees cgroup v2 alone, as most hosts have it; commands see the same."""

    def __init__(self) -> None:
        alone = 'umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
        super().__init__(("unshare", "--mount", "sh", "-c", alone, "sh"))

    def words(self, *words: str) -> list[str]:
        """Write a command line that runs on the engine's host."""
        return [*within(self), *super().words(*words)]


def test_on_cgroup_v2(scripts: list[ByHand]) -> None:
    """The cgroup is one directory, and the container has a cgroup namespace."""
    if os.geteuid() != 0:
        pytest.skip("an engine needs root")
    engine = OfV2()
    try:
        assert compared(engine, scripts, "--net", "none", "--read-only") == {}
        assert compared(engine, scripts, "--net", "none", "--userns", "private") == {}
        assert "unshare --cgroup" in engine("explain", "--script", *PROGRAM).output
    finally:
        for one in scripts:
            if one.process.poll() is None:
                one.end()
        engine.close()


def test_the_reference_lists_the_differences() -> None:
    """docs/reference/learn.md has the same table."""
    page = (CHECKOUT / "docs/reference/learn.md").read_text()
    for (table, name), why in script.DIFFERENCES.items():
        assert f"| {table}: {name} | {why} |" in page
    for (table, name), why in script.DIFFERENCES_MAPPED.items():
        assert f"| {table}: {name}, in a user namespace | {why} |" in page


def test_every_step_has_its_place() -> None:
    """A new step of the recipe needs commands, or a word why there are none."""
    known = {*script.INSIDE, *script.ELSEWHERE, *script_process.LAST, *script_words.CANNOT}
    assert {steps.step_name(step) for step in init.RECIPE} - known == set()


def test_ctrl_c_and_the_programs_end(engine: Engine, scripts: list[ByHand]) -> None:
    """Both take everything back; the program's exit status is the script's."""
    scripts.append(ByHand(engine, engine("explain", "--script", *PROGRAM).output))
    assert scripts[0].end(signal.SIGINT) == 130
    assert left(engine, scripts[0].id) == []
    text = engine("explain", "--script", "busybox", "sh", "-c", "cat; exit 7").output
    file = engine.base / "script"
    file.write_text(text)
    done = subprocess.run(
        [*within(engine), "sh", str(file)],
        input="said\n", capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "said\n", "")
    assert left(engine, id_of(text)) == []


def test_at_a_terminal_ctrl_c_is_the_programs(engine: Engine) -> None:
    """A shell in the container goes on after it; when the shell ends, everything is taken back."""
    text = engine("explain", "--script", "-it", "--net", "none", "busybox", "sh").output
    file = engine.base / "interactive"
    file.write_text(text)
    terminal = Terminal([*within(engine), "sh", str(file)])
    terminal.expect("# ")
    terminal.type("sleep 1000\r")
    terminal.expect("1000")
    wait_until(lambda: "sleep" in terminal_programs(text), "the program to run")
    terminal.type("\x03")
    terminal.expect("# ")
    terminal.type("echo $$; exit 5\r")
    terminal.expect("\n1\r")
    assert terminal.end() == 5
    assert left(engine, id_of(text)) == []


def terminal_programs(text: str) -> list[str]:
    """Name the programs in the cgroup of a script's container."""
    found = []
    for group in Path("/sys/fs/cgroup").glob(f"*/*/{id_of(text)}"):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                found.append((Path("/proc") / pid / "comm").read_text().strip())
    return found


def test_a_failure_takes_all_back(engine: Engine) -> None:
    """A layer that is gone: the script says so, fails, and leaves nothing."""
    text = engine("explain", "--script", *PROGRAM).output
    broken = re.sub("^layers=.*", "layers=/no/such/layer", text, flags=re.MULTILINE)
    file = engine.base / "broken"
    file.write_text(broken.replace('chmod --reference="${layers%%:*}"', "chmod 755"))
    done = subprocess.run(
        [*within(engine), "sh", str(file)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/no/such/layer" in done.stderr
    assert left(engine, id_of(text)) == []


def test_nothing_stays_in_the_engine(engine: Engine) -> None:
    """The plan's container and volumes are gone, and nothing was started."""
    before = engine("ps", "-aq").output, engine("volume", "ls", "-q").output
    engine("explain", "--script", "-v", "named:/data", "-v", "/nameless", *PROGRAM)
    assert (engine("ps", "-aq").output, engine("volume", "ls", "-q").output) == before


def test_both_languages(engine: Engine) -> None:
    """The comments are translated, the commands are the same."""
    english = engine("explain", "--script", "--net", "none", *PROGRAM).output
    russian = engine("explain", "--script", "--lang", "ru", "--net", "none", *PROGRAM).output
    assert "Контейнер вручную" in russian
    commands = [
        [re.sub("[0-9a-f]{12,}", "ID", line) for line in text.splitlines() if "# " not in line]
        for text in (english, russian)
    ]
    assert [line for line in commands[0] if line.strip() != "#"] == [
        line for line in commands[1] if line.strip() != "#"
    ]
    assert max(len(line) for line in english.splitlines() if line.startswith("    # ")) <= 80


@pytest.mark.parametrize("name", SETS)
def test_shellcheck_finds_nothing(engine: Engine, name: str) -> None:
    """The script is clean, as a lesson should be."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    text = engine("explain", "--script", *SETS[name], *PROGRAM).output
    done = subprocess.run(["shellcheck", "-"], input=text, capture_output=True, text=True)
    assert done.stdout == ""


def test_what_is_refused(engine: Engine) -> None:
    """One clear line each."""
    assert "run --explain" in engine("explain", *PROGRAM, status=125).errors
    mapped = ("explain", "--script", "--userns", "private")
    errors = engine(*mapped, "-v", "/new", *PROGRAM, status=125).errors
    assert "no script fills the new volume of /new in a user namespace" in errors
    errors = engine(*mapped, "--device", "/dev/null:/dev/x", *PROGRAM, status=125).errors
    assert "no script makes /dev/x in a user namespace" in errors
    assert (
        "there are en, ru" in engine("explain", "--script", "--lang", "x", "y", status=125).errors
    )
    assert "at least 1 argument" in engine("explain", "--script", status=1).errors
    errors = engine("explain", "--script", "--pull", "never", "no-such", status=125).errors
    assert "No such image: no-such" in errors
    assert len(errors.splitlines()) == 1


class OfAnother(BaseHTTPRequestHandler):
    """An engine that has no plans, as Docker's."""

    asked: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append(f"{self.command} {self.path}")
        status, body = 200, '{"Volumes": []}'
        if "/plans/" in self.path:
            status, body = 404, '{"message": "page not found"}'
        elif "/create" in self.path:
            status, body = 201, '{"Id": "made"}'
        elif self.command == "DELETE":
            status, body = 204, ""
        self.send_response(status)
        self.send_header("Api-Version", "1.50")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_GET = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815  # http.server's names

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def test_an_engine_without_plans(tmp_path: Path) -> None:
    """One line says so, and the container that was made for the plan is removed."""
    socket = tmp_path / "sock"
    with ThreadingUnixStreamServer(str(socket), OfAnother) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        words = ["--host", f"unix://{socket}", "explain", "--script", *PROGRAM]
        done = subprocess.run(
            [*command("minicontainer"), *words], capture_output=True, text=True, timeout=PATIENCE_S
        )
        server.shutdown()
        thread.join()
    assert done.returncode == 125
    assert "it is not minicontainer's" in done.stderr
    assert done.stderr.count("\n") == 1
    assert any(line.startswith("DELETE") and "/containers/made" in line for line in OfAnother.asked)
