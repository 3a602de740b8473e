"""A container by another OCI runtime, such as runc or crun: `--runtime NAME`.

The monitor calls its command: `create`, `start`, `delete`. The monitor is the parent of orphans, so
it waits for the first process as for one of its own. All else is the same: with the process, the
cgroup and the specification in the store, `kill`, `pause`, `exec`, `stats` and `top` find what they
need.

Another runtime mounts no overlay over its root: the monitor does that, in a mount namespace of its
own, which the kernel takes away with it.

See: runtime-spec runtime.md "Lifecycle"; runc(8); `docs/reference/oci.md` for the command line.
"""

from __future__ import annotations

import os
import socket

from minicontainer import jsontext
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.contexts import ExitStack, contextmanager, suppress
from minicontainer.engine import programs
from minicontainer.engine.errors_of_starts import CREATING, OTHER_RUNTIME
from minicontainer.errors import Error, InitError
from minicontainer.kernel import files, mounts, namespaces, overlay, pidfds, terminal
from minicontainer.runtime.parent import lifecycle
from minicontainer.runtime.parent.foreground import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.engine.protocol import StartContainer
    from minicontainer.engine.stdio import Stdio
    from minicontainer.runtime.config.spec import Bundle, Mount
    from minicontainer.runtime.container.state import Store

_OCI_VERSION = "1.0.2"  # crun refuses a newer one than its own
_PATIENCE_S = 10.0  # for the runtime to send a terminal


class OtherContainer(Running):
    """A container that another runtime has created.

    Args:
        command: calls that runtime.
        pid, pidfd: of its first process.
        cgroup: the container's cgroup.
        undo: what `delete` undoes.
    """

    def __init__(
        self, command: _Command, pid: int, pidfd: int, cgroup: Cgroup, undo: ExitStack
    ) -> None:
        super().__init__(pid, pidfd)
        self.cgroup = cgroup
        self._command = command
        self._undo = undo

    def start(self) -> None:
        """Let the program run.

        Raises:
            InitError: in the runtime's words.
        """
        self._command("start", self._command.name)

    def delete(self) -> None:
        """Remove all that was made for the container."""
        self._undo.close()


class _Command:
    """A runtime's command, with its state in the container's own directory of states.

    Args:
        path: of the program;  name: the container's.
        directory: where state and messages go.
    """

    def __init__(self, path: str, name: str, directory: str) -> None:
        self.name = name
        self._log = f"{directory}/log.json"
        self._words = (path, "--root", f"{directory}/state", "--log", self._log,
                       "--log-format", "json")  # fmt: skip

    def __call__(self, *words: str) -> None:
        """Call it, and wait for its end.

        Raises:
            InitError: it failed.
        """
        path = self._words[0]
        pid = os.posix_spawn(path, (*self._words, *words), {"PATH": programs.PATH})
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise InitError(f"{CREATING}{self._told(words[0])}", OTHER_RUNTIME)

    def _told(self, verb: str) -> str:
        """Give the last message of the log."""
        last = f"{self._words[0]} {verb} failed"
        with suppress(OSError), open(self._log, encoding="utf-8", errors="replace") as file:
            for line in file:
                with suppress(ValueError, RecursionError):
                    last = str(jsontext.parse(line).get("msg") or last)
        return last


def create(asked: StartContainer, bundle: Bundle, store: Store, stdio: Stdio) -> OtherContainer:
    """Bring a container to `created`.

    Raises:
        InitError: in the runtime's words. Nothing is left behind.
    """
    with ExitStack() as undo:
        name = asked.id
        claim = lifecycle.reserve_name(name, store, undo)
        cgroup = open_cgroup(bundle.spec.linux.cgroups_path or "", "cgroupfs")
        state = store.save(lifecycle.creating(name, bundle, cgroup))
        store.write(name, "config.json", bundle.text)
        own = f"{store.directory(name)}/runtime"
        os.mkdir(own, 0o700)
        _write_bundle(bundle, own)
        command = _Command(asked.runtime, name, own)
        undo.callback(_delete, command, cgroup)
        _mount_root(bundle)
        pid_file = f"{own}/pid"
        words = ("create", "--bundle", own, "--pid-file", pid_file)
        with _console(asked.tty, stdio, own) as console, stdio.given():
            command(*words, *console, name)
        with open(pid_file, encoding="ascii") as file:
            pid = int(file.read())
        pidfd = pidfds.pidfd_open(pid)
        undo.callback(os.close, pidfd)
        store.save(lifecycle.forked(state, pid, cgroup))
        store.settle(claim)
        return OtherContainer(command, pid, pidfd, cgroup, undo.pop_all())


def _delete(command: _Command, cgroup: Cgroup) -> None:
    with suppress(Error):  # it was never created
        command("delete", "--force", command.name)
    with suppress(Error):  # a runtime that was killed before it noted its cgroup does not know it
        cgroup.kill()
        cgroup.remove()


def _is_root(mount: Mount) -> bool:
    return mount.destination == "/"


def _write_bundle(bundle: Bundle, directory: str) -> None:
    """Write the specification without its root's mounts, which are there already."""
    spec = bundle.spec
    others = tuple(mount for mount in spec.mounts if not _is_root(mount))
    root = spec.root.replace(path=f"{bundle.path}/rootfs")
    plain = spec.replace(mounts=others, root=root, oci_version=_OCI_VERSION)
    text = jsontext.dump(plain.to_json())
    with open(f"{directory}/config.json", "w", encoding="utf-8") as file:
        file.write(text)


def _mount_root(bundle: Bundle) -> None:
    """Mount the container's files where the runtime looks for them.

    What is mounted on the host later appears here too, but nothing of this on the host.
    """
    namespaces.unshare(namespaces.BY_TYPE["mount"].flag)
    mounts.mount(None, "/", None, mounts.MS_SLAVE | mounts.MS_REC)
    place = f"{bundle.path}/rootfs"
    for mount in filter(_is_root, bundle.spec.mounts):
        found = overlay.parse(mount.options) if mount.type == "overlay" else None
        if found is None:
            mounts.mount(mount.source, place, None, mounts.MS_BIND)
            continue
        with files.opened(os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
            os.close(overlay.mount(found, fd, where=place))


@contextmanager
def _console(tty: bool, stdio: Stdio, directory: str) -> Iterator[tuple[str, ...]]:
    """Give the option for a terminal: the runtime sends its master to a socket.

    The socket's path may be longer than an address can be: the directory's descriptor stands for
    it.
    """
    if not tty or stdio.console is None:
        yield ()
        return
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with files.opened(fd), socket.socket(socket.AF_UNIX) as listener:
        path = f"/proc/{os.getpid()}/fd/{fd}/console"
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(_PATIENCE_S)
        yield ("--console-socket", path)
        sender, _ = listener.accept()
        with sender, files.opened(terminal.receive_descriptor(sender)) as master:
            terminal.send_descriptor(stdio.console, master, "/dev/pts/ptmx")
