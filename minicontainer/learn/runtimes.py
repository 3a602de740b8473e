"""One bundle through two OCI runtimes: what each makes of it, by its own command line.

    create  --console-socket  the runtime sends the terminal's other end, which is held here
       │
    start, and wait until the program waits for something: then nothing more changes
       │
    look at its process (`differences`), and delete it

Both get the same bundle and the same container ID, one after the other, each with a state directory
of its own. So the names are the same too, and every difference is the runtime's.

See: runtime-spec runtime.md "Operations"; runc's and crun's manual pages for the command line.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, suppress

from minicontainer import jsontext
from minicontainer.cgroups import hierarchies
from minicontainer.errors import Error, InvalidArgument, NotFound, Unsupported
from minicontainer.kernel import terminal
from minicontainer.kernel.procfs import read_of
from minicontainer.learn import attributes, differences, system_calls
from minicontainer.record import Record
from minicontainer.runtime.config.spec import Bundle
from minicontainer.runtime.mounts import binds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minicontainer.learn.differences import Tables

UNKNOWN_VERSION = "unknown version specified"  # crun's words, before 1.9
_OLD_VERSION = "1.0.2"
_PATIENCE_S = 30
_OFTEN_S = 0.01
_STILL = 5  # so many looks in a row at a process that waits


class Runtime(Record):
    """A runtime.

    Args:
        name: for messages and headings.
        path: of its program.
        lead: a command that runs it.
    """

    name: str
    path: str
    lead: tuple[str, ...] = ()


def find(name: str) -> Runtime:
    """Find a runtime by its name or its path.

    Raises:
        NotFound: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise NotFound(f"no runtime {name}: install it, or name another one by --with")
    name = os.path.basename(path)
    return Runtime(name=name, path=path, lead=_help_for(name))


def _help_for(name: str) -> tuple[str, ...]:
    """Let crun work where v1 is mounted beside v2 and v2 has a controller: it refuses such hosts.

    In a mount namespace of its own it sees a v2 hierarchy without controllers. That ends with it.
    """
    found = hierarchies.mounted()
    if name != "crun" or found.version != "hybrid" or found.unified is None:
        return ()
    file = f"{found.unified.mount_point}/cgroup.controllers"
    with open(file, encoding="utf-8") as controllers:
        if not controllers.read().strip():
            return ()
    code = f'mount --bind /dev/null {file} && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", code, "sh")


def of_old_version(bundle: Bundle, place: str) -> Bundle:
    """Copy a bundle's config.json with a version that every runtime knows.

    Args:
        place: a directory for it.
    """
    spec = bundle.spec.replace(
        oci_version=_OLD_VERSION,
        root=bundle.spec.root.replace(path=bundle.rootfs),
        mounts=tuple(binds.located(mount, bundle.path) for mount in bundle.spec.mounts),
    )
    text = jsontext.dump(spec.to_json()) + "\n"
    with open(f"{place}/config.json", "w", encoding="utf-8") as file:
        file.write(text)
    return Bundle(path=place, spec=spec, text=text)


class Seen(Record):
    """What a runtime has made.

    Args:
        tables: of the program's process.
        calls: how often each system call was made, if that was asked for.
    """

    tables: Tables
    calls: dict[str, int]


def look(runtime: Runtime, bundle: Bundle, trace: bool = False) -> Seen:
    """Create and start a container, look at its process, and delete it.

    Args:
        trace: count the system calls, by strace.
    Raises:
        Error: the runtime refuses; its message has the runtime's own words.
        InvalidArgument: the program ended before it was looked at.
    """
    with ExitStack() as undo:
        place = undo.enter_context(tempfile.TemporaryDirectory(prefix="minicontainer-compare-"))
        run = _Run(runtime, bundle, place, trace)
        undo.callback(run.delete)
        run.create()
        run.start()
        tables = run.look()
        run.delete()  # strace ends with the container
        return Seen(tables=tables, calls=run.calls())


class _Run:
    """One container of one runtime.

    Args:
        place: a directory of its own.
    """

    def __init__(self, runtime: Runtime, bundle: Bundle, place: str, trace: bool) -> None:
        self._runtime = runtime
        self._bundle = bundle
        self._place = place
        self._trace = trace
        self._traces: list[str] = []
        self._held = ExitStack()  # what keeps the program's streams open
        self._id = f"compare-{os.getpid()}"
        self._pid = 0

    def create(self) -> None:
        """Bring the container to `created`."""
        words = ["create", "--bundle", self._bundle.path, "--pid-file", f"{self._place}/pid"]
        reads, writes = os.pipe()  # a program that reads its stdin waits there
        self._held.callback(os.close, writes)
        try:
            if self._bundle.spec.process.terminal:
                with _Console(f"{self._place}/console") as console:
                    words += ["--console-socket", console.path]
                    self._call(*words, self._id, stdin=reads)
                    self._held.callback(os.close, console.terminal())
            else:
                self._call(*words, self._id, stdin=reads)
        finally:
            os.close(reads)
        with open(f"{self._place}/pid", encoding="ascii") as file:
            self._pid = int(file.read())

    def start(self) -> None:
        """Start its program, and wait until that waits for something."""
        before = self._program()
        self._call("start", self._id)
        still, deadline = 0, time.monotonic() + _PATIENCE_S
        while still < _STILL:
            if time.monotonic() > deadline:
                raise InvalidArgument(
                    f"the program of {self._bundle.path} is busy and changes while it is looked "
                    "at: use one that waits, such as sleep 1000"
                )
            waits = self._state() == "S" and self._program() != before
            still = still + 1 if waits else 0
            time.sleep(_OFTEN_S)

    def _program(self) -> str:
        try:
            return os.readlink(f"/proc/{self._pid}/exe")
        except FileNotFoundError:
            raise self._ended() from None

    def _state(self) -> str:
        try:
            state = read_of(self._pid, "stat").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            state = "Z"
        if state in "ZX":
            raise self._ended()
        return state

    def _ended(self) -> InvalidArgument:
        return InvalidArgument(
            f"the program of {self._bundle.path} ends at once, and there is nothing to look at: "
            "use one that stays, such as sleep 1000"
        )

    def look(self) -> Tables:
        """Look at the program's process; its numbers and pipes are replaced by words."""
        tables = differences.look_at(self._pid, {**differences.TABLES, **attributes.MORE})
        groups = sorted(
            {value for name, value in tables["limits"].items() if name.startswith("cgroup ")},
            key=len, reverse=True,
        )  # fmt: skip
        own = {group: "GROUP" for group in groups if group != "/"}
        return differences.portable(tables, own | {self._id: "ID", self._place: "DIRECTORY"})

    def delete(self) -> None:
        """Remove it, whatever state it is in."""
        with suppress(Error):
            self._call("delete", "--force", self._id, trace=False)
        self._held.close()

    def calls(self) -> dict[str, int]:
        """Count the system calls of create and start."""
        return system_calls.count(self._traces)

    def _call(self, *words: str, stdin: int = subprocess.DEVNULL, trace: bool = True) -> None:
        """Call the runtime.

        Raises:
            Error: it fails; the message has its last line.
        """
        strace: Sequence[str] = ()
        if self._trace and trace:
            self._traces.append(f"{self._place}/calls-{words[0]}")
            strace = system_calls.traced_by(self._traces[-1])
        runtime = self._runtime
        command = [*runtime.lead, *strace, runtime.path, "--root", f"{self._place}/root", *words]
        # Not a pipe for stderr: the container keeps it open, and its end would be waited for.
        with open(f"{self._place}/said", "w+", encoding="utf-8", errors="replace") as said:
            try:
                done = subprocess.run(
                    command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=said,
                    timeout=_PATIENCE_S, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise Error(f"{self._runtime.name} {words[0]} does not return") from None
            said.seek(0)
            lines = [line for line in said.read().splitlines() if line.strip()]
        if done.returncode != 0:
            why = _message(lines[-1]) if lines else f"exit status {done.returncode}"
            raise Error(f"{self._runtime.name} {words[0]}: {why}")


def _message(line: str) -> str:
    """Take a message out of a line of runc's or crun's log: time="…" level=error msg="…"."""
    _, found, message = line.partition(' msg="')
    return message.rstrip('"').replace('\\"', '"') if found else line


class _Console:
    """A socket at which a runtime delivers a terminal's master end.

    Args:
        path: where it listens.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(1)
        self._socket.settimeout(_PATIENCE_S)
        self._received: list[int] = []
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def __enter__(self) -> _Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _receive(self) -> None:
        with suppress(OSError, NotFound):
            connection, _ = self._socket.accept()
            with connection:
                self._received.append(terminal.receive_descriptor(connection))

    def terminal(self) -> int:
        """Give the master end.

        Raises:
            Unsupported: the runtime has sent none.
        """
        self._thread.join(_PATIENCE_S)
        if not self._received:
            raise Unsupported("the runtime has sent no terminal to --console-socket")
        return self._received[0]
