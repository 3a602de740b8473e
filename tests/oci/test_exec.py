"""exec: one more program in a container that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.isolation.conftest import namespace_of, parse_status, status_of

from .kernel import cgroups_of, end, is_alive, is_frozen, parent_of
from .runtime import WAITS, Container, Runtime, Spec
from .test_descriptors import LOOK, with_files

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@pytest.fixture
def container(runtime: Runtime) -> Container:
    """A container that runs."""
    return runtime.start()


def detached(
    container: Container, *options: str, program: tuple[str, ...] = ("sleep", "77")
) -> int:
    """Start a program in a container that outlives the command; give its number on the host."""
    file = container.runtime.base / f"pid-{container.runtime.name()}"
    words = ("exec", "--detach", "--pid-file", str(file), *options, container.id, *program)
    container.runtime.ok(*words)
    return int(file.read_text())


# ---- what it is


@pytest.mark.parametrize("status", [0, 1, 7, 126, 127, 255])
def test_the_exit_status_is_the_programs(container: Container, status: int) -> None:
    """The whole range."""
    assert container.exec("sh", "-c", f"exit {status}").status == status


def test_the_exit_status_tells_the_signal(container: Container) -> None:
    """128 and its number; it is not process 1, and dies of its own signals."""
    assert container.exec("sh", "-c", "kill -KILL $$").status == 128 + signal.SIGKILL


def test_input_and_output_are_the_callers(container: Container) -> None:
    """Each on its own descriptor."""
    done = container.exec("sh", "-c", "cat; echo err >&2", stdin="typed\n")
    assert (done.status, done.output, done.errors) == (0, "typed\n", "err\n")


def test_it_is_in_the_containers_namespaces(container: Container) -> None:
    """All of them, as the kernel numbers them; and in its root and its cgroups."""
    pid, first = detached(container), container.pid
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0077\x00"
    for kind in KINDS:
        assert namespace_of(pid, kind) == namespace_of(first, kind), kind
    for kind in ("mnt", "pid", "net"):
        assert namespace_of(pid, kind) != namespace_of("self", kind), kind
    assert os.stat(f"/proc/{pid}/root").st_ino == os.stat(f"/proc/{first}/root").st_ino
    assert cgroups_of(pid) == cgroups_of(first)


def test_it_may_no_more_than_the_first(container: Container) -> None:
    """Capabilities, filter, new privileges: as the container's own program has them."""
    theirs, first = status_of(detached(container)), status_of(container.pid)
    for name in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp"):
        assert theirs[name] == first[name], name
    assert int(theirs["CapInh"], 16) == 0


def test_both_see_each_other(container: Container) -> None:
    """It has a number in the PID namespace, and the container's /proc."""
    assert container.sh("cat /proc/1/comm") == "sleep\n"
    pid = detached(container)
    inside = status_of(pid)["NSpid"].split()[-1]
    assert container.sh(f"cat /proc/{inside}/cmdline | tr '\\0' ' '") == "sleep 77 "


def test_it_ends_with_the_container(container: Container) -> None:
    """Process 1 takes all with it."""
    pid = detached(container)
    container.kill()
    wait_until(lambda: not is_alive(pid), "its end")


def test_the_container_does_not_end_with_it(container: Container) -> None:
    """Nor does it note."""
    container.sh("true")
    assert container.status == "running"


# ---- what it is told


@pytest.mark.parametrize("option", ["--env", "-e"])
def test_environment(runtime: Runtime, option: str) -> None:
    """The container's, and what is added; a later value wins."""

    def env(config: Spec) -> None:
        config["process"]["env"] += ["KEPT=old", "CHANGED=old"]

    container = runtime.start(WAITS, env)
    options = (option, "CHANGED=new", option, "NEW=a=b c", f"{option}=EMPTY=")
    told = container.sh("env", *options).splitlines()
    assert {"KEPT=old", "CHANGED=new", "NEW=a=b c", "EMPTY="} <= set(told)


def test_working_directory(container: Container) -> None:
    """The container's own, or another."""
    assert container.sh("pwd") == "/\n"
    assert container.sh("pwd", "--cwd", "/etc") == "/etc\n"


def test_a_working_directory_that_is_not_there(runtime: Runtime, container: Container) -> None:
    """Said by its path."""
    runtime.refused("exec", "--cwd", "/no/such", container.id, "true", says="/no/such")


def test_root_in_the_container_of_another_user(runtime: Runtime) -> None:
    """0 is a user like any other."""

    def user(config: Spec) -> None:
        config["process"]["user"] = {"uid": 7, "gid": 7}

    container = runtime.start(WAITS, user)
    assert container.sh("id -u") == "7\n"
    assert container.sh("id -u", "--user", "0") == "0\n"


@pytest.mark.parametrize(
    ("user", "told"), [("0", "0 5"), ("1000", "1000 5"), ("1000:50", "1000 50"), ("0:7", "0 7")]
)
def test_user(runtime: Runtime, user: str, told: str) -> None:
    """A number, or two; without the second the group is the container's."""
    container = runtime.start(change=lambda config: config["process"]["user"].update(gid=5))
    for option in (("--user", user), ("-u", user)):
        assert container.sh("echo $(id -u) $(id -g)", *option) == f"{told}\n"


@pytest.mark.parametrize(
    "user",
    ["-1", "1x", "root", "1:x", "1:-1", "1:2:3",
     pytest.param("4294967296", marks=pytest.mark.ours("it makes runc 1.1.5 start root"))],
)  # fmt: skip
def test_a_user_that_is_none(container: Container, user: str) -> None:
    """No name is looked up, and nobody becomes root by mistake: CVE-2026-30892."""
    done = container.exec("id", "-u", options=(f"--user={user}",))
    assert done.status >= 1
    assert done.output == ""


@pytest.mark.parametrize("option", ["--additional-gids", "-g"])
def test_additional_groups(container: Container, option: str) -> None:
    """Beside the first, each once more the option."""
    options = (option, "77", option, "78")
    assert set(container.sh("id -G", *options).split()) == {"0", "77", "78"}


def test_no_new_privileges(runtime: Runtime) -> None:
    """Where the container itself may gain some."""

    def without(config: Spec) -> None:
        config["process"]["noNewPrivileges"] = False

    container = runtime.start(WAITS, without)
    look = "grep NoNewPrivs /proc/self/status | tr -dc 01"
    assert container.sh(look) == "0"  # the control
    assert container.sh(look, "--no-new-privs") == "1"


def process(**change: Any) -> Any:
    """Describe a process as engines do it, in a file."""
    held = ["CAP_KILL"]
    return {
        "user": {"uid": 0, "gid": 0},
        "args": ["sh", "-c", "id -u; pwd; echo $VARIABLE"],
        "env": ["PATH=/bin:/usr/bin", "VARIABLE=value"],
        "cwd": "/etc",
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": True,
        **change,
    }


@pytest.mark.parametrize("option", ["--process", "-p"])
def test_a_process_in_a_file(runtime: Runtime, container: Container, option: str) -> None:
    """All of it, and nothing of the container's own."""
    file = runtime.base / "process.json"
    file.write_text(json.dumps(process(user={"uid": 33, "gid": 44})))
    assert runtime.ok("exec", option, str(file), container.id) == "33\n/etc\nvalue\n"


def test_capabilities_in_a_file(runtime: Runtime, container: Container) -> None:
    """Only those."""
    file = runtime.base / "process.json"
    file.write_text(json.dumps(process(args=["cat", "/proc/self/status"])))
    status = parse_status(runtime.ok("exec", "--process", str(file), container.id))
    assert {int(status[name], 16) for name in ("CapBnd", "CapEff", "CapPrm")} == {1 << 5}


def test_the_engines_own_words(runtime: Runtime, container: Container) -> None:
    """As containerd calls it: a file, detached, a pid file, a log."""
    file, pid_file, log = (runtime.base / name for name in ("process.json", "pid", "log"))
    file.write_text(json.dumps(process(args=["sleep", "77"])))
    runtime.ok(
        "--log", str(log), "--log-format", "json", "exec", "--process", str(file), "--detach",
        "--pid-file", str(pid_file), container.id,
    )  # fmt: skip
    assert Path(f"/proc/{pid_file.read_text()}/cmdline").read_bytes() == b"sleep\x0077\x00"
    assert not log.exists() or "error" not in log.read_text()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"args": "sh"}', json.dumps(process(args=[])),
     json.dumps(process(cwd="")), json.dumps(process(cwd="relative"))],
)  # fmt: skip
def test_a_file_that_describes_no_process(
    runtime: Runtime, container: Container, text: str
) -> None:
    """One line, and the container runs on."""
    file = runtime.base / "process.json"
    file.write_text(text)
    runtime.refused("exec", "--process", str(file), container.id)
    assert container.status == "running"


def test_a_file_that_is_not_there(runtime: Runtime, container: Container) -> None:
    """The same."""
    file = str(runtime.base / "none.json")
    runtime.refused("exec", "--process", file, container.id, says="no such file")


# ---- detached


def test_detached(container: Container) -> None:
    """The command returns when the program runs, which is the caller's child by then."""
    pid = detached(container)
    container.runtime.wait_for_execve(pid)
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0077\x00"
    assert parent_of(pid) == os.getpid()
    end(pid)
    assert container.runtime.exit_status(pid) == -signal.SIGKILL


def test_its_exit_status_is_the_adopters(container: Container) -> None:
    """A subreaper takes it, as an engine's shim does."""
    pid = detached(container, program=("sh", "-c", "exit 9"))
    assert container.runtime.exit_status(pid) == 9


def test_a_pid_file_in_the_foreground(runtime: Runtime, container: Container) -> None:
    """Written before the program has ended."""
    file = runtime.base / "pid"
    words = ("exec", "--pid-file", str(file), container.id, "sleep", "77")
    call = runtime.begin(runtime.words(*words))
    wait_until(lambda: file.exists() and file.read_text(), "the pid file")
    os.kill(int(file.read_text()), signal.SIGKILL)
    assert call.wait().status == 137


def test_a_pid_file_that_cannot_be_written(runtime: Runtime, container: Container) -> None:
    """The caller takes the program for not started: it does not run on."""
    file = str(runtime.base / "nowhere" / "pid")
    for options in ((), ("--detach",)):
        words = ("exec", *options, "--pid-file", file, container.id, "sleep", "77")
        runtime.refused(*words, says="no such file")  # and no process is new


def test_sockets_of_systemd_are_not_for_it(runtime: Runtime, container: Container) -> None:
    """They are meant for process 1, which no program of exec is."""
    script = f"echo ${{LISTEN_FDS-none}} ${{LISTEN_PID-none}}; {LOOK}"
    words = runtime.words("exec", container.id, "sh", "-c", script)
    done = with_files(runtime, words, "export LISTEN_FDS=2 LISTEN_PID=$$;")
    assert done.output.splitlines() == ["none none"]


@pytest.mark.parametrize("count", [0, 2])
def test_preserved_descriptors(runtime: Runtime, container: Container, count: int) -> None:
    """From 3 on as many as the option says; the others stay outside."""
    options = ("--preserve-fds", str(count)) if count else ()
    done = with_files(runtime, runtime.words("exec", *options, container.id, "sh", "-c", LOOK))
    assert done.output.splitlines() == [f"file {3 + i}" for i in range(count)]


# ---- which containers


def test_into_a_created_container(runtime: Runtime) -> None:
    """Its program has not begun, but its namespaces are there."""
    container = runtime.create("echo begun; exec sleep 600")
    assert container.sh("echo inside; echo $$") != ""
    assert container.output() == ""
    container.start()
    container.wait_for("begun")


def test_into_a_stopped_container(runtime: Runtime, container: Container) -> None:
    """There is nothing to join."""
    container.kill()
    runtime.refused("exec", container.id, "true", says=("stopped", "not running"))


def test_what_can_not_be_run_has_a_status_of_its_own(
    runtime: Runtime, container: Container
) -> None:
    """255, so that a script can tell it from a program that gave 1."""
    assert container.exec("sh", "-c", "exit 1").status == 1
    assert container.exec("/no/such/program").status == 255
    assert runtime("exec", runtime.name(), "true").status == 255
    container.kill()
    assert container.exec("true").status == 255
    assert runtime("state", runtime.name()).status == 1


def test_into_an_unknown_container(runtime: Runtime) -> None:
    """The usual words."""
    runtime.refused("exec", runtime.name(), "true", says="does not exist")


def test_into_a_paused_container(runtime: Runtime, container: Container) -> None:
    """It would hang."""
    runtime.ok("pause", container.id)
    runtime.refused("exec", container.id, "true", says="paused")
    assert is_frozen(container.pid)


def test_into_a_paused_container_all_the_same(runtime: Runtime, container: Container) -> None:
    """With --ignore-paused it waits until the container runs on."""
    runtime.ok("pause", container.id)
    words = ("exec", "--ignore-paused", container.id, "sh", "-c", "echo through")
    call = runtime.begin(runtime.words(*words))
    with pytest.raises(subprocess.TimeoutExpired):
        call.process.wait(0.3)
    runtime.ok("resume", container.id)
    done = call.wait()
    assert (done.status, done.output) == (0, "through\n")


# ---- what can't be


def test_a_program_that_is_not_there(runtime: Runtime, container: Container) -> None:
    """Docker and podman make exit status 127 of these words."""
    says = "executable file not found in $PATH"
    runtime.refused("exec", container.id, "no-such-program", says=says)
    runtime.refused("exec", "--detach", container.id, "no-such-program", says=says)


@pytest.mark.parametrize(
    ("program", "says"),
    [("/no/such", "no such file"), ("/etc/passwd", "permission denied"), ("/etc", "denied")],
)
def test_a_program_that_cannot_be_run(
    runtime: Runtime, container: Container, program: str, says: str
) -> None:
    """Docker and podman make exit status 126 or 127 of these words."""
    runtime.refused("exec", container.id, program, says=(says, "directory"))


def test_no_program(runtime: Runtime, container: Container) -> None:
    """It must be told what."""
    assert runtime("exec", container.id).status >= 1
    assert runtime("exec").status >= 1


def test_options_after_the_name_are_the_programs(container: Container) -> None:
    """Nothing of them is ours."""
    assert container.exec("echo", "--user", "-t", "--").output == "--user -t --\n"


@pytest.mark.skipif(
    os.path.exists("/sys/kernel/security/apparmor"), reason="AppArmor is enabled here"
)
def test_apparmor_where_there_is_none(runtime: Runtime, container: Container) -> None:
    """A profile that can't be applied is no reason to go without."""
    runtime.refused("exec", "--apparmor", "a-profile", container.id, "true", says="apparmor")


# ---- many


def test_many_at_once(runtime: Runtime, container: Container) -> None:
    """None is in another's way."""
    calls = [
        runtime.begin(runtime.words("exec", container.id, "sh", "-c", f"echo {i}; exit {i}"))
        for i in range(10)
    ]
    done = [runtime.finish(call) for call in calls]
    told = [(one.status, one.output, one.errors) for one in done]
    assert told == [(i, f"{i}\n", "") for i in range(10)]


def test_the_host_is_not_seen(container: Container) -> None:
    """No process of the runtime's is in the container's /proc when the program runs."""
    told = container.sh("cd /proc; for p in [0-9]*; do cat $p/comm; done")
    assert sorted(told.split()) == ["sh", "sleep"]
