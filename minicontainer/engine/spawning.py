"""The engine's side of the spawner: starts it, sends it requests, replaces one that was killed.

See: `spawner` for the process itself; `protocol` for the messages.
"""

from __future__ import annotations

import os
import sys
import threading

from minicontainer import faults
from minicontainer.contexts import suppress
from minicontainer.engine import protocol
from minicontainer.errors import Unsupported
from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.protocol import Connection, StartContainer, StartExec

_SOCKET = 3  # the spawner's descriptor of its connection
_MODULE = "minicontainer.engine.spawner"


class Spawner:
    """A spawner, always one that lives; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection, self.pid = _start()

    def spawn(self, message: StartContainer | StartExec, clients: list[int]) -> Connection:
        """Have a process forked; give the connection to it.

        Args:
            clients: sockets that go along.
        Raises:
            Unsupported: no spawner can be started.
        """
        ours, theirs = protocol.pair()
        descriptors = [theirs.fileno(), *clients]
        try:
            with self._lock:
                try:
                    self._connection.send(message, descriptors)
                except OSError:  # it was killed
                    self._end()
                    self._connection, self.pid = _start()
                    self._connection.send(message, descriptors)
        except OSError as error:
            ours.close()
            raise Unsupported(f"the spawner can't be reached: {error.strerror}") from None
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """End it: it sees that the connection is closed."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._connection.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _start() -> tuple[Connection, int]:
    """Start an interpreter that runs the spawner; give the connection to it, and its pid."""
    ours, theirs = protocol.pair()
    checkout = __file__.removesuffix(f"/{__name__.replace('.', '/')}.py")
    # By the environment: the command line is what `ps` shows of a container's process 1 (--init).
    environ = {"PYTHONPATH": ":".join([checkout, *filter(None, sys.path)])}
    if faults.directory():
        environ[faults.VARIABLE] = faults.directory()
    code = f"from {_MODULE} import main; raise SystemExit(main())"
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-PsS", "-c", code, str(_SOCKET)],
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
