"""Stories of commands through the engine: who did what, in which order, and nothing missing."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer import steps
from minicontainer.learn import recording
from minicontainer.runtime.child import init
from tests.conftest import PATIENCE_S, command, wait_until
from tests.terminal import Terminal

if TYPE_CHECKING:
    from tests.learn.conftest import Engine

RUN = ("run", "--rm", "--net", "none")


def events_of(errors: str) -> list[dict[str, Any]]:
    """Read what --json printed."""
    return [json.loads(line) for line in errors.splitlines()]


def begun(events: list[dict[str, Any]], *actors: str) -> list[str]:
    """Name the steps that some actors began, in their order."""
    return [e["step"] for e in events if not e.get("call") and (not actors or e["actor"] in actors)]


def test_a_run_is_one_story_from_the_client_to_init(engine: Engine) -> None:
    """Each part tells its own; the first to speak is the client, then engine, monitor, init."""
    result = engine(*RUN, "--json", "busybox", "echo", "hi")
    assert result.output == "hi\n"
    told = events_of(result.errors)
    order = list(dict.fromkeys(event["actor"] for event in told))
    assert order == ["client", "engine", "spawner", "monitor", "creator", "init"]
    first = "keep-parent-cgroup"  # of an engine's first start alone
    assert [step for step in begun(told, "engine") if step != first][:5] == [
        "resolve-image", "make-directory", "write-bundle", "connect-container", "hand-to-monitor",
    ]  # fmt: skip
    always = [steps.step_name(step) for step in init.RECIPE if not hasattr(step, "asked")]
    assert [step for step in begun(told, "init") if step in always] == always
    requests = [event["call"] for event in told if event["actor"] == "client" and event["call"]]
    assert requests[0] == "POST /containers/create"
    assert requests[-1].startswith("POST /containers/")
    assert requests[-1].endswith("/start")


def test_an_engines_first_start_has_a_reason_for_each_call(own_engine: Engine) -> None:
    """It makes a cgroup that stays; and here the mount of /dev/shm, which others may have."""
    words = (*RUN, "--ipc", "shareable", "--json", "busybox", "true")
    told = events_of(own_engine(*words).errors)
    assert all(event["step"] for event in told), "a call between the steps has no reason"
    assert {"keep-parent-cgroup", "share-memory", "unshare-memory"} <= set(begun(told, "engine"))
    again = events_of(own_engine(*words).errors)
    assert "keep-parent-cgroup" not in begun(again, "engine")


def test_the_decision_about_the_image_is_told(engine: Engine) -> None:
    """It is here, or a registry must be asked: then the client sends a request for that."""
    here = events_of(engine(*RUN, "--json", "busybox", "true").errors)
    found = {
        e["object"]: e["after"] for e in here if e["step"] == "resolve-image" and e.get("call")
    }
    image_id = engine("image", "inspect", "--format", "{{.Id}}", "busybox").output.strip()
    assert found == {"image:busybox": f"here: {image_id}"}
    there = engine(*RUN, "--json", "127.0.0.1:1/nosuch", "true", status=125).errors
    told = events_of("".join(line for line in there.splitlines(True) if line.startswith("{")))
    (looked,) = (e for e in told if e["step"] == "resolve-image" and e.get("call"))
    assert looked["after"] == "not here: a registry must be asked"
    asked = [e["call"] for e in told if e["actor"] == "client" and e.get("call")]
    assert asked[-1].startswith("POST /images/create")


def test_every_event_is_delivered_once_and_each_process_in_its_order(engine: Engine) -> None:
    """Creator and init together number what they send; clocks do not run backwards.

    The creator also sends what was done ahead. The monitor has numbers of its own.
    """
    told = events_of(engine(*RUN, "--json", "busybox", "true").errors)
    by_monitor = [e for e in told if e["actor"] == "monitor" and e["t"] >= 0]
    by_creator = [e for e in told if e["actor"] not in ("client", "engine") and e not in by_monitor]
    for events in (by_monitor, by_creator):
        numbers = [event["seq"] for event in events]
        assert numbers == list(range(1, len(numbers) + 1))
    for actor in ("client", "engine", "monitor", "creator", "init"):
        times = [event["t"] for event in told if event["actor"] == actor]
        assert times == sorted(times)


def test_two_runs_tell_the_same(engine: Engine) -> None:
    """Nothing is lost: the same steps and calls, whoever was faster this time."""

    def calls() -> dict[str, list[tuple[str, str]]]:
        told = events_of(engine(*RUN, "--json", "busybox", "true").errors)
        return {
            actor: [(e["step"], e.get("call", "")) for e in told if e["actor"] == actor]
            for actor in ("monitor", "creator", "init")
        }

    assert calls() == calls()


def test_stories_of_other_commands(engine: Engine) -> None:
    """Exec joins, stop kills, rm takes away; what they print to standard output is unchanged."""
    engine("run", "-d", "--net", "none", "--name", "told", "busybox", "sleep", "1000")
    execs = events_of(engine("exec", "--json", "told", "true").errors)
    assert any(event["call"] == "setns" for event in execs if event.get("call"))
    limits = ("--memory", "64m", "--memory-swap", "-1")
    updated = events_of(engine("update", "--json", *limits, "told").errors)
    assert any(
        event.get("object", "").endswith(("memory.max", "memory.limit_in_bytes"))
        or "memory" in str(event.get("args"))
        for event in updated
    )
    stopped = engine("stop", "-t", "0", "--json", "told")
    assert stopped.output == "told\n"
    assert any(event["call"].startswith("pidfd") or event["call"] == "kill"
               for event in events_of(stopped.errors) if event.get("call"))  # fmt: skip
    for story in (execs, updated, events_of(stopped.errors)):
        assert all(event["step"] for event in story), "a call between the steps has no reason"
    removed = engine("rm", "--explain", "told")
    assert removed.output == "told\n"
    assert "1. send-request   [client" in removed.errors


def test_a_story_fits_eighty_columns(engine: Engine) -> None:
    """In both short levels."""
    for level in ("steps", "calls"):
        told = engine(*RUN, f"--explain={level}", "busybox", "true").errors
        assert max(map(len, told.splitlines())) <= 80
        assert "enter-rootfs" in told


def test_plain_is_a_way_to_explain(engine: Engine) -> None:
    """`--plain` alone tells the calls, as `--explain --plain` does."""
    told = engine(*RUN, "--plain", "busybox", "true").errors
    assert "$ mount --make-rprivate /\n" in told
    assert engine(*RUN, "busybox", "true").errors == ""  # the control


def test_a_plain_story_has_a_line_for_each_step_and_act(engine: Engine) -> None:
    """In each level: no line goes on in the next one, and nothing is cut off."""
    for level, act in (("steps", ""), ("calls", "$ mount --make-rprivate /"), ("full", "> mount(")):
        told = engine(*RUN, f"--explain={level}", "--plain", "busybox", "true").errors
        lines = told.splitlines()
        assert all(re.match(r"\d+[.] |[$>] |\(back in ", line) for line in lines), told
        reason = "Cut the mount namespace off from the host's, before the first mount."
        assert any("isolate-mounts [init, " in line and reason in line for line in lines)
        assert any(line.startswith(act) for line in lines)


def test_a_recording_of_a_run_is_replayed(engine: Engine, tmp_path: Path) -> None:
    """By a user without rights, without an engine; as text and as a page."""
    kept = tmp_path / "kept"
    assert engine(*RUN, "--record", str(kept), "busybox", "echo", "hi").output == "hi\n"
    found = recording.read(str(kept))
    assert found.command.startswith("run --rm")
    actors = {entry.event.actor for entry in found.entries}
    assert actors == {"client", "engine", "spawner", "monitor", "creator", "init"}
    told = engine("replay", str(kept)).output
    assert "send-request   [client" in told
    assert "run-program   [init" in told
    engine("replay", str(kept), "--html", str(tmp_path / "page.html"))
    assert '"command": "run --rm' in (tmp_path / "page.html").read_text()


def test_a_command_that_fails_ends_its_story(engine: Engine, tmp_path: Path) -> None:
    """The engine's one line comes last; the recording is whole."""
    kept = tmp_path / "kept"
    result = engine(*RUN, "--record", str(kept), "busybox", "/no/program", status=127)
    assert "/no/program" in result.errors
    assert any(entry.event.actor == "init" for entry in recording.read(str(kept)).entries)
    missing = engine("start", "--explain", "nobody", status=1)
    lines = missing.errors.splitlines()
    story = next(i for i, line in enumerate(lines) if ". send-request   [client" in line)
    assert story < next(i for i, line in enumerate(lines) if "No such container: nobody" in line)


@pytest.mark.parametrize("option", ["--explain", "--explain=steps", "--json", "--without=pid"])
def test_lines_begin_at_the_left_though_the_terminal_is_raw(engine: Engine, option: str) -> None:
    """With -it it is, while init still tells."""
    terminal = Terminal(engine.words("run", "--rm", "-it", "--net", "none", option, "busybox",
                                     "echo", "hello"))  # fmt: skip
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert "hello\r\n" in terminal.seen
    assert terminal.seen.count("\n") > 5
    assert not re.findall(r"(?<!\r)\n", terminal.seen)


def test_kernel_events_of_every_container(engine: Engine) -> None:
    """`events --kernel` follows commands that know nothing of it; each line names the container."""
    watch = subprocess.Popen(
        engine.words("events", "--kernel", "--format", "json"), stdout=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    try:
        # The watcher hears from when the engine has answered it: a start tells when that is.
        heard: list[dict[str, Any]] = []
        ids = [engine("create", "--net", "none", "busybox", "true").output.strip()]

        def hears() -> bool:
            engine("start", "-a", ids[0])
            return bool(select_lines(watch, heard))

        wait_until(hears, "the first event")
        ids.append(engine("create", "--net", "none", "busybox", "true").output.strip())
        engine("start", "-a", ids[1])
        wait_until(
            lambda: (
                select_lines(watch, heard)
                and any(e.get("container") == ids[1] and e["step"] == "run-program" for e in heard)
            ),
            "the second container's events",
        )
    finally:
        watch.terminate()
        watch.communicate(timeout=PATIENCE_S)
    assert {"engine", "monitor", "creator", "init"} <= {event["actor"] for event in heard}


def test_the_engines_own_kernel_events_name_the_container(engine: Engine) -> None:
    """Of a start, a change, a signal, an exec, an end, a removal; there is none before it is."""
    watch = subprocess.Popen(
        engine.words("events", "--kernel", "--format", "json"), stdout=subprocess.PIPE, text=True
    )
    heard: list[dict[str, Any]] = []
    try:
        wait_until(lambda: bool(engine(*RUN, "busybox", "true")) and select_lines(watch, heard),
                   "the first event")  # fmt: skip
        heard.clear()
        one = engine("run", "-d", "--net", "none", "busybox", "sleep", "1000").output.strip()
        engine("update", "--memory", "64m", one)
        engine("exec", one, "true")
        engine("rm", "-f", one)
        wait_until(
            lambda: (
                select_lines(watch, heard)
                and any((e["step"], e["actor"]) == ("discard-directory", "engine") for e in heard)
            ),
            "the removal",
        )
    finally:
        watch.terminate()
        watch.communicate(timeout=PATIENCE_S)
    own = {(e["step"], e.get("container")) for e in heard if e["actor"] == "engine"}
    assert {(step, of) for step, of in own if of != one} == {
        ("resolve-image", None), ("make-directory", None)
    }  # fmt: skip
    assert {
        "write-bundle", "hand-to-monitor", "change-limits", "hand-to-exec-parent", "kill",
        "disconnect-container", "discard-directory",
    } <= {step for step, of in own if of}  # fmt: skip


def select_lines(process: subprocess.Popen[str], into: list[dict[str, Any]]) -> int:
    """Read the lines that are there now; give how many there have been at all."""
    assert process.stdout is not None
    fd = process.stdout.fileno()
    rest = b""
    while select.select([fd], [], [], 0.2)[0]:
        part = os.read(fd, 1 << 20)
        if not part:
            break
        rest += part
    into += [json.loads(line) for line in rest.splitlines() if line]
    return len(into)


def test_kernel_events_fit_the_screen(engine: Engine) -> None:
    """A heading for each process and step, and its calls below, in 80 columns."""
    with subprocess.Popen(
        ["timeout", "4", *engine.words("events", "--kernel")], stdout=subprocess.PIPE, text=True
    ) as watch:
        while watch.poll() is None:
            engine(*RUN, "busybox", "true")
        assert watch.stdout is not None
        lines = watch.stdout.read().splitlines()
    headings = [line for line in lines if not line.startswith("    ")]
    who = r"([0-9a-f]{12}|-           ) (engine|spawner|monitor|creator|init) +\d+  "
    form = rf"{who}([a-z-]+ \(\w+\.py:\d+\)|between the steps)"
    assert all(re.fullmatch(form, line) for line in headings), headings
    assert any("isolate-mounts" in line for line in headings)
    assert lines[lines.index(next(x for x in headings if "isolate-mounts" in x)) + 1] == (
        '    mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL) = 0'
    )
    long = [line for line in lines if len(line) > 80 and " " in line.strip()]
    assert not long, long


def test_kernel_events_refuse_a_past(engine: Engine) -> None:
    """They are not kept."""
    result = engine("events", "--kernel", "--since", "1h", status=1)
    assert result.errors == "minicontainer: --kernel shows what happens now: leave --since out\n"


def test_replay_needs_neither_root_nor_engine(engine: Engine, everyones: Path) -> None:
    """A user without rights, and an engine's address at which nothing listens."""
    kept = everyones / "kept"
    engine(*RUN, "--record", str(kept), "busybox", "true")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*nobody, *command("minicontainer"), "-H", "unix:///none", "replay", str(kept)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert "enter-rootfs   [init" in done.stdout
    assert done.stderr == ""


def test_what_replay_refuses(engine: Engine, tmp_path: Path) -> None:
    """In one line each: no file, one that was cut off, a language that is not in it."""
    kept = tmp_path / "kept"
    engine(*RUN, "--record", str(kept), "busybox", "true")
    (tmp_path / "cut").write_text("".join(kept.read_text().splitlines(keepends=True)[:-1]))
    for words, says in (
        ((str(tmp_path / "none"),), "no recording at"),
        ((str(tmp_path / "cut"),), "was cut off"),
        (("--lang", "xx", str(kept)), "--lang xx: the recording has en, ru"),
        (("--html", "/no/where", str(kept)), "--html /no/where: No such file or directory"),
        (("--slower", "fast", str(kept)), "expected a number"),
    ):
        errors = engine("replay", *words, status=125).errors
        assert errors.startswith("minicontainer: ")
        assert errors.count("\n") == 1
        assert says in errors
