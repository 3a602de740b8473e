"""start: the program of a created container, once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import wait_until

from .kernel import is_alive
from .runtime import Runtime, Spec


def test_the_waiting_process_becomes_the_program(runtime: Runtime) -> None:
    """The same process, by execve(2): its number and its namespaces stay."""
    container = runtime.create()
    pid, network = container.pid, os.readlink(f"/proc/{container.pid}/ns/net")
    container.start()
    # start returns when the program is there: no waiting here
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00"
    assert os.readlink(f"/proc/{pid}/ns/net") == network
    assert container.status == "running"


def test_only_once(runtime: Runtime) -> None:
    """The second start is refused, and the program runs on."""
    container = runtime.start("echo begun; exec sleep 600")
    runtime.refused("start", container.id, says=("running", "already"))
    assert container.output() == "begun\n"
    assert container.status == "running"


def test_an_unknown_container(runtime: Runtime) -> None:
    """In the words that containerd looks for."""
    runtime.refused("start", runtime.name(), says="does not exist")


def test_a_container_that_has_ended(runtime: Runtime) -> None:
    """It is not begun anew."""
    container = runtime.start(("true",))
    container.wait_stopped()
    runtime.refused("start", container.id, says=("stopped", "not running"))
    assert container.status == "stopped"


def test_a_container_that_was_killed_before(runtime: Runtime) -> None:
    """A created container can be killed; there is nothing to start then."""
    container = runtime.create("echo begun")
    container.kill()
    runtime.refused("start", container.id, says=("stopped", "not running"))
    assert container.output() == ""


def test_no_name(runtime: Runtime) -> None:
    """It must be told which."""
    assert runtime("start").status >= 1


def test_a_program_that_is_not_there_fails_already_at_create(runtime: Runtime) -> None:
    """Docker and podman make exit status 127 of these words."""
    bundle = str(runtime.bundle(("no-such-program",)))
    runtime.refused(
        "create", "-b", bundle, runtime.name(), says="executable file not found in $PATH"
    )


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("/no/such/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
        ("/etc", ("permission denied", "is a directory")),
        ("/etc/passwd/x", ("not a directory", "no such file")),
    ],
)
def test_a_program_that_cannot_be_run(
    runtime: Runtime, program: str, says: str | tuple[str, ...]
) -> None:
    """Docker and podman make exit status 126 or 127 of these words."""
    bundle = str(runtime.bundle((program,)))
    runtime.refused("create", "-b", bundle, runtime.name(), says=says)


def test_a_program_that_only_execve_can_judge(runtime: Runtime) -> None:
    """Executable, but in no known format: then it is start that fails."""

    def broken(config: Spec) -> None:
        file = runtime.base / "broken"
        file.write_bytes(b"\x7fELF but not really")
        file.chmod(0o755)
        config["mounts"].append(
            {"destination": "/tmp/broken", "source": str(file), "type": "bind", "options": ["bind"]}
        )
        config["process"]["args"] = ["/tmp/broken"]

    container = runtime.create(("true",), broken)
    done = container("start")
    container.wait_stopped()
    # runc's start has succeeded by then, and its init tells the caller's standard error
    told = done.errors + container.stdout.with_suffix(".err").read_text()
    assert "exec format error" in told.lower()


def test_the_search_path_is_the_containers(runtime: Runtime) -> None:
    """PATH as config.json has it, and not the caller's."""

    def path(config: Spec) -> None:
        config["process"]["env"] = ["PATH=/nowhere"]

    bundle = str(runtime.bundle(("true",), path))
    runtime.refused(
        "create", "-b", bundle, runtime.name(), says="executable file not found in $PATH"
    )


def test_the_start_holds_no_descriptor_of_the_runtime(runtime: Runtime) -> None:
    """The program has its input and output, and nothing else open."""
    container = runtime.start("ls /proc/self/fd | tr '\\n' ' '; echo; sleep 600")
    container.wait_for("\n")
    # 3 is the directory that ls reads
    assert container.output().split() == ["0", "1", "2", "3"]


def test_many_descriptors_of_the_caller_stay_outside(runtime: Runtime) -> None:
    """A caller's open files are not the container's: CVE-2024-21626."""
    fds = tuple(os.open("/", os.O_RDONLY) for _ in range(20))
    try:
        container = runtime.start(
            "ls /proc/self/fd | tr '\\n' ' '; echo; sleep 600", lambda _: None, pass_fds=fds
        )
    finally:
        for fd in fds:
            os.close(fd)
    container.wait_for("\n")
    assert container.output().split() == ["0", "1", "2", "3"]


def test_the_program_lives_when_its_starter_has_gone(runtime: Runtime) -> None:
    """Nothing of ours stays, and nothing is tied to it."""
    container = runtime.start("trap '' HUP; echo ready; sleep 600")
    pid = container.pid
    wait_until(lambda: container.output() == "ready\n", "the program")
    assert is_alive(pid)
