"""A machine for an engine: mounts, network and processes of its own, and nothing of it stays.

An engine mounts, makes bridges and firewall rules, and leaves daemons that watch its containers. In
namespaces of its own it does so without touching the host, and all of it ends with the machine's
first process. What is left then is cgroups: every engine puts its own below the machine's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from minicontainer.cgroups import hierarchies
from tests.conftest import PATIENCE_S, Result, wait_until
from tests.terminal import Terminal

# Show the control groups of $1 at $2. Where the hierarchies are mounted in a tmpfs, on v1, they go
# into a new tmpfs: Podman leaves plain directories in the old one (net_cls, hugetlb ...) and then
# takes them for hierarchies.
SHOW_CGROUPS = """
show_cgroups() {
    if [ "$(stat --file-system --format %T "$1")" != tmpfs ]; then
        mount --rbind "$1" "$2"
        return
    fi
    mount -t tmpfs -o mode=755 tmpfs "$2"
    for place in "$1"/*; do
        if [ -L "$place" ]; then
            cp --no-dereference "$place" "$2"
        elif mountpoint --quiet "$place"; then
            mkdir "$2/${place##*/}"
            mount --rbind "$place" "$2/${place##*/}"
        fi
    done
}
"""

# What an engine keeps is in memory: an overlay can stand on that, whatever the host's disk is. The
# host's files are there, and what is written lies on top. A new sysfs shows this network's links,
# and has no securityfs: an engine that found AppArmor would load a profile into it, the host's.
# The old one goes: podman unmounts what is listed below /sys/kernel, and fails where it is covered.
_SET_UP = f"""
{SHOW_CGROUPS}
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs tmpfs /dev/shm
for place in /etc /opt /usr/local/bin; do
    over=/run/over$place
    mkdir -p $over/upper $over/work
    mount -t overlay -o lowerdir=$place,upperdir=$over/upper,workdir=$over/work overlay $place
done
mkdir /run/sys
mount -t sysfs sysfs /run/sys
show_cgroups /sys/fs/cgroup /run/sys/fs/cgroup
umount --recursive --lazy /sys
mount --move /run/sys /sys
mkdir -p /var/lib/minicontainer/rootfs/busybox
mount --bind "$1" /var/lib/minicontainer/rootfs/busybox
ln -sf "$2" /usr/local/bin/minicontainer-oci
ip link set lo up
echo ready
exec tini -- cat
"""

WHERE = "readlink /proc/self/ns/pid; cat /proc/self/cgroup"  # for a shell in a container


class Machine:
    """A machine that runs until it is stopped.

    Args:
        name: tells its cgroup from others'.
        rootfs: a root file system, to be found where `make rootfs` builds it.
        runtime: the program that stands there as /usr/local/bin/minicontainer-oci.
    """

    def __init__(self, name: str, rootfs: Path, runtime: str) -> None:
        self.cgroup = f"/minicontainer-peers-{name}-{os.getpid()}"
        self._swept = [self.cgroup]
        self.environ = dict(os.environ, HOME="/run", TMPDIR="/run")
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
             "sh", "-ec", _SET_UP, "sh", str(rootfs), runtime],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self.first = int(children.read_text())  # the host's number of its process 1

    def words(self, *command: str) -> list[str]:
        """Give the command line that runs a command in the machine."""
        return ["nsenter", f"--target={self.first}", "--mount", "--net", "--pid", "--", *command]

    def __call__(self, *command: str, stdin: str | None = None) -> Result:
        """Run a command to its end."""
        done = subprocess.run(
            self.words(*command), env=self.environ, input=stdin or "",
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, log: Path, *command: str) -> subprocess.Popen[bytes]:
        """Start a daemon; what it says goes to a file."""
        with log.open("wb") as file:
            return subprocess.Popen(
                self.words(*command), env=self.environ, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def terminal(self, *command: str) -> Terminal:
        """Run a command in a terminal of 40 rows and 90 columns."""
        environ = [f"{name}={value}" for name, value in self.environ.items()]
        return Terminal(["env", *environ, *self.words(*command)], rows=40, columns=90)

    def path(self, path: str) -> Path:
        """Give a path of the machine as the host reaches it: its /run, and its /proc/PID."""
        return Path(f"/proc/{self.first}/root{path}")

    def namespace(self, pid: int, kind: str) -> str:
        """Name the namespace of one of its processes, as the kernel does: pid:[4026531836]."""
        return os.readlink(self.path(f"/proc/{pid}/ns/{kind}"))

    def where(self, pid: int) -> list[str]:
        """Give the lines that WHERE prints in the container that a process is in."""
        groups = self.path(f"/proc/{pid}/cgroup").read_text().splitlines()
        if self.namespace(pid, "cgroup") != self.namespace(1, "cgroup"):  # as engines have it on v2
            groups = [":".join((*line.split(":", 2)[:2], "/")) for line in groups]
        return [self.namespace(pid, "pid"), *groups]

    def control_file(self, pid: int, v1: str, v2: str) -> str:
        """Read a control file of the cgroup that a process is in.

        Args:
            v1, v2: the file's name on either version; on v1 the part before the point is the
                controller.
        """
        controller = v1.partition(".")[0]
        found = hierarchies.mounted()
        for line in self.path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for hierarchy in found.v1:
                if controller in hierarchy.controllers and controller in controllers.split(","):
                    return Path(f"{hierarchy.mount_point}{path}/{v1}").read_text().strip()
            if not controllers:
                unified = path
        assert found.unified is not None
        return Path(f"{found.unified.mount_point}{unified}/{v2}").read_text().strip()

    def cgroups(self) -> list[Path]:
        """List the directories of its cgroups, in every hierarchy; the lowest come first."""
        found = hierarchies.mounted()
        mount_points = [h.mount_point for h in (*found.v1, found.unified) if h]
        tops = [Path(top + name) for top in mount_points for name in self._swept]
        below = [directory for top in tops for directory in top.rglob("*/")]
        return [directory for directory in (*below[::-1], *tops) if directory.is_dir()]

    def sweeps(self, cgroup: str) -> None:
        """Take away, at the end, the empty groups of another cgroup that an engine makes."""
        self._swept.append(cgroup)

    def stop(self) -> None:
        """End all its processes, and take away its cgroups."""
        self._holder.kill()
        self._holder.communicate()
        wait_until(self._sweep, "the machine's cgroups to be empty")

    def _sweep(self) -> bool:
        for directory in self.cgroups():
            with contextlib.suppress(OSError):  # a process in it has not quite ended
                directory.rmdir()
        return not self.cgroups()


# What it does at a terminal of 40 rows and 90 columns; a size may reach it only when it runs. No
# shell that edits its line: that draws it anew when keys come before the prompt.
AT_TERMINAL = """
echo ready; read answer; tty; until stty size 2>&- | grep -x "40 90"; do sleep 0.05; done; exit 5
"""


def talk(terminal: Terminal) -> tuple[int, list[str]]:
    """Answer a program that does AT_TERMINAL; give its exit status, and the words it said then."""
    terminal.expect("ready")
    terminal.type("go on\n")
    terminal.expect("go on")
    status = terminal.end()
    terminal.close()
    return status, terminal.seen.split()


def wait_for(machine: Machine, true: Callable[[], object], what: str, log: Path) -> None:
    """Wait until a daemon is ready; show what it said if it never is."""
    try:
        wait_until(true, what)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text()[-4000:]}") from None
