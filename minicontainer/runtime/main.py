"""minicontainer-oci: the runtime's own command line, as runc's.

    minicontainer-oci [--root DIR] run [--bundle DIR] ID
    minicontainer-oci spec [--bundle DIR]

One straight path from here to the program: `lifecycle.create`, then `init`. Options are few, and
argparse costs as much as the container's own start; so they are read by hand.
"""

from __future__ import annotations

import os
import sys

from minicontainer.errors import Error, InvalidArgument, printable
from minicontainer.kernel import signals
from minicontainer.runtime import defaults, foreground, interpreter, lifecycle
from minicontainer.runtime.spec import read_bundle
from minicontainer.runtime.state import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = "/run/minicontainer-oci"
_EXIT_ERROR = 1


def run(options: dict[str, str], names: list[str]) -> int:
    """Run a container in the foreground; give its program's exit status."""
    if len(names) != 1:
        raise InvalidArgument(
            "run: expected one container ID: minicontainer-oci run [--bundle DIR] ID"
        )
    bundle = read_bundle(options.get("--bundle", "."))
    if bundle.spec.process.terminal:
        raise InvalidArgument(
            "process.terminal: minicontainer-oci run passes no terminal on yet: set it to false, "
            "or use `minicontainer run -t`"
        )
    return lifecycle.run(names[0], bundle, Store(options.get("--root", _ROOT)), _say)


def _say(message: str) -> None:
    sys.stderr.write(f"minicontainer-oci: {printable(message)}\n")


def spec(options: dict[str, str], names: list[str]) -> int:
    """Write a config.json to start from."""
    if names:
        raise InvalidArgument(f"spec: unexpected argument {names[0]!r}")
    path = os.path.join(options.get("--bundle", "."), "config.json")
    import json  # here: it indents, which `jsontext` does not

    text = json.dumps(defaults.default_spec().to_json(), indent=4) + "\n"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidArgument(f"{path} exists already: remove it first") from None
    except OSError as error:
        raise InvalidArgument(f"can't write {path}: {error.strerror}") from None
    return 0


COMMANDS: dict[str, Callable[[dict[str, str], list[str]], int]] = {"run": run, "spec": spec}
_OPTIONS = {"--root": "--root", "--bundle": "--bundle", "-b": "--bundle"}


def _parse(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Sort the command line into options, all of which take a value, and the rest."""
    options: dict[str, str] = {}
    rest: list[str] = []
    todo = list(argv)
    while todo:
        word = todo.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            rest.append(word)
        elif name not in _OPTIONS:
            raise InvalidArgument(f"unknown option {name}: see minicontainer-oci --help")
        elif not equals and not todo:
            raise InvalidArgument(f"option {name} needs a value")
        else:
            options[_OPTIONS[name]] = value if equals else todo.pop(0)
    return options, rest


def main() -> int:
    """Run the command line; give the exit status."""
    argv = sys.argv[1:]
    if not argv or "--help" in argv or "-h" in argv:
        sys.stdout.write(f"{__doc__}\n")
        return 0 if argv else _EXIT_ERROR
    # Until a container is begun, Ctrl-C ends this process without more ado.
    signals.handle(signals.SIGINT, signals.SIG_DFL)
    try:
        options, rest = _parse(argv)
        if not rest or rest[0] not in COMMANDS:
            known = ", ".join(COMMANDS)
            raise InvalidArgument(f"expected a command ({known}), got {' '.join(rest) or 'none'}")
        interpreter.protect(sys.orig_argv, os.environ)
        return COMMANDS[rest[0]](options, rest[1:])
    except Error as error:
        _say(str(error))
        return _EXIT_ERROR
    except OSError as error:
        _say(f"{error.strerror}: {error.filename or 'no file is named'}")
        return _EXIT_ERROR
    except foreground.Interrupted as interrupt:
        return 128 + interrupt.number
