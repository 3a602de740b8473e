"""Options before the command, and what is said when there is none or a wrong one."""

from __future__ import annotations

import datetime
import json
import os
import re
from pathlib import Path

import pytest

from .runtime import Runtime

TEXT_LINE = re.compile(r'time="[^"]+" level=(\w+) msg="?[^\n]+')
NOBODY = "nobody-has-this-name"


def log_lines(file: Path) -> list[dict[str, str]]:
    """Read a log of JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_version(runtime: Runtime) -> None:
    """Engines read the name and the version from the first line: `podman info`."""
    first, *others = runtime.ok("--version").splitlines()
    name = Path(runtime.program[0]).name if len(runtime.program) == 1 else "minicontainer-oci"
    assert re.fullmatch(rf"{name} version \d+\.\d+\.\d+\S*", first)
    assert [line for line in others if re.fullmatch(r"spec: 1\.\d+\.\d+\S*", line)]
    assert runtime.ok("-v") == runtime.ok("--version")


def test_help_names_the_commands(runtime: Runtime) -> None:
    """All that engines call."""
    told = runtime.ok("--help")
    for name in ("create", "start", "state", "kill", "delete", "run", "list", "ps", "pause"):
        assert name in told
    assert "--pid-file" in runtime.ok("create", "--help")


def test_root_is_where_the_state_is(runtime: Runtime) -> None:
    """Engines give each of their namespaces one, and expect others to stay empty."""
    container = runtime.create()
    assert runtime.containers() == [container.id]
    elsewhere = runtime.base / "elsewhere"
    done = runtime.finish(
        runtime.begin([*runtime.program, "--root", str(elsewhere), "state", container.id])
    )
    assert done.status >= 1
    assert "does not exist" in done.errors


def test_a_relative_root(runtime: Runtime) -> None:
    """It is meant from the caller's directory, and holds for the next caller there."""
    name, bundle = runtime.name(), runtime.bundle(("true",))
    for words in (("create", "-b", str(bundle), name), ("start", name)):
        call = runtime.begin([*runtime.program, "--root", "state", *words], cwd=runtime.base)
        assert (call.wait().status, runtime.containers()) == (0, [name])


def test_an_error_goes_to_the_log_too(runtime: Runtime) -> None:
    """containerd and conmon take the last JSON line with "level":"error", and its `msg`."""
    log = runtime.base / "log"
    done = runtime("--log", str(log), "--log-format", "json", "state", NOBODY)
    assert done.status >= 1
    assert "does not exist" in done.errors
    last = log_lines(log)[-1]
    assert last["level"] == "error"
    assert "does not exist" in last["msg"]
    then = datetime.datetime.fromisoformat(last["time"])
    assert abs(datetime.datetime.now(datetime.UTC) - then) < datetime.timedelta(minutes=5)


def test_a_log_of_text(runtime: Runtime) -> None:
    """The format when none is named."""
    log = runtime.base / "log"
    runtime("--log", str(log), "state", NOBODY)
    runtime("--log", str(log), "--log-format=text", "state", NOBODY)
    lines = log.read_text().splitlines()
    assert len(lines) == 2  # the second was appended
    for line in lines:
        found = TEXT_LINE.fullmatch(line)
        assert found, line
        assert found[1] == "error"
        assert "does not exist" in line


def test_what_succeeds_logs_no_error(runtime: Runtime) -> None:
    """Else an engine would take an old error for this call's."""
    log = runtime.base / "log"
    name = runtime.name()
    overall = ("--log", str(log), "--log-format", "json")
    runtime.ok(*overall, "create", "-b", str(runtime.bundle(("true",))), name)
    runtime.ok(*overall, "start", name)
    runtime.ok(*overall, "delete", "--force", name)
    assert not log.exists() or not [e for e in log_lines(log) if e["level"] == "error"]


@pytest.mark.parametrize("length", [1, 1000])
def test_a_message_with_all_kinds_of_characters_is_one_json_line(
    runtime: Runtime, length: int
) -> None:
    """Whatever the user wrote: quotes, a line break, a control character."""
    log = runtime.base / "log"
    strange = 'a"b\\c\n\x01é' * length
    done = runtime("--log", str(log), "--log-format", "json", "state", strange)
    assert done.status >= 1
    assert log_lines(log)[-1]["level"] == "error"


@pytest.mark.ours("runc prints its help instead")
def test_no_command(runtime: Runtime) -> None:
    """There is nothing to do, and that is an error."""
    runtime.refused(says="command")


def test_a_command_that_is_not_there(runtime: Runtime) -> None:
    """Said in a word, not by a traceback."""
    done = runtime("no-such-command")
    assert done.status >= 1
    assert "no-such-command" in done.errors + done.output


@pytest.mark.parametrize(
    "words", [("--no-such", "list"), ("list", "--no-such"), ("create", "--pid-file")]
)
def test_an_option_that_is_not_there_or_has_no_value(
    runtime: Runtime, words: tuple[str, ...]
) -> None:
    """The same."""
    done = runtime(*words)
    assert done.status >= 1
    assert words[-1].lstrip("-") in done.errors + done.output or "no-such" in done.errors


def test_an_option_that_is_not_there_goes_to_the_log_too(runtime: Runtime) -> None:
    """Engines read there why a call that they wrote themselves was not understood."""
    log = runtime.base / "log"
    done = runtime("--log", str(log), "--log-format", "json", "create", "--no-such", NOBODY)
    assert done.status >= 1
    (last,) = [entry for entry in log_lines(log) if entry["level"] == "error"]
    assert "no-such" in last["msg"]


@pytest.mark.ours("runc opens its log once it has understood the options before the command")
@pytest.mark.parametrize("words", [("--no-such", "list"), ("no-such",), ("--root",), ()])
def test_a_bad_call_is_told_to_a_log_that_was_named_before(
    runtime: Runtime, words: tuple[str, ...]
) -> None:
    """And to none that is not named: the control."""
    log = runtime.base / "log"
    done = runtime("--log", str(log), "--log-format", "json", *words)
    (line,) = log_lines(log)
    assert (done.status, line["level"]) == (1, "error")
    assert done.errors.rstrip("\n").endswith(line["msg"])
    log.unlink()
    assert (runtime(*words).status, log.exists()) == (1, False)


def test_a_log_format_that_is_not_there(runtime: Runtime) -> None:
    """Neither text nor json."""
    done = runtime("--log-format", "xml", "list")
    assert done.status >= 1
    assert "xml" in done.errors


def test_debug_tells_more_and_changes_nothing(runtime: Runtime) -> None:
    """What the program prints is still alone on the output."""
    done = runtime(
        "--debug", "run", "-b", str(runtime.bundle("echo hello")), runtime.name()
    )  # fmt: skip
    assert (done.status, done.output) == (0, "hello\n")
    assert len(done.errors.splitlines()) > 3


@pytest.mark.parametrize("form", ["text", "json"])
def test_debug_goes_to_the_log_alone(runtime: Runtime, form: str) -> None:
    """With create, the runtime's stderr is the container's: engines keep it with its output."""
    log, bundle = runtime.base / "log", runtime.bundle("echo hello; echo said >&2")
    overall = ("--debug", "--log", str(log), "--log-format", form)
    done = runtime(*overall, "run", "-b", str(bundle), runtime.name())
    assert (done.status, done.output, done.errors) == (0, "hello\n", "said\n")
    lines = log.read_text().splitlines()
    assert len(lines) > 3
    for line in lines:
        found = TEXT_LINE.fullmatch(line)
        level = json.loads(line)["level"] if form == "json" else found and found[1]
        assert level in ("debug", "info")


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs here")
def test_systemd_cgroups_without_systemd(runtime: Runtime) -> None:
    """Refused, and not done by hand instead: the caller would look for a scope."""

    def slices(config: dict[str, dict[str, object]]) -> None:
        config["linux"]["cgroupsPath"] = f"system.slice:mc:{runtime.prefix}"

    bundle = runtime.bundle(("true",), slices)
    runtime.refused("--systemd-cgroup", "run", "-b", str(bundle), runtime.name(), says="systemd")


@pytest.mark.parametrize("mode", ["true", "false", "auto"])
def test_rootless_is_accepted(runtime: Runtime, mode: str) -> None:
    """All three words."""
    bundle = runtime.bundle(("true",))
    done = runtime("--rootless", mode, "run", "-b", str(bundle), runtime.name())
    assert done.status == 0


@pytest.mark.parametrize("command", ["checkpoint", "restore"])
@pytest.mark.ours("runc has it, through CRIU")
def test_checkpoint_and_restore_are_refused(runtime: Runtime, command: str) -> None:
    """With the options that podman gives, too."""
    container = runtime.start()
    runtime.refused(command, container.id, says="not there yet")
    options = ("--image-path", str(runtime.base), "--work-path", str(runtime.base))
    runtime.refused(command, *options, container.id, says="not there yet")
    assert container.status == "running"
