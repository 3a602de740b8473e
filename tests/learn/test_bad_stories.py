"""Stories that go wrong in the middle: one clear line, and nothing is left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import InvalidArgument
from minicontainer.learn import recorder, recording
from tests.conftest import PATIENCE_S, wait_until
from tests.learn.conftest import Engine
from tests.learn.test_stories import select_lines

ENDS_AT_TERM = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.1; done"
ENDS_AT_INTERRUPT = "trap 'exit 3' INT; echo ready; while :; do sleep 0.1; done"


def begin(engine: Engine, *words: str) -> subprocess.Popen[str]:
    """Type a command, and go on when its container's program has printed a line."""
    process = subprocess.Popen(
        engine.words(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("option", ["--explain", "--record"])
def test_the_engine_is_killed_in_mid_story(own_engine: Engine, tmp_path: Path, option: str) -> None:
    """One line says so; the container runs on; what was recorded until then can be read."""
    kept = tmp_path / "kept"
    options = ("--explain=steps",) if option == "--explain" else ("--record", str(kept))
    words = ("run", "--net", "none", "--name", "cut", *options, "busybox", "sh", "-c")
    process = begin(own_engine, *words, ENDS_AT_INTERRUPT)
    pid = own_engine("inspect", "-f", "{{.State.Pid}}", "cut").output.strip()
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    time.sleep(0.5)  # the last events are still on their way
    os.kill(own_engine.pid, signal.SIGKILL)
    own_engine.process.wait(PATIENCE_S)
    # Its output is the monitor's: only what the client asks the engine next finds it gone.
    os.kill(monitor, signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 125
    complaints = [line for line in errors.splitlines() if line.startswith("minicontainer: ")]
    assert len(complaints) == 1, errors
    assert "Traceback" not in errors
    if option == "--record":
        assert any(e.event.step == "run-program" for e in recording.read(str(kept)).entries)
    own_engine.start()
    own_engine("rm", "-f", "cut")


def test_an_interrupt_in_mid_story(engine: Engine, tmp_path: Path) -> None:
    """It is the program's; the recording is whole, and the container is removed."""
    kept = tmp_path / "kept"
    words = ("run", "--rm", "--net", "none", "--record", str(kept), "busybox", "sh", "-c")
    process = begin(engine, *words, ENDS_AT_INTERRUPT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (3, "")
    steps = [entry.event.step for entry in recording.read(str(kept)).entries]
    assert "remove-cgroup" in steps
    assert engine("ps", "-aq").output == ""


def test_an_interrupt_of_a_reader(engine: Engine) -> None:
    """`events --kernel` ends without a word."""
    process = subprocess.Popen(
        engine.words("events", "--kernel", "--format", "json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    made = engine("create", "--net", "none", "busybox", "true").output.strip()

    heard: list[dict[str, Any]] = []

    def is_heard() -> bool:
        engine("start", "-a", made)
        return bool(select_lines(process, heard))

    wait_until(is_heard, "an event")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (-signal.SIGINT, "")  # a shell shows 130
    engine("rm", made)


def test_a_recording_that_is_cut_in_half(engine: Engine, tmp_path: Path) -> None:
    """In whichever place: one line, by `replay` and by `replay --html`; no page is made."""
    kept = tmp_path / "kept"
    engine("run", "--rm", "--net", "none", "--record", str(kept), "busybox", "true")
    whole = kept.read_text()
    for part in (2, 3, 10):
        kept.write_text(whole[: len(whole) // part])
        for words in ((), ("--html", str(tmp_path / "page.html"))):
            errors = engine("replay", "--lang", "en", *words, str(kept), status=125).errors
            assert errors.count("\n") == 1
            assert "cut off" in errors
    assert not (tmp_path / "page.html").exists()


def test_a_command_that_is_not_utf_8_is_recorded(engine: Engine, tmp_path: Path) -> None:
    """The replay and its page show what is not as its escapes."""
    kept, page = tmp_path / "kept", tmp_path / "page.html"
    words = ("run", "--rm", "--net", "none", "-e", "NAME=\udcff", "-w", "/\udcfe")
    engine(*words, "--record", str(kept), "busybox", "true")
    assert "NAME=\udcff" in recording.read(str(kept)).command
    assert "start-program" in engine("replay", "--lang", "en", str(kept)).output
    engine("replay", "--lang", "en", "--html", str(page), str(kept))
    assert r"NAME=\udcff" in page.read_text()
    engine(*words, "--explain=full", "busybox", "true")


def test_a_recording_of_another_version(engine: Engine, tmp_path: Path) -> None:
    """The line names both versions, and what to do."""
    kept = tmp_path / "kept"
    kept.write_text('{"recording": 7}\n{"end": true, "events": 0}\n')
    errors = engine("replay", "--lang", "en", str(kept), status=125).errors
    assert errors == (
        f"minicontainer: {kept} is a recording of version 7, and this program reads "
        f"version {recorder.FORMAT}: record it again\n"
    )
    with pytest.raises(InvalidArgument, match="version 7"):
        recording.read(str(kept))


def test_a_place_where_nothing_can_be_recorded(engine: Engine) -> None:
    """Before anything is made."""
    words = ("run", "--rm", "--net", "none", "--record", "/no/where/kept", "busybox", "true")
    errors = engine(*words, status=125).errors
    assert errors == "minicontainer: --record /no/where/kept: No such file or directory\n"
    assert engine("ps", "-aq").output == ""


def test_a_recording_that_does_not_fit(engine: Engine) -> None:
    """The command does all its work; then one line says why there is no recording."""
    words = ("run", "--rm", "--net", "none", "--record", "/dev/full", "busybox", "echo", "hi")
    result = engine(*words, status=125)
    assert result.output == "hi\n"
    assert result.errors == "minicontainer: --record /dev/full: No space left on device\n"
    missing = engine("start", "--record", "/dev/full", "nobody", status=1).errors
    assert "No such container: nobody" in missing
    assert "--record /dev/full" in missing
    assert engine("ps", "-aq").output == ""


def test_another_command_does_not_end_the_story(engine: Engine, tmp_path: Path) -> None:
    """A program that `exec` starts has no part in the story of its container's run, which goes on.

    A healthcheck is such a program. Nor has a `stop` that is not told, though `events` hears it.
    """
    kept = tmp_path / "kept"
    watch = subprocess.Popen(engine.words("events", "--kernel"), stdout=subprocess.PIPE)
    assert watch.stdout is not None
    heard = watch.stdout.fileno()
    words = ("run", "--rm", "--net", "none", "--name", "told", "--record", str(kept), "busybox")
    process = begin(engine, *words, "sh", "-c", ENDS_AT_TERM)

    def is_heard() -> bool:
        engine("exec", "told", "true")
        return bool(select.select([heard], [], [], 0.1)[0])

    wait_until(is_heard, "the first event")
    engine("stop", "told")
    process.communicate(timeout=PATIENCE_S)
    watch.terminate()
    watch.communicate(timeout=PATIENCE_S)
    steps = [(entry.event.actor, entry.event.step) for entry in recording.read(str(kept)).entries]
    assert ("monitor", "remove-cgroup") in steps
    assert ("engine", "discard-directory") in steps
    assert not any(actor == "exec" for actor, _ in steps)


def test_a_filter_that_kills_is_the_last_step_told(engine: Engine, tmp_path: Path) -> None:
    """What came before it is told though init can't: it is killed at its next call of that name."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["prctl"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    (tmp_path / "profile").write_text(json.dumps(profile))
    options = ("--security-opt", f"seccomp={tmp_path}/profile")
    words = ("run", "--rm", "--net", "none", *options, "--json", "busybox", "true")
    told = engine(*words, status=125).errors.splitlines()
    events = [json.loads(line) for line in told if line.startswith("{")]
    assert [e["step"] for e in events if e["actor"] == "init"][-1] == "filter-if-privileged"


@pytest.mark.parametrize(
    ("command", "status"), [("run", 125), ("container run", 125), ("create", 1)]
)
def test_without_an_engine_a_told_command_ends_as_an_untold_one(
    engine: Engine, tmp_path: Path, command: str, status: int
) -> None:
    """In Docker's status, and the same words; nothing is recorded."""
    address = f"unix://{tmp_path}/nobody"
    untold, told = (
        engine("--host", address, *command.split(), *told, "busybox", status=status).errors
        for told in ([], ["--record", str(tmp_path / "kept")])
    )
    assert told == untold
    assert f"Cannot connect to the Docker daemon at {address}" in told
    assert not (tmp_path / "kept").exists()
