"""run and create: a container from an image.

`run` is a talk of several requests, in this order, so that nothing that the program writes is lost:
create, attach and wait (its head comes at once, its body at the end), start, and then the stream.

See: Docker's `docker container run` reference; Docker Engine API, ContainerAttach, ContainerWait.
"""

from __future__ import annotations

import posix
import sys

from minicontainer.cli import hijack, interrupts
from minicontainer.cli.client import UPGRADE, EngineError
from minicontainer.cli.create_body import body_of
from minicontainer.cli.create_options import CREATE_FLAGS, RUN_FLAGS
from minicontainer.cli.exits import (
    EXIT_ENGINE,
    EXIT_FAILED,
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    Exit,
    Lost,
)
from minicontainer.cli.flags import PROGRAM, Asked, command
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.output import say, tell
from minicontainer.contexts import ExitStack, suppress
from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicontainer.cli.client import Client, Connection, Response

_TAKES = "IMAGE [COMMAND] [ARG...]"
# What an engine says of an image that `run` fetches: it is not here, or not for that platform.
_MISSING = (
    "no such image", "does not match the specified platform",
    "does not provide the specified platform",
)  # fmt: skip
# What an engine says of a program that can't be run, and the status that a shell would give.
_STATUSES = (
    (EXIT_NOT_FOUND, ("executable file not found", "no such file or directory",
                      "system cannot find the file specified")),
    (EXIT_NOT_EXECUTABLE, ("permission denied", "is a directory", "xec format error")),
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


@command(_TAKES, *RUN_FLAGS, options_first=True, without_engine=EXIT_ENGINE)
def run(asked: Asked) -> int:
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
        with interrupts.kept(asked.sig_proxy and not asked.tty and not asked.detach):
            return _run(asked, body)
    except EngineError as error:
        raise Exit(str(error), status_of(error), prefix=True) from None


def _run(asked: Asked, body: dict[str, Any]) -> int:
    """Create and start the container, and stay with it if that is asked for."""
    made: list[str] = []
    stays = _Foreground(asked, body)
    with ExitStack() as terminal:
        try:
            with interrupts.noticed() as notice:
                with notice.held(not asked.step):
                    made.append(make(asked, body, 0 if asked.detach else 2))  # wait, and start
                if asked.detach:
                    sys.stdout.write(f"{made[0]}\n")  # first: it is there, even if its start fails
                    asked.session.client.post(path_of(made[0], "start"))
                    return 0
                raw = hijack.raw_terminal(
                    asked.tty and body["AttachStdin"], lambda: stays.start(made[0]), asked.step
                )
                terminal.enter_context(raw)
        except signals.Interrupted as interrupt:
            terminal.close()
            _take_back(asked, made)
            return 128 + interrupt.number
        if stays.follow():
            return 0  # the user pressed the detach keys: the container goes on
    return stays.result()


def _take_back(asked: Asked, made: list[str]) -> None:
    """Remove what was made before a signal came, if it was to be removed in the end."""
    left = "nothing was left behind"
    for identity in made:
        if asked.rm or asked.step:
            with suppress(EngineError, Lost):  # it has removed itself
                asked.session.client.delete(path_of(identity), {"force": True, "v": True})
        else:
            left = f"container {identity[:12]} is left"
    say(f"interrupted before the container ran: {left}")


def _check_arguments(asked: Asked, name: str) -> None:
    if not asked.args and "rootfs" not in asked.given:
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
    words = error.message
    return next(
        (status for status, texts in _STATUSES if any(t in words for t in texts)), EXIT_ENGINE
    )


def make(asked: Asked, body: dict[str, Any], ahead: int = 0) -> str:
    """Create the container, fetching its image if need be; give its ID.

    Args:
        ahead: connections to open meanwhile.
    """
    client, path = asked.session.client, asked.cidfile
    if path and _exists(path):
        raise Exit(
            "container ID file found, make sure the other container isn't running or delete "
            f"{path}", EXIT_ENGINE, prefix=True,
        )  # fmt: skip
    if posix.isatty(1):
        body["HostConfig"]["ConsoleSize"] = hijack.console_size()
    query = {"name": asked.name, "platform": asked.platform}
    if asked.pull == "always" and not asked.rootfs:
        _pull(asked, body["Image"])
    try:
        answer = client.begin("POST", "/containers/create", query, body)
        client.connect_ahead(ahead)
        made = answer().json()
    except EngineError as error:
        words = error.message.lower()
        missing = error.status == 404 and any(sign in words for sign in _MISSING)
        if not missing or asked.pull != "missing":
            raise
        client.close_ahead()  # a pull can take long
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


def _exists(path: str) -> bool:
    import os  # only --cidfile pays for it

    return os.path.exists(path)


def full_name(image: str) -> str:
    """Add the tag that is meant where none is given: busybox:latest."""
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last else f"{image}:latest"


def _pull(asked: Asked, image: str) -> None:
    from minicontainer.cli import registry  # only a missing image pays for it

    try:
        registry.fetch(asked.session, image, asked.platform, asked.quiet, sys.stderr)
    except (EngineError, Exit) as error:
        if asked.platform or asked.pull == "always" or not is_program(image):
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

    def __init__(self, asked: Asked, body: dict[str, Any]) -> None:
        self._asked = asked
        self._body = body
        self._client: Client = asked.session.client
        self._id = ""
        self._waiting: Response | None = None
        self._session: hijack.Session | None = None

    def start(self, identity: str) -> None:
        """Attach, and start; the wait for the end begins before there can be one."""
        self._id = identity
        attached = self._attach()
        condition = "removed" if self._asked.rm else "next-exit"
        waiting = self._client.begin("POST", path_of(identity, "wait"), {"condition": condition})
        if attached is not None:
            self._session = self._connected(attached().detach())
        self._waiting = waiting()
        if attached is None:
            sys.stdout.write(f"{identity}\n")
        try:
            self._client.post(path_of(identity, "start"))
            self._asked.session.started()
        except EngineError:
            if self._asked.rm:
                self._waiting.read()
            raise

    def follow(self) -> bool:
        """Pass streams on to the end; say whether the user left by the detach keys."""
        if self._session is None:
            return False
        self._session.follow_window()
        try:
            self._session.talk()
        except hijack.Detached:
            return True
        return False

    def result(self) -> int:
        """Give the program's exit status; say why, where the kernel killed it."""
        # one line; the end of the answer comes a moment later
        ended = next(self._waiting.messages(), None) if self._waiting else None
        if ended is None:
            raise Lost("the engine ended before the container did")
        if message := (ended.get("Error") or {}).get("Message"):
            raise Exit(f"Error waiting for container: {message}", EXIT_ENGINE)
        if reason := ended.get("Reason"):  # this project's own engine knows
            say(reason)
        return int(ended["StatusCode"])

    def _attach(self) -> Callable[[], Response] | None:
        wanted = {
            name: self._body[f"Attach{name.title()}"] for name in ("stdin", "stdout", "stderr")
        }
        if not any(wanted.values()):
            return None
        query = {**wanted, "stream": True, "detachKeys": self._asked.detach_keys}
        return self._client.begin("POST", path_of(self._id, "attach"), query, None, UPGRADE)

    def _connected(self, stream: Connection) -> hijack.Session:
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


def _keys(asked: Asked) -> str:
    return str(asked.detach_keys or asked.session.config.get("detachKeys", ""))
