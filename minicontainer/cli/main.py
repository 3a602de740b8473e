"""minicontainer: the table of commands, and how each of them ends.

See: Docker's `docker run` reference, "Exit status".
"""

from __future__ import annotations

import errno
import os
import sys

from minicontainer.cli.output import say
from minicontainer.errors import Error, InitError
from minicontainer.kernel import signals
from minicontainer.runtime.parent import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[[list[str], dict[str, str]], int]

# name: (module, one line for the help). A command's module is imported when it is asked for.
COMMANDS = {
    "run": ("containers", "Run a command in a new container"),
    "daemon": ("daemon", "Run the engine and its API in the foreground"),
    "check": ("system", "Tell what this host offers to containers, and how to get what is missing"),
    "version": ("system", "Show the version"),
}
# These start no container: they answer also where the interpreter can't be protected from one.
_WITHOUT_CONTAINERS = ("check", "version")
_ALIASES = {"--version": "version", "-v": "version"}

EXIT_ENGINE = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
_STARTS_PROGRAM = ("find-program", "run-program", "stay-as-reaper")


def usage() -> str:
    """Write the help of the command itself."""
    rows = "\n".join(f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items())
    return (
        "Usage: minicontainer COMMAND [OPTIONS]\n\n"
        "Containers built from the kernel's own primitives, step by step.\n\n"
        f"Commands:\n{rows}\n\n"
        "Run 'minicontainer COMMAND --help' for more of a command.\n"
    )


def find_command(name: str) -> Command:
    """Import a command's function: by name, from the module that the table names."""
    module = f"minicontainer.cli.{COMMANDS[name][0]}"
    __import__(module)
    command: Command = getattr(sys.modules[module], name)
    return command


def exit_status_of(error: Error) -> int:
    """Give Docker's exit status for an error: 127 not found, 126 not executable, 125 the rest."""
    if isinstance(error, InitError) and error.step in _STARTS_PROGRAM and error.errno:
        return (
            EXIT_NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else EXIT_NOT_EXECUTABLE
        )
    return EXIT_ENGINE


def main() -> int:
    """Run the command line; give the exit status."""
    argv = sys.argv[1:]
    name = _ALIASES.get(argv[0], argv[0]) if argv else "--help"
    if name in ("--help", "-h", "help"):
        sys.stdout.write(usage())
        return 0
    if name not in COMMANDS:
        say(f"'{name}' is not a minicontainer command: see 'minicontainer --help'")
        return EXIT_ENGINE
    # Until a container is begun, Ctrl-C ends this process without more ado.
    signals.handle(signals.SIGINT, signals.SIG_DFL)
    try:
        if name not in _WITHOUT_CONTAINERS:
            interpreter.protect(sys.orig_argv, os.environ)
        return find_command(name)(argv[1:], dict(os.environ))
    except Error as error:
        say(str(error))
        return exit_status_of(error)
    except BrokenPipeError:
        return 1  # who read our output has gone
    except OSError as error:
        say(f"{error.strerror}: {error.filename or 'no file is named'}")
        return EXIT_ENGINE
