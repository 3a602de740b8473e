"""Begin a command before anything else is imported, and end it when everything is done."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for it
import gc
import posix  # the C half of os: the other half costs a command 0.7 ms, and many need none of it
import sys

VERSION = "0.1.0"  # as in pyproject.toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TextIO


def begin() -> None:
    """Begin a command: from here on, Ctrl-C ends this process without a traceback."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    gc.set_threshold(100_000)  # no start gets there
    _open_standard_files()
    sys.stderr = _Errors(sys.stderr)


class _Errors:
    """Standard error, on which a write never fails.

    If it is full or closed, nobody can be told; the exit status still says what happened.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Write out what can be."""
        try:
            self._stream.flush()
        except OSError:
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _open_standard_files() -> None:
    """Open /dev/null where the caller has closed standard input, output or error.

    The next file opened would otherwise get that number, and every program would inherit it.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            posix.fstat(fd)
        except OSError:
            null = posix.open("/dev/null", posix.O_RDWR)  # it gets the lowest number: fd
            posix.set_inheritable(null, True)
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 until the process ends


def end(status: int) -> NoReturn:
    """End the process at once: Python's own finalization costs 2 ms, and nothing needs it."""
    try:
        sys.stderr.flush()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe
        status = status or 1
    except OSError as error:
        sys.stderr.write(f"minicontainer: can't write the output: {error.strerror}\n")
        status = status or 1
    posix._exit(status)
