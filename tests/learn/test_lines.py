"""`--explain` fits 80 columns: where its lines end, and what stays one word."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from minicontainer.event import Event
from minicontainer.learn import explain
from tests.conftest import Run


def told(event: Event, level: str = "full") -> str:
    """Give the text for an event."""
    out = io.StringIO()
    explainer = explain.Explainer(out, level)
    explainer(event)
    explainer.finish()
    return out.getvalue()


LAYERS = ":".join(f"/var/lib/minicontainer/layers/{digit * 12}/diff" for digit in "123456")


@pytest.mark.parametrize(
    "shell",
    [
        f"mount -t overlay -o lowerdir={LAYERS} -o workdir=/w overlay /rootfs",
        f"mkdir /{'d' * 200}",
        f"mount --rbind '/srv/{'a b' * 60}' '/it'\\''s{' here' * 30}' -o ro",
        f"echo '{'text ' * 40}' > /x",
    ],
)
def test_a_long_word_of_a_command_goes_on_in_the_next_line(shell: str) -> None:
    """Without a blank, so the shell reads the same word."""
    event = Event(call="mount", args=(LAYERS,), result=0, shell=shell)
    text = told(event)
    assert max(map(len, text.splitlines())) <= 80
    typed = text.partition("     $ ")[2]
    assert shlex.split(typed.replace("\\\n", "")) == shlex.split(shell)


def test_a_long_argument_goes_on_in_the_next_line() -> None:
    """In a call, the next line is further to the right, as those between arguments are."""
    path = f"/srv/{'d' * 92}"
    first, more = told(Event(call="mkdir", args=(path, 0o755), result=0)).splitlines()[-2:]
    assert max(len(first), len(more)) <= 80
    assert more.startswith(" " * 7)
    assert f'"{path}"' in first + more[7:]


def test_what_is_told_at_once_is_printed_at_once() -> None:
    """A program that prints meanwhile does not come between the lines of a call."""

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            printed.append(text)
            return len(text)

    printed: list[str] = []
    explainer = explain.Explainer(Out(), "calls")
    explainer(Event(step="run-program", actor="init"))
    explainer(Event(step="run-program", actor="init", call="execve", args=("/x" * 50,)))
    explainer.finish()
    assert len(printed) == 2
    assert printed[1].count("\n") > 1


def test_a_path_with_a_blank_is_one_word(run: Run, tmp_path: Path) -> None:
    """Of the commands, too."""
    source = tmp_path / "a b"
    source.mkdir()
    text = run("true", "--explain=full", "--net", "none", "-v", f"{source}:/x y/it's:ro").errors
    commands = re.findall(r"^     \$ (m(?:.*\\\n)*.*)$", text, re.M)
    words = [shlex.split(command.replace("\\\n", "")) for command in commands]
    assert ["mkdir", "/x y"] in words
    assert ["mount", "--rbind", str(source), "/x y/it's", "-o"] in [one[:5] for one in words]


def test_each_layer_of_an_image_is_told() -> None:
    """The lower directories are one word, with colons between them."""
    shell = f"mount -t overlay -o lowerdir={LAYERS} overlay /rootfs"
    event = Event(call="move_mount", step="mount-rootfs", result=0, shell=shell)
    text = told(event, "calls")
    assert LAYERS in "".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
