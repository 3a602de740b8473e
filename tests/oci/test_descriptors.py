"""--preserve-fds: descriptors that the caller hands in, and no others."""

from __future__ import annotations

import pytest

from tests.conftest import Result, wait_until

from .runtime import Runtime

# 3 and so on are files of the caller's; `ls` and `read` have none of their own beside them
LOOK = "for n in 3 4 5 6 7 8 9; do if read line <&$n; then echo $line; fi 2>/dev/null; done"


def with_files(runtime: Runtime, words: list[str], before: str = "") -> Result:
    """Run a command of which descriptors 3 to 6 are open files, each of which knows its number.

    Args:
        before: what the shell does that becomes the command.
    """
    redirections = []
    for number in range(3, 7):
        (runtime.base / f"file{number}").write_text(f"file {number}\n")
        redirections.append(f"{number}<{runtime.base}/file{number}")
    opened = ["sh", "-c", f'{before} exec "$@" {" ".join(redirections)}', "sh", *words]
    return runtime.begin(opened).wait()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_preserved_descriptors(runtime: Runtime, count: int) -> None:
    """From 3 on as many as the option says; the others stay outside."""
    options = ("--preserve-fds", str(count)) if count else ()
    words = runtime.words("run", "-b", str(runtime.bundle(LOOK)), *options, runtime.name())
    done = with_files(runtime, words)
    assert done.status == 0, done
    assert done.output.splitlines() == [f"file {3 + i}" for i in range(count)]


def test_preserved_descriptors_through_create_and_start(runtime: Runtime) -> None:
    """create takes them in, and its process keeps them until the program runs."""
    name = runtime.name()
    bundle = str(runtime.bundle(f"{LOOK}; echo end"))
    done = with_files(runtime, runtime.words("create", "-b", bundle, "--preserve-fds", "2", name))
    assert (done.status, done.errors) == (0, "")
    runtime.ok("start", name)

    def outputs() -> set[str]:
        return {path.read_text() for path in runtime.base.glob("*.out")}

    wait_until(lambda: any("end" in text for text in outputs()), "the program's output")
    assert "file 3\nfile 4\nend\n" in outputs()


def test_sockets_of_systemd(runtime: Runtime) -> None:
    """LISTEN_FDS of them come first, and the program is told so: sd_listen_fds(3)."""
    script = f"echo $LISTEN_FDS $LISTEN_PID; {LOOK}"
    words = runtime.words(
        "run", "-b", str(runtime.bundle(script)), "--preserve-fds", "1", runtime.name()
    )
    done = with_files(runtime, words, "export LISTEN_FDS=2 LISTEN_PID=$$;")
    assert done.output.splitlines() == ["2 1", "file 3", "file 4", "file 5"]


def test_sockets_of_systemd_for_another_process(runtime: Runtime) -> None:
    """LISTEN_PID says whose they are: a parent's variables may only have come down to us."""
    script = f"echo ${{LISTEN_FDS-none}}; {LOOK}"
    words = runtime.words("run", "-b", str(runtime.bundle(script)), runtime.name())
    done = with_files(runtime, words, "export LISTEN_FDS=2 LISTEN_PID=1;")
    assert done.output.splitlines() == ["none"]


def test_a_descriptor_that_is_not_open(runtime: Runtime) -> None:
    """It can't be preserved."""
    words = ("run", "-b", str(runtime.bundle(LOOK)), "--preserve-fds", "40", runtime.name())
    done = with_files(runtime, runtime.words(*words))
    assert done.status >= 1
    assert "descriptor" in done.errors or "fd" in done.errors


@pytest.mark.parametrize(
    "number",
    [pytest.param("-1", marks=pytest.mark.ours("runc takes -1 for none")), "x", "1.5", ""],
)
def test_a_number_that_is_none(runtime: Runtime, number: str) -> None:
    """Nothing was begun."""
    bundle = str(runtime.bundle(LOOK))
    done = runtime("run", "-b", bundle, f"--preserve-fds={number}", runtime.name())
    assert done.status >= 1
    assert done.errors
