"""How a container ends: exit statuses, signals, and commands that are killed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from minicontainer.cgroups import hierarchies
from tests.conftest import PATIENCE_S, Run, Running, wait_until

from .conftest import members_of, namespace_of


def test_every_exit_status_is_passed_on(run: Run) -> None:
    """From 0 to 255: those that a shell can tell apart."""
    for status in (0, 1, 2, 42, 124, 125, 126, 127, 128, 137, 254, 255):
        result = run(f"exit {status}")
        assert (result.status, result.errors) == (status, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV])
def test_a_signals_death_is_128_and_its_number(run: Run, number: int) -> None:
    """Of process 1 too: from outside it can be sent, and SIGKILL always."""
    assert run(f"kill -{int(number)} $$", "--init").status == 128 + number
    if number == signal.SIGKILL:
        container = run.start("echo ready; sleep 600")
        container.stop()
        assert container.process.returncode == 128 + number


def test_programs_that_do_not_start(run: Run, volume: Path) -> None:
    """127 not found, 126 not executable: Docker's, each with a line."""
    (volume / "text").write_text("no program\n")
    (volume / "text").chmod(0o755)
    (volume / "script").write_text("#!/no/such/interpreter\n")
    (volume / "script").chmod(0o755)
    for words, status, why in (
        (("nothing",), 127, "executable file not found in $PATH"),
        (("/bin/nothing",), 127, "no such file or directory"),
        (("/etc/passwd/x",), 127, "not a directory"),
        (("/etc/passwd",), 126, "permission denied"),
        (("/etc",), 126, "is a directory: permission denied"),
        (("/vol/script",), 127, "its interpreter is missing: no such file or directory"),
        (("/vol/text",), 126, "Exec format error"),
    ):
        result = run(words, "-v", f"{volume}:/vol")
        assert (result.status, result.output) == (status, ""), words
        assert why in result.errors
        assert result.errors.startswith("minicontainer: ")
        assert result.errors.count("\n") == 1


def test_sigterm_is_passed_on(run: Run) -> None:
    """To a program that listens; what it says is the command's exit status."""
    container = run.start("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    container.process.send_signal(signal.SIGTERM)
    assert container.process.wait(PATIENCE_S) == 7


def test_other_signals_are_passed_on(run: Run) -> None:
    """Each by its number."""
    traps = 'for s in HUP INT QUIT USR1 USR2; do trap "echo $s" $s; done'
    script = f"{traps}; echo ready; while :; do sleep 0.1; done"
    container = run.start(script)
    assert container.process.stdout is not None
    for name in ("HUP", "INT", "QUIT", "USR1", "USR2"):
        container.process.send_signal(signal.Signals[f"SIG{name}"])
        assert container.process.stdout.readline() == f"{name}\n"


def test_the_third_sigint_ends_the_command(run: Run) -> None:
    """As with Docker's client: who is stuck gets away, is told so, and the program goes on."""
    container = run.start("trap 'echo no' INT; echo ready; while :; do sleep 0.1; done")
    assert container.process.stdout is not None
    for _ in range(2):
        container.process.send_signal(signal.SIGINT)
        assert container.process.stdout.readline() == "no\n"
    container.process.send_signal(signal.SIGINT)
    errors = container.process.communicate(timeout=PATIENCE_S)[1]
    assert errors == "\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n"
    assert container.process.returncode == 1
    assert Path(f"/proc/{container.pid}").exists()
    _remove(run, container)


# ---- the command is killed


def _remove(run: Run, container: Running) -> None:
    words = run.engine.command("rm", "--force", container.state["id"])
    subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE_S)


def _groups(container: Running) -> list[Path]:
    found = hierarchies.mounted()
    tops = [one.mount_point for one in (*found.v1, found.unified) if one]
    paths = [Path(f"{top}{container.state['cgroup']}") for top in tops]
    return [path for path in paths if path.exists()]


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["", "init"])
def test_a_container_outlives_a_killed_command(run: Run, options: tuple[str, ...]) -> None:
    """The monitor holds it; `rm --force` ends all its processes."""
    container = run.start("sleep 600 & echo ready; sleep 600", *options)
    namespace = namespace_of(container.pid, "pid")
    count = len(members_of(namespace))
    assert count >= 2
    container.process.kill()
    container.process.wait(PATIENCE_S)
    assert run("true").status == 0
    assert len(members_of(namespace)) == count
    _remove(run, container)
    assert not members_of(namespace)


def test_removal_takes_away_what_is_left(run: Run) -> None:
    """Cgroup, layer, state: the same look finds them before."""
    container = run.start("echo ready; sleep 600", "--net", "none")
    directory = Path(str(container.state["bundle"]))
    state = run.exec_root / "containers" / str(container.state["id"])
    container.process.kill()
    assert directory.exists()
    assert state.exists()
    assert _groups(container)
    _remove(run, container)
    assert not directory.exists()
    assert not state.exists()
    assert not _groups(container)


def test_processes_without_a_pid_namespace_are_taken_away_too(run: Run) -> None:
    """Nothing ends them with their first one; they are found by their cgroup."""
    container = run.start("sleep 600 & echo ready; sleep 600", without="pid")
    pids = [int(pid) for pid in (_groups(container)[0] / "cgroup.procs").read_text().split()]
    assert len(pids) >= 2
    container.stop()
    wait_until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "their end")


def test_a_running_container_is_not_taken_away(run: Run) -> None:
    """The control: the end of one touches no other."""
    container = run.start("echo ready; sleep 600")
    assert run("true").status == 0
    assert Path(f"/proc/{container.pid}").exists()
    assert Path(str(container.state["bundle"])).exists()


def test_nothing_is_left_after_an_ordinary_end(run: Run) -> None:
    """No file in the two roots; at mounts, cgroups, links, processes every test here looks."""
    run("mkdir /x; sleep 600 & exit 1", "--memory", "64m", "--init")
    assert not list((run.data_root / "containers").iterdir())
    assert [path.name for path in (run.exec_root / "containers").iterdir()] in ([], [".filters"])
    assert not list((run.exec_root / "monitors").iterdir())
