"""explain --script: the container of these options, as a shell script that makes it by hand."""

from __future__ import annotations

import shlex
import sys

from minicontainer.cli.client import EngineError
from minicontainer.cli.create_body import body_of
from minicontainer.cli.create_options import RUN_FLAGS
from minicontainer.cli.exits import EXIT_ENGINE, EXIT_FAILED, Exit
from minicontainer.cli.flags import PROGRAM, Asked, Flag, command, toggle
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.run import make
from minicontainer.contexts import suppress
from minicontainer.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.cli.client import Client

_OWN = ("--script", "--lang")


@command(
    "IMAGE [COMMAND] [ARG...]",
    toggle("script", "", "print a shell script that makes the container, and takes it away again"),
    Flag(name="lang", metavar="LANG", help="the language of the comments: en, ru; by the locale"),
    *RUN_FLAGS,
    options_first=True,
)
def explain(asked: Asked) -> int:
    """Show how to make a container by hand, as a shell script."""
    from minicontainer.learn import narration, script
    from minicontainer.learn.script_plan import Plan
    from minicontainer.learn.words import language

    _check(asked, narration.languages())
    lang = asked.lang or language(asked.session.environ)
    answer, gone = _planned(asked)
    try:
        text = script.write(Plan(answer, gone, lang), _typed(asked.words))
    except (InvalidArgument, Unsupported) as error:
        raise Exit(f"explain --script: {error}", EXIT_ENGINE, prefix=True) from None
    sys.stdout.write(text)
    return 0


def _check(asked: Asked, languages: tuple[str, ...]) -> None:
    if not asked.script:
        raise Exit(
            f"explain prints a script: type {PROGRAM} explain --script …; to see what a real start "
            f"does, type {PROGRAM} run --explain …",
            EXIT_ENGINE, prefix=True,
        )  # fmt: skip
    if asked.lang and asked.lang not in languages:
        known = ", ".join(languages)
        raise Exit(f"--lang {asked.lang}: there are {known}", EXIT_ENGINE, prefix=True)
    if not asked.args:
        raise Exit(
            f"'{PROGRAM} explain' requires at least 1 argument: "
            f"{PROGRAM} explain --script [OPTIONS] IMAGE [COMMAND] [ARG...]",
            EXIT_FAILED, prefix=True,
        )  # fmt: skip
    url = asked.session.address.url
    if not url.startswith("unix://"):
        message = f"the script is for the engine's own host, and {url} may be another one"
        raise Exit(message, EXIT_ENGINE, prefix=True)


def _planned(asked: Asked) -> tuple[dict[str, Any], list[str]]:
    """Have the engine plan the container; what it makes for that is removed again.

    Returns:
        The plan, and the directories of volumes that were new.
    """
    client = asked.session.client
    body = body_of(asked)
    vars(asked)["cidfile"] = ""  # the container does not stay
    try:
        before = {one["Name"] for one in client.get("/volumes")["Volumes"] or ()}
        identity = make(asked, body)
        new: list[dict[str, Any]] = []
        try:
            answer = _plan(client, identity)
            new = [
                one
                for one in answer["Volumes"]
                if one["Type"] == "volume" and one["Name"] not in before
            ]
        finally:
            client.delete(path_of(identity), {"v": True})
            for one in new:
                with suppress(EngineError):  # it had no name, and went with the container
                    client.delete(f"/volumes/{one['Name']}")
    except EngineError as error:
        raise Exit(str(error), EXIT_ENGINE, prefix=True) from None
    return answer, [one["Source"] for one in new]


def _plan(client: Client, identity: str) -> dict[str, Any]:
    try:
        return dict(client.get(f"/minicontainer/plans/{identity}"))
    except EngineError as error:
        if error.status != 404 or "page not found" not in error.message:
            raise
        message = f"the engine at {client.address.url} plans no scripts: it is not minicontainer's"
        raise Exit(message, EXIT_ENGINE, prefix=True) from None


def _typed(words: list[str]) -> str:
    """Write the command that would make the container: `run` with the same options."""
    kept, skip = [], False
    for word in words:
        own = next((name for name in _OWN if word.partition("=")[0] == name), "")
        if not skip and not own:
            kept.append(word)
        skip = own == "--lang" and "=" not in word
    return f"{PROGRAM} run {shlex.join(kept)}"
