"""Routes of programs that are started in running containers.

See: Docker Engine API, "Exec".
"""

from __future__ import annotations

from minicontainer.api import bodies, streams
from minicontainer.api.calls import Answer, json_answer
from minicontainer.api.containers import window_size
from minicontainer.errors import Conflict, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.api.calls import Call
    from minicontainer.engine.options import ClientStream


def create(call: Call) -> Answer:
    """POST /containers/{name}/exec."""
    body = call.json_object(bodies.Exec)
    if not body.get("Cmd"):
        raise InvalidArgument("No exec command specified")
    return json_answer(call.engine.execs.create(call.name, body), 201)


def start(call: Call) -> Answer | None:
    """POST /exec/{name}/start: the connection becomes the program's streams, unless detached."""
    body = call.json_object(bodies.ExecStart, required=False)
    told = call.engine.execs.inspect(call.name)
    if told.get("Running"):
        raise Conflict(f"Error: Exec command {call.name} is already running")
    if told.get("ExitCode") is not None:
        raise Conflict(f"Error: Exec command {call.name} has already run")
    if body.get("Detach"):
        call.engine.execs.start(call.name, body, None)
        return Answer()

    def serve(stream: ClientStream) -> None:
        call.engine.execs.start(call.name, body, stream)

    streams.hijack(call, bool(body.get("Tty")), serve)
    return None


def resize(call: Call) -> Answer:
    """POST /exec/{name}/resize."""
    call.engine.execs.resize(call.name, *window_size(call))
    return Answer()


def inspect(call: Call) -> Answer:
    """GET /exec/{name}/json."""
    return json_answer(call.engine.execs.inspect(call.name))
