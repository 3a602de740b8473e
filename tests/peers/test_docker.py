"""Docker's engine runs its containers with our runtime: docs/how-to/docker.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.isolation.conftest import parse_status

from .dockerd import WAITS, Docker
from .machine import AT_TERMINAL, WHERE, talk
from .page import follow, sections

NEEDS = ("dockerd", "containerd", "docker", "iptables", "ps")
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")


@pytest.fixture
def name(docker: Docker) -> Iterator[str]:
    """A name for a container that ends with the test."""
    yield "web"
    docker("rm", "--force", "--volumes", "web")


@pytest.mark.usefixtures("name")  # which the page uses
def test_the_page_can_be_followed(docker: Docker) -> None:
    """Every command that it gives, in its order."""
    followed = follow(docker.machine, sections("docker.md")["Run"])
    assert followed.status == 0, followed.output + followed.errors
    assert docker.must("ps", "--all", "--quiet") == ""


def test_the_engine_knows_the_runtime(docker: Docker) -> None:
    """As one of several, and as its default."""
    info = json.loads(docker.must("info", "--format", "{{json .}}"))
    assert info["DefaultRuntime"] == "minicontainer"
    assert info["Runtimes"]["minicontainer"]["path"] == "/usr/local/bin/minicontainer-oci"


# ---- run


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("busybox", "true"), 0),
        (("busybox", "sh", "-c", "exit 7"), 7),
        (("--runtime", "nosuch", "busybox", "true"), 125),
        (("busybox", "/etc"), 126),
        (("busybox", "nosuch"), 127),
    ],
)
def test_the_exit_status_is_the_programs(
    docker: Docker, words: tuple[str, ...], status: int
) -> None:
    """Or tells why there was no program: what docker reads from our error's words."""
    assert docker.run(*words).status == status


def test_our_error_reaches_the_user(docker: Docker) -> None:
    """The shim takes the last error of the log file, and the engine passes it on."""
    refused = docker.run("-v", "/run:/proc/sys", "busybox", "true")
    assert refused.status in (125, 127)
    assert "/proc" in refused.errors
    assert "OCI runtime create failed" in refused.errors


def test_its_namespaces_are_its_own(docker: Docker, name: str) -> None:
    """As the kernel numbers them; those of the next test are the control."""
    pid = docker.start(name, "busybox", *WAITS)
    for kind in NAMESPACES:
        assert docker.machine.namespace(pid, kind) != docker.machine.namespace(1, kind)


def test_with_the_machines_namespaces_it_has_them(docker: Docker, name: str) -> None:
    """The control."""
    shared = ("--pid", "host", "--ipc", "host", "--uts", "host")
    pid = docker.start(name, *shared, "busybox", *WAITS, network="host")
    for kind in set(NAMESPACES) - {"mnt"}:
        assert docker.machine.namespace(pid, kind) == docker.machine.namespace(1, kind)


@pytest.mark.oci("linux.resources.memory.limit", "linux.resources.cpu.quota")
@pytest.mark.oci("linux.resources.pids.limit")
def test_limits_stand_in_the_kernels_files(docker: Docker, name: str) -> None:
    """Memory, processors, processes."""
    limits = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "20")
    pid = docker.start(name, *limits, "busybox", *WAITS)
    look = docker.machine.control_file
    assert look(pid, "memory.limit_in_bytes", "memory.max") == str(64 * 2**20)
    assert look(pid, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert look(pid, "pids.max", "pids.max") == "20"


def test_a_change_of_limits_reaches_the_kernel(docker: Docker, name: str) -> None:
    """`docker update`, to a container that runs."""
    pid = docker.start(name, "--memory", "64m", "busybox", *WAITS)
    limits = ("--memory", "32m", "--memory-swap", "32m", "--cpus", "0.7", "--pids-limit", "9")
    docker.must("update", *limits, name)
    look = docker.machine.control_file
    assert look(pid, "memory.limit_in_bytes", "memory.max") == str(32 * 2**20)
    assert look(pid, "cpu.cfs_quota_us", "cpu.max").split()[0] == "70000"
    assert look(pid, "pids.max", "pids.max") == "9"


def test_a_want_of_memory_is_told(docker: Docker, name: str) -> None:
    """The kernel kills, and the shim hears of it from the cgroup that we made."""
    # Process 1 stays: of a container that ends at the same time the engine may miss the news.
    greedy = ("sh", "-c", "tail /dev/zero; sleep 1000")
    docker.start(name, "--memory", "8m", "busybox", *greedy)
    wait_until(lambda: docker.has_told("oom", name), "the engine to hear of it")
    docker.must("kill", name)
    docker.must("wait", name)
    assert docker.state(name)["OOMKilled"]


def test_without_a_want_of_memory_none_is_told(docker: Docker, name: str) -> None:
    """The control."""
    docker.start(name, "--memory", "8m", "busybox", *WAITS)
    docker.must("kill", name)
    docker.must("wait", name)
    assert not docker.state(name)["OOMKilled"]


@pytest.mark.oci("process.capabilities", "process.noNewPrivileges", "process.user.uid")
def test_privileges_are_given_up(docker: Docker, name: str) -> None:
    """No capabilities, no new privileges, another user; a system call filter."""
    tight = ("--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "1000:1000")
    docker.start(name, *tight, "busybox", *WAITS)
    status = docker.status(name)
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Seccomp"] == "2"


def test_with_privileges_it_has_them(docker: Docker, name: str) -> None:
    """The control: what was asked for, and no filter."""
    options = ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined")
    docker.start(name, *options, "busybox", *WAITS)
    status = docker.status(name)
    assert int(status["CapEff"], 16) & 1 << 21  # CAP_SYS_ADMIN
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("0", "0")
    assert status["Uid"].split() == ["0"] * 4
    docker.must("exec", name, "mount", "-t", "tmpfs", "tmpfs", "/mnt")


def test_privileged_it_has_all(docker: Docker, runtime: str) -> None:
    """Every capability that root has here, and the machine's devices."""
    own = parse_status(docker.machine.path("/proc/1/status").read_text())
    held = int(own["CapPrm"], 16)
    if Path(runtime).name == "runc" and not held & 1 << 24:
        pytest.skip("runc refuses --privileged where root lacks CAP_SYS_RESOURCE")
    result = docker.run("--privileged", "busybox", "sh", "-c", "cat /proc/self/status; ls /dev")
    status, _, devices = result.output.partition("nonvoluntary_ctxt_switches")
    # of those that this version of Docker knows
    asked = int(parse_status(status)["CapBnd"], 16)
    assert asked & held == asked
    assert asked & 1 << 21
    assert "loop-control" in devices or "kmsg" in devices


def test_volumes_and_variables(docker: Docker) -> None:
    """A read-only volume, a named one, a tmpfs, a variable."""
    shown = docker.machine.path("/run/shown")
    shown.mkdir()
    (shown / "file").write_text("the machine's\n")
    result = docker.run(
        "-v", "/run/shown:/shown:ro", "-v", "named:/named", "--tmpfs", "/scratch", "-e", "A=b",
        "busybox", "sh", "-c",
        "cat /shown/file; touch /shown/new; echo kept > /named/file; touch /scratch/new; echo $A",
    )  # fmt: skip
    assert result.output == "the machine's\nb\n"
    assert "/shown/new: Read-only file system" in result.errors
    assert docker.run("-v", "named:/named", "busybox", "cat", "/named/file").output == "kept\n"


@pytest.mark.oci("root.readonly")
def test_a_readonly_root(docker: Docker) -> None:
    """`--read-only`; without it the same is allowed."""
    assert "/new: Read-only" in docker.run("--read-only", "busybox", "touch", "/new").errors
    assert docker.run("busybox", "touch", "/new").status == 0


def test_an_init_reaps_for_the_program(docker: Docker) -> None:
    """`--init` mounts it into the container."""
    result = docker.run("--init", "busybox", "ps", "-o", "pid,comm")
    assert result.output.split()[2:4] == ["1", "docker-init"]


def test_an_image_is_built(docker: Docker) -> None:
    """Each RUN is a container, under the user and in the directory of the lines before."""
    lines = "FROM busybox\\nUSER 7\\nWORKDIR /made\\nRUN id -u > /tmp/built; pwd >> /tmp/built\\n"
    build = f"printf '{lines}' | DOCKER_BUILDKIT=0 docker build -t built -"
    built = docker.machine("sh", "-c", build)
    assert built.status == 0, built.errors
    assert docker.run("built", "cat", "/tmp/built").output == "7\n/made\n"
    failing = "printf 'FROM busybox\\nRUN exit 3\\n' | DOCKER_BUILDKIT=0 docker build --force-rm -"
    assert docker.machine("sh", "-c", failing).status == 3


def test_an_image_is_built_by_buildkit(docker: Docker) -> None:
    """Which calls a program `runc`, whatever the default runtime."""
    program = docker.machine.path("/usr/local/bin/runc")
    program.write_text('#!/bin/sh\necho "$*" >> /run/calls\nexec minicontainer-oci "$@"\n')
    program.chmod(0o755)
    # the packaged client, whichever else stands before it: some have BuildKit built in
    client = "PATH=/usr/bin:/bin DOCKER_BUILDKIT=1 docker"
    lines = "FROM busybox\\nRUN id -u > /built\\n"
    built = docker.machine("sh", "-c", f"printf '{lines}' | {client} build -t kit -")
    program.unlink()
    if "buildx" in built.errors:
        pytest.skip("buildx is not installed, and this client has no BuildKit of its own")
    assert built.status == 0, built.errors
    assert docker.run("kit", "cat", "/built").output == "0\n"
    assert " run --bundle " in docker.machine.path("/run/calls").read_text()


# ---- networks


def test_a_bridge_connects_containers(docker: Docker, name: str) -> None:
    """A hook of the engine's hands it the network namespace that we have made."""
    serve = "while :; do echo from inside | nc -l -p 80; done"
    docker.start(name, "-p", "8080:80", "busybox", "sh", "-c", serve, network="bridge")
    address = docker.must("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
    ask = f"until nc {address} 80; do sleep 0.05; done"
    assert docker.run("busybox", "sh", "-c", ask, network="bridge").output == "from inside\n"
    ask = "until busybox nc 127.0.0.1 8080; do sleep 0.05; done"
    assert docker.machine("sh", "-c", ask).output == "from inside\n"


def test_without_a_network_there_is_none(docker: Docker) -> None:
    """The control: the loopback device alone."""
    assert docker.run("busybox", "ls", "/sys/class/net").output == "lo\n"


def test_a_network_of_another_container(docker: Docker, name: str) -> None:
    """It is joined by its path."""
    first = docker.start(name, "busybox", *WAITS)
    second = docker.start("second", "busybox", *WAITS, network=f"container:{name}")
    machine = docker.machine
    assert machine.namespace(first, "net") == machine.namespace(second, "net")
    assert machine.namespace(first, "mnt") != machine.namespace(second, "mnt")
    docker.must("rm", "--force", "second")


# ---- a life


def test_it_stops_when_told(docker: Docker, name: str) -> None:
    """SIGTERM reaches the program, whose words and status are kept; then it starts again."""
    docker.start(name, "busybox", *WAITS)
    docker.must("stop", "--time", "20", name)
    assert docker.state(name)["ExitCode"] == 3
    assert docker.must("logs", name) == "ready\ntold"
    docker.must("start", name)
    assert docker.state(name)["Status"] == "running"


def test_it_starts_anew(docker: Docker, name: str) -> None:
    """`docker restart`: another process."""
    pid = docker.start(name, "busybox", *WAITS)
    docker.must("restart", "--time", "20", name)
    assert docker.pid(name) != pid
    assert not docker.machine.path(f"/proc/{pid}").exists()


def test_one_that_fails_starts_again(docker: Docker, name: str) -> None:
    """As often as its restart policy says."""
    docker.start(name, "--restart", "on-failure:2", "busybox", "sh", "-c", "echo on; exit 4")

    def given_up() -> bool:
        return docker.must("inspect", "--format", "{{.RestartCount}}", name) == "2" and (
            docker.state(name)["Status"] == "exited"
        )

    wait_until(given_up, "the second restart")
    assert docker.state(name)["ExitCode"] == 4
    assert docker.must("logs", name) == "on\non\non"


def test_it_is_killed(docker: Docker, name: str) -> None:
    """At once: the kernel has no such process then."""
    pid = docker.start(name, "busybox", *WAITS)
    docker.must("kill", name)
    assert docker.must("wait", name) == "137"
    wait_until(lambda: not docker.machine.path(f"/proc/{pid}").exists(), "its end")


def test_paused_it_stands_still(docker: Docker, name: str) -> None:
    """By the freezer of its cgroup."""
    pid = docker.start(name, "busybox", *WAITS)

    def frozen() -> bool:
        return docker.machine.control_file(pid, "freezer.state", "cgroup.freeze") in ("FROZEN", "1")

    assert not frozen()
    docker.must("pause", name)
    assert frozen()
    docker.must("unpause", name)
    assert not frozen()


def test_its_processes_and_counters_are_shown(docker: Docker, name: str) -> None:
    """The engine asks us for the first, and reads the others from the cgroup."""
    pid = docker.start(name, "busybox", *WAITS)
    titles, *rows = docker.must("top", name, "-o", "pid,comm").splitlines()
    assert titles.split() == ["PID", "COMMAND"]
    assert [str(pid), "sh"] in [row.split() for row in rows]
    shown = json.loads(docker.must("stats", "--no-stream", "--format", "{{json .}}", name))
    assert int(shown["PIDs"]) >= 1
    assert not shown["MemUsage"].startswith("0B")


def test_nothing_is_left_of_it(docker: Docker) -> None:
    """Neither state nor cgroups, after `rm --force` of one that runs."""
    docker.start("gone", "busybox", *WAITS)
    container = docker.must("inspect", "--format", "{{.Id}}", "gone")
    runtimes = docker.machine.path("/run/docker").glob("runtime-*/moby")
    states = [found for found in (path / container for path in runtimes) if found.exists()]
    groups = [path for path in docker.machine.cgroups() if container in str(path)]
    assert states
    assert groups
    docker.must("rm", "--force", "gone")
    assert not [path for path in (*states, *groups) if path.exists()]


# ---- exec and terminals


def test_exec_runs_another_program(docker: Docker, name: str) -> None:
    """In the container's namespaces and cgroup, with what its options say."""
    pid = docker.start(name, "busybox", *WAITS)
    done = docker(
        "exec", "-e", "NAME=value", "-w", "/tmp", "-u", "1000:1000", name, "sh", "-c",
        f"echo $NAME $PWD $(id -u); {WHERE}; exit 9",
    )  # fmt: skip
    assert done.status == 9
    first, *where = done.output.splitlines()
    assert first == "value /tmp 1000"
    assert where == docker.machine.where(pid)


def test_exec_says_that_there_is_no_such_program(docker: Docker, name: str) -> None:
    """The words are ours; the status is the engine's, and differs by its version."""
    docker.start(name, "busybox", *WAITS)
    done = docker("exec", name, "nosuch")
    assert done.status in (126, 127)
    assert "executable file not found in $PATH" in done.output + done.errors


def test_exec_in_the_background(docker: Docker, name: str) -> None:
    """`exec --detach` returns, and the program goes on."""
    docker.start(name, "busybox", *WAITS)
    docker.must("exec", "--detach", name, "sh", "-c", "sleep 0.2; touch /done")
    wait_until(lambda: docker("exec", name, "test", "-e", "/done").status == 0, "the program")


def test_a_terminal(docker: Docker) -> None:
    """The container's own pty, with the size of ours, and the exit status."""
    words = ("run", "--rm", "-it", "--network", "none", "busybox", "sh", "-c", AT_TERMINAL)
    assert talk(docker.machine.terminal("docker", *words)) == (5, ["/dev/pts/0", "40", "90"])


def test_exec_with_a_terminal(docker: Docker, name: str) -> None:
    """Another pty of the same container."""
    docker.start(name, "-t", "busybox", *WAITS)
    terminal = docker.machine.terminal("docker", "exec", "-it", name, "sh", "-c", AT_TERMINAL)
    assert talk(terminal) == (5, ["/dev/pts/1", "40", "90"])
