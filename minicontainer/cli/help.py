"""What `--help` shows: of the program, of a noun, of a command."""

from __future__ import annotations

import os
import sys

from minicontainer.cli.flags import PROGRAM
from minicontainer.cli.table import COMMANDS, NOUNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cli.flags import Command, Flag

_COMMON = ("run", "exec", "ps", "pull", "push", "images", "login", "logout", "version", "info")


def show(command: Command, name: str) -> int:
    """Show the help of a command."""
    sys.stdout.write(text_of(command, name, _columns()))
    return 0


def text_of(command: Command, name: str, columns: int) -> str:
    """Write the help of a command, so many columns wide."""
    lines = [f"Usage:  {command.usage(name)}", "", command.help.removesuffix(".")]
    row = next((row for row in COMMANDS if name in row.spellings), None)
    if row is not None and len(row.spellings) > 1:
        lines += ["", "Aliases:", "  " + ", ".join(f"{PROGRAM} {word}" for word in row.spellings)]
    if command.flags:
        lines += ["", "Options:", *options_text(command.flags, columns)]
    if story := command.story_flags(name):
        lines += ["", "What it does to the kernel:", *options_text(story, columns)]
    return "\n".join(lines) + "\n"


def options_text(flags: tuple[Flag, ...], columns: int) -> list[str]:
    """Write a line or more for each option: spelling, value, help, default."""
    left = [_left(flag) for flag in flags]
    width = max(len(text) for text in left) + 3
    columns = max(columns - width, 30)
    lines = []
    for text, flag in zip(left, flags, strict=True):
        first, *rest = wrapped(flag.help + _default(flag), columns)
        lines.append(f"{text:<{width}}{first}")
        lines += [" " * width + line for line in rest]
    return lines


def _left(flag: Flag) -> str:
    short = f"-{flag.letter}, " if flag.letter else "    "
    metavar = "" if flag.alone else f" {flag.metavar}"
    return f"  {short}--{flag.name}{metavar}"


def _default(flag: Flag) -> str:
    if flag.many or flag.default in ("", False, 0, None):
        return ""
    shown = f'"{flag.default}"' if isinstance(flag.default, str) else str(flag.default).lower()
    return f" (default {shown})"


def _columns() -> int:
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return 80


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most *width* characters, between words."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def show_noun(noun: str) -> int:
    """Show the commands of a noun: `minicontainer container --help`."""
    rows = sorted((row.verb, row.help) for row in COMMANDS if row.noun == noun)
    sys.stdout.write(
        f"Usage:  {PROGRAM} {noun} COMMAND\n\n{NOUNS[noun]}\n\nCommands:\n{_two_columns(rows)}\n"
        f"Run '{PROGRAM} {noun} COMMAND --help' for more information on a command.\n"
    )
    return 0


def usage() -> str:
    """Write the help of the program itself."""
    short = {row.short: row for row in COMMANDS if row.short}
    common = [(name, short[name].help) for name in _COMMON]
    rest = sorted((name, row.help) for name, row in short.items() if name not in _COMMON)
    return (
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\n"
        "Containers built from the kernel's own primitives, step by step.\n\n"
        f"Common Commands:\n{_two_columns(common)}\n"
        f"Management Commands:\n{_two_columns(list(NOUNS.items()))}\n"
        f"Commands:\n{_two_columns(rest)}\n"
        f"Global Options:\n{_global_options()}\n\n"
        f"Run '{PROGRAM} COMMAND --help' for more information on a command.\n"
    )


def _global_options() -> str:
    from minicontainer.cli.session import GLOBAL_FLAGS

    return "\n".join(options_text(GLOBAL_FLAGS, _columns()))


def _two_columns(rows: list[tuple[str, str]]) -> str:
    return "".join(f"  {name:<12}{text}\n" for name, text in rows)
