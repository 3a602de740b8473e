"""The table of routes: method, path, handler.

`{name}` stands for one part of a path. `{name*}` stands for any number of parts, since names of
images have slashes. Every path exists with a version before it, `/v1.43/containers/json`, and
without one.

See: Docker Engine API v1.50.
"""

from __future__ import annotations

import re

from minicontainer.api import (
    build,
    containers,
    execs,
    images,
    networks,
    swarm,
    system,
    volumes,
)
from minicontainer.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.api.calls import Answer, Call

    Handler = Callable[[Call], Answer | None]

NEWEST = 1, 50
OLDEST = 1, 24

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/_ping", system.ping),
    ("HEAD", "/_ping", system.ping),
    ("GET", "/version", system.version),
    ("GET", "/info", system.info),
    ("GET", "/events", system.events),
    ("GET", "/system/df", system.disk_usage),
    ("POST", "/auth", system.auth),
    #
    ("GET", "/containers/json", containers.list_containers),
    ("POST", "/containers/create", containers.create),
    ("POST", "/containers/prune", containers.prune),
    ("GET", "/containers/{name*}/json", containers.inspect),  # also by a link's name: web/db
    ("GET", "/containers/{name}/top", containers.top),
    ("GET", "/containers/{name}/logs", containers.logs),
    ("GET", "/containers/{name}/changes", containers.changes),
    ("GET", "/containers/{name}/export", containers.export),
    ("GET", "/containers/{name}/stats", containers.stats),
    ("POST", "/containers/{name}/resize", containers.resize),
    ("POST", "/containers/{name}/start", containers.start),
    ("POST", "/containers/{name}/stop", containers.stop),
    ("POST", "/containers/{name}/restart", containers.restart),
    ("POST", "/containers/{name}/kill", containers.kill),
    ("POST", "/containers/{name}/update", containers.update),
    ("POST", "/containers/{name}/rename", containers.rename),
    ("POST", "/containers/{name}/pause", containers.pause),
    ("POST", "/containers/{name}/unpause", containers.unpause),
    ("POST", "/containers/{name}/attach", containers.attach),
    ("GET", "/containers/{name}/attach/ws", containers.attach_websocket),
    ("POST", "/containers/{name}/wait", containers.wait),
    ("HEAD", "/containers/{name}/archive", containers.archive_stat),
    ("GET", "/containers/{name}/archive", containers.archive_get),
    ("PUT", "/containers/{name}/archive", containers.archive_put),
    ("POST", "/commit", containers.commit),
    ("GET", "/containers/{name}/checkpoints", containers.checkpoints),
    ("POST", "/containers/{name}/checkpoints", containers.checkpoints),
    ("DELETE", "/containers/{name}/checkpoints/{checkpoint}", containers.checkpoints),
    ("DELETE", "/containers/{name*}", containers.remove),
    #
    ("POST", "/containers/{name}/exec", execs.create),
    ("POST", "/exec/{name}/start", execs.start),
    ("POST", "/exec/{name}/resize", execs.resize),
    ("GET", "/exec/{name}/json", execs.inspect),
    #
    ("GET", "/images/json", images.list_images),
    ("GET", "/images/search", images.search),
    ("GET", "/images/get", images.save),
    ("POST", "/images/create", images.create),
    ("POST", "/images/load", images.load),
    ("POST", "/images/prune", images.prune),
    ("GET", "/images/{name*}/json", images.inspect),
    ("GET", "/images/{name*}/history", images.history),
    ("GET", "/images/{name*}/get", images.save),
    ("POST", "/images/{name*}/push", images.push),
    ("POST", "/images/{name*}/tag", images.tag),
    ("DELETE", "/images/{name*}", images.remove),
    ("GET", "/distribution/{name*}/json", images.distribution),
    #
    ("GET", "/networks", networks.list_networks),
    ("GET", "/networks/", networks.list_networks),
    ("POST", "/networks/create", networks.create),
    ("POST", "/networks/prune", networks.prune),
    ("GET", "/networks/{name}", networks.inspect),
    ("POST", "/networks/{name}/connect", networks.connect),
    ("POST", "/networks/{name}/disconnect", networks.disconnect),
    ("DELETE", "/networks/{name}", networks.remove),
    #
    ("GET", "/volumes", volumes.list_volumes),
    ("POST", "/volumes/create", volumes.create),
    ("POST", "/volumes/prune", volumes.prune),
    ("GET", "/volumes/{name}", volumes.inspect),
    ("PUT", "/volumes/{name}", swarm.no_manager),
    ("DELETE", "/volumes/{name}", volumes.remove),
    #
    # ours: the kernel events of requests, as they happen
    ("GET", "/minicontainer/traces/{name}", system.trace),
    ("DELETE", "/minicontainer/traces/{name}", system.end_trace),
    ("POST", "/minicontainer/traces/{name}/continue", system.proceed),
    # ours: what a start of a container would be made from
    ("GET", "/minicontainer/plans/{name}", containers.plan),
    #
    ("POST", "/build", build.build),
    ("POST", "/build/cancel", build.cancel),
    ("POST", "/build/prune", build.prune),
    ("POST", "/session", build.buildkit),
    ("POST", "/grpc", build.buildkit),
    #
    ("POST", "/swarm/init", swarm.no_swarm_mode),
    ("POST", "/swarm/join", swarm.no_swarm_mode),
    ("POST", "/swarm/leave", swarm.no_swarm),
    *(
        (method, path, swarm.no_manager)
        for kind in ("swarm", "nodes", "services", "tasks", "secrets", "configs")
        for method in ("GET", "POST", "DELETE")
        for path in (f"/{kind}", f"/{kind}/{{name}}", f"/{kind}/{{name}}/{{action}}")
    ),
    ("GET", "/plugins", swarm.list_plugins),
    ("GET", "/plugins/privileges", swarm.no_plugins),
    ("POST", "/plugins/pull", swarm.no_plugins),
    ("POST", "/plugins/create", swarm.no_plugins),
    ("GET", "/plugins/{name*}/json", swarm.no_plugin),
    ("POST", "/plugins/{name*}/{action}", swarm.no_plugin),
    ("DELETE", "/plugins/{name*}", swarm.no_plugin),
)

_VERSIONED = re.compile(r"/v([0-9]{1,6})\.([0-9]{1,6})(/.*)", re.DOTALL)
_ATTACH = re.compile(r"/containers/[^/]+/attach")
_PLACEHOLDER = re.compile(r"\{([a-z]+)(\*?)\}")


def _pattern(path: str) -> re.Pattern[str]:
    """Make the regular expression of a path with placeholders."""
    parts = _PLACEHOLDER.split(path)
    text = re.escape(parts[0])
    for name, greedy, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        text += f"(?P<{name}>{'.+' if greedy else '[^/]+'}){re.escape(rest)}"
    return re.compile(text, re.DOTALL)


def _by_start() -> dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]]:
    """Group the table by method and first part of the path, which has no placeholder."""
    found: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
    for method, path, handler in ROUTES:
        rows = found.setdefault((method, path.split("/")[1]), [])
        rows.append((_pattern(path), handler))
    return found


_TABLE = _by_start()


def split_version(path: str) -> tuple[tuple[int, int], str]:
    """Take the version off a path; a path without one is of the newest version.

    Raises:
        InvalidArgument: this engine does not speak that version; clients know these words.
    """
    if not (found := _VERSIONED.fullmatch(path)):
        return NEWEST, path
    version = int(found[1]), int(found[2])
    if version > NEWEST:
        raise InvalidArgument(
            f"client version {found[1]}.{found[2]} is too new. "
            f"Maximum supported API version is {NEWEST[0]}.{NEWEST[1]}"
        )
    if version < OLDEST:
        raise InvalidArgument(
            f"client version {found[1]}.{found[2]} is too old. Minimum supported API version is "
            f"{OLDEST[0]}.{OLDEST[1]}, please upgrade your client to a newer version"
        )
    return version, found[3]


def are_errors_plain(path: str) -> bool:
    """Say whether an error is plain text: on attach, and for clients older than this engine knows.

    JSON is what all others get; old ones would show it as it is.
    """
    found = _VERSIONED.fullmatch(path)
    old = found is not None and (int(found[1]), int(found[2])) < OLDEST
    return old or bool(_ATTACH.fullmatch(found[3] if found else path))


def find(method: str, path: str) -> tuple[Handler, dict[str, str]]:
    """Find the handler of a path without a version, and the names in the path.

    Raises:
        NotFound: no route fits. As in Docker this is also the answer to a wrong method.
    """
    if method == "OPTIONS":  # a browser asks, before it sends the request itself
        return system.options, {}
    first = path.split("/")[1] if path.startswith("/") else ""
    for pattern, handler in _TABLE.get((method, first), ()):
        if found := pattern.fullmatch(path):
            return handler, found.groupdict()
    raise NotFound("page not found")
