"""The engine: opens the stores and holds the parts.

    engine = Engine("/var/lib/minicontainer", "/run/minicontainer")
    engine.containers.create({"Image": "busybox", "Cmd": ["true"]})

See: `supervisor` for the processes that it works with.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading

from minicontainer import steps
from minicontainer.engine import (
    bundles,
    image_mounts,
    link_variables,
    log_drivers,
    removal,
    restarts,
    runtimes,
    shared_memory,
)
from minicontainer.engine.containers import Containers
from minicontainer.engine.events import Events
from minicontainer.engine.execs import Execs
from minicontainer.engine.images import Images
from minicontainer.engine.kept_group import KeptGroup
from minicontainer.engine.networks import Networks
from minicontainer.engine.store import Store
from minicontainer.engine.supervisor import Supervisor
from minicontainer.engine.system import System
from minicontainer.engine.traces import Traces
from minicontainer.engine.trash import Trash
from minicontainer.engine.volumes import Volumes
from minicontainer.errors import (
    Conflict,
    Error,
    InvalidArgument,
    NotFound,
    NotModified,
    Unsupported,
)
from minicontainer.images.copies import why_no_overlay
from minicontainer.images.registry import Settings
from minicontainer.kernel import capabilities
from minicontainer.record import NO_ENTRIES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.config import ContainerConfig
    from minicontainer.engine.container import Container
    from minicontainer.engine.protocol import LogOptions
    from minicontainer.images.image import Image
    from minicontainer.runtime.config.spec import Spec


_LAST_WORDS_S = 5.0  # of a monitor whose container has ended


class Options(Record):
    """How an engine works.

    Args:
        registries: what is configured about them.
        debug: the log shows every request.
        proxies: the environment's proxies, by Docker's name of them.
        cgroup_parent: the cgroup that those of containers are made in.
        runtimes: other OCI runtimes: NAME=PATH.
    """

    registries: Settings = Settings()
    debug: bool = False
    proxies: dict[str, str] = NO_ENTRIES
    cgroup_parent: str = "/minicontainer"
    runtimes: tuple[str, ...] = ()


class Engine:
    """All parts of an engine; any thread may use them.

    Args:
        data_root: what is kept over a reboot: /var/lib/minicontainer.
        exec_root: what is not: /run/minicontainer.
    Raises:
        Conflict: another engine works there.
        Unsupported: this process has not the rights that containers take.
    """

    def __init__(self, data_root: str, exec_root: str, options: Options | None = None) -> None:
        self.data_root = os.path.abspath(data_root)
        self.exec_root = os.path.abspath(exec_root)
        self.options = options or Options()
        self.closed = False
        self.runtimes = runtimes.find(self.options.runtimes)
        _check_privileges()
        # What a container gets has modes of its own, whatever the umask of who started us.
        os.umask(0o022)
        self._locks = _claimed(self.data_root, self.exec_root)
        self.traces = Traces()
        self.overlay_refused = why_no_overlay(self.data_root)  # before any thread: it forks
        self.supervisor = Supervisor(self)  # first: its process starts while we go on
        self.store = Store(self.data_root)
        self.table = self.store.table("containers")
        self.trash = Trash(self.data_root, self.warn)
        self.events = Events()
        registries = self.options.registries
        self.images = Images(
            self.data_root, self.events.publish, self._users_of, registries,
            telling=lambda: self.traces.telling(self.traces.current),
        )  # fmt: skip
        self.volumes = Volumes(
            self.data_root,
            self.store.table("volumes"),
            publish=self.events.publish,
            find=lambda ref: self.containers.find(ref),
        )
        self.networks = Networks(
            os.path.join(self.exec_root, "network"),
            self.store.table("networks"),
            publish=self.events.publish,
            members=lambda: self.containers.all(),
            find=lambda ref: self.containers.find(ref),
            save=lambda container: container.save(self.table),
        )
        self.kept_group = KeptGroup(self.options.cgroup_parent, self.exec_root)
        self.containers = Containers(self)
        self.execs = Execs(self)
        self.system = System(
            self, self.data_root, registries, self.options.debug, self.options.proxies
        )
        self.supervisor.ended = self.containers.ended
        self.containers.load()
        containers = self.containers.all()
        self.images.store.release_others({container.id for container in containers})
        self.images.store.hold_again({one.id: one.image_id for one in containers if one.image_id})
        for container in containers:
            image_mounts.hold_again(self, container)
        self._reconcile()

    def close(self) -> None:
        """End the engine; containers run on, and the next engine finds them."""
        self.closed = True
        for container in self.containers.all():
            with container.changed:
                container.changed.notify_all()
        self.supervisor.close()
        self.kept_group.remove()
        self.trash.close()
        self.images.close()
        self.store.close()
        for lock in self._locks:
            os.close(lock)

    def _reconcile(self) -> None:
        """Take over the containers that run, note the ends of others, start those that should."""
        to_start = []
        for container in self.containers.all():
            state = container.state
            self.volumes.adopt(container)
            if removal.finish(self, container):
                continue
            if self.supervisor.adopt(container):
                self.networks.adopt(container)
                continue
            if restarts.wants_start_with_engine(container):
                state.status = "restarting"
                to_start.append(container)
            elif container.config.host_config.auto_remove:
                removal.remove_quietly(self, container)
            elif state.status == "restarting":
                state.status = "exited"
        running = {one.id for one in self.containers.all() if one.state.is_running()}
        self.supervisor.sweep(running)
        shared_memory.sweep(self.exec_root, running)
        try:
            self.networks.sweep(running)
        except Error as error:  # the next connection to that network tries again
            self.warn(f"what is left of networks can't be removed: {error}")
        known = {container.id for container in self.containers.all()}
        bundles.sweep(self.data_root, known)
        self.volumes.remove_ownerless(known)
        if to_start:
            threading.Thread(target=self._start_all, args=(to_start,), daemon=True).start()

    def _start_all(self, containers: list[Container]) -> None:
        for container in containers:
            try:
                with contextlib.suppress(NotModified):  # the user was faster
                    self.supervisor.start(container, by_policy=True)
            except Error as error:
                self.warn(f"container {container.name} can't be started: {error}")

    # --- what the parts need of each other --------------------------------------------------

    def publish(self, container: Container, action: str, **attributes: str) -> None:
        """Tell everybody of a container's event."""
        told = container.event_attributes(**attributes)
        self.events.publish("container", action, container.id, told)

    def tell_start(self, container: Container) -> None:
        """Tell everybody that a container's program runs, and has its volumes."""
        self.volumes.tell_mounted(container)
        self.publish(container, "start")

    def keep(self, container: Container) -> None:
        """Write what has happened to a container into the database.

        If that can't be done (a full disk), it has happened all the same: the next change is
        written with it, and an end is in exit.json too.
        """
        try:
            container.save(self.table)
        except Error as error:
            self.warn(f"container {container.name}: its state can't be kept: {error}")

    def warn(self, message: str) -> None:
        """Note what went wrong where no request can be told."""
        steps.warn(message)

    def explain(self, container: Container, events: str, story: str | None = None) -> None:
        """Pass on events of a container's start or end, as they were written, to who listens.

        Args:
            story: that they are part of; None for the container's own.
        """
        self.traces.pass_on(container.story if story is None else story, events, container.id)

    def end_story(self, name: str) -> None:
        """End a story, when the ends of its containers that are under way have been told."""
        for container in self.containers.all():
            if container.story == name and not container.state.is_running():
                self.supervisor.wait_for_last_words(container, _LAST_WORDS_S)
        self.traces.end(name)

    def resolve_image(self, text: str, platform: str) -> Image:
        """Find an image to start a container from.

        Raises:
            NotFound: `No such image: …`.
        """
        if not text:
            raise InvalidArgument(
                "no command specified, and no image: name one, or a root file system (Rootfs)"
            )
        look, what = f"look for {text}", f"image:{text}"
        try:
            image = self.images.resolve(text, platform)
        except NotFound:  # the client asks for a pull then, which is a request of its own
            steps.note(look, (), None, object=what, after="not here: a registry must be asked")
            raise
        steps.note(look, (), None, object=what, after=f"here: {image.id}")
        return image

    def lowers_of(self, container: Container) -> tuple[str, ...]:
        """Give the directories below a container's writable layer, uppermost first."""
        if container.rootfs:
            return (container.rootfs,)
        return self.images.layers.lower_directories(container.layers)

    def directories_of(self, container: Container) -> tuple[str, ...]:
        """Give the directories that hold a container's files, uppermost first."""
        upper = f"{container.directory}/upper"
        return (upper,) if container.copied else (upper, *self.lowers_of(container))

    def prepared(self, container: Container) -> Spec:
        """Write what a container's start needs on the host, and give its specification."""
        bundles.write_etc(container)
        spec = self.spec_of(container)
        shared_memory.make(self.exec_root, container)
        return spec

    def spec_of(self, container: Container) -> Spec:
        """Write the specification of a container's next start.

        Raises:
            InvalidArgument: a field makes no sense.
            NotFound, Conflict: a container whose namespaces it shares is gone, or does not run.
        """
        mounts, config = self.volumes.mounts_of(container), self.linked_config(container)
        mounts = image_mounts.with_images(self, container, mounts)
        mounts = shared_memory.with_shared(self.exec_root, container, mounts, self.containers.find)
        if runtimes.program_of(container.config.host_config.runtime, self.runtimes):
            mounts = runtimes.known_to_all(mounts)
        return bundles.make_spec(
            container, self.lowers_of(container), self.pid_of, mounts,
            self.options.cgroup_parent, self.etc_directory(container), config,
        )  # fmt: skip

    def linked_config(self, container: Container) -> ContainerConfig:
        """Give a container's configuration with the variables of the containers it is linked to."""
        return link_variables.with_variables(container.config, container.name, self.containers.find)

    def etc_directory(self, container: Container) -> str:
        """Give the directory of the hosts, hostname and resolv.conf that a container shows.

        One that shares another's network has that one's.
        """
        kind, _, ref = container.config.host_config.network_mode.partition(":")
        if kind == "container":
            with contextlib.suppress(NotFound):  # removed meanwhile: it can't start any more
                return self.etc_directory(self.containers.find(ref))
        return container.directory

    def image_size(self, container: Container) -> int:
        """Give the bytes of a container's image."""
        try:
            return self.images.store.resolve(container.image_id).size if container.layers else 0
        except NotFound:
            return 0

    def log_options(self, container: Container) -> LogOptions:
        """Say how a container's log is written."""
        return log_drivers.options_for(container)

    def pid_of(self, ref: str, kind: str) -> int:
        """Give the first process of a container that runs, to share one of its namespaces.

        Args:
            kind: network, ipc, …
        Raises:
            Conflict, Error: it does not run.
            InvalidArgument: it does not share its IPC namespace.
        """
        container = self.containers.find(ref)
        with container.changed:
            state = container.state
            if not state.is_running() and kind == "network":
                raise Conflict(
                    "cannot join network namespace of a non running container: "
                    f"container {container.name} is {state.status}"
                )
            if not state.is_running():
                refusal = Conflict if kind == "ipc" else Error  # Docker has a status for each
                raise refusal(
                    f"failed to join {kind.upper()} namespace: container {container.id} is not "
                    "running"
                )
            pid = state.pid
        if kind == "ipc" and container.config.host_config.ipc_mode in ("", "private", "none"):
            raise InvalidArgument(
                f"can't join IPC of container {container.id}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)"
            )
        return pid

    def check_joinable(self, ref: str, kind: str) -> int:
        """Check that a container exists whose namespaces shall be shared; it need not run yet."""
        try:
            return self.containers.find(ref).state.pid or 1
        except NotFound as error:  # 404 is for the image: clients then pull it
            joining = "joining network namespace of container: " if kind == "network" else ""
            raise InvalidArgument(f"{joining}{error}") from None

    def _users_of(self, image_id: str) -> tuple[tuple[str, bool], ...]:
        """Give the containers of an image: ID, and whether it runs."""
        return tuple(
            (container.id, container.state.is_running())
            for container in self.containers.all()
            if image_id
            in (container.image_id, *(one[0] for one in container.mounted_images.values()))
        )


def _check_privileges() -> None:
    """Refuse to begin what every start would fail at."""
    if os.geteuid() != 0:
        raise Unsupported(
            "containers need root here: run the command with sudo "
            "(`minicontainer check` tells what this host offers)"
        )
    if not capabilities.holds("CAP_SYS_ADMIN"):
        raise Unsupported(
            "making namespaces needs CAP_SYS_ADMIN, which this root does not have: in a container, "
            "start that one privileged (`minicontainer check` tells what is missing)"
        )


def _claimed(*directories: str) -> list[int]:
    """Make the roots, and make sure that one engine alone works on each; give the locks.

    Raises:
        Conflict: another engine does. Nothing has changed then.
        InvalidArgument: they are one directory.
    """
    if len({os.path.realpath(directory) for directory in directories}) < len(directories):
        raise InvalidArgument(f"{directories[0]} is data root and exec root: name two directories")
    with contextlib.ExitStack() as undo:
        locks = []
        for directory in directories:
            if not os.path.isdir(directory):
                os.makedirs(directory, mode=0o711, exist_ok=True)
                undo.callback(os.rmdir, directory)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"another engine works on {directory}: stop it first") from None
            locks.append(lock)
        undo.pop_all()
    return locks
