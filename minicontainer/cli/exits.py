"""How a command ends: Docker's exit statuses, and the error that carries one.

See: Docker's `docker run` reference, "Exit status".
"""

from __future__ import annotations

from minicontainer.errors import Error

EXIT_FAILED = 1
EXIT_ENGINE = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class Exit(Error):
    """A command ends with this message on standard error, and with this status.

    Args:
        message: all that the user reads; "" when everything was said before.
        status: of the process.
        prefix: whether the program's name stands before the message, as before its own complaints;
            Docker writes an engine's answer without it, and scripts match on that.
    """

    def __init__(self, message: str, status: int = EXIT_FAILED, prefix: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.prefix = prefix


class Lost(Exit):
    """The engine can't be reached, or went away in the middle of an answer."""
