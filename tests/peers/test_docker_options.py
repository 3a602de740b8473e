"""What the options of `docker run` ask of a runtime, seen from inside a container.

Two rows that differ in the option alone are each other's control.
"""

from __future__ import annotations

import shlex

import pytest

from .dockerd import WAITS, Docker

NEEDS = ("dockerd", "containerd", "docker", "iptables")
MOUNT = "awk '$5 == \"/m\" { print $6, substr($7, 1, 6) }' /proc/self/mountinfo"
BIND = "--mount type=bind,src=/run/shared,dst=/m"
SIZE = "awk 'NR == 2 { print $2 }'"


@pytest.fixture(scope="module", autouse=True)
def shared(docker: Docker) -> None:
    """A directory of the machine's, on a mount that is shared."""
    script = "mkdir /run/shared; mount --bind /run/shared /run/shared; mount --make-shared "
    made = docker.machine("sh", "-ec", script + "/run/shared")
    assert made.status == 0, made.errors


@pytest.mark.parametrize(
    ("options", "script", "output"),
    [
        # the process
        ("-w /made/here", "pwd", "/made/here"),
        ("--user 1000:1000 --group-add 7", "id -u; id -G", "1000 1000 7"),
        ("--ulimit nofile=100:200", "ulimit -n; ulimit -Hn", "100 200"),
        ("--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500"),
        ("--cap-drop all --cap-add chown", "grep CapEff /proc/self/status", f"CapEff: {1:016x}"),
        ("--cap-add SYS_ADMIN", "mount -t tmpfs tmpfs /mnt && echo mounted", "mounted"),
        ("", "mount -t tmpfs tmpfs /mnt 2>/dev/null || echo refused", "refused"),
        # devices
        ("", "test -e /dev/zap || echo none", "none"),
        ("--device /dev/null:/dev/zap", "stat -c %t:%T /dev/zap; : > /dev/zap", "1:3"),
        ("", "mknod /tun c 10 229; : < /tun", "sh: can't open /tun: Operation not permitted"),
        ("--device-cgroup-rule 'c 10:229 rm'", "mknod /tun c 10 229; : < /tun && echo ok", "ok"),
        # mounts
        ("--tmpfs /m:size=64k,mode=710", f"df -k /m | {SIZE}; stat -c %a /m", "64 710"),
        ("--tmpfs /m", "stat -c %a /m", "1777"),
        ("--mount type=tmpfs,dst=/m,tmpfs-mode=700", "stat -c %a /m", "700"),
        (f"{BIND},readonly", "touch /m/new", "touch: /m/new: Read-only file system"),
        (BIND, "touch /m/new", ""),
        (BIND, MOUNT, "rw,relatime -"),
        (f"{BIND},bind-propagation=private", MOUNT, "rw,relatime -"),
        (f"{BIND},bind-propagation=slave", MOUNT, "rw,relatime master"),
        (f"{BIND},bind-propagation=rslave", MOUNT, "rw,relatime master"),
        (f"{BIND},bind-propagation=shared", MOUNT, "rw,relatime shared"),
        (f"{BIND},bind-propagation=rshared", MOUNT, "rw,relatime shared"),
        ("", f"df -k /dev/shm | {SIZE}", "65536"),
        ("--shm-size 1m", f"df -k /dev/shm | {SIZE}", "1024"),
        ("--ipc none", "grep -c /dev/shm /proc/mounts", "0"),
        # namespaces and cgroups
        ("--hostname web", "hostname", "web"),
        ("--cgroupns private", "cut -d: -f3 /proc/self/cgroup | sort -u", "/"),
        ("--cgroupns host", "grep -q peers /proc/self/cgroup && echo below", "below"),
        ("", "cat /proc/sys/kernel/msgmax", "8192"),
        ("--sysctl kernel.msgmax=9999", "cat /proc/sys/kernel/msgmax", "9999"),
        ("--sysctl net.ipv4.ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward", "1"),
        ("--cpuset-cpus 0", "grep Cpus.*list /proc/self/status", "Cpus_allowed_list: 0"),
        ("--memory 6m", "echo little", "little"),
        ("--cpus 0.01", "echo slow", "slow"),
        ("--pids-limit 1", "true | true", "sh: can't fork: Resource temporarily unavailable"),
    ],
)
def test_it_does_what_it_says(docker: Docker, options: str, script: str, output: str) -> None:
    """As the container's own shell finds it."""
    done = docker.run(*shlex.split(options), "busybox", "sh", "-c", script)
    assert " ".join((done.output + done.errors).split()) == output.strip()


@pytest.mark.parametrize(
    ("options", "program", "status", "complaint"),
    [
        ("", "nosuch", 127, "executable file not found in $path"),
        ("", "/nosuch", 127, "no such file or directory"),
        ("", "/etc/passwd", 126, "permission denied"),
        ("-w /etc/passwd", "true", 125, "/etc/passwd is not a directory"),
        ("--ulimit nofile=99999999999", "true", 125, "rlimit"),
        ("--runtime nosuch", "true", 125, "nosuch"),
    ],
)
def test_what_can_not_be_is_refused(
    docker: Docker, options: str, program: str, status: int, complaint: str
) -> None:
    """With the status that scripts look at, and the reason."""
    done = docker.run(*shlex.split(options), "busybox", program)
    assert done.status == status
    assert complaint in done.errors.lower()
    assert docker.must("ps", "--all", "--quiet") == ""


@pytest.mark.parametrize(
    ("option", "kind"), [("--ipc", "ipc"), ("--pid", "pid"), ("--network", "net")]
)
def test_a_namespace_of_another_container_is_joined(docker: Docker, option: str, kind: str) -> None:
    """That one, and no other."""
    machine = docker.machine
    pid = docker.start("first", "--ipc", "shareable", "busybox", *WAITS)
    docker.must("run", "--detach", "--name", "second", option, "container:first", "busybox", *WAITS)
    same = {
        each
        for each in ("ipc", "pid", "net", "uts", "mnt")
        if machine.namespace(pid, each) == machine.namespace(docker.pid("second"), each)
    }
    docker.must("rm", "--force", "first", "second")
    assert same == {kind}


def test_its_cgroup_is_where_it_is_asked_for(docker: Docker) -> None:
    """`--cgroup-parent`; what is below is gone with the container."""
    parent = f"{docker.machine.cgroup}/elsewhere"
    pid = docker.start("web", "--cgroup-parent", parent, "busybox", *WAITS)
    groups = docker.machine.path(f"/proc/{pid}/cgroup").read_text()
    container = docker.must("inspect", "--format", "{{.Id}}", "web")
    assert f":{parent}/{container}\n" in groups
    docker.must("rm", "--force", "web")
    assert container not in [path.name for path in docker.machine.cgroups()]
