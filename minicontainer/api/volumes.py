"""Routes of volumes.

See: Docker Engine API, "Volume".
"""

from __future__ import annotations

from minicontainer.api import bodies
from minicontainer.api.calls import NO_CONTENT, Answer, json_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.api.calls import Call


def list_volumes(call: Call) -> Answer:
    """GET /volumes."""
    return json_answer(call.engine.volumes.list(call.filters()))


def inspect(call: Call) -> Answer:
    """GET /volumes/{name}."""
    return json_answer(call.engine.volumes.inspect(call.name))


def create(call: Call) -> Answer:
    """POST /volumes/create."""
    body = call.json_object(bodies.Volume)
    return json_answer(call.engine.volumes.create(body), 201)


def remove(call: Call) -> Answer:
    """DELETE /volumes/{name}."""
    call.engine.volumes.remove(call.name, call.flag("force"))
    return NO_CONTENT


def prune(call: Call) -> Answer:
    """POST /volumes/prune: clients before 1.42 mean all volumes, not only those without a name."""
    filters = call.filters()
    if call.version < (1, 42):
        filters = {**filters, "all": ["true"]}
    return json_answer(call.engine.volumes.prune(filters))
