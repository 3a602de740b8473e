"""Routes of the engine itself.

See: Docker Engine API, "System".
"""

from __future__ import annotations

from minicontainer.api import bodies, streams
from minicontainer.api.calls import JSON_TYPE, NO_CONTENT, Answer, json_answer
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.api.calls import Call

_PING_HEADERS = (
    ("Builder-Version", "1"),
    ("Swarm", "inactive"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
)


def ping(call: Call) -> Answer:
    """GET and HEAD /_ping: clients read the newest version of the API from its headers."""
    body = b"" if call.request.method == "HEAD" else b"OK"
    return Answer(200, body, "text/plain; charset=utf-8", _PING_HEADERS)


def options(call: Call) -> Answer:
    """OPTIONS of any path: nothing, as Docker's."""
    return Answer()


def version(call: Call) -> Answer:
    """GET /version."""
    return json_answer(call.engine.system.version())


def info(call: Call) -> Answer:
    """GET /info."""
    found = call.engine.system.info()
    if call.version < (1, 49):  # fields that newer clients no longer know
        for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            found[name] = {**found[name], "Expected": found[name]["ID"]}
        found.pop("FirewallBackend", None)
    if call.version < (1, 50):
        found |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    return json_answer(found)


def disk_usage(call: Call) -> Answer:
    """GET /system/df."""
    return json_answer(call.engine.system.df(call.texts("type")))


def auth(call: Call) -> Answer:
    """POST /auth: try credentials at a registry."""
    return json_answer(call.engine.system.auth(call.json_object(Record)))


def events(call: Call) -> Answer:
    """GET /events: what has happened since a moment, then what happens until another."""
    since_ns, until_ns = call.time_ns("since"), call.time_ns("until")
    if call.text("since"):
        since_ns = max(since_ns, 1)  # 1970 is a beginning too
    found = call.engine.events.subscribe(since_ns, until_ns, call.filters())
    return Answer(200, streams.object_lines(found), JSON_TYPE, early=True, cleanup=found)


def trace(call: Call) -> Answer:
    """GET /minicontainer/traces/NAME: the kernel events of a story, as they happen.

    With step=1, each step waits until `proceed`.
    """
    story = call.engine.traces.read(call.name, call.flag("step"))
    begun = (("Minicontainer-Begun-Ns", str(call.engine.traces.begun_ns(call.name))),)
    parts = (part.encode() for part in story)  # an empty one is a sign of life, and is not sent
    return Answer(200, parts, JSON_TYPE, begun, early=True, cleanup=story)


def proceed(call: Call) -> Answer:
    """POST /minicontainer/traces/NAME/continue: let the step begin that waits, or undo all."""
    body = call.json_object(bodies.Continue, required=False)
    call.engine.traces.proceed(call.name, bool(body.get("Abort")))
    return NO_CONTENT


def end_trace(call: Call) -> Answer:
    """DELETE /minicontainer/traces/NAME: end a story behind its last event."""
    call.engine.end_story(call.name)
    return NO_CONTENT
