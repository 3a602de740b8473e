"""Hooks: which one runs when, in whose namespaces, with what; and what becomes of one that fails.

See: runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, Result, wait_until

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

    def shell(self, kind: str, script: str, **more: Any) -> dict[str, Any]:
        """Make a hook that runs a script; $0 is its kind."""
        place = COMMON if kind == "startContainer" else str(self.directory)
        env = [f"NOTES={place}/notes", f"DIR={place}", "PATH=/usr/bin:/bin"]
        return {"path": "/bin/sh", "args": ["sh", "-c", script, kind], "env": env, **more}

    def write(self, added: dict[str, dict[str, Any]], script: str = "sleep 600") -> None:
        """Write a bundle with a noting hook of each kind, and these after them."""

        def change(spec: Spec) -> None:
            found = {kind: [self.shell(kind, NOTE)] for kind in KINDS}
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


@pytest.fixture
def oci(runtime: Runtime) -> Oci:
    """The runtime's commands, on this test's container."""
    return Oci(runtime)


@pytest.fixture
def hooks(oci: Oci) -> Hooks:
    """Hooks for that container."""
    directory = oci.runtime.base / "common"
    directory.mkdir()
    return Hooks(oci, directory)


def namespaces_of(pid: int | str) -> dict[str, str]:
    """Ask the kernel for a process's namespaces."""
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


@pytest.mark.oci("hooks.*.path", "hooks.*.args", "hooks.*.env")
def test_each_kind_runs_at_its_point_and_in_its_namespaces(hooks: Hooks, oci: Oci) -> None:
    """Two of create's in the host's, two in the container's; never before their command."""
    hooks.write({})
    assert oci("create").status == 0
    assert hooks.kinds() == list(BEFORE_START)
    pid = oci.pid()
    outside, inside = namespaces_of("self"), namespaces_of(pid)
    assert not set(outside.values()) & set(inside.values())
    assert oci("start").status == 0
    assert hooks.kinds() == [*BEFORE_START, *AT_START]
    assert oci("delete", "--force").status == 0
    assert hooks.kinds() == list(KINDS)
    for note, where in zip(
        hooks.notes(), (outside, outside, inside, inside, outside, outside), strict=True
    ):
        assert {name: note[name] for name in NAMESPACES} == where, note["kind"]


def test_each_is_told_the_state(hooks: Hooks, oci: Oci) -> None:
    """The pid as it sees it itself, and the status of its point: runtime.md "State"."""
    hooks.write({})
    oci("create")
    pid = oci.pid()
    oci("start")
    oci("delete", "--force")
    told = {note["kind"]: note["state"] for note in hooks.notes()}
    for kind, status, number in (
        ("prestart", "creating", pid),
        ("createRuntime", "creating", pid),
        ("createContainer", "creating", 1),
        ("startContainer", "created", 1),
        ("poststart", "running", pid),
        ("poststop", "stopped", None),
    ):
        state = told[kind]
        assert (state["status"], state.get("pid")) == (status, number), kind
        assert state["id"] == oci.name
        assert state["bundle"] == str(oci.bundle)
        assert state["annotations"] == {"org.example": "value"}
        assert state["ociVersion"].startswith("1.")


def test_the_mounts_are_made_and_the_root_is_the_hosts(hooks: Hooks, oci: Oci) -> None:
    """A createContainer hook can still add to the rootfs, by its path on the host."""
    script = (
        f"mountpoint {oci.rootfs}/proc && ls {oci.bundle}/config.json && mount -t tmpfs x $ROOT"
    )
    hook = hooks.shell("createContainer", script)
    hook["env"].append(f"ROOT={oci.rootfs}/mnt")
    hooks.write({"createContainer": hook}, "grep ' /mnt ' /proc/mounts")
    done = oci("run")
    assert done.errors == ""
    assert done.output.startswith("x /mnt tmpfs")
    assert str(oci.rootfs) not in Path("/proc/self/mountinfo").read_text()


def test_by_run_too(hooks: Hooks, oci: Oci) -> None:
    """In the foreground: all six, in their order."""
    hooks.write({}, "true")
    assert oci("run").status == 0
    assert hooks.kinds() == list(KINDS)


@pytest.mark.oci("hooks.createRuntime.args", "hooks.createRuntime.env")
def test_arguments_and_environment_are_its_own(hooks: Hooks, oci: Oci) -> None:
    """Exactly those given, with argv[0]; without `env` there is none at all."""
    show = r"tr '\0' '|' < /proc/$$/cmdline; echo; tr '\0' '|' < /proc/$$/environ; exit 1"
    hook = {"path": "/bin/sh", "args": ["its own name", "-c", show], "env": ["A=1", "B=x=y"]}
    for env, told in ((["A=1", "B=x=y"], "A=1|B=x=y|"), ([], ""), (None, "")):
        hooks.write({"createRuntime": {**hook, "env": env}})
        errors = oci("create").errors
        assert "its own name|-c|" in errors
        assert errors.endswith(rf"|\n{told}" + "\n") or (not told and errors.endswith("|\n"))


@pytest.mark.oci("hooks.*.path")
def test_a_path_is_the_hosts_before_the_root_changes(hooks: Hooks, oci: Oci) -> None:
    """A rootfs that has another program at the same path does not get it run on the host's side."""
    program = hooks.directory / "program"
    rootfs = oci.runtime.base / "rootfs"
    shutil.copytree(oci.rootfs, rootfs, symlinks=True)
    for place, text in ((program, "host"), (rootfs / str(program)[1:], "container")):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"#!/bin/sh\necho {text} $1 >> $2/ran\n")
        place.chmod(0o755)
    oci.rootfs = rootfs
    directory = {kind: str(hooks.directory) for kind in KINDS} | {"startContainer": COMMON}
    hooks.write(
        {
            kind: {"path": str(program), "args": ["program", kind, directory[kind]]}
            for kind in KINDS
        },
        "true",
    )
    assert oci("run").errors == ""
    ran = (hooks.directory / "ran").read_text().splitlines()
    assert ran == [f"{'container' if 'startC' in kind else 'host'} {kind}" for kind in KINDS]


def test_nobodys_descriptors_reach_it(hooks: Hooks, oci: Oci) -> None:
    """The three streams alone: not the caller's, the runtime's, or those for the program."""
    script = 'ls /proc/self/fd > "$DIR/fd-$0"'
    hooks.write({kind: hooks.shell(kind, script) for kind in KINDS}, "ls /proc/self/fd")
    with_more = (
        "/bin/bash", "-c",
        f'exec 3</dev/null 4</dev/null {{fd}}</etc/passwd; ls /proc/$$/fd > {hooks.directory}/own;'
        'exec "$@"', "bash",
    )  # fmt: skip
    done = oci("run", "--preserve-fds", "2", before=with_more)
    assert done.errors == ""
    for kind in KINDS:
        # the fourth is that of ls itself, on the directory
        found = (hooks.directory / f"fd-{kind}").read_text().split()
        assert found == ["0", "1", "2", "3"], kind
    # the control: they were there, and the program has got what was meant for it
    assert {"3", "4", "10"} <= set((hooks.directory / "own").read_text().split())
    assert {"3", "4"} <= set(done.output.split())


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_one_that_fails_ends_the_container(hooks: Hooks, oci: Oci, kind: str) -> None:
    """One line with what it said; all is taken back, and poststop hooks run."""
    hooks.write({kind: hooks.shell(kind, "echo it said so; exit 3")})
    created = oci("create")
    failed = oci("start") if kind in AT_START else created
    assert failed.status == 1
    assert failed.errors == (
        f"minicontainer-oci: hooks.{kind}[1] (/bin/sh): exit status 3: it said so\n"
    )
    assert oci.logged()[-1]["msg"] == failed.errors.partition(": ")[2].strip()
    assert hooks.kinds() == [*KINDS[: KINDS.index(kind) + 1], "poststop"]
    assert oci.runtime.containers() == []
    assert oci("delete").errors == f"minicontainer-oci: container {oci.name} does not exist\n"


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_one_that_fails_ends_a_run_too(hooks: Hooks, oci: Oci, kind: str) -> None:
    """Also in the foreground; by a signal, and for want of a program."""
    for hook, why in (
        (hooks.shell(kind, "kill -KILL $$"), "was killed by signal 9"),
        ({"path": "/nosuch"}, "execve(/nosuch): No such file or directory"),
    ):
        hooks.write({kind: hook})
        done = oci("run")
        path = hook["path"]
        assert (done.status, done.output) == (1, "")
        assert done.errors == f"minicontainer-oci: hooks.{kind}[1] ({path}): {why}\n"
        assert hooks.kinds()[-1] == "poststop"
        assert oci.runtime.containers() == []


def test_poststop_hooks_only_warn(hooks: Hooks, oci: Oci) -> None:
    """The others run all the same, and the container is deleted."""
    hooks.write({"poststop": hooks.shell("poststop", "exit 3")}, "true")
    oci.change(lambda spec: spec["hooks"]["poststop"].reverse())
    oci("create")
    done = oci("delete")
    assert (done.status, hooks.kinds()[-1]) == (0, "poststop")
    last = oci.logged()[-1]
    assert last["level"] == "warning"
    assert last["msg"] == "hooks.poststop[0] (/bin/sh): exit status 3"
    assert oci.runtime.containers() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.oci("hooks.*.timeout")
def test_a_timeout_ends_it_and_what_it_started(hooks: Hooks, oci: Oci, kind: str) -> None:
    """Its whole process group; the line names hook and timeout."""
    nap = f"sleep {600_000 + os.getpid()}"
    script = f"echo waiting; {nap} & wait"
    hooks.write({kind: hooks.shell(kind, script, timeout=1)}, "sleep 600")
    oci("run", "--detach")
    oci("delete", "--force")
    said = oci.logged()[-1]["msg"]
    assert said.startswith(f"hooks.{kind}[1] (/bin/sh): did not end within its timeout of 1 s")
    assert said.endswith(": waiting")
    assert not running(nap)
    assert oci.runtime.containers() == []


def test_one_that_leaves_a_daemon_behind_has_ended(hooks: Hooks, oci: Oci) -> None:
    """The daemon has its output still, and is not waited for; nor does it end with the hook."""
    hook = hooks.shell("createRuntime", 'sleep 600 & echo $! > "$DIR/daemon"', timeout=60)
    hooks.write({"createRuntime": hook}, "true")
    assert oci("run").errors == ""
    daemon = int((hooks.directory / "daemon").read_text())
    assert Path(f"/proc/{daemon}/cmdline").read_bytes() == b"sleep\x00600\x00"
    os.kill(daemon, signal.SIGKILL)


def test_a_long_state(hooks: Hooks, oci: Oci) -> None:
    """Longer than a pipe is deep: for one that reads it all, and one that reads nothing."""
    hooks.write({kind: hooks.shell(kind, "true") for kind in KINDS}, "true")

    def lengthen(spec: Spec) -> None:
        spec["annotations"]["long"] = "x" * 300_000
        for kind in KINDS:  # too long for an argument of what NOTE calls
            spec["hooks"][kind][0]["args"][2] = 'wc -c > "$DIR/$0"'

    oci.change(lengthen)
    assert oci("run").errors == ""
    for kind in KINDS:
        assert int((hooks.directory / kind).read_text()) > 300_000


def test_a_long_output(hooks: Hooks, oci: Oci) -> None:
    """It never blocks, and the error holds its end."""
    script = "yes | head -c 1000000; echo the end; exit 1"
    hooks.write({"createContainer": hooks.shell("createContainer", script)})
    errors = oci("create").errors
    assert errors.endswith("the end\n")
    assert len(errors) < 3000


def running(words: str) -> list[int]:
    """List the processes, of any namespace, with these words in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if words.encode() in (entry / "cmdline").read_bytes().replace(b"\0", b" "):
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended
    return found


def waiting(hooks: Hooks, kind: str) -> int:
    """Wait for a hook that hangs; give its number on the host."""
    file = hooks.directory / "hangs"
    wait_until(lambda: file.exists() and file.read_text(), f"the {kind} hook")
    return running(f": hangs {kind}")[0]


HANGS = 'echo yes > "$DIR/hangs"; : hangs {kind}; read nothing < "$DIR/fifo"'


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_an_interrupt_ends_one_that_hangs(hooks: Hooks, oci: Oci, kind: str) -> None:
    """Without a timeout there is Ctrl-C."""
    os.mkfifo(hooks.directory / "fifo")
    hooks.write({kind: hooks.shell(kind, HANGS.format(kind=kind))})
    command = oci.begin("run")
    hook = waiting(hooks, kind)
    command.send_signal(signal.SIGINT)
    assert command.wait(PATIENCE_S) == 128 + signal.SIGINT
    assert hook not in running("hangs")
    assert hooks.kinds()[-1] == "poststop"
    assert oci.runtime.containers() == []


@pytest.mark.parametrize("kind", BEFORE_START)
def test_a_killed_create_takes_its_hook_along(hooks: Hooks, oci: Oci, kind: str) -> None:
    """It would go on behind the back of the deletion, which runs the poststop hooks."""
    os.mkfifo(hooks.directory / "fifo")
    hooks.write({kind: hooks.shell(kind, HANGS.format(kind=kind))})
    command = oci.begin("create")
    hook = waiting(hooks, kind)
    command.kill()
    command.wait(PATIENCE_S)
    assert oci("delete", "--force").errors == ""
    wait_until(lambda: hook not in running("hangs"), "the hook's end")
    assert hooks.kinds()[-1] == "poststop"
    assert oci.runtime.containers() == []


def test_config_json_as_it_was_at_create_decides(hooks: Hooks, oci: Oci) -> None:
    """Later changes of the bundle must not reach the container: runtime.md "Lifecycle"."""
    hooks.write({})
    oci("create")
    (oci.bundle / "config.json").write_text("{}")
    assert oci("start").errors == ""
    assert oci("delete", "--force").errors == ""
    assert hooks.kinds() == list(KINDS)


def test_hooks_that_make_no_sense(oci: Oci) -> None:
    """They are named by their place in the file."""
    for hook, why in (
        ({"path": "sh"}, r"\.path: must be absolute, got 'sh'"),
        ({"path": "/bin/sh", "timeout": 0}, r"\.timeout: must be more than 0, got 0"),
        ({"args": ["sh"]}, r"\.path: is required"),
    ):
        for kind in KINDS:
            new = {kind: [hook]}
            oci.change(lambda spec, new=new: spec.update(hooks=new))  # type: ignore[misc]  # bound now
            assert re.fullmatch(
                rf"minicontainer-oci: hooks\.{kind}\[0\]{why}\n", oci("create").errors
            )
    assert oci.runtime.containers() == []
