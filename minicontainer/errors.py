"""The errors of this project: a tree, by what the caller can do about them.

    Error
    ├── InvalidArgument   the request makes no sense: change it
    ├── NotFound          a named thing does not exist: name another, or make it
    ├── Conflict          it exists, or is in a state that forbids this: change that first
    │   └── Aborted       whoever held the steps has given them up: everything was undone
    ├── NotModified       it is already as requested: nothing to do
    ├── Forbidden         this caller may not do that, or not with this thing
    ├── Unauthorized      the credentials are wrong or missing: log in
    ├── Unsupported       this host or this build cannot do it: the message says what would help
    ├── KernelError       a system call failed (an OSError too: errno, strerror, filename)
    └── InitError         the container's first process failed: in which step, which call, why

A message starts small, has no final period, and names the object and the way out. `api` alone turns
these into HTTP statuses, `cli` alone into exit statuses.
"""

from __future__ import annotations

_ENOENT, _ENFILE, _EMFILE = 2, 23, 24  # without errno(3)'s module, which few commands need


def printable(text: str) -> str:
    """Show text from outside on one line: control characters appear as Python escapes them."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shortened(text: str, most: int = 256) -> str:
    """Shorten text from outside, so that a message stays readable."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def explained(error: OSError) -> str:
    """Say what went wrong in a call that the kernel refused, with the way out where it is known."""
    if error.filename:
        return f"{error.strerror}: {error.filename}"
    if error.errno == _ENOENT:  # of getcwd(2): all other calls have a name
        return "the current directory was removed: change to another one"
    if error.errno in (_ENFILE, _EMFILE):
        return f"{error.strerror}: raise the limit (ulimit -n)"
    return str(error.strerror)


class Error(Exception):
    """The root of all errors that this project raises itself."""


class InvalidArgument(Error):
    """The request makes no sense."""


class NotFound(Error):
    """A thing that was named does not exist."""


class Conflict(Error):
    """A thing exists already, or its state forbids the request."""


class Aborted(Conflict):
    """The reader of a story, for whom each step waits, has given it up."""


class NotModified(Error):
    """A thing is already in the state that was requested, such as a container that runs."""


class Forbidden(Error):
    """The operation is not allowed on this thing, such as removing a predefined network."""


class Unauthorized(Error):
    """A registry refused the credentials, or needs some."""


class Unsupported(Error):
    """This host, or this build, cannot do it."""


class KernelError(Error, OSError):
    """A system call failed.

    It is constructed like an OSError: errno, its text, and the call with its arguments. Python
    would turn `OSError(ENOENT, …)` into FileNotFoundError, but a subclass stays as it is: so look
    at errno.
    """

    def __str__(self) -> str:
        """Put the call first: it is what a reader looks up."""
        return f"{self.filename}: {self.strerror}" if self.filename else str(self.strerror)


class InitError(Error):
    """The container's first process could not be set up.

    Args:
        message: the whole line for the user.
        step: the name of the recipe's step that failed.
        call: the system call or library function, with its arguments, or "".
        errno: the kernel's error number; 0 if no call failed.
    """

    def __init__(self, message: str, step: str = "", call: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.step = step
        self.call = call
        self.errno = errno
