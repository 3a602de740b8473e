"""minicontainer-oci: the runtime's own command line, as runc's.

    minicontainer-oci [--root DIR] create|start|run|state|kill|delete|… [OPTIONS] ID

The path from here to the program is straight: `cli.create`, `lifecycle.create_container`, `init`.
Each command is a process of its own, and imports no more than it needs.
"""

from __future__ import annotations

import posix
import sys

from minicontainer import steps
from minicontainer.errors import Error, InvalidArgument, explained, printable
from minicontainer.kernel import signals
from minicontainer.runtime.cli import command_line
from minicontainer.runtime.container.state import OCI_VERSION, Store
from minicontainer.startup import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from minicontainer.event import Event
    from minicontainer.runtime.cli.command_line import Asked

_ROOT = "/run/minicontainer-oci"
_EXIT_ERROR = 1
# as runc; few programs end with 255, and otherwise `exec` returns the program's status
_EXIT_EXEC = 255

# The module and function of each command; the module is imported when the command is called.
FUNCTIONS = {
    "create": ("create", "create"),
    "run": ("create", "run"),
    "exec": ("processes", "execute"),
    "start": ("existing", "start"),
    "state": ("existing", "state"),
    "kill": ("existing", "kill"),
    "delete": ("existing", "delete"),
    "list": ("existing", "list_containers"),
    "pause": ("existing", "pause"),
    "resume": ("existing", "resume"),
    "ps": ("processes", "ps"),
    "update": ("limits", "update"),
    "events": ("limits", "events"),
    "spec": ("about", "spec"),
    "features": ("about", "features"),
    "checkpoint": ("about", "unsupported"),
    "restore": ("about", "unsupported"),
}
# These commands put this interpreter, or a fork of its process, where a container can reach it.
_ENTERING = ("create", "run", "exec")


class Session:
    """One call of the program: its global options, and where its messages go.

    Args:
        overall: the global options.
        command: the command's name.
        environ: the caller's environment.
    Raises:
        InvalidArgument: an option's value makes no sense.
    """

    def __init__(self, overall: Asked, command: str, environ: Mapping[str, str]) -> None:
        self.command = command
        self.environ = environ
        self._log = _Log(overall)
        root = overall.value("root", _ROOT)
        self.store = Store(root if root.startswith("/") else f"{posix.getcwd()}/{root}")
        manager = overall.value("cgroup-manager", "cgroupfs")
        if manager not in ("cgroupfs", "systemd", "disabled"):
            raise InvalidArgument(
                f"--cgroup-manager: expected cgroupfs, systemd or disabled, got {manager!r}"
            )
        self.cgroup_manager = "systemd" if overall.has("systemd-cgroup") else manager
        steps.tell_warnings_to(self.warn)
        if overall.has("debug") or overall.value("log-level") == "debug":
            steps.listen(self._tell_event, "client")

    def say(self, message: str) -> None:
        """Print one line for the user."""
        sys.stderr.write(f"{command_line.PROGRAM}: {printable(message)}\n")

    def fail(self, message: str) -> None:
        """Report an error to the user and to the log, and go on."""
        self._log.write("error", message)
        self.say(message)

    def warn(self, message: str) -> None:
        """Report something that was ignored: in the log, or to the user if there is no log.

        This process's streams are those of the program, so an engine would take the line for the
        program's.
        """
        if self._log.path:
            self._log.write("warning", message)
        else:
            self.say(f"warning: {message}")

    def _tell_event(self, event: Event) -> None:
        """Report a call; like a warning, to the log alone if there is one."""
        if not event.call:
            return
        told = ", ".join(map(str, event.args))
        line = f"{event.step or '-'}: {event.call}({told}) = {event.result} [{event.errno}]"
        if self._log.path:
            self._log.write("debug", line)
        else:
            self.say(line)


class _Log:
    """The log file, from which engines read errors. A line each, with its level: error, warning,
    debug.

    Args:
        overall: the global options.
    """

    def __init__(self, overall: Asked) -> None:
        self.path = overall.value("log")
        self._json = overall.value("log-format", "text") == "json"

    def write(self, level: str, message: str) -> None:
        """Append a line; a log that can't be written does not stop the command."""
        if not self.path:
            return
        import time

        from minicontainer import jsontext

        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._json:
            line = jsontext.dump({"level": level, "msg": message, "time": now})
        else:
            line = f'time="{now}" level={level} msg={jsontext.dump(message)}'
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            sys.stderr.write(f"{command_line.PROGRAM}: --log {self.path}: {error.strerror}\n")


def _call(overall: Asked, command: str, asked: Asked, environ: Mapping[str, str]) -> int:
    if overall.value("log-format", "text") not in ("text", "json"):
        raise InvalidArgument(
            f"--log-format: expected text or json, got {overall.value('log-format')!r}"
        )
    session = Session(overall, command, environ)
    if command in _ENTERING:
        from minicontainer.runtime.parent import interpreter  # here: it needs ctypes

        interpreter.protect(sys.orig_argv, environ)
    module_name, function = FUNCTIONS[command]
    module = __import__(f"minicontainer.runtime.cli.{module_name}", fromlist=(function,))
    status: int = getattr(module, function)(session, asked)
    return status


def _print_version() -> None:
    sys.stdout.write(f"{command_line.PROGRAM} version {VERSION}\nspec: {OCI_VERSION}\n")


def _informed(overall: Asked, command: str, asked: Asked) -> bool:
    """Answer --help and --version; report whether there was one."""
    if command and asked.has("help"):
        sys.stdout.write(f"{command_line.PROGRAM} {command_line.COMMANDS[command]}")
    elif overall.has("version"):
        _print_version()
    elif overall.has("help"):
        sys.stdout.write(f"{command_line.GLOBAL}\nCommands: {', '.join(command_line.COMMANDS)}\n")
    else:
        return False
    return True


def main() -> int:
    """Run the command line; return the exit status."""
    # Until there is a container, Ctrl-C just ends this process.
    signals.handle(signals.SIGINT, signals.SIG_DFL)
    given: dict[str, list[str]] = {}
    command = ""
    try:
        overall, command, asked = command_line.split(sys.argv[1:], given)
        if _informed(overall, command, asked):
            return 0
        if not command:
            raise InvalidArgument(f"no command: one of {', '.join(command_line.COMMANDS)}")
        environ: Mapping[str, str] = {}
        if command in _ENTERING:
            import os  # these commands read it, and import the module anyway

            environ = os.environ
        elif manager := posix.environ.get(b"NOTIFY_SOCKET"):  # for `start`
            environ = {"NOTIFY_SOCKET": manager.decode(errors="surrogateescape")}
        return _call(overall, command, asked, environ)
    except Error as error:
        message = str(error)
    except OSError as error:
        message = explained(error)
    except signals.Interrupted as interrupt:
        return 128 + interrupt.number
    _Log(command_line.Asked(given, [])).write("error", message)
    sys.stderr.write(f"{command_line.PROGRAM}: {printable(message)}\n")
    return _EXIT_EXEC if command == "exec" else _EXIT_ERROR
