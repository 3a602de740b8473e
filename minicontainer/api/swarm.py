"""Routes of what one host does not have: swarm, services, secrets, plugins.

Clients look there in passing, so each answer is the one that Docker gives on a host without a swarm
or plugins.

See: Docker Engine API, "Swarm" and "Plugin".
"""

from __future__ import annotations

from minicontainer.api.calls import Answer, error_answer, json_answer
from minicontainer.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.api.calls import Call

_NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)


def no_manager(call: Call) -> Answer:
    """Answer whatever a manager would do."""
    return error_answer(503, _NO_MANAGER)


def no_swarm(call: Call) -> Answer:
    """POST /swarm/leave."""
    return error_answer(503, "This node is not part of a swarm")


def no_swarm_mode(call: Call) -> Answer:
    """POST /swarm/init and /swarm/join."""
    return error_answer(501, "this engine has no swarm mode: it runs containers on one host")


def list_plugins(call: Call) -> Answer:
    """GET /plugins."""
    return json_answer([])


def no_plugin(call: Call) -> Answer:
    """Answer for a plugin by name."""
    raise NotFound(f'plugin "{call.name}" not found')


def no_plugins(call: Call) -> Answer:
    """Answer a request to install or make a plugin."""
    return error_answer(501, "this engine has no plugins")
