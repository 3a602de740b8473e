"""The engine's side of the spawner: starts it, sends it requests, replaces one that was killed.

It keeps one monitor and one exec process ahead, which wait for their task: so the fork, and what a
fork costs afterwards, is over when a request comes.

See: `spawner` for the process itself; `protocol` for the messages.
"""

from __future__ import annotations

import os
import sys
import threading

from minicontainer import faults
from minicontainer.contexts import suppress
from minicontainer.engine import connections, protocol
from minicontainer.engine.connections import Connection
from minicontainer.errors import Error, Unsupported
from minicontainer.kernel import process, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.engine.protocol import StartContainer, StartExec
    from minicontainer.record import Record

_SOCKET = 3  # the spawner's descriptor of its connection
_MODULE = "minicontainer.engine.spawner"


class _Begun(Connection):
    """A connection to a process that was forked ahead, and has been sent its task.

    It may be killed before it has read the task. Nothing was done then, so another process is
    forked for the task, once. Only the first answer can tell: none, and the task is left unread.

    Args:
        waiting: the connection to it.
        fork_another: sends the same task to another one.
    """

    def __init__(self, waiting: Connection, fork_another: Callable[[], Connection]) -> None:
        super().__init__(waiting.sock)
        self._fork_another: Callable[[], Connection] | None = fork_another

    def receive(self) -> tuple[Record, list[int]] | None:
        """Wait for the next message and its descriptors; None when the other side is gone.

        Raises:
            Unsupported: another process is needed, and can't be forked.
        """
        received = super().receive()
        fork_another, self._fork_another = self._fork_another, None
        if fork_another and received is None and self.left_unread:
            self.sock.close()
            self.sock, self.left_unread = fork_another().sock, False
            return super().receive()
        return received


class Spawner:
    """A spawner, always one that lives; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # The engine raises its own later, and a container's stays what the engine was started with.
        self._most_files, _ = process.get_rlimit("RLIMIT_NOFILE")
        self._connection, self.pid = _start(self._most_files)
        self._waiting: dict[str, Connection] = {}  # by the message that each waits for

    def start(self, message: StartContainer | StartExec, clients: list[int]) -> Connection:
        """Have a process begin with a container, or an exec; give the connection to it.

        One that was forked ahead does it; meanwhile the next one is forked.

        Args:
            clients: sockets that go along.
        Raises:
            Unsupported: no spawner can be started.
        """
        begun = self._begin_waiting(message, clients)
        with suppress(Error, OSError):  # this start does not need it, and the next one tries again
            self._fork_next(type(message).__name__)
        return begun

    def _begin_waiting(self, message: StartContainer | StartExec, clients: list[int]) -> Connection:
        task = type(message).__name__
        if waiting := self._exchange(task, None):
            try:
                waiting.send(message, clients)
                return _Begun(waiting, lambda: self._fork_and_begin(message, clients))
            except OSError:  # it was killed
                waiting.close()
        return self._fork_and_begin(message, clients)

    def _fork_and_begin(
        self, message: StartContainer | StartExec, clients: list[int]
    ) -> Connection:
        forked = self._fork_ahead(type(message).__name__)
        try:
            forked.send(message, clients)
        except OSError as error:
            forked.close()
            raise Unsupported(f"the process for it was killed: {error.strerror}") from None
        return forked

    def _fork_next(self, task: str) -> None:
        """Have a process forked that waits for the next start or exec, unless there is one."""
        if task in self._waiting:  # another thread's
            return
        if unused := self._exchange(task, self._fork_ahead(task)):  # another thread was faster
            unused.close()

    def _exchange(self, task: str, waiting: Connection | None) -> Connection | None:
        """Keep the connection to a process that waits, or none; give the one kept until now."""
        with self._lock:
            before = self._waiting.pop(task, None)
            if waiting:
                self._waiting[task] = waiting
        return before

    def _fork_ahead(self, task: str) -> Connection:
        """Have a process forked that waits for a task; give the connection to it.

        Raises:
            Unsupported: no spawner can be started.
        """
        ours, theirs = connections.pair()
        message = protocol.ForkAhead(task=task)
        try:
            with self._lock:
                try:
                    self._connection.send(message, [theirs.fileno()])
                except OSError:  # it was killed
                    self._end()
                    self._connection, self.pid = _start(self._most_files)
                    self._connection.send(message, [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise Unsupported(f"the spawner can't be reached: {error.strerror}") from None
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """End it: it sees that the connection is closed."""
        with self._lock:
            for waiting in self._waiting.values():
                waiting.close()
            self._end()

    def _end(self) -> None:
        self._connection.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _start(most_files: int) -> tuple[Connection, int]:
    """Start an interpreter that runs the spawner; give the connection to it, and its pid.

    Args:
        most_files: how many descriptors it and its forks may have, where they can have more.
    """
    ours, theirs = connections.pair()
    checkout = __file__.removesuffix(f"/{__name__.replace('.', '/')}.py")
    # By the environment: the command line is what `ps` shows of a container's process 1 (--init).
    environ = {"PYTHONPATH": ":".join([checkout, *filter(None, sys.path)])}
    if faults.directory():
        environ[faults.VARIABLE] = faults.directory()
    code = f"from {_MODULE} import main; raise SystemExit(main())"
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-PsS", "-c", code, str(most_files), str(_SOCKET)],
            environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), _SOCKET)],
            setpgroup=0,  # the terminal's Ctrl-C is for the engine
            setsigmask=(),
            setsigdef=signals.CATCHABLE,
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours, pid
