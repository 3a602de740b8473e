"""The OCI command line: what is an option, what takes a value, where options end."""

from __future__ import annotations

import re

import pytest

from minicontainer.errors import InvalidArgument
from minicontainer.runtime.cli import command_line, main
from minicontainer.runtime.cli.command_line import COMMANDS, GLOBAL, options_of, parse, split


def test_options_stand_before_and_after_the_argument() -> None:
    """As runc takes them: `delete ID --force` too."""
    for words in (
        ["delete", "--force", "web"],
        ["delete", "web", "-f"],
        ["delete", "-force", "web"],
    ):
        _, name, asked = split(words)
        assert (name, asked.arguments, asked.has("force")) == ("delete", ["web"], True)


def test_values_come_after_a_blank_or_an_equals_sign() -> None:
    """Also those that begin with a dash, or are empty."""
    for words in (["--pid-file", "-x"], ["--pid-file=-x"]):
        assert parse(COMMANDS["run"], [*words, "web"]).value("pid-file") == "-x"
    assert parse(COMMANDS["run"], ["--pid-file=", "web"]).value("pid-file", "none") == ""


def test_global_options_come_before_the_command() -> None:
    """As `runc --root DIR --log FILE --log-format json create …`."""
    overall, name, asked = split(
        ["--root", "/r", "--log-format=json", "create", "-b", "/b", "--pid-file", "p", "web"]
    )
    assert (overall.value("root"), overall.value("log-format"), name) == ("/r", "json", "create")
    assert (asked.value("bundle"), asked.value("pid-file"), asked.arguments) == ("/b", "p", ["web"])


def test_what_follows_exec_belongs_to_the_program() -> None:
    """Its options are not ours."""
    _, _, asked = split(["exec", "-t", "--env", "A=1", "-e", "B=2", "web", "ls", "-l", "--tty"])
    assert asked.arguments == ["web", "ls", "-l", "--tty"]
    assert asked.values("env") == ["A=1", "B=2"]
    assert asked.has("tty")


def test_two_dashes_end_the_options() -> None:
    """So that an argument may begin with one."""
    assert parse(COMMANDS["delete"], ["--", "-f"]).arguments == ["-f"]


def test_a_switch_can_be_turned_off() -> None:
    """As Go's flags can: --detach=false."""
    assert not parse(COMMANDS["run"], ["--detach=false", "web"]).has("detach")
    assert parse(COMMANDS["run"], ["--detach=true", "web"]).has("detach")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nosuch"], "no such command: nosuch"),
        (["run", "--nosuch", "web"], "unknown option --nosuch"),
        (["run", "--pid-file"], "option --pid-file needs a value"),
        (["--nosuch", "run"], "unknown option --nosuch"),
    ],
)
def test_what_makes_no_sense(words: list[str], says: str) -> None:
    """One line that names it."""
    with pytest.raises(InvalidArgument, match=re.escape(says)):
        split(words)


def test_numbers_are_numbers() -> None:
    """int() would take more than the kernel means."""
    assert parse(COMMANDS["run"], ["--preserve-fds=2", "web"]).number("preserve-fds") == 2
    for text in ("x", "", "1x", "--1", "٣"):
        with pytest.raises(InvalidArgument):
            parse(COMMANDS["run"], [f"--preserve-fds={text}", "web"]).number("preserve-fds")


def test_every_command_has_its_help_and_its_function() -> None:
    """A command that only one of the two tables knows can't be called, or not be understood."""
    assert set(COMMANDS) == set(main.FUNCTIONS)
    for name, text in COMMANDS.items():
        assert text.startswith(name), name
        assert all(len(line) <= 90 for line in text.splitlines()), name


def test_options_are_read_from_the_help() -> None:
    """Long and short spelling, and whether a value follows."""
    assert options_of(GLOBAL)["--root"] == ("root", True)
    assert options_of(COMMANDS["exec"])["-e"] == ("env", True)
    assert options_of(COMMANDS["exec"])["-t"] == ("tty", False)
    assert options_of(COMMANDS["run"])["--keep"] == ("keep", False)
    assert command_line.PROGRAM == "minicontainer-oci"
