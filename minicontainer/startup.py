"""How a command begins and ends, before anything else is imported and after all is done."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for it
import gc
import posix  # the half of os that is C: the other costs a command 0.7 ms, and many need none of it
import sys

VERSION = "0.1.0"  # as in pyproject.toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def begin() -> None:
    """Begin a command: until somebody catches it, Ctrl-C ends this process without a traceback."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    gc.set_threshold(100_000)  # a start does not get there
    _open_standard_files()


def _open_standard_files() -> None:
    """Put /dev/null where the caller has closed its input, output or errors.

    The next file to be opened would take that number, and every program started would inherit it.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            posix.fstat(fd)
        except OSError:
            null = posix.open("/dev/null", posix.O_RDWR)  # gets the lowest number: fd
            posix.set_inheritable(null, True)
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 until the process ends


def end(status: int) -> NoReturn:
    """End the process at once: taking the interpreter apart costs 2 ms and does nothing for us."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        status = status or 1
    except OSError as error:
        posix.write(2, f"minicontainer: can't write the output: {error.strerror}\n".encode())
        status = status or 1
    posix._exit(status)
