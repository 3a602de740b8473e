"""Docker's engine on a machine, driven by Docker's own command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.conftest import PATIENCE_S, Result
from tests.isolation.conftest import parse_status

from .machine import Machine, wait_for
from .page import follow, sections

# Ends at SIGTERM, which the kernel keeps from a process 1 that has no handler for it.
WAITS = ("sh", "-c", "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done")


class Docker:
    """An engine, configured as docs/how-to/docker.md tells; it ends with its machine.

    Args:
        machine: where it runs.
        log: what the engine says, for a test that fails.
    """

    def __init__(self, machine: Machine, log: Path) -> None:
        self.machine = machine
        configured = follow(machine, "systemctl() { :; }\n" + sections("docker.md")["Configure"])
        assert configured.status == 0, configured.errors
        self._log = log
        self._begin()
        self.import_image()

    def _begin(self, *options: str) -> None:
        words = ("dockerd", "--cgroup-parent", self.machine.cgroup, *options)
        self._daemon = self.machine.start(self._log, *words)
        wait_for(self.machine, lambda: self("version").status == 0, "dockerd", self._log)

    def restart(self, *options: str, signal: str = "TERM") -> None:
        """End the daemon, by a signal, and start it with other options."""
        assert self.machine("sh", "-c", f"kill -{signal} $(cat /run/docker.pid)").status == 0
        self._daemon.wait(PATIENCE_S)
        self._begin(*options)

    def import_image(self) -> None:
        """Give the engine its image, busybox."""
        tree = "/var/lib/minicontainer/rootfs/busybox"
        imported = self.machine("sh", "-c", f"tar -C {tree} -c . | docker import - busybox")
        assert imported.status == 0, imported.errors

    def __call__(self, *words: str) -> Result:
        """Call docker."""
        return self.machine("docker", *words)

    def must(self, *words: str) -> str:
        """Call docker, and give what it says: it may not fail."""
        done = self(*words)
        assert done.status == 0, done.output + done.errors
        return done.output.strip()

    def run(self, *words: str, network: str = "none") -> Result:
        """Run a container to its end."""
        return self("run", "--rm", "--network", network, *words)

    def start(self, name: str, *words: str, network: str = "none") -> int:
        """Start a container in the background; give its first process's number."""
        self.must("run", "--detach", "--name", name, "--network", network, *words)
        return self.pid(name)

    def state(self, name: str) -> dict[str, Any]:
        """Ask for a container's state."""
        found: dict[str, Any] = json.loads(
            self.must("inspect", "--format", "{{json .State}}", name)
        )
        return found

    def has_told(self, event: str, name: str) -> bool:
        """Say whether the engine has told of such an event of a container."""
        about = ("--filter", f"event={event}", "--filter", f"container={name}")
        return bool(self.must("events", "--since", "0", "--until", str(time.time()), *about))

    def pid(self, name: str) -> int:
        """Give the number of a container's first process."""
        return int(self.state(name)["Pid"])

    def status(self, name: str) -> dict[str, str]:
        """Read what the kernel says of a container's first process."""
        return parse_status(self.machine.path(f"/proc/{self.pid(name)}/status").read_text())
