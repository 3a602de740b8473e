"""Bundles with hooks, and what these wrote.

See: runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import Result

from .runtime import Runtime, Spec

BEFORE_START = ("prestart", "createRuntime", "createContainer")
AT_START = ("startContainer", "poststart")
KINDS = (*BEFORE_START, *AT_START, "poststop")
COMMON = "/common"  # where the container has the directory that hooks write to
NAMESPACES = ("mnt", "net", "pid", "uts", "ipc", "cgroup")

# Tells of its kind, its namespaces and its input, in one line of JSON.
NOTE = """
cd /proc/self/ns; input=$(cat)
printf '{"kind": "%s", "cwd": "%s", "state": %s' "$0" "$OLDPWD" "$input" >> "$NOTES"
for name in mnt net pid uts ipc cgroup; do
    printf ', "%s": "%s"' $name "$(readlink $name)" >> "$NOTES"
done
echo '}' >> "$NOTES"
"""


class Oci:
    """Calls the runtime's commands on one container: `oci("start")`.

    Args:
        runtime: the runtime.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.name = runtime.name()
        self.rootfs = Path(runtime.config["root"]["path"])
        self.bundle = runtime.bundle()
        self.log = runtime.base / "log"

    def words(self, verb: str, *options: str) -> list[str]:
        """Write a command line."""
        where = ("--bundle", str(self.bundle)) if verb in ("create", "run") else ()
        log = ("--log", str(self.log), "--log-format", "json")
        return self.runtime.words(*log, verb, *where, *options, self.name)

    def __call__(self, verb: str, *options: str, before: tuple[str, ...] = ()) -> Result:
        """Run a command to its end.

        Args:
            before: a command that runs it.
        """
        return self.runtime.finish(self.runtime.begin([*before, *self.words(verb, *options)]))

    def begin(self, verb: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        return self.runtime.begin(self.words(verb)).process

    def change(self, change: Callable[[Spec], object]) -> None:
        """Change the bundle's config.json."""
        file = self.bundle / "config.json"
        config = json.loads(file.read_text())
        change(config)
        file.write_text(json.dumps(config))

    def pid(self) -> int:
        """Give the number of the container's first process."""
        return int(json.loads(self("state").output)["pid"])

    def logged(self) -> list[dict[str, str]]:
        """Give the lines of the log that engines read."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


class Hooks:
    """Puts hooks into a bundle, and reads what they wrote.

    Args:
        oci: the command.
        directory: where they write; the container has it as well.
    """

    def __init__(self, oci: Oci, directory: Path) -> None:
        self.oci = oci
        self.directory = directory
        # runc 1.1 runs poststart hooks in `create`, and does not wait for startContainer's
        self.all = KINDS if oci.runtime.is_ours else (*BEFORE_START, "poststop")

    def shell(self, kind: str, script: str, **more: Any) -> dict[str, Any]:
        """Make a hook that runs a script; $0 is its kind."""
        place = COMMON if kind == "startContainer" else str(self.directory)
        env = [f"NOTES={place}/notes", f"DIR={place}", "PATH=/usr/bin:/bin"]
        return {"path": "/bin/sh", "args": ["sh", "-c", script, kind], "env": env, **more}

    def write(self, added: dict[str, dict[str, Any]], script: str = "sleep 600") -> None:
        """Write a bundle with a noting hook of each kind, and these after them."""

        def change(spec: Spec) -> None:
            found = {kind: [self.shell(kind, NOTE)] for kind in self.all}
            for kind, hook in added.items():
                found[kind].append(hook)
            spec["hooks"] = found
            spec["annotations"] = {"org.example": "value"}
            spec["root"]["path"] = str(self.oci.rootfs)
            spec["mounts"].append(
                {"destination": COMMON, "source": str(self.directory), "options": ["bind"]}
            )

        self.oci.bundle = self.oci.runtime.bundle(script, change)

    def notes(self) -> list[dict[str, Any]]:
        """Give what the noting hooks wrote, in their order."""
        file = self.directory / "notes"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def kinds(self) -> list[str]:
        """List the kinds that ran."""
        return [note["kind"] for note in self.notes()]
