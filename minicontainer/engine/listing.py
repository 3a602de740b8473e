"""Containers in a list, with `docker ps`'s filters, and their status in words.

See: Docker Engine API, ContainerList.
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
import time

from minicontainer.engine import endpoints, inspection
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images.filters import moment_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from minicontainer.engine.config import HostConfig
    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine

    Json = dict[str, Any]
    Filters = dict[str, list[str]]

STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTHS = ("starting", "healthy", "unhealthy", "none")


def list_containers(
    engine: Engine, everything: bool, limit: int, size: bool, filters: Filters
) -> list[Json]:
    """List containers, the youngest first.

    Args:
        everything: also those that do not run.
        limit: at most so many, whether they run or not; 0 or less: all.
        size: with the bytes of their files.
        filters: a container needs one of the values of each filter, and all values of `label`.
    """
    wanted = _predicate(engine, filters)
    found = sorted(engine.containers.all(), key=lambda one: one.created_ns, reverse=True)
    everything = everything or limit > 0 or "status" in filters
    chosen = [one for one in found if (everything or one.state.is_live()) and wanted(one)]
    if limit > 0:
        chosen = chosen[:limit]
    aliases, ids = _aliases(engine), _Ids(engine)
    shown = [summary(engine, one, size) for one in chosen]
    for container, one in zip(chosen, shown, strict=True):
        one["Names"] += aliases.get(container.id, [])
        if container.image_id and ids[container.image_name] != container.image_id:
            one["Image"] = container.image_id  # its name is another image's by now, or nobody's
    return shown


class _Ids(dict[str, str]):
    """The IDs of images by the names that containers have for them; each is looked up once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __missing__(self, name: str) -> str:
        try:
            found = self._engine.images.store.resolve(name).id
        except (NotFound, InvalidArgument):
            found = ""
        self[name] = found
        return found


def _aliases(engine: Engine) -> dict[str, list[str]]:
    """Give the names that links give to containers, by ID: /web/db of `--link postgres:db`."""
    found: dict[str, list[str]] = {}
    for one in engine.containers.all():
        for ref, alias in map(endpoints.link, one.config.host_config.links):
            with contextlib.suppress(NotFound):
                other = engine.containers.find(ref)
                found.setdefault(other.id, []).append(f"/{one.name}/{alias}")
    return found


def summary(engine: Engine, container: Container, size: bool = False) -> Json:
    """Show one container in a list."""
    with container.changed:
        state = container.state
        found: Json = {
            "Id": container.id,
            "Names": [f"/{container.name}"],
            "Image": container.image_name,
            "ImageID": container.image_id,
            "Command": command_line(container.program()),
            "Created": container.created_ns // 10**9,
            "Ports": _ports(container),
            "Labels": dict(container.config.labels),
            "State": state.status,
            "Status": status_in_words(container),
            "HostConfig": _host_summary(container.config.host_config),
            "NetworkSettings": {"Networks": {**container.endpoints}},
            "Mounts": container.mounts,
        }
    if size:
        found |= inspection.sizes(engine, container)
    return found


def _host_summary(host: HostConfig) -> Json:
    shown: Json = {"NetworkMode": host.network_mode}
    if host.annotations:
        shown["Annotations"] = {**host.annotations}
    return shown


def command_line(program: tuple[str, ...]) -> str:
    """Write a program as Docker does: arguments with blanks in single quotes."""
    return " ".join(f"'{word}'" if " " in word else word for word in program)


def _ports(container: Container) -> list[Json]:
    found = []
    for port, bindings in inspection.ports_map(container).items():
        number, _, protocol = port.partition("/")
        shown: Json = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        if not bindings:
            found.append(shown)
        for binding in bindings or ():
            place = {"IP": binding["HostIp"], "PublicPort": int(binding["HostPort"])}
            found.append({**shown, **place})
    return found


def status_in_words(container: Container) -> str:
    """Say how a container does: Up 2 seconds (healthy), Exited (3) 5 minutes ago."""
    state = container.state
    now = time.time_ns()
    since_start = age((now - state.started_ns) // 10**9)
    since_end = age((now - state.finished_ns) // 10**9)
    if state.status == "paused":
        return f"Up {since_start} (Paused)"
    if state.status == "running":
        health = (container.health or {}).get("Status", "none")
        shown = {"none": "", "starting": " (health: starting)"}.get(health, f" ({health})")
        return f"Up {since_start}{shown}"
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {since_end} ago"
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {since_end} ago"
    return {"created": "Created", "removing": "Removal In Progress", "dead": "Dead"}[state.status]


# Up to so many seconds, a duration is told in this unit;
# without a unit the words say it all.
_AGES = (
    (1, 0, "Less than a second"),
    (2, 0, "1 second"),
    (60, 1, "seconds"),
    (120, 0, "About a minute"),
    (3600, 60, "minutes"),
    (5400, 0, "About an hour"),
    (48 * 3600, 3600, "hours"),
    (14 * 86400, 86400, "days"),
    (60 * 86400, 7 * 86400, "weeks"),
    (730 * 86400, 30 * 86400, "months"),
)


def age(seconds: int) -> str:
    """Write a duration as people say it: About a minute, 3 hours."""
    for limit, unit, words in _AGES:
        if seconds < limit:
            return f"{seconds // unit} {words}" if unit else words
    return f"{seconds // (365 * 86400)} years"


# --- filters ----------------------------------------------------------------------------------


def _predicate(engine: Engine, filters: Filters) -> Callable[[Container], bool]:
    """Make one test of all filters.

    Raises:
        InvalidArgument: `invalid filter 'x'`, or a value that the filter does not know.
    """
    tests = []
    for name, values in filters.items():
        if name not in _FILTERS:
            raise InvalidArgument(f"invalid filter '{name}'")
        tests.append(_FILTERS[name](engine, values))
    return lambda container: all(test(container) for test in tests)


def _any(
    values: Iterable[str], matches: Callable[[Container, str], bool]
) -> Callable[[Container], bool]:
    listed = list(values)
    return lambda container: any(matches(container, value) for value in listed)


def _by_id(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    return _any(values, lambda container, value: container.id.startswith(value))


def _by_name(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    try:
        patterns = [
            re.compile(value.removeprefix("/") if value != "/" else value) for value in values
        ]
    except re.error as error:
        raise InvalidArgument(f"invalid filter 'name': {error}") from None
    slashed = [re.compile(value) for value in values]
    return lambda container: any(
        one.search(container.name) or other.search(f"/{container.name}")
        for one, other in zip(patterns, slashed, strict=True)
    )


def has_label(labels: dict[str, str], wanted: str) -> bool:
    """Say whether labels hold KEY, or KEY=VALUE."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _by_label(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    return lambda container: all(
        has_label(dict(container.config.labels), value) for value in values
    )


def _by_status(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    for value in values:
        if value not in STATUSES:
            raise InvalidArgument(f"invalid filter 'status={value}'")
    return lambda container: container.state.status in values


def _by_exit_code(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    try:
        codes = {int(value) for value in values}
    except ValueError:
        raise InvalidArgument(f"invalid filter 'exited={values[0]}'") from None
    return lambda container: (
        container.state.exit_code in codes
        and not container.state.is_running()
        and container.state.started_ns > 0
    )


def _by_health(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    for value in values:
        if value not in _HEALTHS:
            raise InvalidArgument(f"invalid filter 'health={value}'")
    return lambda container: (container.health or {}).get("Status", "none") in values


def _by_age(engine: Engine, values: list[str], sign: int) -> Callable[[Container], bool]:
    moments = []
    for value in values:
        try:
            moments.append(engine.containers.find(value).created_ns)
        except NotFound:
            raise NotFound(f"No such container: {value}") from None
    return lambda container: all(sign * (container.created_ns - at) > 0 for at in moments)


def _by_ancestor(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    names, ids, layers = set(values), set(), []
    for value in values:
        try:
            image = engine.resolve_image(value, "")
        except (NotFound, InvalidArgument):
            continue
        ids.add(image.id)
        layers.append(image.chain_ids)
    return lambda container: (
        container.image_name in names
        or container.image_id in ids
        or any(chain and container.layers[: len(chain)] == chain for chain in layers)
    )


def _by_volume(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    return lambda container: any(
        value in (mount.get("Name"), mount.get("Source"), mount.get("Destination"))
        for mount in container.mounts
        for value in values
    )


def _by_network(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    return lambda container: any(
        value == name or (endpoint or {}).get("NetworkID", "").startswith(value)
        for name, endpoint in {
            container.config.host_config.network_mode: {}, **container.endpoints
        }.items()
        for value in values
    )  # fmt: skip


def _by_port(engine: Engine, values: list[str], field: str) -> Callable[[Container], bool]:
    wanted = set()
    for value in values:
        ports, _, protocol = value.partition("/")
        first, _, last = ports.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise InvalidArgument(f"invalid filter '{field}={value}'")
        for port in range(int(first), int(last or first) + 1):
            wanted.add(f"{port}/{protocol or 'tcp'}")

    # As dockerd 28: the host's port, or the container's, of one that runs.
    number = "PublicPort" if field == "publish" else "PrivatePort"

    def test(container: Container) -> bool:
        shown = {f"{port.get(number)}/{port['Type']}" for port in _ports(container)}
        return not wanted.isdisjoint(shown)

    return test


def _by_flag(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    return lambda container: "true" not in values  # is-task: there is no Swarm


def _by_isolation(engine: Engine, values: list[str]) -> Callable[[Container], bool]:
    return lambda container: any(fnmatch.fnmatch("default", value) for value in values)


def is_prunable(container: Container, filters: Filters) -> bool:
    """Say whether `prune` may remove a container."""
    labels = dict(container.config.labels)
    if not all(has_label(labels, value) for value in filters.get("label", ())):
        return False
    if any(has_label(labels, value) for value in filters.get("label!", ())):
        return False
    return all(container.created_ns < moment_ns(value) for value in filters.get("until", ()))


_FILTERS: dict[str, Callable[[Engine, list[str]], Callable[[Container], bool]]] = {
    "ancestor": _by_ancestor,
    "before": lambda engine, values: _by_age(engine, values, -1),
    "exited": _by_exit_code,
    "expose": lambda engine, values: _by_port(engine, values, "expose"),
    "health": _by_health,
    "id": _by_id,
    "is-task": _by_flag,
    "isolation": _by_isolation,
    "label": _by_label,
    "name": _by_name,
    "network": _by_network,
    "publish": lambda engine, values: _by_port(engine, values, "publish"),
    "since": lambda engine, values: _by_age(engine, values, 1),
    "status": _by_status,
    "volume": _by_volume,
}
