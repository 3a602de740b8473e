"""Routes of containers: parameters in, the engine's methods, Docker's JSON out.

See: Docker Engine API, "Container".
"""

from __future__ import annotations

import base64

from minicontainer import jsontext
from minicontainer.api import bodies, relay, streams
from minicontainer.api.calls import JSON_TYPE, NO_CONTENT, Answer, error_answer, json_answer
from minicontainer.engine.config import ContainerConfig
from minicontainer.engine.options import AttachOptions, LogOptions
from minicontainer.errors import Conflict, Error, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minicontainer.api.calls import Call
    from minicontainer.api.interface import Waiting

TAR = "application/x-tar"
_CONDITIONS = ("not-running", "next-exit", "removed")


def list_containers(call: Call) -> Answer:
    """GET /containers/json."""
    size = call.flag("size")
    limit = call.whole("limit", -1)
    found = call.engine.containers.list(call.flag("all"), limit, size, call.filters())
    if call.version < (1, 46):
        for one in found:
            one["HostConfig"].pop("Annotations", None)
    return json_answer(found)


def create(call: Call) -> Answer:
    """POST /containers/create."""
    config = call.json()
    if config is None:
        raise InvalidArgument("config cannot be empty in order to create a container")
    if not isinstance(config, dict):
        raise InvalidArgument("invalid JSON: the configuration of a container is an object")
    config = bodies.Container.with_exact_names(ContainerConfig.with_exact_names(config))
    bodies.Container.from_json(config)
    host = config.get("HostConfig")
    if call.version < (1, 40) and host and not host.get("IpcMode"):
        host["IpcMode"] = "shareable"  # the default at that time
    if not set(config) - {"HostConfig", "NetworkingConfig"}:
        raise InvalidArgument("config cannot be empty in order to create a container")
    networks = (config.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    if call.version < (1, 44) and len(networks) > 1:
        raise InvalidArgument(
            "Container cannot be created with multiple network endpoints: "
            + ", ".join(sorted(networks))
        )
    name, platform = call.text("name"), call.text("platform")
    return json_answer(call.engine.containers.create(config, name, platform), 201)


def inspect(call: Call) -> Answer:
    """GET /containers/{name}/json."""
    return json_answer(call.engine.containers.inspect(call.name, call.flag("size")))


def plan(call: Call) -> Answer:
    """GET /minicontainer/plans/{name}: what a start would be made from; nothing is changed."""
    return json_answer(call.engine.containers.plan(call.name))


def top(call: Call) -> Answer:
    """GET /containers/{name}/top."""
    return json_answer(call.engine.containers.top(call.name, call.text("ps_args") or "-ef"))


def changes(call: Call) -> Answer:
    """GET /containers/{name}/changes."""
    return json_answer(call.engine.containers.changes(call.name))


def export(call: Call) -> Answer:
    """GET /containers/{name}/export."""
    return Answer(200, call.engine.containers.export(call.name), TAR)


def start(call: Call) -> Answer:
    """POST /containers/{name}/start."""
    call.engine.containers.start(call.name, call.text("detachKeys"))
    return NO_CONTENT


def stop(call: Call) -> Answer:
    """POST /containers/{name}/stop."""
    timeout_s, signal = call.optional_whole("t"), call.text("signal")
    call.engine.containers.stop(call.name, timeout_s, signal)
    return NO_CONTENT


def restart(call: Call) -> Answer:
    """POST /containers/{name}/restart."""
    timeout_s, signal = call.optional_whole("t"), call.text("signal")
    call.engine.containers.restart(call.name, timeout_s, signal)
    return NO_CONTENT


def kill(call: Call) -> Answer:
    """POST /containers/{name}/kill."""
    call.engine.containers.kill(call.name, call.text("signal"))
    return NO_CONTENT


def pause(call: Call) -> Answer:
    """POST /containers/{name}/pause."""
    call.engine.containers.pause(call.name)
    return NO_CONTENT


def unpause(call: Call) -> Answer:
    """POST /containers/{name}/unpause."""
    call.engine.containers.unpause(call.name)
    return NO_CONTENT


def rename(call: Call) -> Answer:
    """POST /containers/{name}/rename."""
    call.engine.containers.rename(call.name, call.text("name"))
    return NO_CONTENT


def update(call: Call) -> Answer:
    """POST /containers/{name}/update."""
    body = call.json_object(bodies.Update)
    if call.version < (1, 40):  # clients of that time send it unasked
        body.pop("PidsLimit", None)
    return json_answer(call.engine.containers.update(call.name, body))


def resize(call: Call) -> Answer:
    """POST /containers/{name}/resize."""
    call.engine.containers.resize(call.name, *window_size(call))
    return Answer()


def window_size(call: Call) -> tuple[int, int]:
    """Read the height and width of a terminal, in characters."""
    return _characters(call, "h", "height"), _characters(call, "w", "width")


def _characters(call: Call, parameter: str, name: str) -> int:
    text = call.text(parameter)
    if not (text.isascii() and text.removeprefix("-").isdecimal()):
        raise InvalidArgument(f'invalid resize {name} "{text}": invalid syntax')
    if not 0 <= int(text[:12]) <= 0xFFFF:
        raise InvalidArgument(f'invalid resize {name} "{text}": value out of range')
    return int(text)


def remove(call: Call) -> Answer:
    """DELETE /containers/{name}."""
    call.engine.containers.remove(call.name, call.flag("force"), call.flag("v"), call.flag("link"))
    return NO_CONTENT


def prune(call: Call) -> Answer:
    """POST /containers/prune."""
    return json_answer(call.engine.containers.prune(call.filters()))


def wait(call: Call) -> Answer:
    """POST /containers/{name}/wait.

    The status is sent as soon as the wait is registered: `docker run` starts the container only
    after it has seen it.
    """
    condition = call.text("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    waiting = call.engine.containers.wait(call.name, condition)
    return Answer(200, _wait_result(waiting), JSON_TYPE, early=True, cleanup=waiting)


def _wait_result(waiting: Waiting) -> Iterator[bytes]:
    yield jsontext.dump(waiting.result()).encode() + b"\n"


def stats(call: Call) -> Answer:
    """GET /containers/{name}/stats."""
    stream = call.flag("stream", default=True)
    samples = call.engine.containers.stats(call.name, stream, call.flag("one-shot"))
    lines = streams.object_lines(samples)
    return Answer(200, lines, JSON_TYPE, early=stream, cleanup=samples)


def logs(call: Call) -> Answer:
    """GET /containers/{name}/logs."""
    options = LogOptions(
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        follow=call.flag("follow"),
        timestamps=call.flag("timestamps"),
        details=call.flag("details"),
        tail=_tail(call.text("tail")),
        since_ns=call.time_ns("since"),
        until_ns=call.time_ns("until"),
    )
    if not (options.stdout or options.stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    tty = call.engine.containers.is_tty(call.name)
    parts = call.engine.containers.logs(call.name, options)
    content_type = streams.stream_type(call, tty)
    return Answer(200, _with_error(parts, tty), content_type, early=True, cleanup=parts)


def _tail(text: str) -> int:
    """Read the number of lines; all of them for what is no number, as Docker does."""
    return int(text) if text.isdecimal() and len(text) < 19 else -1


def _with_error(parts: Iterator[bytes], tty: bool) -> Iterator[bytes]:
    """Tell an error in the stream itself: the status has been sent."""
    try:
        yield from parts
    except (Error, OSError) as error:
        message = f"Error grabbing logs: {error}\n".encode()
        yield message if tty else streams.frame(streams.SYSTEM_ERROR, message)


def attach(call: Call) -> None:
    """POST /containers/{name}/attach: the connection becomes the container's streams."""
    options = _attach_options(call)
    tty = _checked_for_attach(call)

    def serve(stream: Any) -> None:
        call.engine.containers.attach(call.name, options, stream)

    streams.hijack(call, tty, serve)


def attach_websocket(call: Call) -> None:
    """GET /containers/{name}/attach/ws: the same in WebSocket frames, never multiplexed."""
    headers = call.request.headers
    _checked_for_attach(call)
    if headers.get("upgrade", "").lower() != "websocket":
        raise InvalidArgument("bad WebSocket handshake: not a request to upgrade to websocket")
    key = headers.get("sec-websocket-key", "")
    answer = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", relay.accept_key(key)),
    ]
    options = _attach_options(call).replace(multiplex=False)
    client = call.connection.raw_stream("HTTP/1.1 101 Switching Protocols", answer)
    with relay.relayed(client, relay.Frames()) as stream:

        def serve(stream: Any) -> None:
            call.engine.containers.attach(call.name, options, stream)

        streams.serve_stream(stream, True, serve)


def _attach_options(call: Call) -> AttachOptions:
    return AttachOptions(
        stream=call.flag("stream"),
        logs=call.flag("logs"),
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        detach_keys=call.text("detachKeys"),
    )


def _checked_for_attach(call: Call) -> bool:
    """Find what must be an HTTP status, while there still is one; say whether it has a terminal."""
    container = call.engine.containers.inspect(call.name)
    state = container["State"]
    if state.get("Paused"):
        raise Conflict(
            f"container {container['Id']} is paused, unpause the container before attach"
        )
    if state.get("Restarting"):
        raise Conflict(
            f"container {container['Id']} is restarting, wait until the container is running"
        )
    return bool(container["Config"]["Tty"])


def archive_stat(call: Call) -> Answer:
    """HEAD /containers/{name}/archive."""
    stat = call.engine.containers.archive_stat(call.name, _archive_path(call))
    return Answer(200, headers=(_path_stat(stat),))


def archive_get(call: Call) -> Answer:
    """GET /containers/{name}/archive."""
    stat, parts = call.engine.containers.archive_get(call.name, _archive_path(call))
    return Answer(200, parts, TAR, headers=(_path_stat(stat),))


def archive_put(call: Call) -> Answer:
    """PUT /containers/{name}/archive."""
    call.engine.containers.archive_put(
        call.name,
        _archive_path(call),
        call.stream(),
        call.flag("noOverwriteDirNonDir"),
        call.flag("copyUIDGID"),
    )
    return Answer()


def _archive_path(call: Call) -> str:
    if not (path := call.text("path")):
        raise InvalidArgument("bad parameter: path cannot be empty")
    return path


def _path_stat(stat: dict[str, Any]) -> tuple[str, str]:
    """Write what a path is into a header, as `docker cp` wants to know it before the data."""
    text = base64.b64encode(jsontext.dump(stat).encode()).decode()
    return "X-Docker-Container-Path-Stat", text


def commit(call: Call) -> Answer:
    """POST /commit."""
    query: dict[str, Any] = {name: call.text(name) for name in ("repo", "tag", "comment", "author")}
    query["changes"] = [change for text in call.texts("changes") for change in text.splitlines()]
    query["pause"] = call.flag("pause", default=True)
    config = call.json_object(bodies.Config, required=False)
    return json_answer(call.engine.containers.commit(call.text("container"), query, config), 201)


def checkpoints(call: Call) -> Answer:
    """Answer every route of checkpoints."""
    return error_answer(501, "checkpoints are not supported: minicontainer has no CRIU part")
