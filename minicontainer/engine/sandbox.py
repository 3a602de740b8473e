"""Containers of the command that runs them: `minicontainer run` without an engine.

A container of the sandbox lives as long as the command that runs it. Its directory holds the
overlay's writable layer and a lock; a container whose holder was killed is found by that lock being
free, and what is left of it is removed by the next command.
"""

from __future__ import annotations

import contextlib
import os

from minicontainer import jsontext, steps
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.engine import resolvers, specs
from minicontainer.errors import Error, InvalidArgument, KernelError, NotFound, Unsupported
from minicontainer.kernel import capabilities, namespaces
from minicontainer.record import Record
from minicontainer.runtime.config.spec import Bundle, Spec
from minicontainer.runtime.config.spec_check import check
from minicontainer.runtime.container.state import State, Store, check_name, for_its_owner
from minicontainer.runtime.inputs import Options
from minicontainer.runtime.parent import attach, foreground, lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import ExitStack

    from minicontainer.engine.config import ContainerConfig
    from minicontainer.runtime.parent.lifecycle import Container

SANDBOXES = "sandboxes"  # the directory of them, in the data root and in the exec root
_NETWORK = "minicontainer.network"
# What a container gets has modes of its own: all its users must reach them.
_UMASK = 0o022


class Outcome(Record):
    """How a container ended.

    Args:
        status: its program's exit status; 128+N for signal N.
        reason: why the kernel killed it, in words; "" where it did not.
    """

    status: int
    reason: str = ""


class Sandbox:
    """The containers of `run --rootfs`: each lives as long as the command that runs it.

    Args:
        data_root: what is kept over a reboot: /var/lib/minicontainer.
        exec_root: what is not: /run/minicontainer.
    """

    def __init__(self, data_root: str, exec_root: str) -> None:
        self.data_root = data_root
        # apart from the engine's containers, which no command holds: `sweep` would remove them
        self._directories = Store(os.path.join(data_root, SANDBOXES))
        self._names = Store(os.path.join(exec_root, SANDBOXES))
        self._network_state = os.path.join(exec_root, "network")

    def run(self, config: ContainerConfig, say: Callable[[str], None]) -> Outcome:
        """Run a container in the foreground, on this process's standard streams.

        Args:
            config: what it shall be.
            say: tells the user what happens besides.
        Raises:
            Error: nothing was started, and nothing is left.
            foreground.Interrupted: a signal came before the program ran.
        """
        _require_root()
        os.umask(_UMASK)
        identifier = os.urandom(32).hex()
        config = config.replace(
            name=config.name or identifier[:12], rootfs=self.find_rootfs(config.rootfs)
        )
        check_name(config.name)
        self.sweep()
        with foreground.interruptible(), contextlib.ExitStack() as undo:
            directory = steps.take(make_directory, self._directories, identifier, config, undo)
            spec = specs.make_spec(config, identifier, directory, self._pid_of)
            check(spec)
            bundle = steps.take(write_bundle, directory, spec)
            if not (config.open_stdin or config.tty):
                _read_nothing()
            ours, theirs = _socket_pair(undo) if config.tty else (None, None)
            container = lifecycle.create_container(
                config.name, bundle, self._names, Options(console=theirs)
            )
            undo.callback(container.delete)
            if specs.is_on_bridge(config.host_config.network_mode):
                steps.take(
                    connect_network, container.pid, identifier, self._network_state, directory, undo
                )
            return self._follow(container, config, ours, say)

    def _follow(
        self,
        container: Container,
        config: ContainerConfig,
        console: socket.socket | None,
        say: Callable[[str], None],
    ) -> Outcome:
        container.start()
        with foreground.passing_signals_on(container, say):
            if console is not None:
                attach.proxy_terminal(container, console, stdin=config.open_stdin)
            status = container.wait()
        return Outcome(status=status, reason=_reason(container, config, status))

    def find_rootfs(self, asked: str) -> str:
        """Find a root file system: a directory, or the name of one that rootfs/NAME built.

        Raises:
            NotFound: saying how to build it.
            InvalidArgument: it is no directory, or can't be read.
        """
        if not asked:
            raise InvalidArgument("--rootfs: name a directory, or what rootfs/NAME built: busybox")
        is_name = "/" not in asked and not os.path.isdir(asked)
        path = os.path.join(self.data_root, "rootfs", asked) if is_name else asked
        try:
            os.listdir(path)
        except FileNotFoundError:
            how = f"build it with rootfs/{asked}" if is_name else "name another directory"
            raise NotFound(f"no root file system at {path}: {how}") from None
        except NotADirectoryError:
            raise InvalidArgument(
                f"root file system {path} is not a directory: unpack it into one first"
            ) from None
        except OSError as error:
            raise InvalidArgument(
                f"root file system {path} can't be read: {error.strerror}"
            ) from None
        return os.path.realpath(path)

    def sweep(self) -> None:
        """Remove what containers left whose command was killed: processes, cgroup, link, layer."""
        for identifier in self._directories.abandoned():
            with contextlib.suppress(Error):  # busy: a later command tries again
                self._remove_abandoned(identifier)
        for name in self._names.abandoned():
            self._names.forget(name)

    def _remove_abandoned(self, identifier: str) -> None:
        state = self._directories.load(identifier)
        if state is not None:
            cgroup = open_cgroup(state.cgroup)
            cgroup.kill()
            cgroup.remove()
            if specs.is_on_bridge(state.annotations.get(_NETWORK, "")):
                disconnect_network(identifier, self._network_state)
        _remove_tree(self._directories.directory(identifier))

    def _pid_of(self, name: str) -> int:
        state = self._names.load(name)
        if state is None or not state.pid:
            raise NotFound(f"No such container: {name}")
        return state.pid


def make_directory(store: Store, identifier: str, config: ContainerConfig, undo: ExitStack) -> str:
    """Make the container's directory: the overlay's upper and work, and its files for /etc.

    The upper directory takes every write; the image's tree, below it, stays as it is.
    """
    lock = store.reserve(identifier)
    undo.callback(os.close, lock)
    directory = store.directory(identifier)
    undo.callback(_remove_tree, directory)
    store.save(
        State(
            id=identifier,
            bundle=directory,
            cgroup=specs.cgroup_of(identifier),
            annotations={_NETWORK: config.host_config.network_mode},
        )
    )
    os.chmod(directory, 0o700)  # CVE-2021-41091, as in bundles.make_directory
    for name in ("rootfs", "upper", "work"):
        os.mkdir(os.path.join(directory, name), 0o755)
    if config.host_config.userns_mode == "private":
        mapped = specs.MAPPED.host_id
        os.chown(directory, 0, mapped)
        os.chmod(directory, 0o710)
        for name in ("upper", "work"):
            os.chown(os.path.join(directory, name), mapped, mapped)
    _write_etc(
        directory,
        specs.hostname_for(config, identifier),
        resolvers.for_network(config.host_config.network_mode == "host"),
    )
    return directory


def _write_etc(directory: str, hostname: str, name_servers: str) -> None:
    """Write what a container can't take from its image: its own name, and the host's resolvers."""
    contents = {
        "hostname": hostname + "\n",
        "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\t{hostname}\n",
        "resolv.conf": name_servers,
    }
    for name, text in contents.items():
        _write(os.path.join(directory, name), text)


def _write(path: str, text: str, mode: int = 0o644) -> None:
    """Write a file, in place: it may be mounted in a container by now.

    Args:
        mode: whatever the caller's umask: all users in the container may read those of /etc.
    """
    try:
        with open(path, "w", encoding="utf-8", opener=for_its_owner) as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"write {path}") from None


def write_bundle(directory: str, spec: Spec) -> Bundle:
    """Write the specification as config.json, beside its root: an OCI bundle to be looked at."""
    text = jsontext.dump(spec.to_json()) + "\n"
    _write(os.path.join(directory, "config.json"), text, 0o600)  # its variables may be secrets
    return Bundle(path=directory, spec=spec, text=text)


def connect_network(
    pid: int, identifier: str, state_dir: str, directory: str, undo: ExitStack
) -> None:
    """Connect the network namespace to the bridge, now that init has made it and still waits."""
    from minicontainer.network import networks  # pyroute2: 100 ms, for a bridge alone

    fd = namespaces.open_namespace(f"/proc/{pid}/ns/net", namespaces.BY_TYPE["network"])
    try:
        endpoint = networks.connect(networks.Network(), identifier, fd, state_dir)
    finally:
        os.close(fd)
    undo.callback(steps.take, disconnect_network, identifier, state_dir)
    hosts = os.path.join(directory, "hosts")
    with open(hosts, encoding="utf-8") as file:
        text = file.read().replace("127.0.1.1", endpoint.address)
    _write(hosts, text)


def disconnect_network(identifier: str, state_dir: str) -> None:
    """Take the container's link and address away; with the last one, bridge and NAT rules too."""
    from minicontainer.network import networks

    networks.disconnect(networks.Network(), identifier, state_dir)


# The engine's own steps, around those of the runtime.
STEPS = (make_directory, write_bundle, connect_network, disconnect_network)


def _read_nothing() -> None:
    """Give this process, and so the container, an empty standard input."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _socket_pair(undo: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Make the two ends over which the container's terminal comes."""
    import socket  # 5 ms that only a terminal costs

    ours, theirs = socket.socketpair()
    undo.callback(ours.close)
    undo.callback(theirs.close)
    return ours, theirs


def _require_root() -> None:
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


def _reason(container: Container, config: ContainerConfig, status: int) -> str:
    if status != 137 or not container.cgroup.oom_kills():
        return ""
    memory = container.cgroup.stats().memory
    peak = f", peak {memory.peak >> 20} MiB" if memory.peak else ""
    limit = config.host_config.memory
    told = f"limit {limit >> 20} MiB" if limit else "no limit of its own"
    return f"killed by the kernel: out of memory ({told}{peak})"


def _remove_tree(directory: str) -> None:
    import shutil  # here: 1 ms that a start need not wait for

    shutil.rmtree(directory, ignore_errors=True)
