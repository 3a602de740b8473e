"""Hooks: which one runs when, in whose namespaces, with what; and what becomes of one that fails.

See: runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from .hooks import AT_START, BEFORE_START, COMMON, KINDS, NAMESPACES, Hooks, Oci
from .runtime import Spec


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
    shared = {name for name in NAMESPACES if outside[name] == inside[name]}
    assert shared <= {"cgroup"}  # on v1 runc makes none unless it is told to
    assert oci("start").status == 0
    assert hooks.kinds() == list(hooks.all[:-1])
    assert oci("delete", "--force").status == 0
    assert hooks.kinds() == list(hooks.all)
    for note in hooks.notes():
        where = inside if note["kind"].endswith("Container") else outside
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
        if kind not in hooks.all:
            continue
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


def test_they_start_in_the_bundle_but_createcontainers_in_the_root(hooks: Hooks, oci: Oci) -> None:
    """Where the container's own files are near by; the specification leaves it open."""
    hooks.write({})
    assert oci("create").status == 0
    root, bundle = str(oci.rootfs), str(oci.bundle)
    assert {note["kind"]: note["cwd"] for note in hooks.notes()} == {
        "prestart": bundle, "createRuntime": bundle, "createContainer": root,
    }  # fmt: skip


def test_by_run_too(hooks: Hooks, oci: Oci) -> None:
    """In the foreground: all six, in their order."""
    hooks.write({}, "true")
    assert oci("run").status == 0
    assert hooks.kinds() == list(hooks.all)


@pytest.mark.oci("hooks.createRuntime.args", "hooks.createRuntime.env")
def test_arguments_and_environment_are_its_own(hooks: Hooks, oci: Oci) -> None:
    """Exactly those given, with argv[0]; an empty `env` is none at all."""
    show = 'cd "$0"; cp /proc/$$/cmdline /proc/$$/environ . 2>&1; exit 1'
    hook = {"path": "/bin/sh", "args": ["its own name", "-c", show, str(hooks.directory)]}
    shown = [hooks.directory / name for name in ("cmdline", "environ")]
    for env in (["A=1", "B=x=y"], []):
        hooks.write({"createRuntime": {**hook, "env": env}})
        assert oci("create").status >= 1
        name, _, *rest = shown[0].read_bytes().split(b"\0")
        assert (name, rest[-2]) == (b"its own name", os.fsencode(hooks.directory))
        assert shown[1].read_bytes() == b"".join(b"%s\0" % word.encode() for word in env)


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_environment_it_has_that_of_who_runs_it(
    hooks: Hooks, oci: Oci, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime's own; in the container the program's, and nothing of the host's."""
    if kind not in hooks.all:
        pytest.skip(f"runc 1.1.5 runs {kind} hooks at another point, or does not wait for them")
    monkeypatch.setenv("OF_THE_CALLER", "1")
    place = COMMON if kind == "startContainer" else str(hooks.directory)
    hook = {
        "path": "/bin/sh",
        "args": ["sh", "-c", f"/bin/env > {place}/environ || env > {place}/environ"],
    }
    hooks.write({kind: hook}, "true")
    assert oci("run").errors == ""
    names = {
        line.partition("=")[0] for line in (hooks.directory / "environ").read_text().splitlines()
    }
    assert ("OF_THE_CALLER" in names) == (kind not in ("createContainer", "startContainer"))
    assert {"PATH"} <= names


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
            for kind in hooks.all
        },
        "true",
    )
    assert oci("run").errors == ""
    ran = (hooks.directory / "ran").read_text().splitlines()
    assert ran == [f"{'container' if 'startC' in kind else 'host'} {kind}" for kind in hooks.all]


@pytest.mark.ours("runc hands the program's descriptors to createContainer hooks")
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


UNTIL_STARTED = (
    *BEFORE_START,
    *(
        pytest.param(kind, marks=pytest.mark.ours("runc 1.1 runs them at another point"))
        for kind in AT_START
    ),
)


@pytest.mark.parametrize("kind", UNTIL_STARTED)
def test_one_that_fails_ends_the_container(hooks: Hooks, oci: Oci, kind: str) -> None:
    """One line with what it said; all is taken back, and poststop hooks run."""
    hooks.write({kind: hooks.shell(kind, "echo it said so; exit 3")})
    created = oci("create")
    failed = oci("start") if kind in AT_START else created
    assert failed.status == 1
    if oci.runtime.is_ours:
        assert failed.errors == (
            f"minicontainer-oci: hooks.{kind}[1] (/bin/sh): exit status 3: it said so\n"
        )
        assert oci.logged()[-1]["msg"] == failed.errors.partition(": ")[2].strip()
    assert "exit status 3" in oci.logged()[-1]["msg"]
    assert "it said so" in failed.errors
    assert hooks.kinds() == [*KINDS[: KINDS.index(kind) + 1], "poststop"]
    assert oci.runtime.containers() == []
    assert "does not exist" in oci("delete").errors


@pytest.mark.parametrize("kind", UNTIL_STARTED)
def test_one_that_fails_ends_a_run_too(hooks: Hooks, oci: Oci, kind: str) -> None:
    """Also in the foreground; by a signal, and for want of a program."""
    for hook, why in (
        (hooks.shell(kind, "kill -KILL $$"), "killed"),
        ({"path": "/nosuch"}, "no such file or directory"),
    ):
        hooks.write({kind: hook})
        done = oci("run")
        assert (done.status, done.output) == (1, "")
        assert why in done.errors.lower()
        if oci.runtime.is_ours:
            assert f": hooks.{kind}[1] ({hook['path']}): " in done.errors
        assert hooks.kinds()[-1] == "poststop"
        assert oci.runtime.containers() == []


@pytest.mark.ours("runc leaves the rest out after one that fails")
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


def test_a_long_state(hooks: Hooks, oci: Oci) -> None:
    """Longer than a pipe is deep: for one that reads it all, and one that reads nothing."""
    hooks.write({kind: hooks.shell(kind, "true") for kind in hooks.all}, "true")

    def lengthen(spec: Spec) -> None:
        spec["annotations"]["long"] = "x" * 300_000
        for kind in hooks.all:  # too long for an argument of what NOTE calls
            spec["hooks"][kind][0]["args"][2] = 'wc -c > "$DIR/$0"'

    oci.change(lengthen)
    assert oci("run").errors == ""
    for kind in hooks.all:
        assert int((hooks.directory / kind).read_text()) > 300_000


def test_a_long_output(hooks: Hooks, oci: Oci) -> None:
    """It never blocks, and the error holds its end."""
    script = "yes | head -c 1000000; echo the end; exit 1"
    hooks.write({"createContainer": hooks.shell("createContainer", script)})
    errors = oci("create").errors
    assert "the end" in errors[-100:]
    assert len(errors) < 3000 or not oci.runtime.is_ours


@pytest.mark.ours("runc waits for its end, however long that takes")
def test_what_a_hook_leaves_may_write_on(hooks: Hooks, oci: Oci) -> None:
    """A daemon that never falls silent: it is the hook's end that counts."""
    daemon = "touch $DIR/begun; exec yes"
    script = f"({daemon}) & until test -e $DIR/begun; do :; done"
    hooks.write({"createRuntime": hooks.shell("createRuntime", script)}, "true")
    assert oci("run").errors == ""


def test_config_json_as_it_was_at_create_decides(hooks: Hooks, oci: Oci) -> None:
    """Later changes of the bundle must not reach the container: runtime.md "Lifecycle"."""
    hooks.write({})
    oci("create")
    (oci.bundle / "config.json").write_text("{}")
    assert oci("start").errors == ""
    assert oci("delete", "--force").errors == ""
    assert hooks.kinds() == list(hooks.all)


@pytest.mark.ours("runc finds out when it runs them")
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


@pytest.mark.ours("runc, with --debug, tells of nothing in the container's first process")
def test_a_created_container_tells_nobody_that_has_ended(hooks: Hooks, oci: Oci) -> None:
    """Who listened was `create --debug`; the events of many hooks do not fit what can wait."""
    hooks.write({})

    def repeat(spec: Spec) -> None:
        hook = spec["hooks"]["startContainer"][0]
        spec["hooks"]["startContainer"] = [hook] * 30

    oci.change(repeat)
    where = ("--bundle", str(oci.bundle))
    assert oci.runtime("--debug", "create", *where, oci.name).status == 0
    oci.runtime.ok("start", oci.name)
    assert hooks.kinds().count("startContainer") == 30
    oci("delete", "--force")
