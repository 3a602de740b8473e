"""run and create: a container from an image.

`run` is a talk of several requests, in this order, so that nothing that the program writes is lost:
create, attach, wait (its head comes at once, its body at the end), start, and then the stream.

See: Docker's `docker container run` reference; Docker Engine API, ContainerAttach, ContainerWait.
"""

from __future__ import annotations

import os
import sys

from minicontainer.cli import hijack
from minicontainer.cli.client import EngineError, Lost
from minicontainer.cli.create_body import body_of
from minicontainer.cli.create_options import CREATE_FLAGS, RUN_FLAGS
from minicontainer.cli.exits import (
    EXIT_ENGINE,
    EXIT_FAILED,
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    Exit,
)
from minicontainer.cli.flags import PROGRAM, ROOT_FLAGS, Asked, Command, HelpWanted, command, parse
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.output import tell
from minicontainer.contexts import suppress
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.cli.client import Client, Connection, Response
    from minicontainer.cli.session import Session

_TAKES = "IMAGE [COMMAND] [ARG...]"
# What an engine says of a program that can't be run, and the status that a shell would give.
_STATUSES = (
    (EXIT_NOT_FOUND, ("executable file not found", "no such file or directory",
                      "system cannot find the file specified")),
    (EXIT_NOT_EXECUTABLE, ("permission denied", "is a directory", "exec format error")),
)  # fmt: skip


@command(_TAKES, *CREATE_FLAGS, options_first=True)
def create(asked: Asked) -> int:
    """Create a new container."""
    _check_arguments(asked, "create")
    try:
        identity = make(asked, body_of(asked))
    except EngineError as error:
        raise Exit(str(error), EXIT_FAILED) from None
    sys.stdout.write(f"{identity}\n")
    return 0


class _Run(Command):
    """run: by an engine; but from a directory, in this very process."""

    def __call__(self, name: str, argv: list[str], session: Session) -> int:
        """Run the container where its options say."""
        if session.address.own and (words := _words_of_here(argv)) is not None:
            return _run_here(words, session)
        return super().__call__(name, argv, session)


def _words_of_here(argv: list[str]) -> list[str] | None:
    """Give the command line for a run in this process; None where an engine shall do it."""
    try:
        _, _, given = parse((*RUN_FLAGS, *ROOT_FLAGS), argv, options_first=True)
    except HelpWanted:
        return None
    except InvalidArgument:
        named = any(word == "--rootfs" or word.startswith("--rootfs=") for word in argv)
        return argv if named else None
    return argv if "rootfs" in given else None


def _run_here(words: list[str], session: Session) -> int:
    from minicontainer.cli import local_run
    from minicontainer.runtime.parent import interpreter

    for name in ("data-root", "exec-root"):
        if value := session.options.get(name.replace("-", "_")):
            words = [f"--{name}", value, *words]
    interpreter.protect(sys.orig_argv, session.environ)
    return local_run.run(words, session.environ)


def _run(asked: Asked) -> int:
    """Create and run a new container from an image."""
    _check_arguments(asked, "run")
    if asked.detach and asked.attach:
        raise Exit("conflicting options: cannot specify both --attach and --detach")
    body = body_of(asked)
    if asked.detach:
        body |= {
            "AttachStdin": False,
            "AttachStdout": False,
            "AttachStderr": False,
            "StdinOnce": False,
        }
    else:
        hijack.check_terminal(body["AttachStdin"], asked.tty)
    try:
        identity = make(asked, body)
        if asked.detach:
            sys.stdout.write(f"{identity}\n")  # first: it is there, even if its start fails
            asked.session.client.post(path_of(identity, "start"))
            return 0
        return _Foreground(asked, body, identity).run()
    except EngineError as error:
        raise Exit(str(error), status_of(error), prefix=True) from None
    except Lost as error:
        raise Exit(str(error), EXIT_ENGINE, prefix=True) from None


run = _Run(_run, _TAKES, RUN_FLAGS, 0, None, options_first=True)


def _check_arguments(asked: Asked, name: str) -> None:
    if not asked.args and not asked.rootfs:
        raise Exit(
            f"'minicontainer {name}' requires at least 1 argument: "
            f"minicontainer {name} [OPTIONS] {_TAKES}",
            EXIT_FAILED, prefix=True,
        )  # fmt: skip
    if asked.pull not in ("always", "missing", "never"):
        raise Exit(
            f"invalid pull option: '{asked.pull}': must be one of "
            '"always", "missing" or "never"',
            EXIT_ENGINE, prefix=True,
        )  # fmt: skip


def status_of(error: EngineError) -> int:
    """Give the exit status for a container that could not be started, by the engine's words."""
    words = error.message.lower()
    return next(
        (status for status, texts in _STATUSES if any(t in words for t in texts)), EXIT_ENGINE
    )


def make(asked: Asked, body: dict[str, Any]) -> str:
    """Create the container, fetching its image if need be; give its ID."""
    client, path = asked.session.client, asked.cidfile
    if path and os.path.exists(path):
        raise Exit(
            "container ID file found, make sure the other container isn't running or delete "
            f"{path}", EXIT_ENGINE, prefix=True,
        )  # fmt: skip
    if os.isatty(1):
        body["HostConfig"]["ConsoleSize"] = hijack.console_size()
    query = {"name": asked.name, "platform": asked.platform}
    if asked.pull == "always" and not asked.rootfs:
        _pull(asked, body["Image"])
    try:
        made = client.post("/containers/create", query, body)
    except EngineError as error:
        missing = error.status == 404 and "no such image" in error.message.lower()
        if not missing or asked.pull != "missing":
            raise
        if not asked.quiet:
            tell(f"Unable to find image '{full_name(body['Image'])}' locally")
        _pull(asked, body["Image"])
        made = client.post("/containers/create", query, body)
    for warning in made.get("Warnings") or ():
        tell(f"WARNING: {warning}")
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(made["Id"])
    return str(made["Id"])


def full_name(image: str) -> str:
    """Add the tag that is meant where none is given: busybox:latest."""
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last else f"{image}:latest"


def _pull(asked: Asked, image: str) -> None:
    from minicontainer.cli import registry  # only a missing image pays for it

    try:
        registry.fetch(asked.session, image, asked.platform, asked.quiet, sys.stderr)
    except (EngineError, Exit) as error:
        if not is_program(image):
            raise
        # `run` took a program as its first word before there were images
        raise Exit(
            f"{error}: {image} is a program of this host; to run it in the embedded image, type: "
            f"{PROGRAM} run busybox {image}",
            EXIT_ENGINE, prefix=True,
        ) from None  # fmt: skip


def is_program(word: str) -> bool:
    """Say whether the word for an image is the name of a program."""
    import shutil  # only where an image could not be fetched

    return not set(word) & set("/:@") and shutil.which(word) is not None


class _Foreground:
    """A container that this client stays with."""

    def __init__(self, asked: Asked, body: dict[str, Any], identity: str) -> None:
        self._asked = asked
        self._body = body
        self._id = identity
        self._client: Client = asked.session.client

    def run(self) -> int:
        """Attach, start, pass streams on, and give the program's exit status."""
        stream = self._attach()
        condition = "removed" if self._asked.rm else "next-exit"
        waiting = self._client.request("POST", path_of(self._id, "wait"), {"condition": condition})
        session = None
        if stream is not None:
            session = self._session(stream)
        else:
            sys.stdout.write(f"{self._id}\n")
        with hijack.raw_terminal(self._asked.tty and self._body["AttachStdin"]):
            try:
                self._client.post(path_of(self._id, "start"))
            except EngineError:
                if self._asked.rm:
                    waiting.read()
                raise
            if session is not None and self._talk(session):
                return 0  # the user pressed the detach keys: the container goes on
        return _result(waiting)

    def _attach(self) -> Connection | None:
        wanted = {
            name: self._body[f"Attach{name.title()}"] for name in ("stdin", "stdout", "stderr")
        }
        if not any(wanted.values()):
            return None
        query = {**wanted, "stream": True, "detachKeys": self._asked.detach_keys}
        return self._client.upgrade(path_of(self._id, "attach"), query)

    def _session(self, stream: Connection) -> hijack.Session:
        def resize(rows: int, columns: int) -> None:
            with suppress(EngineError):  # it has ended meanwhile
                self._client.post(path_of(self._id, "resize"), {"h": rows, "w": columns})

        def forward(name: str) -> None:
            with suppress(EngineError):  # likewise
                self._client.post(path_of(self._id, "kill"), {"signal": name})

        asked = self._asked
        return hijack.Session(
            stream, tty=asked.tty, stdin=self._body["AttachStdin"], detach_keys=_keys(asked),
            resize=resize, forward=forward if asked.sig_proxy else None,
        )  # fmt: skip

    def _talk(self, session: hijack.Session) -> bool:
        """Pass streams on; say whether the user left."""
        session.follow_window()
        try:
            session.talk()
        except hijack.Detached:
            return True
        return False


def _keys(asked: Asked) -> str:
    return str(asked.detach_keys or asked.session.config.get("detachKeys", ""))


def _result(waiting: Response) -> int:
    """Read how the program ended."""
    ended = waiting.json()
    if ended is None:
        raise Lost("the engine ended before the container did")
    if message := (ended.get("Error") or {}).get("Message"):
        raise Exit(f"Error waiting for container: {message}", EXIT_ENGINE)
    return int(ended["StatusCode"])
