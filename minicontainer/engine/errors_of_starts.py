"""Why a container did not start, in the words that Docker's clients look for.

The client makes its exit status from the text: 127 where a program is missing, 126 where it can't
be executed, 125 otherwise.

See: `docker run` reference, "Exit status".
"""

from __future__ import annotations

import errno
import os

from minicontainer.errors import Error, InitError, InvalidArgument, KernelError

EXIT_NOT_FOUND = 127
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_STARTED = 128
_STARTS_PROGRAM = ("find-program", "run-program", "stay-as-reaper")
_IN_DIRECTORY = ("enter-directory", "change-directory")
_MISSING = (errno.ENOENT, errno.ENOTDIR)
CREATING = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
)
OTHER_RUNTIME = "other-runtime"  # in place of a step of ours
_STARTING = f"{CREATING}unable to start container process: error during container init: "
EXECUTING = "OCI runtime exec failed: exec failed: unable to start container process: "


class NoProgram(InvalidArgument):
    """The program is missing, or can't be executed.

    Args:
        message: the line for the user.
        exit_code: 126 or 127.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def explained(error: Error | OSError, program: tuple[str, ...], doing: str = _STARTING) -> Error:
    """Give the error as it is told to the client.

    Args:
        doing: what failed, in front of the reason: a start, or EXECUTING.
    """
    if isinstance(error, NoProgram):
        return error
    if isinstance(error, InitError) and error.step == OTHER_RUNTIME:
        return _of_another(str(error))
    if isinstance(error, InitError) and error.step in _STARTS_PROGRAM and error.errno:
        name = program[0] if program else ""
        if error.errno in _MISSING:
            return NoProgram(_told(doing, name, _missing(error, name)), EXIT_NOT_FOUND)
        why = "permission denied" if error.errno == errno.EACCES else str(error)
        if "is a directory" in str(error):
            why = "is a directory: permission denied"
        return NoProgram(_told(doing, name, why), EXIT_NOT_EXECUTABLE)
    if isinstance(error, InitError) and error.step in _IN_DIRECTORY and error.errno:
        reason = os.strerror(error.errno)
        told = f"{doing}{str(error).removesuffix(reason)}{reason.lower()}"
        return NoProgram(told, EXIT_NOT_FOUND if error.errno in _MISSING else EXIT_NOT_EXECUTABLE)
    if isinstance(error, Error):
        return error
    return KernelError(error.errno, error.strerror, str(error.filename or ""))


def _missing(error: InitError, name: str) -> str:
    """Say what is missing, and end with the words that clients look for."""
    if "/" not in name:
        return "executable file not found in $PATH"
    if error.step != "find-program":  # it was found, but execve(2) did not find what runs it
        return f"exec {name}: its interpreter is missing: no such file or directory"
    part = "not a directory: " if error.errno == errno.ENOTDIR else ""
    return f"stat {name}: {part}no such file or directory"


def _of_another(told: str) -> Error:
    """Find out by the words of another runtime what was wrong with the program."""
    if "not found in $PATH" in told or "no such file or directory" in told.lower():
        return NoProgram(told, EXIT_NOT_FOUND)
    if "permission denied" in told.lower() or "is a directory" in told:
        return NoProgram(told, EXIT_NOT_EXECUTABLE)
    return InitError(told, OTHER_RUNTIME)


def _told(doing: str, name: str, why: str) -> str:
    return f'{doing}exec: "{name}": {why}'
