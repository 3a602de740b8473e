"""exec: another program in a running container."""

from __future__ import annotations

from minicontainer.cli import hijack
from minicontainer.cli.client import EngineError
from minicontainer.cli.environment import environment
from minicontainer.cli.exits import EXIT_ENGINE, Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle
from minicontainer.cli.lifecycle import path_of
from minicontainer.contexts import suppress
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@command(
    "CONTAINER COMMAND [ARG...]",
    toggle("detach", "d", "run in the background"),
    Flag(name="detach-keys", help="keys that end the connection, and not the program"),
    Flag(name="env", letter="e", many=True, metavar="list", help="set a variable: NAME=VALUE"),
    Flag(name="env-file", many=True, metavar="list", help="read variables from a file"),
    toggle("interactive", "i", "keep standard input open"),
    toggle("privileged", "", "give the program all capabilities"),
    toggle("tty", "t", "give the program a terminal"),
    Flag(name="user", letter="u", help="user that it runs as: USER[:GROUP]"),
    Flag(name="workdir", letter="w", help="working directory of the program"),
    least=2,
    options_first=True,
)
def exec(asked: Asked) -> int:
    """Execute a command in a running container."""
    name, *words = asked.args
    client = asked.session.client
    if not asked.detach:
        hijack.check_terminal(asked.interactive, asked.tty)
    keys = asked.detach_keys or asked.session.config.get("detachKeys", "")
    made = client.post(path_of(name, "exec"), body=_body(asked, words, keys))["Id"]
    start: dict[str, Any] = {"Detach": asked.detach, "Tty": asked.tty}
    if asked.detach:
        client.post(f"/exec/{made}/start", body=start)
        return 0
    if asked.tty and any(size := hijack.console_size()):
        start["ConsoleSize"] = size
    stream = client.upgrade(f"/exec/{made}/start", body=start)

    def resize(rows: int, columns: int) -> None:
        with suppress(EngineError):  # it has ended meanwhile
            client.post(f"/exec/{made}/resize", {"h": rows, "w": columns})

    session = hijack.Session(stream, asked.tty, asked.interactive, keys, resize)
    with hijack.raw_terminal(asked.tty and asked.interactive):
        session.follow_window()
        try:
            session.talk()
        except hijack.Detached:
            raise Exit("read escape sequence") from None
    return int(client.get(f"/exec/{made}/json")["ExitCode"] or 0)


def _body(asked: Asked, words: list[str], keys: str) -> dict[str, Any]:
    try:
        env = environment(asked.env, asked.env_file, asked.session.environ)
    except InvalidArgument as error:
        raise Exit(str(error), EXIT_ENGINE, prefix=True) from None
    body: dict[str, Any] = {
        "User": asked.user, "Privileged": asked.privileged, "Tty": asked.tty, "Cmd": words,
        "AttachStdin": asked.interactive and not asked.detach, "AttachStdout": not asked.detach,
        "AttachStderr": not asked.detach, "Detach": asked.detach, "DetachKeys": keys, "Env": env,
        "WorkingDir": asked.workdir,
    }  # fmt: skip
    if asked.tty and any(size := hijack.console_size()):
        body["ConsoleSize"] = size
    return body
