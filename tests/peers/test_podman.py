"""Podman runs its containers with our runtime: docs/how-to/podman.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from minicontainer.cgroups import hierarchies
from tests.conftest import Result, wait_until
from tests.isolation.conftest import parse_status

from .machine import AT_TERMINAL, WHERE, Machine, talk
from .page import follow, sections

NEEDS = ("podman", "conmon")

# What this machine wants beside what the page says: no systemd, and no more descriptors than root
# may have where CAP_SYS_RESOURCE is missing.
MACHINES_CONF = """
[containers]
default_ulimits = ["nofile=1024:2048", "nproc=1000:1000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
init_path = "/usr/bin/tini-static"
[network]
network_backend = "netavark"
"""
WAITS = ("sh", "-c", "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")


@dataclass
class Podman:
    """Calls podman on a machine."""

    machine: Machine
    runtime: str

    def __call__(self, *words: str) -> Result:
        """Call podman."""
        return self.machine("podman", *words)

    def run(self, *words: str, network: str = "none") -> Result:
        """Run a container to its end."""
        return self(*self._words("--rm", "--network", network, *words))

    def start(self, name: str, *words: str, network: str = "none") -> int:
        """Start a container in the background; give its first process's number."""
        created = self(*self._words("--detach", "--name", name, "--network", network, *words))
        assert created.status == 0, created.errors
        return self.pid(name)

    def _words(self, *words: str) -> tuple[str, ...]:
        return ("run", "--cgroup-parent", self.machine.cgroup, *words)

    def inspect(self, name: str, field: str) -> str:
        """Ask what podman knows of a container."""
        return self("inspect", "--format", f"{{{{.{field}}}}}", name).output.strip()

    def pid(self, name: str) -> int:
        """Give the number of a container's first process."""
        return int(self.inspect(name, "State.Pid"))

    def status(self, name: str) -> dict[str, str]:
        """Read what the kernel says of a container's first process."""
        return parse_status(self.machine.path(f"/proc/{self.pid(name)}/status").read_text())


@pytest.fixture(scope="module")
def podman(machine: Machine, runtime: str) -> Podman:
    """Podman with a busybox image, configured as the page tells."""
    machines = machine.path("/etc/containers/containers.conf.d/machine.conf")
    machines.parent.mkdir(exist_ok=True)
    machines.write_text(MACHINES_CONF)
    configured = follow(machine, sections("podman.md")["Configure"])
    assert configured.status == 0, configured.errors
    assert configured.output.endswith("\nminicontainer-oci\n")
    tree = "/var/lib/minicontainer/rootfs/busybox"
    imported = machine("sh", "-c", f"tar -C {tree} -c . | podman import - busybox")
    assert imported.status == 0, imported.errors
    return Podman(machine, runtime)


def test_the_page_can_be_followed(podman: Podman) -> None:
    """Every command that it gives, in its order."""
    followed = follow(podman.machine, sections("podman.md")["Run"])
    assert followed.status == 0, followed.output + followed.errors
    assert podman("ps", "--all", "--quiet").output == ""


@pytest.fixture
def pods(podman: Podman) -> Podman:
    """Podman where it can make pods: systemd, with which it can on v2, is not in the machine."""
    if hierarchies.mounted().version == "v2":
        pytest.skip("on cgroup v2 podman without systemd denies a pod all devices, to any runtime")
    return podman


def test_the_page_can_be_followed_with_a_pod(pods: Podman) -> None:
    """The section on pods."""
    pods.machine.sweeps("/libpod_parent")
    followed = follow(pods.machine, sections("podman.md")["Pods"])
    assert followed.status == 0, followed.output + followed.errors
    assert pods("ps", "--all", "--quiet").output == ""


@pytest.fixture
def name(podman: Podman) -> Iterator[str]:
    """A name for a container that ends with the test."""
    yield "web"
    assert podman("rm", "--force", "--ignore", "--time", "0", "web").status == 0


# ---- run


@pytest.mark.parametrize(
    ("words", "status"),
    [(("true",), 0), (("sh", "-c", "exit 7"), 7), (("/etc",), 126), (("nosuch",), 127)],
)
def test_the_exit_status_is_the_programs(
    podman: Podman, words: tuple[str, ...], status: int
) -> None:
    """Or tells why there was no program: what podman reads from our error's words."""
    assert podman.run("busybox", *words).status == status


def test_our_error_reaches_the_user(podman: Podman) -> None:
    """Conmon takes the last error of the log file, and podman shows it."""
    refused = podman.run("-v", "/run:/proc/sys", "busybox", "true")
    assert refused.status == 126
    assert "/proc" in refused.errors
    assert "OCI runtime error" in refused.errors


def test_its_namespaces_are_its_own(podman: Podman, name: str) -> None:
    """As the kernel numbers them; those of the next test are the control."""
    pid = podman.start(name, "busybox", *WAITS)
    machine = podman.machine
    for kind in NAMESPACES:
        assert machine.namespace(pid, kind) != machine.namespace(1, kind)


def test_with_the_machines_namespaces_it_has_them(podman: Podman, name: str) -> None:
    """The control."""
    shared = ("--pid", "host", "--ipc", "host", "--uts", "host")
    pid = podman.start(name, *shared, "busybox", *WAITS, network="host")
    machine = podman.machine
    for kind in set(NAMESPACES) - {"mnt"}:
        assert machine.namespace(pid, kind) == machine.namespace(1, kind)


def test_limits_stand_in_the_kernels_files(podman: Podman, name: str) -> None:
    """Memory, processors, processes."""
    limits = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "20")
    pid = podman.start(name, *limits, "busybox", *WAITS)
    look = podman.machine.control_file
    assert look(pid, "memory.limit_in_bytes", "memory.max") == str(64 * 2**20)
    assert look(pid, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert look(pid, "pids.max", "pids.max") == "20"


def test_a_change_of_limits_reaches_the_kernel(podman: Podman, name: str) -> None:
    """`podman update`, to a container that runs."""
    pid = podman.start(name, "--memory", "64m", "busybox", *WAITS)
    updated = podman("update", "--memory", "32m", "--memory-swap", "32m", "--cpus", "0.7", name)
    assert updated.status == 0, updated.errors
    look = podman.machine.control_file
    assert look(pid, "memory.limit_in_bytes", "memory.max") == str(32 * 2**20)
    assert look(pid, "cpu.cfs_quota_us", "cpu.max").split()[0] == "70000"


def test_privileges_are_given_up(podman: Podman, name: str) -> None:
    """No capabilities, no new privileges, another user; a system call filter by default."""
    tight = ("--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "1000:1000")
    podman.start(name, *tight, "busybox", *WAITS)
    status = podman.status(name)
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == ["1000"] * 4


def test_by_default_some_are_left(podman: Podman, name: str) -> None:
    """The control."""
    podman.start(name, "busybox", *WAITS)
    status = podman.status(name)
    assert int(status["CapEff"], 16)
    assert status["NoNewPrivs"] == "0"
    assert status["Uid"].split() == ["0"] * 4


def test_volumes_and_temporary_filesystems(podman: Podman) -> None:
    """A read-only volume, a named one, and a tmpfs that begins with what the image has there."""
    shown = podman.machine.path("/run/shown")
    shown.mkdir()
    (shown / "file").write_text("the machine's\n")
    volumes = ("-v", "/run/shown:/shown:ro", "-v", "named:/named", "--tmpfs", "/bin:rw,exec")
    result = podman.run(
        *volumes, "busybox", "sh", "-c",
        "cat /shown/file; touch /shown/new; echo kept > /named/file; touch /bin/new; ls /bin/new",
    )  # fmt: skip
    assert result.output == "the machine's\n/bin/new\n"
    assert "Read-only file system" in result.errors
    assert podman.run("-v", "named:/named", "busybox", "cat", "/named/file").output == "kept\n"


def test_a_readonly_root_has_places_to_write(podman: Podman) -> None:
    """`--read-only` puts a tmpfs on /tmp and /run, but the root refuses."""
    result = podman.run("--read-only", "busybox", "sh", "-c", "touch /tmp/new && touch /new")
    assert result.status == 1
    assert "/new: Read-only file system" in result.errors


def test_a_user_namespace_maps_its_users(podman: Podman, name: str) -> None:
    """Root inside is user 100000 outside, also for the root file system."""
    mapped = ("--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000")
    # Without --ipc none there is a /dev/shm, which podman 4.3 sometimes can't remove: conmon then
    # runs in a mount namespace of its own, and unmounts it only there.
    podman.start(name, *mapped, "--ipc", "none", "busybox", *WAITS)
    assert podman.status(name)["Uid"].split() == ["100000"] * 4
    made = podman("exec", name, "sh", "-c", "touch /new && stat -c %u /new")
    assert made.output == "0\n"


def test_a_bridge_connects_it_to_the_machine(podman: Podman, name: str) -> None:
    """Netavark has made the network namespace, which the container joins by its path."""
    serve = "echo from inside | nc -l -p 80 -w 9"
    podman.start(name, "--ip", "10.88.0.9", "busybox", "sh", "-c", serve, network="podman")
    ask = "until busybox nc 10.88.0.9 80; do sleep 0.05; done"
    assert podman.machine("sh", "-c", ask).output == "from inside\n"


def test_an_init_reaps_for_the_program(podman: Podman) -> None:
    """`--init` mounts it into the container."""
    result = podman.run("--init", "busybox", "ps", "-o", "pid,comm")
    assert result.output.split()[2:4] == ["1", "podman-init"]


# ---- a life


def test_it_stops_when_told(podman: Podman, name: str) -> None:
    """SIGTERM reaches the program, whose words and status are kept; then it starts again."""
    podman.start(name, "busybox", *WAITS)
    assert podman("stop", "--time", "20", name).status == 0
    assert podman.inspect(name, "State.ExitCode") == "3"
    assert podman("logs", name).output == "ready\ntold\n"
    assert podman("start", name).status == 0
    assert podman.inspect(name, "State.Status") == "running"


def test_it_is_killed(podman: Podman, name: str) -> None:
    """At once, and as a whole: the kernel has no such process then."""
    pid = podman.start(name, "busybox", *WAITS)
    assert podman("kill", name).status == 0
    assert podman("wait", name).output.strip() == "137"
    wait_until(lambda: not podman.machine.path(f"/proc/{pid}").exists(), "its end")


def test_paused_it_stands_still(podman: Podman, name: str) -> None:
    """By the freezer of its cgroup."""
    pid = podman.start(name, "busybox", *WAITS)

    def frozen() -> bool:
        return podman.machine.control_file(pid, "freezer.state", "cgroup.freeze") in ("FROZEN", "1")

    assert not frozen()
    assert podman("pause", name).status == 0
    assert frozen()
    assert podman.inspect(name, "State.Status") == "paused"
    assert podman("unpause", name).status == 0
    assert not frozen()


def test_its_counters_are_shown(podman: Podman, name: str) -> None:
    """Podman reads them from the cgroup that we made where it said."""
    podman.start(name, "busybox", *WAITS)
    shown = json.loads(podman("stats", "--no-stream", "--format", "json", name).output)
    assert int(shown[0]["pids"]) >= 1
    assert not shown[0]["mem_usage"].startswith("0B")


def test_nothing_is_left_of_it(podman: Podman) -> None:
    """Neither state nor cgroups, after `rm --force` of one that runs."""
    podman.start("gone", "busybox", *WAITS)
    container = podman.inspect("gone", "Id")
    state = podman.machine.path(f"/run/{Path(podman.runtime).name}/{container}")
    named = [path for path in podman.machine.cgroups() if container in str(path)]
    assert state.exists()
    assert named
    assert podman("rm", "--force", "--time", "0", "gone").status == 0
    assert not state.exists()
    assert not [path for path in named if path.exists()]


# ---- exec, terminals, health


def test_exec_runs_another_program(podman: Podman, name: str) -> None:
    """In the container's namespaces and cgroup, with what its options say."""
    pid = podman.start(name, "busybox", *WAITS)
    done = podman(
        "exec", "-e", "NAME=value", "-w", "/tmp", "-u", "1000:1000", name, "sh", "-c",
        f"echo $NAME $PWD $(id -u); {WHERE}; exit 9",
    )  # fmt: skip
    assert done.status == 9
    first, *where = done.output.splitlines()
    assert first == "value /tmp 1000"
    assert where == podman.machine.where(pid)


def test_exec_says_that_there_is_no_such_program(podman: Podman, name: str) -> None:
    """Podman makes its exit status from our words."""
    podman.start(name, "busybox", *WAITS)
    assert podman("exec", name, "nosuch").status == 127
    assert podman("exec", name, "/etc").status == 126


def test_exec_in_the_background(podman: Podman, name: str) -> None:
    """`exec --detach` returns, and the program goes on."""
    podman.start(name, "busybox", *WAITS)
    assert podman("exec", "--detach", name, "sh", "-c", "sleep 0.2; touch /done").status == 0
    wait_until(lambda: podman("exec", name, "test", "-e", "/done").status == 0, "the program")


def test_a_terminal(podman: Podman) -> None:
    """The container's own pty, with the size of ours, and the exit status."""
    words = ("run", "--rm", "-it", "--network", "none", "--cgroup-parent", podman.machine.cgroup)
    terminal = podman.machine.terminal("podman", *words, "busybox", "sh", "-c", AT_TERMINAL)
    assert talk(terminal) == (5, ["/dev/pts/0", "40", "90"])


def test_exec_with_a_terminal(podman: Podman, name: str) -> None:
    """Another pty of the same container."""
    podman.start(name, "-t", "busybox", *WAITS)
    terminal = podman.machine.terminal("podman", "exec", "-it", name, "sh", "-c", AT_TERMINAL)
    assert talk(terminal) == (5, ["/dev/pts/1", "40", "90"])


def test_health_is_looked_after(podman: Podman, name: str) -> None:
    """A health check is an exec."""
    health = ("--health-cmd", "test -e /well", "--health-interval", "disable")
    podman.start(name, *health, "busybox", *WAITS)
    assert podman("healthcheck", "run", name).status == 1
    assert podman("exec", name, "touch", "/well").status == 0
    assert podman("healthcheck", "run", name).status == 0


# ---- a pod


@pytest.fixture
def pod(pods: Podman) -> Iterator[str]:
    """A pod: a sandbox whose namespaces its containers join by path, as Kubernetes' do."""
    made = pods(
        "pod", "create", "--name", "pod", "--infra-image", "busybox", "--infra-command",
        "sleep 1000", "--network", "none", "--cgroup-parent", pods.machine.cgroup,
    )  # fmt: skip
    assert made.status == 0, made.errors
    yield "pod"
    assert pods("pod", "rm", "--force", "--time", "0", "pod").status == 0


def test_two_containers_of_a_pod_share_a_sandbox(podman: Podman, pod: str) -> None:
    """Network, IPC and host name are one; processes and mounts are not."""
    pids = []
    for name in ("one", "two"):
        made = podman("run", "-d", "--pod", pod, "--name", name, "busybox", *WAITS)
        assert made.status == 0, made.errors
        pids.append(podman.pid(name))
    one, two = ([podman.machine.namespace(pid, kind) for kind in NAMESPACES] for pid in pids)
    shared = {kind for kind, a, b in zip(NAMESPACES, one, two, strict=True) if a == b}
    assert shared == {"net", "ipc", "uts"}
    assert podman("exec", "one", "hostname").output == "pod\n"
    serve = "echo from one | nc -l -p 80 -w 9"
    assert podman("exec", "--detach", "one", "sh", "-c", serve).status == 0
    ask = "until nc 127.0.0.1 80; do sleep 0.05; done"
    assert podman("exec", "two", "sh", "-c", ask).output == "from one\n"


def test_containers_without_a_pod_share_nothing(podman: Podman, name: str) -> None:
    """The control."""
    first = podman.start(name, "busybox", *WAITS)
    second = podman.start("other", "busybox", *WAITS)
    machine = podman.machine
    for kind in NAMESPACES:
        assert machine.namespace(first, kind) != machine.namespace(second, kind)
    assert podman("rm", "--force", "--time", "0", "other").status == 0
