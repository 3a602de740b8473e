"""minicontainer: from the command line to a command, and how each of them ends.

See: Docker's `docker run` reference, "Exit status".
"""

from __future__ import annotations

import errno
import posix  # os, which defines more, costs a command a millisecond
import sys

from minicontainer import startup
from minicontainer.cli import table
from minicontainer.cli.exits import (
    EXIT_ENGINE,
    EXIT_FAILED,
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    Exit,
)
from minicontainer.cli.flags import PROGRAM, Command, HelpWanted, parse, toggle
from minicontainer.cli.output import say
from minicontainer.cli.session import GLOBAL_FLAGS, Session
from minicontainer.errors import Error, InitError, InvalidArgument, explained

_STARTS_PROGRAM = ("find-program", "run-program", "stay-as-reaper")


def find_command(row: table.Row) -> Command:
    """Import a command: by name, from the module that the table names."""
    module = f"minicontainer.cli.{row.module}"
    __import__(module)
    command: Command = getattr(sys.modules[module], row.function)
    return command


def exit_status_of(error: Error) -> int:
    """Give Docker's exit status for an error: 127 not found, 126 not executable, 125 the rest."""
    if isinstance(error, InitError) and error.step in _STARTS_PROGRAM and error.errno:
        return (
            EXIT_NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else EXIT_NOT_EXECUTABLE
        )
    return EXIT_ENGINE


def dispatch(argv: list[str], environ: dict[str, str], program: str) -> int:
    """Find the command that a command line names, and do it."""
    flags = (*GLOBAL_FLAGS, toggle("version", "v"))
    try:
        options, words, _ = parse(flags, argv, options_first=True)
    except HelpWanted:
        options, words = {}, ["help"]
    except InvalidArgument as error:
        raise Exit(f"{error}: see '{PROGRAM} --help'", EXIT_ENGINE, prefix=True) from None
    if options.get("version"):
        sys.stdout.write(f"{PROGRAM} version {startup.VERSION}\n")
        return 0
    row, count = table.find(words)
    if row is not None and row.module == "daemon":
        return _daemon(words[count:], environ)
    if row is not None:
        return _call(
            row, " ".join(words[:count]), words[count:], Session(environ, program, options)
        )
    return _show_help(words)


def _call(row: table.Row, name: str, argv: list[str], session: Session) -> int:
    command = find_command(row)
    try:
        return command(name, argv, session)
    except HelpWanted:
        from minicontainer.cli import help  # only who asks for it pays for it

        return help.show(command, name)


def _daemon(argv: list[str], environ: dict[str, str]) -> int:
    """Be the engine: it reads its own options, which stand in a file too."""
    from minicontainer.cli import daemon
    from minicontainer.runtime.parent import interpreter

    interpreter.protect(sys.orig_argv, environ)
    return daemon.daemon(argv, environ)


def _show_help(words: list[str]) -> int:
    from minicontainer.cli import help  # here: no other command needs it

    if words[:1] == ["help"] and words[1:]:
        row, _ = table.find(words[1:])
        if row is not None:
            return help.show(find_command(row), " ".join(words[1:]))
        words = words[1:]
    if not words or words == ["help"]:
        sys.stdout.write(help.usage())
        return 0
    if words[0] in table.NOUNS and words[1:] in ([], ["--help"], ["-h"], ["help"]):
        return help.show_noun(words[0])
    noun = f"{PROGRAM} {words[0]}" if words[0] in table.NOUNS else PROGRAM
    given = words[1] if words[0] in table.NOUNS else words[0]
    if given.startswith("-"):
        raise Exit(f"unknown flag: {given}: see '{noun} --help'", EXIT_ENGINE, True)
    raise Exit(f"unknown command: {noun} {given}: see '{noun} --help'", EXIT_FAILED, True)


def _environ() -> dict[str, str]:
    """Read the environment, as os.environ has it."""
    encoding = sys.getfilesystemencoding()
    return {
        name.decode(encoding, "surrogateescape"): value.decode(encoding, "surrogateescape")
        for name, value in posix.environ.items()
    }


def main() -> int:
    """Run the command line; give the exit status."""
    try:
        return dispatch(sys.argv[1:], _environ(), sys.argv[0])
    except Exit as end:
        if end.args[0] and end.prefix:
            say(end.args[0])
        elif end.args[0]:
            sys.stdout.flush()
            sys.stderr.write(f"{end.args[0]}\n")
        return end.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return EXIT_FAILED  # who read our output has gone
    except Error as error:
        if hasattr(error, "message"):  # the engine's own words, as they came
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
            return EXIT_FAILED
        say(str(error))
        return exit_status_of(error)
    except OSError as error:
        say(explained(error))
        return EXIT_ENGINE
