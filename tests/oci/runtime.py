"""A runtime as its callers know it: words in, exit status, output and errors out."""

from __future__ import annotations

import copy
import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import PATIENCE_S, Result, wait_until

from .kernel import (
    cgroup_directories,
    descendants,
    describe,
    is_alive,
    mount_points,
    network_links,
    reap,
)

Spec = dict[str, Any]
Change = Callable[[Spec], object]
Program = str | tuple[str, ...]

WAITS: Program = ("sleep", "600")
_TRACEBACKS = ("Traceback", "panic:", "goroutine ", "runtime error")


def unchanged(_: Spec) -> None:
    """Leave a configuration as it is."""


@dataclass
class Call:
    """A command of the runtime that runs: its output goes to files, as a container may hold it."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    reap: Callable[[], None]

    def wait(self, timeout_s: float = PATIENCE_S) -> Result:
        """Wait for the command's end, not for its container's.

        Orphans are reaped meanwhile, as an engine does it: the first process of a PID namespace
        ends only when those that others are the parents of are no zombies any more.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while self.process.poll() is None:
                assert time.monotonic() < deadline, f"{self.process.args!r} does not end"
                self.reap()
                time.sleep(0.002)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        return Result(
            self.process.returncode,
            self.stdout.read_text(errors="replace"),
            self.stderr.read_text(errors="replace"),
        )


@dataclass
class Runtime:
    """A runtime with a state directory of its own.

    Args:
        program: the words that call it.
        base: a directory for all that the test needs.
        config: the configuration that bundles begin with.
        is_ours: whether it is minicontainer-oci.
        prefix: of all containers' names, found again in the paths of their cgroups.
        not_to_reap: children that are somebody else's, or shall stay zombies.
    """

    program: tuple[str, ...]
    base: Path
    config: Spec
    is_ours: bool
    prefix: str
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _calls: list[Call] = field(default_factory=list)
    _ended: dict[int, int] = field(default_factory=dict)
    not_to_reap: set[int] = field(default_factory=set)

    @property
    def root(self) -> Path:
        """Where containers' state is kept."""
        return self.base / "state"

    def name(self) -> str:
        """Give a name that no container has."""
        return f"{self.prefix}-{next(self._numbers)}"

    def containers(self) -> list[str]:
        """List the containers that have a state directory."""
        found = os.listdir(self.root) if self.root.exists() else []
        return sorted(name for name in found if name[0] != ".")

    # ---- calls

    def words(self, *words: str) -> list[str]:
        """Write a command line."""
        return [*self.program, "--root", str(self.root), *words]

    def begin(
        self,
        words: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        pass_fds: tuple[int, ...] = (),
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Call:
        """Start a command.

        Args:
            words: the whole command line.
            stdin: a descriptor.
            env: what is added to the environment.
        """
        number = next(self._numbers)
        stdout, stderr = self.base / f"{number}.out", self.base / f"{number}.err"
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                words, stdin=stdin, stdout=out, stderr=err, pass_fds=pass_fds, cwd=cwd,
                env=os.environ | (env or {}),
            )  # fmt: skip
        self._calls.append(Call(process, stdout, stderr, self.reap))
        return self._calls[-1]

    def reap(self) -> None:
        """Take the exit status of orphans; that of a command belongs to whoever waits for it."""
        running = {call.process.pid for call in self._calls if call.process.returncode is None}
        self._ended |= reap(running | self.not_to_reap)

    def exit_status(self, pid: int) -> int:
        """Wait for an orphan; give its exit status, -N for signal N."""

        def ended() -> bool:
            self.reap()
            return pid in self._ended

        wait_until(ended, f"the end of process {pid}")
        return self._ended[pid]

    def __call__(self, *words: str, stdin: str | None = None, **options: Any) -> Result:
        """Run a command to its end.

        Args:
            words: the command and its arguments.
            stdin: its input.
            options: of `begin`.
        """
        if stdin is not None:
            source = self.base / "stdin"
            source.write_text(stdin)
            with source.open("rb") as file:
                return self.finish(self.begin(self.words(*words), stdin=file.fileno(), **options))
        return self.finish(self.begin(self.words(*words), **options))

    def finish(self, call: Call) -> Result:
        """Wait for a command's end; what it says may never be a traceback."""
        done = call.wait()
        assert not any(word in done.errors for word in _TRACEBACKS), done.errors
        return done

    def ok(self, *words: str, **options: Any) -> str:
        """Run a command that must succeed without a word of complaint; give its output."""
        done = self(*words, **options)
        assert (done.status, done.errors) == (0, ""), f"{words}: {done}"
        return done.output

    def refused(self, *words: str, says: str | tuple[str, ...] = (), **options: Any) -> str:
        """Run a command that must fail, by one line that says why, and change nothing.

        Args:
            says: what the line must hold, whatever the case; of a tuple one word or the other.
        """
        before = self.traces()
        done = self(*words, **options)
        assert done.status >= 1, f"{words}: {done}"
        assert done.output == ""
        assert_one_line(done.errors)
        wanted = (says,) if isinstance(says, str) else says
        assert not wanted or any(word.lower() in done.errors.lower() for word in wanted), (
            done.errors
        )
        self.expect_nothing_new(before)
        return done.errors

    # ---- bundles and containers

    def bundle(self, program: Program = WAITS, change: Change = unchanged) -> Path:
        """Write a bundle.

        Args:
            program: a script for `/bin/sh -c`, or a program with its arguments.
            change: is handed the configuration, to change it.
        """
        config = copy.deepcopy(self.config)
        script = isinstance(program, str)
        config["process"]["args"] = ["/bin/sh", "-c", program] if script else list(program)
        change(config)
        directory = self.base / f"bundle-{next(self._numbers)}"
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(config))
        return directory

    def create(
        self,
        program: Program = WAITS,
        change: Change = unchanged,
        *options: str,
        **call_options: Any,
    ) -> Container:
        """Create a container, which then waits for `start`."""
        return self._make("create", self.bundle(program, change), options, call_options)

    def _make(
        self, verb: str, bundle: Path, options: tuple[str, ...], call_options: dict[str, Any]
    ) -> Container:
        name = self.name()
        words = self.words(verb, "--bundle", str(bundle), *options, name)
        call = self.begin(words, **call_options)
        done = self.finish(call)
        assert (done.status, done.errors) == (0, ""), f"{verb}: {done}"
        return Container(self, name, bundle, call.stdout)

    def start(
        self,
        program: Program = WAITS,
        change: Change = unchanged,
        *options: str,
        **call_options: Any,
    ) -> Container:
        """Create a container and start it; a script's first line of output is waited for."""
        container = self.create(program, change, *options, **call_options)
        container.start()
        if isinstance(program, str) and "echo" in program:
            wait_until(container.output, "the program's first line")
        return container

    def run(
        self,
        program: Program,
        change: Change = unchanged,
        *options: str,
        **call_options: Any,
    ) -> Result:
        """Run a container in the foreground, to its end."""
        bundle = self.bundle(program, change)
        words = self.words("run", "--bundle", str(bundle), *options, self.name())
        return self.finish(self.begin(words, **call_options))

    def wait_for_execve(self, pid: int) -> None:
        """Wait until a process is its program: our commands do; runc's return before."""
        if not self.is_ours:
            wait_until(lambda: "(runc:" not in describe(pid), "the program to run")

    # ---- what is left

    def traces(self) -> dict[str, set[str]]:
        """Look at all that a container could leave on the host."""
        self.reap()
        return {
            "mounts": mount_points(),
            "cgroups": cgroup_directories(self.prefix),
            "links": network_links(),
            "processes": {describe(pid) for pid in descendants() if is_alive(pid)},
            "state": set(self.containers()),
        }

    def expect_nothing_new(self, before: dict[str, set[str]]) -> None:
        """Compare the host with what it was; the kernel gets a moment to take things away."""
        deadline = time.monotonic() + PATIENCE_S / 6
        while left := {
            kind: found - before[kind]
            for kind, found in self.traces().items()
            if found - before[kind]
        }:
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.01)


@dataclass
class Container:
    """A container: its name, and the file that has its program's output."""

    runtime: Runtime
    id: str
    bundle: Path
    stdout: Path

    def __call__(self, command: str, *words: str, **options: Any) -> Result:
        """Run a command of the runtime on it, with words after its name."""
        return self.runtime(command, self.id, *words, **options)

    def start(self) -> None:
        """Let its program run."""
        self.runtime.ok("start", self.id)
        if not self.runtime.is_ours:  # or it would be asked for its pid in every test
            self.runtime.wait_for_execve(self.pid)

    def state(self) -> dict[str, Any]:
        """Ask for its state."""
        answer: dict[str, Any] = json.loads(self.runtime.ok("state", self.id))
        return answer

    @property
    def status(self) -> str:
        """Ask for its status."""
        return str(self.state()["status"])

    @property
    def pid(self) -> int:
        """Ask for its first process."""
        return int(self.state()["pid"])

    def output(self) -> str:
        """Give what its program has written so far."""
        return self.stdout.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until its program has written this."""
        wait_until(lambda: text in self.output(), f"{text!r} of the program")

    def wait_stopped(self) -> None:
        """Wait for its end."""
        wait_until(lambda: self.status == "stopped", "the container's end")
        self.runtime.reap()

    def kill(self, *words: str) -> None:
        """Kill it and wait for its end."""
        self.runtime.ok("kill", self.id, *(words or ("KILL",)))
        self.wait_stopped()

    def exec(self, *words: str, options: tuple[str, ...] = (), **call_options: Any) -> Result:
        """Run a program in it, and wait for that."""
        return self.runtime("exec", *options, self.id, *words, **call_options)

    def sh(self, script: str, *options: str) -> str:
        """Run a shell script in it that must succeed; give its output."""
        done = self.exec("/bin/sh", "-c", script, options=options)
        assert (done.status, done.errors) == (0, ""), done
        return done.output


def assert_one_line(errors: str) -> None:
    """See that the user gets one line, and no more; but for warnings, and of runc's part in C."""
    aside = ("level=warning", ": warning: ", 'msg="nsexec')
    lines = [
        line for line in errors.splitlines(keepends=True) if not any(word in line for word in aside)
    ]
    assert len(lines) == 1, errors
    assert lines[0].endswith("\n"), errors
