"""Volumes as Docker knows them: directories that outlive their containers.

    <data-root>/volumes/NAME/_data

A new container's volumes are found or made when it is created. An empty one gets what the image has
at the place where it is mounted, with owners and modes. A container holds its volumes from then
until it is removed, so that none of them can be removed meanwhile.

See: Docker Engine API, "Volume"; Docker's "Volumes".
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from minicontainer.engine import mounts, volume_parts
from minicontainer.engine.filters import check_known, has_labels, is_true
from minicontainer.engine.system import directory_size
from minicontainer.engine.volume_directories import Directories, make_directory
from minicontainer.errors import Conflict, Error, InvalidArgument, NotFound
from minicontainer.runtime.config.spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from minicontainer.engine.config import ContainerConfig
    from minicontainer.engine.mounts import MountPlan

    Json = dict[str, Any]
    Objects = list[Json]
    Filters = dict[str, list[str]]

    class Member(Protocol):
        """A container, as volumes see it."""

        id: str
        name: str
        config: ContainerConfig
        mounts: Objects

    class Table(Protocol):
        """Where volumes are kept."""

        def insert(self, identifier: str, name: str, body: Json) -> None:
            """Add a volume."""

        def update(self, identifier: str, body: Json) -> None:
            """Replace its body."""

        def delete(self, identifier: str) -> None:
            """Remove it."""

        def all(self) -> list[tuple[str, str, Json]]:
            """List all: ID, name, body."""


_ANONYMOUS = "com.docker.volume.anonymous"
_OWNER = "ContainerID"  # kept, and not shown
_FILTERS = ("dangling", "driver", "label", "name")
_OPTIONS = ("type", "device", "o")
_NEEDS = {"type": ("device",), "device": ("type",), "o": ("device", "type")}


class Volumes:
    """The volumes of an engine.

    Args:
        data_root: what is kept over a reboot.
        table: where volumes are kept.
        publish: tells an event: kind, action, ID, attributes.
        find: finds a container by ID or name, for `--volumes-from`.
    """

    def __init__(
        self,
        data_root: str,
        table: Table,
        publish: Callable[[str, str, str, dict[str, str]], None] = lambda *_: None,
        find: Callable[[str], Member] | None = None,
    ) -> None:
        self._data_root = data_root
        self._directories = Directories(os.path.join(data_root, "volumes"))
        self._table = table
        self._publish = publish
        self._find = find
        self._lock = threading.RLock()
        self._bodies: dict[str, Json] = {name: body for _, name, body in table.all()}
        self._users: dict[str, set[str]] = {}
        for name in self._directories.settle({*self._bodies}):
            del self._bodies[name]
            table.delete(name)

    # ---- containers

    def plans(self, config: ContainerConfig) -> tuple[MountPlan, ...]:
        """Read what a container wants mounted.

        Raises:
            InvalidArgument: naming the option's text and what is wrong with it.
        """
        return mounts.plans_for(config.host_config, config.volumes, self._data_root)

    def check(self, config: ContainerConfig) -> None:
        """Check what a new container wants mounted, as far as nothing need be made for it.

        Raises:
            NotFound: there is no such container for `--volumes-from`.
            InvalidArgument: as of `plans`; or a bind's source is missing.
        """
        for plan in self.plans(config):
            if plan.type == "bind" and plan.must_exist:
                mounts.check_source(plan)
            if plan.type == "volume":
                _check_driver(plan.source, plan.driver, plan.driver_options)
        self._inherited(config)

    def give(self, container: Member, lowers: tuple[str, ...]) -> None:
        """Find or make what a new container has mounted, and set its mounts.

        Args:
            lowers: the directories of its image, uppermost first.
        """
        own = self.plans(container.config)
        targets = {plan.target for plan in own if plan.source or plan.type != "volume"}
        found = [
            mount
            for mount in self._inherited(container.config)
            if mount["Destination"] not in targets
        ]
        covered = {mount["Destination"] for mount in found}
        with self._lock:
            for plan in own:
                if plan.type == "volume" and plan.target not in covered:
                    found.append(self._give_volume(container, plan, lowers))
                elif plan.type == "bind":
                    _make_source(plan)
                    found.append(_mount_point(plan, plan.source))
                elif plan.type == "tmpfs" and plan.listed:
                    found.append(_mount_point(plan, ""))
            container.mounts = found
            self.adopt(container)

    def adopt(self, container: Member) -> None:
        """Note which volumes a container holds, when it is made or the engine starts."""
        with self._lock:
            for mount in container.mounts:
                if mount["Type"] == "volume":
                    self._users.setdefault(mount["Name"], set()).add(container.id)

    def release(self, container: Member, *, anonymous: bool = False) -> None:
        """Let a removed container's volumes go.

        Args:
            anonymous: remove those that nobody named and no other container holds.
        """
        with self._lock:
            for mount in container.mounts:
                if mount["Type"] != "volume":
                    continue
                name = mount["Name"]
                users = self._users.get(name, set())
                users.discard(container.id)
                if anonymous and self._is_nameless(name) and not users:
                    with contextlib.suppress(Error):  # it stays, and `prune` tries again
                        self.remove(name, force=True)

    def let_stay(self, container: Member) -> None:
        """Keep a container's anonymous volumes when it is removed: they are nobody's then."""
        with self._lock:
            for mount in container.mounts:
                body = self._bodies.get(mount.get("Name", ""), {})
                if body.pop(_OWNER, None):
                    self._table.update(body["Name"], body)

    def remove_ownerless(self, known: set[str]) -> None:
        """Remove the anonymous volumes of containers that a killed engine was making or removing.

        Args:
            known: the IDs of all containers.
        """
        with self._lock:
            for name, body in [*self._bodies.items()]:
                if body.get(_OWNER, "") not in ("", *known) and not self._users.get(name):
                    with contextlib.suppress(Error):  # it stays, and `prune` tries again
                        self.remove(name, force=True)

    def tell_mounted(self, container: Member) -> None:
        """Tell that a container has its volumes, for it has just started."""
        for mount in container.mounts:
            if mount["Type"] == "volume":
                attributes = {
                    "container": container.id,
                    "destination": mount["Destination"],
                    "driver": mount["Driver"],
                    "propagation": mount["Propagation"],
                    "read/write": str(mount["RW"]).lower(),
                }
                self._publish("volume", "mount", mount["Name"], attributes)

    def tell_unmounted(self, container: Member) -> None:
        """Tell that a container has its volumes no more, for it has ended."""
        for mount in container.mounts:
            if mount["Type"] == "volume":
                attributes = {"container": container.id, "driver": mount["Driver"]}
                self._publish("volume", "unmount", mount["Name"], attributes)

    def mounts_of(self, container: Member) -> tuple[Mount, ...]:
        """Give a container's mounts for its next start, outer directories before inner ones."""
        plans = {plan.target: plan for plan in self.plans(container.config)}
        found = []
        for shown in container.mounts:
            target = shown["Destination"]
            plan = plans.pop(target, None) or _inherited_plan(shown)
            found.append(self._mount_of(plan, shown))
        found += [mounts.mount_of(plan, "") for plan in plans.values() if plan.type == "tmpfs"]
        return tuple(sorted(found, key=lambda mount: mount.destination.count("/")))

    def _mount_of(self, plan: MountPlan, shown: Json) -> Mount:
        if plan.type != "volume":
            return mounts.mount_of(plan, shown["Source"])
        options = self._bodies.get(shown["Name"], {}).get("Options") or {}
        if options.get("device"):
            kind = options.get("type") or "none"
            words = [word for word in options.get("o", "").split(",") if word]
            if kind in ("none", "bind") and "bind" not in words and "rbind" not in words:
                words.append("bind")
            return Mount(
                destination=plan.target, type="bind" if kind == "none" else kind,
                source=options["device"], options=(*words, *plan.words),
            )  # fmt: skip
        if not plan.subpath:
            return mounts.mount_of(plan, shown["Source"])
        found = mounts.mount_of(plan, volume_parts.find(shown["Source"], plan.subpath))
        # Another container that has the volume could put a link to the host's files there by now.
        return found.replace(options=(*found.options, "src-nosymlinks"))

    def _give_volume(self, container: Member, plan: MountPlan, lowers: tuple[str, ...]) -> Json:
        name = plan.source or os.urandom(32).hex()
        labels = dict(plan.labels) if plan.source else {_ANONYMOUS: ""}
        owner = "" if plan.source else container.id
        body = self._created(name, plan.driver, dict(plan.driver_options), labels, owner)
        options = body.get("Options") or {}
        if not plan.no_copy and not options.get("device"):
            from minicontainer.engine.volume_contents import fill

            if plan.subpath:
                volume_parts.fill_part(body["Mountpoint"], plan.subpath, lowers, plan.target)
            else:
                fill(body["Mountpoint"], lowers, plan.target)
        return _mount_point(plan, body["Mountpoint"], name)

    def _inherited(self, config: ContainerConfig) -> Objects:
        """List what `--volumes-from` brings."""
        found: dict[str, Json] = {}
        for text in config.host_config.volumes_from:
            ref, _, mode = text.partition(":")
            if mode not in ("", "ro", "rw", "z", "Z"):
                raise InvalidArgument(f"invalid mode: {mode}, of volumes-from")
            if self._find is None:
                raise InvalidArgument(f"No such container: {ref}")
            try:
                other = self._find(ref)
            except NotFound as error:  # 404 is for the image: clients then pull it
                raise InvalidArgument(str(error)) from None
            for mount in other.mounts:
                if mount["Type"] not in ("tmpfs", "image"):
                    writable = mount["RW"] and mode != "ro"
                    found[mount["Destination"]] = mount | {"RW": writable, "Mode": mode}
        return list(found.values())

    # ---- Docker's API

    def list(self, filters: Filters) -> Json:
        """List the volumes."""
        check_known(filters, _FILTERS)
        dangling = is_true(filters, "dangling")
        with self._lock:
            found = [
                _shown(body)
                for name, body in sorted(self._bodies.items())
                if (dangling is None or dangling is not bool(self._users.get(name)))
                and all(value in name for value in filters.get("name", [])[:1])
                and ("driver" not in filters or body["Driver"] in filters["driver"])
                and has_labels(body["Labels"] or {}, filters.get("label", []))
            ]
        return {"Volumes": found, "Warnings": None}

    def inspect(self, name: str) -> Json:
        """Show a volume."""
        return _shown(self._body(name))

    def create(self, body: Json) -> Json:
        """Make a volume, or find the one that is there.

        Raises:
            InvalidArgument, NotFound: in Docker's words.
        """
        name, labels = str(body.get("Name") or ""), _texts(body, "Labels")
        if name:
            mounts.check_volume_name(name)
        else:
            name, labels = os.urandom(32).hex(), labels | {_ANONYMOUS: ""}
        driver, options = str(body.get("Driver") or ""), _texts(body, "DriverOpts")
        with self._lock:
            return _shown(self._created(name, driver, options, labels))

    def remove(self, name: str, force: bool = False) -> None:
        """Remove a volume that no container holds, with its files.

        Args:
            force: one that is not there is fine.
        Raises:
            NotFound, Conflict: in Docker's words.
        """
        with self._lock:
            if force and name not in self._bodies:
                return
            self._body(name)
            if users := self._users.get(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(sorted(users))}]")
            self._directories.remove(name, lambda: self._table.delete(name))
            del self._bodies[name]
            self._users.pop(name, None)
        self._publish("volume", "destroy", name, {"driver": "local"})

    def prune(self, filters: Filters) -> Json:
        """Remove the volumes that no container holds: nameless ones, or all of them."""
        check_known(filters, ("all", "label", "label!"))
        everything = is_true(filters, "all")
        removed, freed = [], 0
        for name, body in list(self._bodies.items()):
            labels = body["Labels"] or {}
            wanted = everything or _ANONYMOUS in labels
            wanted = wanted and has_labels(labels, filters.get("label", []))
            if not wanted or any(has_labels(labels, [one]) for one in filters.get("label!", [])):
                continue
            size = directory_size(body["Mountpoint"])
            with contextlib.suppress(Conflict, NotFound):
                self.remove(name)
                removed.append(name)
                freed += size
        self._publish("volume", "prune", "", {"reclaimed": str(freed)})
        return {"VolumesDeleted": removed, "SpaceReclaimed": freed}

    # ---- what these share

    def _body(self, name: str) -> Json:
        try:
            return self._bodies[name]
        except KeyError:
            raise NotFound(f"get {name}: no such volume") from None

    def _is_nameless(self, name: str) -> bool:
        return _ANONYMOUS in (self._bodies.get(name, {}).get("Labels") or {})

    def _created(
        self, name: str, driver: str, options: dict[str, str], labels: dict[str, str],
        owner: str = "",
    ) -> Json:  # fmt: skip
        """Find or make a volume; the lock is held.

        Args:
            owner: the container that it is made for, if it is to be removed with that.
        """
        _check_driver(name, driver, options)
        if name in self._bodies:
            there = self._bodies[name]
            if options and options != (there["Options"] or {}):
                raise Conflict(f"create {name}: volume exists with other options: remove it first")
            return there
        body: Json = {
            "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "Driver": "local",
            "Labels": labels or None,
            "Mountpoint": self._directories.data(name),
            "Name": name,
            "Options": options or None,
            "Scope": "local",
        }
        if owner:
            body[_OWNER] = owner
        self._directories.make(name, lambda: self._table.insert(name, name, body))
        self._bodies[name] = body
        self._publish("volume", "create", name, {"driver": "local"})
        return body


def _shown(body: Json) -> Json:
    return {field: value for field, value in body.items() if field != _OWNER}


def _texts(body: Json, field: str) -> dict[str, str]:
    found = body.get(field) or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InvalidArgument(f"{field}: expected an object of strings")
    return dict(found)


def _check_driver(name: str, driver: str, options: dict[str, str]) -> None:
    """Check what a volume is made with.

    Raises:
        NotFound: there is no such driver.
        InvalidArgument: an option is unknown, or one is missing.
    """
    if driver not in ("", "local"):
        raise NotFound(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
        )
    for option in options:
        if option not in _OPTIONS:
            raise InvalidArgument(f'create {name}: invalid option: "{option}"')
        for needed in _NEEDS[option]:
            if not options.get(needed):
                raise InvalidArgument(f'create {name}: missing required option: "{needed}"')


def _make_source(plan: MountPlan) -> None:
    """Make the directory that `-v` names where it is missing, as Docker does."""
    if plan.must_exist:
        mounts.check_source(plan)
    elif not os.path.exists(plan.source):
        parts = plan.source.strip("/").split("/")
        for number in range(len(parts)):
            make_directory("/" + "/".join(parts[: number + 1]), 0o755)


def _inherited_plan(shown: Json) -> MountPlan:
    words = ("ro", "rro") if not shown["RW"] else ()
    return mounts.MountPlan(type=shown["Type"], target=shown["Destination"], words=words)


def _mount_point(plan: MountPlan, source: str, name: str = "") -> Json:
    """Show a mount as `inspect` does: Docker's MountPoint."""
    found: Json = {"Type": plan.type}
    if plan.type == "volume":
        found["Name"] = name
    found |= {"Source": source, "Destination": plan.target}
    if plan.type == "volume":
        found["Driver"] = "local"
    return found | {
        "Mode": plan.mode,
        "RW": plan.writable,
        "Propagation": plan.propagation if plan.type == "bind" else "",
    }
