"""What engine, spawner, monitor and exec process say to each other.

`connections` carries it: one message is one packet, and can have descriptors with it.

**A start**

    engine                       spawner                      monitor                    init
      │ socketpair                 │                            │                          │
      │ ForkAhead ───────────────► │ fork ────────────────────► │ waits                    │
      │   [+ the monitor's end of  │                            │                          │
      │      the pair]             │                            │                          │
      │ …                                                       │                          │
      │ StartContainer [+ clients] ───────────────────────────► │ reads config.json        │
      │                                                         │ create_container ──────► │
      │ ◄───────────────────────────── Happened … (if asked) ── │                          │
      │ ◄────────────────────────────── Waiting … (if asked) ── │  before each step        │
      │ Proceed, or Abort ────────────────────────────────────► │  takes it, or undoes all │
      │ ◄─────────────────────────────────────────── Created ── │                          │
      │ connects the network                                    │                          │
      │ Proceed ──────────────────────────────────────────────► │ container.start ───────► │ execve
      │ ◄─────────────────────────────────────────── Started ── │                          │
      │                                                         │                          │
      │ ◄── Failed: at any point before Started; nothing is left and the monitor ends      │

Up to Started, another process, the creator, reads the monitor's connection and mostly does the
monitor's part: `creator`.
Without a network to connect, Created and the Proceed that answers it are left out.

**While it runs.** A new engine connects to the monitor's own socket; the first message is Hello.

    engine                                                    monitor
      │ Attach [+ the client's socket] ───────────────────────► │ copies the streams
      │ Resize ───────────────────────────────────────────────► │
      │ Explain ──────────────────────────────────────────────► │ sends events from now on
      │ ReopenLog ────────────────────────────────────────────► │
      │ ◄──────────────────────────── Detached, OutOfMemory … ─ │
      │                                                         │ writes exit.json
      │ ◄──────────────────────────────────────────── Exited ── │ removes cgroup and state
      │ ◄───────────────────────────────────────── (closed) ─── │ ends

**An exec**

    engine                       spawner                      exec process               program
      │ ForkAhead [+ the pair] ──► │ fork ────────────────────► │ waits                    │
      │ …                                                       │                          │
      │ StartExec [+ the client] ─────────────────────────────► │ execs.start_exec ──────► │
      │ ◄───────────────────────────────── Started or Failed ── │                          │
      │ Attach, Resize, Signal ───────────────────────────────► │                          │
      │ ◄──────────────────────────────────────────── Exited ── │ ends                     │

A message is a JSON list: the name of its type, and its fields. Only Happened is a line for each
event, a JSON object: a process that passes events on has nothing to parse.
"""

from __future__ import annotations

from minicontainer import steps
from minicontainer.errors import Aborted, Error, InitError, explained
from minicontainer.event import Event
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


WAITING = "minic:waiting"  # the name for ps(1) of a process that was forked ahead


class LogOptions(Record):
    """Where and how the monitor writes the log.

    Args:
        driver: json-file, local, journald or none.
        path: of the file.
        max_size: bytes before the file is rotated; 0 for no limit.
        max_file: how many files are kept, the current one included.
        compress: older files are kept as gzip.
        attributes: written with each entry (`--log-opt labels`, `env`).
    """

    driver: str = "json-file"
    path: str = ""
    max_size: int = 0
    max_file: int = 1
    compress: bool = False
    attributes: dict[str, str]


class AttachStreams(Record):
    """How a client's socket is connected to the streams.

    Args:
        stdin, stdout, stderr: which of them.
        multiplex: frame the output as stdcopy does.
        detach_keys: the bytes that end the connection, in hexadecimal; only with a terminal.
        early: bytes that the client sent before its socket was handed over, in hexadecimal.
        log_inode, log_offset: the client has read the log up to here, and gets what was written
            since; -1: it wants only what comes.
    """

    log_inode: int = -1
    log_offset: int = 0
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    multiplex: bool = True
    detach_keys: str = "1011"
    early: str = ""


class StartContainer(Record):
    """To a monitor that waits: create and hold this container. Its creator reads it first.

    Each descriptor is the socket of a client in *attached*; from the creator to the monitor, those
    of the streams go first.

    Args:
        id: the container's.
        directory: with its config.json, and where exit.json goes.
        state_root: of the runtime's store;  socket: where the monitor listens.
        open_stdin: keep a standard input;  stdin_once: close it after the first client.
        explain: when a story began, by the wall clock in nanoseconds: send the events of the start;
            0 where nobody listens.
        without: the steps to pass over.
        hold: wait before each step of the start for Proceed.
        runtime: the program of another OCI runtime; "" for our own.
        durable: how it ended must outlast a power cut.
        apart: another process creates the container, and ends when it runs: `creator`.
        alone: there is no network to connect it to: start it without Created and Proceed.
    """

    id: str
    directory: str
    state_root: str
    socket: str
    runtime: str = ""
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    log: LogOptions
    attached: tuple[AttachStreams, ...] = ()
    explain: int = 0
    without: tuple[str, ...] = ()
    hold: bool = False
    durable: bool = True
    apart: bool = False
    alone: bool = False


class ForkAhead(Record):
    """To the spawner: fork a process whose task is not known yet.

    The descriptor is its end of a connection to the engine, on which the task follows.

    Args:
        task: the name of the message that it waits for: StartContainer or StartExec.
    """

    task: str


class StartExec(Record):
    """To a process that waits: start a program in a container that runs."""

    id: str  # the container's
    state_root: str  # of the runtime's store
    process: dict[str, Any]  # `process` of config.json for the program
    stdin: bool = False  # connect its standard input; otherwise that is /dev/null
    attached: tuple[AttachStreams, ...] = ()
    explain: int = 0


class Begun(Record):
    """From the creator to its monitor: the program runs. See `creator`.

    The descriptors are a pidfd of the container's first process, the lock of its directory, and
    what watches its memory.

    Args:
        pid: of the first process;  cgroup: finds its cgroup.
        at_ns: when, since the epoch.
        oom, memory: the kind of the watch, and its directory; "" without one.
    """

    pid: int
    at_ns: int
    cgroup: str
    oom: str = ""
    memory: str = ""


class Created(Record):
    """From the monitor: the container is set up, and waits."""

    pid: int


class Waiting(Record):
    """From the monitor: it, or init, will begin a step with this event, after Proceed."""

    event: Event


class Proceed(Record):
    """To the monitor: let the program run; or take the step that waits.

    From the monitor to its creator: all that holds the container is ready.
    """


class Abort(Record):
    """To the monitor: do not take the step that waits, and undo those before it."""


class Started(Record):
    """From the monitor or the exec process: the program runs.

    Args:
        pid: of its process, on the host.
        at_ns: when, since the epoch.
    """

    pid: int
    at_ns: int


class Failed(Record):
    """From the monitor or the exec process: nothing was started, and nothing is left."""

    message: str  # one line, as the user reads it
    kind: str = "Error"  # the class of the error
    step: str = ""  # of an InitError, as errno
    errno: int = 0

    def error(self) -> Error:
        """Give the error that the other process met."""
        if self.kind == Aborted.__name__:
            return Aborted(self.message)
        return InitError(self.message, self.step, "", self.errno)


class Happened(Record):
    """From the monitor or the exec process: events, when they were asked to explain.

    Nobody sends it as a message: a connection's `put` and `flush` send the lines of events, and
    `receive` makes this of them.
    """

    lines: str


class Hello(Record):
    """From the monitor, to an engine that connects to its socket: what it holds."""

    id: str
    pid: int
    started_ns: int


class Attach(Record):
    """To the monitor or the exec process: connect a client. Its socket comes along."""

    streams: AttachStreams


class Resize(Record):
    """To the monitor or the exec process: the size of the terminal's window."""

    height: int
    width: int


class Explain(Record):
    """To the monitor: send the events of the container's end, of a story that began then."""

    begun_ns: int  # by the wall clock


class Signal(Record):
    """To the exec process: send the program a signal."""

    number: int


class ReopenLog(Record):
    """To the monitor: the log file was moved away, begin a new one."""


class Detached(Record):
    """From the monitor or the exec process: a client typed its detach keys."""


class OutOfMemory(Record):
    """From the monitor: the kernel found no memory left within the limit."""


class Exited(Record):
    """How the program ended; exit.json has the same.

    Args:
        status: 0 to 255, 128+N for signal N.
        at_ns: when, since the epoch.
        out_of_memory: whether the kernel killed a process for want of memory.
        peak: the most bytes of memory that were in use, where it was out of memory.
        started_ns: of a container: which of its starts it was that ended.
    """

    status: int
    at_ns: int
    started_ns: int = 0
    out_of_memory: bool = False
    peak: int = 0


MESSAGES: tuple[type[Record], ...] = (
    StartContainer, ForkAhead, StartExec, Begun, Created, Waiting, Proceed, Abort, Started, Failed,
    Happened, Hello, Attach, Resize, Signal, Explain, ReopenLog, Detached, OutOfMemory, Exited,
)  # fmt: skip
TYPES = {kind.__name__: kind for kind in MESSAGES}


def failure(error: Exception) -> Failed:
    """Put an error into a message; a fault of our own is named, so that it can be reported."""
    if isinstance(error, Error):
        message = str(error)
    elif isinstance(error, OSError):
        message = explained(error)
    else:
        message = f"{type(error).__name__}: {error}"
    return Failed(
        message=message,
        kind=type(error).__name__,
        step=getattr(error, "step", "") or steps.current_step(),
        errno=getattr(error, "errno", 0) or 0,
    )
