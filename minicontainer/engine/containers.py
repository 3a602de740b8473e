"""Containers as Docker's API knows them: found by name or ID, and what is done with them.

Each method is one operation of the API, in Docker's words; the mechanisms are in files of their
own: `creation`, `supervisor` (start and end), `stops`, `inspection`, `listing`, `logs`, `waits`.

See: Docker Engine API, "Container".
"""

from __future__ import annotations

import contextlib
import os
import threading

from minicontainer.engine import (
    creation,
    endpoints,
    files,
    inspection,
    link_names,
    listing,
    names,
    plans,
    processes,
    protocol,
    removal,
    restarts,
    snapshots,
    stops,
    updates,
)
from minicontainer.engine.container import Container
from minicontainer.engine.detach_keys import parse as parse_detach_keys
from minicontainer.engine.logs import LogStream
from minicontainer.engine.stats import StatsStream
from minicontainer.engine.waits import Waiting
from minicontainer.errors import (
    Conflict,
    Error,
    InvalidArgument,
    KernelError,
    NotFound,
    NotModified,
)
from minicontainer.kernel import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from minicontainer.engine.engine import Engine
    from minicontainer.engine.options import AttachOptions, ClientStream, LogOptions

    Json = dict[str, Any]
    Objects = list[Json]
    Filters = dict[str, list[str]]


class Containers:
    """The containers of an engine.

    Args:
        engine: with its other parts.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._by_id: dict[str, Container] = {}
        self._ids: dict[str, str] = {}  # by name

    # --- finding ----------------------------------------------------------------------------

    def all(self) -> list[Container]:
        """List them."""
        with self._lock:
            return [*self._by_id.values()]

    def find(self, ref: str) -> Container:
        """Find a container by its ID, its name, a link's name, or the unique beginning of its ID.

        Raises:
            NotFound: `No such container: …`.  InvalidArgument: several IDs begin like this.
        """
        found = self._known(ref)
        if found is None and (linked := link_names.leads_to(ref, self._known)):
            found = self._known(linked)  # a link leads to no other link: there could be a circle
        if found is None:
            raise NotFound(f"No such container: {ref}")
        return found

    def _meant(self, ref: str) -> Container:
        """Find the container that a request is going to change: the request's story is about it."""
        container = self.find(ref)
        self._engine.traces.concern(container.id)
        return container

    def _known(self, ref: str) -> Container | None:
        with self._lock:
            found = self._by_id.get(ref) or self._by_id.get(self._ids.get(ref.lstrip("/"), ""))
            if found is not None or not ref:
                return found
            matching = [identifier for identifier in self._by_id if identifier.startswith(ref)]
            if len(matching) > 1:
                raise InvalidArgument(
                    f"Multiple IDs found with provided prefix: {ref}: use more digits"
                )
            return self._by_id[matching[0]] if matching else None

    def is_tty(self, ref: str) -> bool:
        """Say whether a container has a terminal: its output is not framed then."""
        return self.find(ref).config.tty

    # --- life -------------------------------------------------------------------------------

    def create(self, config: Json, name: str = "", platform: str = "") -> Json:
        """Create a container; see `creation`."""
        asked_name = names.check(name) if name else ""
        self._check_free(asked_name)
        container = creation.prepare(self._engine, config, asked_name, platform)
        container.made_in = self._engine.traces.current
        try:
            with self._lock:
                container.name = asked_name or names.generate(self._ids)
                self._check_free(container.name)
                self._ids[container.name] = container.id
                self._by_id[container.id] = container
                self._engine.table.insert(
                    container.id, container.name, container.to_json(),
                    durable=container.outlives_power_cut,
                )  # fmt: skip
        except Error:
            with self._lock:
                if self._by_id.pop(container.id, None):
                    del self._ids[container.name]
            trees.remove_if_there(container.directory)
            self._engine.images.store.release(container.id)
            self._engine.volumes.release(container, anonymous=True)
            raise
        self._engine.publish(container, "create")
        return {"Id": container.id, "Warnings": creation.warnings_for(self._engine, container)}

    def _check_free(self, name: str) -> None:
        if identifier := self._ids.get(name):
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{identifier}". You have to remove (or rename) that container to be able to '
                "reuse that name."
            )

    def load(self) -> None:
        """Read the containers of an earlier engine; called once."""
        for identifier, name, kept in self._engine.table.all():
            directory = os.path.join(self._engine.data_root, "containers", identifier)
            container = Container.from_json(identifier, name, kept, directory)
            self._by_id[identifier] = container
            self._ids[name] = identifier

    def start(self, ref: str, detach_keys: str = "") -> None:
        """Start a container; return when its program runs."""
        container = self._meant(ref)
        container.restart_delay_s = 0.0
        container.state.restart_count = 0
        self._engine.supervisor.start(container)

    def stop(self, ref: str, timeout_s: int | None = None, signal: str = "") -> None:
        """Ask a container to end; kill it after *timeout_s*."""
        stops.stop(self._engine, self._meant(ref), timeout_s, signal)

    def restart(self, ref: str, timeout_s: int | None = None, signal: str = "") -> None:
        """Stop a container, if it runs, and start it."""
        container = self._meant(ref)
        keeps = container.config.host_config.auto_remove
        container.restarting_by_user = keeps
        try:
            with contextlib.suppress(NotModified):  # it does not run
                stops.stop(self._engine, container, timeout_s, signal)
            self._engine.supervisor.start(container)
        finally:
            container.restarting_by_user = False
        self._engine.publish(container, "restart")

    def kill(self, ref: str, signal: str = "") -> None:
        """Send a signal."""
        try:
            container = self._meant(ref)
        except NotFound as error:
            raise NotFound(f"cannot kill container: {ref}: {error}") from None
        stops.kill(self._engine, container, signal)

    def pause(self, ref: str) -> None:
        """Freeze its processes."""
        stops.pause(self._engine, self._meant(ref))

    def unpause(self, ref: str) -> None:
        """Let them run on."""
        stops.resume(self._engine, self._meant(ref))

    def wait(self, ref: str, condition: str) -> Waiting:
        """Register a wait: not-running, next-exit or removed."""
        return Waiting(self.find(ref), condition)

    def rename(self, ref: str, name: str) -> None:
        """Give a container another name."""
        container = self.find(ref)
        if not name:
            raise InvalidArgument("Neither old nor new names may be empty")
        try:
            name = names.check(name)
        except InvalidArgument as error:
            raise InvalidArgument(f"Error when allocating new name: {error}") from None
        if name == container.name:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        with self._lock, container.changed:
            self._check_free(name)
            self._engine.table.rename(container.id, name)
            old, container.name = container.name, name
            del self._ids[old]
            self._ids[name] = container.id
            container.endpoints = endpoints.renamed(container.endpoints, name, container.id)
            self._engine.keep(container)
        with contextlib.suppress(KernelError):  # a full disk: the next one to come or go does it
            self._engine.networks.tell_names(container)
        self._engine.publish(container, "rename", oldName=f"/{old}")

    def remove(
        self, ref: str, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """Remove a container.

        Args:
            force: kill it first, if it runs.
            volumes: with its anonymous volumes.
            link: remove a link and not a container; see `link_names`.
        """
        if link:
            link_names.remove(self._engine, ref)
            return
        removal.remove(self._engine, self._meant(ref), force=force, volumes=volumes)

    def forget(self, container: Container) -> None:
        """Find a container no more: it is removed."""
        with self._lock:
            self._by_id.pop(container.id, None)
            self._ids.pop(container.name, None)

    def ended(self, container: Container) -> None:
        """Do what follows a container's end: a restart by its policy, or its removal."""
        self._engine.volumes.tell_unmounted(container)
        if container.state.status == "restarting":
            self._restart_later(container)
        elif container.config.host_config.auto_remove and not container.restarting_by_user:
            removal.remove_quietly(self._engine, container)

    def _restart_later(self, container: Container) -> None:
        delay_s = restarts.next_delay_s(container)
        with container.changed:
            container.changed.wait_for(
                lambda: container.state.status != "restarting" or self._engine.closed, delay_s
            )
            if container.state.status != "restarting" or self._engine.closed:
                return
            container.state.restart_count += 1
        try:
            with contextlib.suppress(NotModified):  # the user was faster
                self._engine.supervisor.start(container, by_policy=True)
        except Error as error:
            self._engine.warn(f"container {container.name} can't be restarted: {error}")

    def prune(self, filters: Filters) -> Json:
        """Remove all containers that do not run, and that the filters match."""
        allowed = {"until", "label", "label!"}
        for name in filters:
            if name not in allowed:
                raise InvalidArgument(f"invalid filter '{name}'")
        deleted, freed = [], 0
        for container in self.all():
            if container.state.status not in ("created", "exited", "dead"):
                continue
            if not listing.is_prunable(container, filters):
                continue
            try:
                size = inspection.sizes(self._engine, container)["SizeRw"]
                self.remove(container.id)
            except (NotFound, Conflict):
                continue
            deleted.append(container.id)
            freed += size
        self._engine.events.publish("container", "prune", "", {"reclaimed": str(freed)})
        return {"ContainersDeleted": deleted or None, "SpaceReclaimed": freed}

    # --- looking ----------------------------------------------------------------------------

    def list(self, all: bool, limit: int, size: bool, filters: Filters) -> list[Json]:
        """List containers; see `listing`."""
        return listing.list_containers(self._engine, all, limit, size, filters)

    def inspect(self, ref: str, size: bool = False) -> Json:
        """Show all of a container; see `inspection`."""
        return inspection.inspect(self._engine, self.find(ref), size)

    def plan(self, ref: str) -> Json:
        """Say what a container's start would be made from; see `plans`."""
        return plans.plan_of(self._engine, self.find(ref))

    def logs(self, ref: str, options: LogOptions) -> Iterator[bytes]:
        """Give the lines of a container's log; see `logs`."""
        return LogStream(self.find(ref), options)

    def top(self, ref: str, ps_args: str) -> Json:
        """List a container's processes; see `processes`."""
        return processes.top(self.find(ref), self._engine.supervisor.state_store, ps_args)

    def stats(self, ref: str, stream: bool, one_shot: bool) -> StatsStream:
        """Give samples of what a container uses; see `stats`."""
        return StatsStream(self.find(ref), self._engine.supervisor.state_store, stream, one_shot)

    def changes(self, ref: str) -> Objects | None:
        """List the files that differ from the image's; see `snapshots`."""
        return snapshots.list_changes(self._engine, self.find(ref))

    def export(self, ref: str) -> Iterator[bytes]:
        """Give all files as a tar; see `snapshots`."""
        return snapshots.export(self._engine, self.find(ref))

    def commit(self, ref: str, query: Json, body: Json) -> Json:
        """Make an image of a container; see `snapshots`."""
        return snapshots.commit(self._engine, self.find(ref), query, body)

    def update(self, ref: str, body: Json) -> Json:
        """Change limits and restart policy; see `updates`."""
        return updates.update(self._engine, self._meant(ref), body)

    # --- files ------------------------------------------------------------------------------

    def archive_stat(self, ref: str, path: str) -> Json:
        """Say what a path in it is."""
        return files.archive_stat(self._engine, self.find(ref), ref, path)

    def archive_get(self, ref: str, path: str) -> tuple[Json, Iterator[bytes]]:
        """Give what a path in it leads to, as an archive."""
        container = self.find(ref)
        found = files.archive_get(self._engine, container, ref, path)
        self._engine.publish(container, "archive-path")
        return found

    def archive_put(
        self,
        ref: str,
        path: str,
        stream: BinaryIO,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
    ) -> None:
        """Unpack an archive into a directory of it."""
        container = self.find(ref)
        files.archive_put(
            self._engine, container, ref, path, stream, no_overwrite_dir_non_dir, copy_uid_gid
        )

    # --- streams ----------------------------------------------------------------------------

    def attach(self, ref: str, options: AttachOptions, connection: ClientStream) -> None:
        """Connect a client to a container's streams; return when its socket is handed over.

        A client that attaches before the start gets everything from the first byte on.
        """
        container = self.find(ref)
        keys = parse_detach_keys(options.detach_keys)
        streams = protocol.AttachStreams(
            stdin=options.stdin and container.config.open_stdin,
            stdout=options.stdout,
            stderr=options.stderr,
            multiplex=options.multiplex and not container.config.tty,
            detach_keys=keys.hex(),
            early=connection.buffered.hex(),
        )
        self._engine.publish(container, "attach")
        if options.logs:
            connection.accept()
            inode, offset = self._send_log(container, options, connection)
            streams = streams.replace(log_inode=inode, log_offset=offset)
        if not options.stream:
            return
        with container.changed:
            connection.accept()  # here: the client may start the container as soon as it hears it
            descriptor = os.dup(connection.socket.fileno())
            if container.monitor is None or not container.state.is_running():
                container.let_clients_go(only_gone=True)
                container.attached.append((streams, descriptor))
                return
            try:
                container.monitor.send(protocol.Attach(streams=streams), [descriptor])
            except OSError:  # it ends just now
                return
            finally:
                os.close(descriptor)

    def _send_log(
        self, container: Container, options: AttachOptions, connection: ClientStream
    ) -> tuple[int, int]:
        """Send the log; say how far it was read, from where the monitor goes on."""
        from minicontainer.engine.options import LogOptions

        wanted = LogOptions(stdout=options.stdout, stderr=options.stderr)
        log = LogStream(container, wanted)
        for part in log:
            connection.socket.sendall(part)
        return log.end

    def resize(self, ref: str, height: int, width: int) -> None:
        """Set the size of a terminal's window."""
        container = self.find(ref)
        with container.changed:
            if container.monitor is None or not container.state.is_running():
                raise Conflict(f"Container {container.id} is not running")
            container.monitor.send(protocol.Resize(height=height, width=width))
        self._engine.publish(container, "resize", height=str(height), width=str(width))
