"""containerd's shim runs its containers with our runtime: docs/how-to/containerd.md."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result, wait_until

from .machine import AT_TERMINAL, WHERE, Machine, talk, wait_for
from .page import follow, sections

NEEDS = ("containerd", "containerd-shim-runc-v2", "ctr")
WAITS = ("/bin/sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")
MIB = 2**20
SIZES = ("40 90", "50 120")  # the terminal's own, and one that follows

needs_grpc = pytest.mark.skipif(
    importlib.util.find_spec("grpc") is None,
    reason="grpcio is not installed: scripts/setup --tests",
)


@dataclass
class Containerd:
    """Calls ctr on a machine."""

    machine: Machine

    def __call__(self, *words: str) -> Result:
        """Call ctr."""
        return self.machine("ctr", *words)

    def must(self, *words: str) -> str:
        """Call ctr, and give what it says: it may not fail."""
        done = self(*words)
        assert done.status == 0, done.output + done.errors
        return done.output

    def words(self, name: str, *words: str, options: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Give the words that run a container."""
        own = ("--runc-binary", "/usr/local/bin/minicontainer-oci")
        cgroup = ("--cgroup", f"{self.machine.cgroup}/{name}")
        return ("run", *own, *cgroup, *options, "--rootfs", "/run/tree", name, *words)

    def run(self, *words: str) -> Result:
        """Run a container to its end."""
        return self(*self.words("one", *words, options=("--rm",)))

    def start(self, name: str, *options: str) -> int:
        """Start a container in the background; give its first process's number."""
        self.must(*self.words(name, *WAITS, options=("--detach", *options)))
        return self.task(name)[0]

    def task(self, name: str) -> tuple[int, str]:
        """Give a task's process and status."""
        for line in self.must("task", "ls").splitlines()[1:]:
            if line.split()[0] == name:
                return int(line.split()[1]), line.split()[2]
        return 0, "gone"

    def update(self, name: str, resources: dict[str, Any]) -> Result:
        """Change a task's limits as Kubernetes does: through the API."""
        program = Path(__file__).with_name("tasks.py")
        words = (sys.executable, str(program), "default", name, json.dumps(resources))
        return self.machine(*words)

    def limits(self, pid: int) -> tuple[str, str, str]:
        """Read from the kernel what a task may have: bytes, microseconds in 100 ms, processes."""
        look = self.machine.control_file
        return (
            look(pid, "memory.limit_in_bytes", "memory.max"),
            look(pid, "cpu.cfs_quota_us", "cpu.max").split()[0],
            look(pid, "pids.max", "pids.max"),
        )

    def frozen(self, pid: int) -> bool:
        """Ask the kernel whether a task's cgroup is frozen."""
        look = self.machine.control_file
        return look(pid, "freezer.state", "cgroup.freeze") in ("FROZEN", "1")


@pytest.fixture(scope="module")
def containerd(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Containerd:
    """A containerd, configured as the page tells, and a root file system to write to."""
    configured = follow(machine, "systemctl() { :; }\n" + sections("containerd.md")["Configure"])
    assert configured.status == 0, configured.errors
    assert configured.output.endswith('BinaryName = "/usr/local/bin/minicontainer-oci"\n')
    log = tmp_path_factory.mktemp("containerd") / "log"
    machine.start(log, "containerd")
    made = Containerd(machine)
    wait_for(machine, lambda: made("version").status == 0, "containerd", log)
    tree = "/var/lib/minicontainer/rootfs/busybox"
    assert machine("cp", "-a", tree, "/run/tree").status == 0
    return made


@pytest.fixture
def name(containerd: Containerd) -> Iterator[str]:
    """A name for a container that ends with the test."""
    yield "web"
    containerd("task", "rm", "--force", "web")
    containerd("container", "rm", "web")


@pytest.mark.usefixtures("name")  # which the page uses
def test_the_page_can_be_followed(containerd: Containerd) -> None:
    """Every command that it gives, in its order."""
    containerd.machine.sweeps("/default")  # its containers': the page names no cgroup
    followed = follow(containerd.machine, sections("containerd.md")["Run"])
    assert followed.status == 0, followed.output + followed.errors
    assert containerd.must("container", "ls", "--quiet") == ""


def test_the_exit_status_is_the_programs(containerd: Containerd) -> None:
    """And what it writes is its own."""
    done = containerd.run("/bin/sh", "-c", "echo hello; echo bad >&2; exit 7")
    assert (done.status, done.output, done.errors) == (7, "hello\n", "bad\n")


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("nosuch", "executable file not found in $PATH"),
        ("/nosuch", "no such file or directory"),
        ("/etc", "permission denied"),
    ],
)
def test_our_error_reaches_the_user(containerd: Containerd, program: str, complaint: str) -> None:
    """The shim takes the last error of the log file."""
    refused = containerd.run(program)
    assert refused.status == 1
    assert "OCI runtime create failed" in refused.errors
    assert complaint in refused.errors
    assert containerd.must("container", "ls", "--quiet") == ""


def test_its_namespaces_are_its_own(containerd: Containerd, name: str) -> None:
    """As the kernel numbers them; the control shares the machine's network."""
    pid = containerd.start(name)
    other = containerd.start("other", "--net-host")
    machine = containerd.machine
    for kind in NAMESPACES:
        assert machine.namespace(pid, kind) != machine.namespace(1, kind)
    assert machine.namespace(other, "net") == machine.namespace(1, "net")
    containerd.must("task", "rm", "--force", "other")
    containerd.must("container", "rm", "other")


def test_a_namespace_is_joined_by_its_path(containerd: Containerd, name: str) -> None:
    """As the containers of a Kubernetes pod join their sandbox's."""
    first = containerd.start(name)
    joined = (f"--with-ns={kind}:/proc/{first}/ns/{link}" for kind, link in
              (("network", "net"), ("ipc", "ipc"), ("uts", "uts")))  # fmt: skip
    second = containerd.start("other", *joined)
    machine = containerd.machine
    shared = {
        kind
        for kind in NAMESPACES
        if machine.namespace(first, kind) == machine.namespace(second, kind)
    }
    assert shared == {"net", "ipc", "uts"}
    containerd.must("task", "rm", "--force", "other")
    containerd.must("container", "rm", "other")


def test_limits_stand_in_the_kernels_files(containerd: Containerd, name: str) -> None:
    """Memory and processors."""
    pid = containerd.start(name, "--memory-limit", str(64 * 2**20), "--cpus", "0.5")
    look = containerd.machine.control_file
    assert look(pid, "memory.limit_in_bytes", "memory.max") == str(64 * 2**20)
    assert look(pid, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


@needs_grpc
def test_an_update_reaches_the_kernel(containerd: Containerd, name: str) -> None:
    """Memory, processors and processes; what the next one does not name stays as it is."""
    pid = containerd.start(name, "--memory-limit", str(64 * MIB))
    memory, quota, processes = containerd.limits(pid)
    assert (memory, quota in ("-1", "max"), processes) == (str(64 * MIB), True, "max")
    first = {"memory": {"limit": 32 * MIB}, "cpu": {"period": 100_000, "quota": 70_000},
             "pids": {"limit": 9}}  # fmt: skip
    done = containerd.update(name, first)
    assert (done.status, done.output, done.errors) == (0, "", "")  # google.protobuf.Empty
    assert containerd.limits(pid) == (str(32 * MIB), "70000", "9")
    done = containerd.update(name, {"pids": {"limit": 12}})
    assert (done.status, done.output, done.errors) == (0, "", "")
    assert containerd.limits(pid) == (str(32 * MIB), "70000", "12")
    assert containerd.task(name) == (pid, "RUNNING")


@needs_grpc
def test_an_update_reaches_a_paused_task(containerd: Containerd, name: str) -> None:
    """And it stays paused."""
    pid = containerd.start(name)
    containerd.must("task", "pause", name)
    done = containerd.update(name, {"memory": {"limit": 32 * MIB}, "pids": {"limit": 9}})
    assert (done.status, done.errors) == (0, "")
    memory, _, processes = containerd.limits(pid)
    assert (memory, processes) == (str(32 * MIB), "9")
    assert containerd.frozen(pid)
    containerd.must("task", "resume", name)
    assert containerd.task(name) == (pid, "RUNNING")


@needs_grpc
def test_what_the_kernel_refuses_reaches_the_caller(containerd: Containerd, name: str) -> None:
    """As a gRPC error with our one line in it; what it took before is taken back."""
    pid = containerd.start(name, "--memory-limit", str(64 * MIB))
    before = containerd.limits(pid)
    too_little = {"period": 100_000, "quota": 3}  # a millisecond is the least
    refused = containerd.update(name, {"memory": {"limit": 32 * MIB}, "cpu": too_little})
    assert (refused.status, refused.output) == (1, "")
    line, *rest = refused.errors.splitlines()
    assert "minicontainer-oci: linux.resources.cpu.quota" in line  # on v2 "and period" follows
    assert "the kernel refuses this" in line
    assert rest in ([], [": unknown"])  # containerd's own word for the kind of error
    assert containerd.limits(pid) == before
    assert containerd.task(name) == (pid, "RUNNING")


@needs_grpc
def test_an_update_of_no_task_is_refused(containerd: Containerd) -> None:
    """The control: the error's kind is the API's own, and containerd does not ask us."""
    refused = containerd.update("nosuch", {"pids": {"limit": 9}})
    assert refused.status == 1
    assert refused.errors.startswith("NOT_FOUND: ")


def test_exec_runs_another_program(containerd: Containerd, name: str) -> None:
    """In the container's namespaces and cgroup, with what its options say."""
    pid = containerd.start(name)
    done = containerd(
        "task", "exec", "--exec-id", "x", "--user", "1000:1000", "--cwd", "/tmp", name,
        "/bin/sh", "-c",
        f"echo $PWD $(id -u); {WHERE}; exit 9",
    )  # fmt: skip
    assert done.status == 9
    first, *where = done.output.splitlines()
    assert first == "/tmp 1000"
    assert where == containerd.machine.where(pid)


def test_exec_says_that_there_is_no_such_program(containerd: Containerd, name: str) -> None:
    """And the container goes on."""
    pid = containerd.start(name)
    done = containerd("task", "exec", "--exec-id", "x", name, "nosuch")
    assert done.status == 1
    assert "executable file not found in $PATH" in done.errors
    assert containerd.task(name) == (pid, "RUNNING")


def test_a_terminal(containerd: Containerd) -> None:
    """The container's own pty, with the size of ours, and the exit status."""
    words = containerd.words("one", "/bin/sh", "-c", AT_TERMINAL, options=("--rm", "--tty"))
    terminal = containerd.machine.terminal("ctr", *words)
    assert talk(terminal) == (5, ["/dev/pts/0", "40", "90"])


def test_exec_at_a_terminal(containerd: Containerd, name: str) -> None:
    """A pty where the container has none; the size of ours reaches it, and so does a new one."""
    containerd.start(name)
    sizes = "; ".join(
        f"until stty size 2>&- | grep -x '{size}'; do sleep 0.05; done" for size in SIZES
    )
    command = ("/bin/sh", "-c", f"tty; {sizes}; read answer; test $answer = yes && exit 6")
    terminal = containerd.machine.terminal(
        "ctr", "task", "exec", "--exec-id", "x", "--tty", name, *command
    )
    terminal.expect("/dev/pts/0")
    terminal.expect(SIZES[0])
    terminal.resize(50, 120)
    terminal.expect(SIZES[1])
    terminal.type("yes\n")
    assert terminal.end() == 6
    terminal.close()


def test_paused_it_stands_still(containerd: Containerd, name: str) -> None:
    """By the freezer of its cgroup."""
    pid = containerd.start(name)
    assert not containerd.frozen(pid)
    containerd.must("task", "pause", name)
    assert containerd.frozen(pid)
    assert containerd.task(name) == (pid, "PAUSED")
    containerd.must("task", "resume", name)
    assert not containerd.frozen(pid)


def test_killed_while_paused_it_ends(containerd: Containerd, name: str) -> None:
    """SIGKILL thaws it, as Kubernetes counts on; the control: another signal waits."""
    pid = containerd.start(name)
    containerd.must("task", "pause", name)
    containerd.must("task", "kill", "--signal", "TERM", name)
    assert containerd.frozen(pid)
    assert containerd.task(name) == (pid, "PAUSED")
    containerd.must("task", "kill", "--signal", "KILL", name)
    wait_until(lambda: containerd.task(name)[1] == "STOPPED", "its end")
    assert not containerd.machine.path(f"/proc/{pid}").exists()
    assert "exit code 137" in containerd("task", "rm", name).errors


def test_its_processes_and_counters_are_shown(containerd: Containerd, name: str) -> None:
    """containerd asks us for the first, and reads the others from the cgroup."""
    pid = containerd.start(name)
    listed = containerd.must("task", "ps", name).splitlines()
    assert str(pid) in [line.split()[0] for line in listed[1:]]
    told: dict[str, Any] = json.loads(containerd.must("task", "metrics", "--format", "json", name))
    assert told["pids"]["current"] >= 1


def test_a_want_of_memory_is_told(containerd: Containerd, name: str, tmp_path: Path) -> None:
    """The kernel kills, and the shim hears of it from the cgroup that we made.

    The control has the same limit, and wants no memory.
    """
    limit = ("--memory-limit", str(8 * MIB))
    told = tmp_path / "events"
    listener = containerd.machine.start(told, "ctr", "events")
    try:
        containerd.start("other", *limit)
        # Over and over: the first time nobody may listen yet. Process 1 stays.
        greedy = ("/bin/sh", "-c", "while :; do tail /dev/zero; sleep 0.2; done")
        containerd.must(*containerd.words(name, *greedy, options=("--detach", *limit)))
        wait_until(lambda: "/tasks/oom" in told.read_text(), "the news")
    finally:
        listener.kill()
        listener.wait()
        containerd("task", "rm", "--force", "other")
        containerd("container", "rm", "other")
    news = [line for line in told.read_text().splitlines() if "/tasks/oom" in line]
    assert all('{"container_id":"web"}' in line for line in news)


def test_it_ends_when_told(containerd: Containerd, name: str) -> None:
    """SIGTERM reaches the program, whose status is kept; then it starts again."""
    containerd.start(name)
    containerd.must("task", "kill", name)
    wait_until(lambda: containerd.task(name)[1] == "STOPPED", "its end")
    assert "exit code 3" in containerd("task", "rm", name).errors
    containerd.must("task", "start", "--detach", name)
    assert containerd.task(name)[1] == "RUNNING"


def test_all_of_it_is_killed(containerd: Containerd, name: str) -> None:
    """Also what was started by exec: they end with process 1 of their namespace."""
    pid = containerd.start(name)
    sleep = ("/bin/sh", "-c", "echo started; exec sleep 1000")
    containerd.must("task", "exec", "--detach", "--exec-id", "x", name, *sleep)
    groups = containerd.machine.path(f"/proc/{pid}/cgroup").read_text()
    assert f"{containerd.machine.cgroup}/{name}" in groups
    containerd.must("task", "kill", "--all", "--signal", "KILL", name)
    wait_until(lambda: containerd.task(name)[1] == "STOPPED", "its end")
    assert not containerd.machine.path(f"/proc/{pid}").exists()


def test_a_checkpoint_is_refused(containerd: Containerd, name: str) -> None:
    """In one line, and the container goes on."""
    pid = containerd.start(name)
    refused = containerd("task", "checkpoint", name)
    assert refused.status == 1
    assert len(refused.errors.splitlines()) == 1
    assert containerd.task(name) == (pid, "RUNNING")


def test_nothing_is_left_of_it(containerd: Containerd) -> None:
    """Neither state nor cgroups, after `rm --force` of one that runs."""
    containerd.start("gone")
    state = containerd.machine.path("/run/containerd/runc/default/gone")
    groups = [path for path in containerd.machine.cgroups() if path.name == "gone"]
    assert state.exists()
    assert groups
    containerd.must("task", "rm", "--force", "gone")
    containerd.must("container", "rm", "gone")
    assert not [path for path in (state, *groups) if path.exists()]
