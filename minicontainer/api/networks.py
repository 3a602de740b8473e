"""Routes of networks.

See: Docker Engine API, "Network".
"""

from __future__ import annotations

from minicontainer.api import bodies
from minicontainer.api.calls import NO_CONTENT, Answer, json_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.api.calls import Call


def list_networks(call: Call) -> Answer:
    """GET /networks."""
    return json_answer(call.engine.networks.list(call.filters()))


def inspect(call: Call) -> Answer:
    """GET /networks/{name}."""
    return json_answer(call.engine.networks.inspect(call.name, call.flag("verbose")))


def create(call: Call) -> Answer:
    """POST /networks/create."""
    body = call.json_object(bodies.Network)
    return json_answer(call.engine.networks.create(body), 201)


def remove(call: Call) -> Answer:
    """DELETE /networks/{name}."""
    call.engine.networks.remove(call.name)
    return NO_CONTENT


def connect(call: Call) -> Answer:
    """POST /networks/{name}/connect."""
    body = call.json_object(bodies.Connect)
    call.engine.networks.connect(call.name, body)
    return Answer()


def disconnect(call: Call) -> Answer:
    """POST /networks/{name}/disconnect."""
    body = call.json_object(bodies.Connect)
    call.engine.networks.disconnect(call.name, body)
    return Answer()


def prune(call: Call) -> Answer:
    """POST /networks/prune."""
    return json_answer(call.engine.networks.prune(call.filters()))
