"""What is said until the program runs: by parent and first process, at the gate, by the joiner.

**The channel**, two pipes from before the fork until execve(2):

    parent                                     init
      │ clone3 ─────────────────────────────────► │  waits, if there is something to wait for
      │ writes its id maps                        │
      │ Go (if it has to wait) ─────────────────► │  sets itself up
      │ ◄──────────────────────────── Happened …  │  events, when the parent listens
      │ ◄───────────────────────────── Waiting …  │  before each step, when the parent holds them;
      │ Go … ───────────────────────────────────► │  takes the step
      │ ◄─────────────────────────────── Mounted  │  the root is still the host's
      │ runs hooks (if there are any)             │
      │ Go ─────────────────────────────────────► │
      │ ◄───────────────────────────────── Ready  │  waits before the program
      │ connects its network                      │
      │ Start ──────────────────────────────────► │
      │ ◄──────────────────────────── Leaving ─── │  from here on init sends no events
      │ ◄──────────────────────────── Hooking ─── │  unless hooks come first: then Leaving again
      │ ◄────────────────────────── Filtering ─── │  (or earlier) if there will be a listener
      │ Go, and takes the listener: `listener` ─► │  waits in every call that the filter stops
      │ ◄───────────────────────────── (closed)   │  execve: the channel is close-on-exec
      │                                           │
      │ ◄──────────────────────────────── Failed  │  or at any point: step, call, errno, text

In `exec` Leaving follows the first Go; of a hook's process (`hook_process`) it is the first word.

**The gate**, two named pipes in the container's directory, where init outlives who created it:

    create                      init                        start
      │ ◄─── Ready (channel)      │                           │
      │ ends                      │ waits at the gate         │
                                  │ ◄──────────────── Start   │  another process: opens both pipes
                                  │ Leaving ────────────────► │  as above, from here to the end
                                  │ (closed) ───────────────► │

**The joiner's channel**, two pipes of its own, where namespaces must be joined first (`spawn`):

    parent                      joiner                      init
      │ fork ───────────────────► │ joins                     │
      │ ◄───────── Happened …     │                           │
      │                           │ clone3 (CLONE_PARENT) ──► │  waits: a child of the parent
      │ ◄─ Forked, or Failed      │                           │
      │                           │ ends                      │
      │ Go (channel) ───────────────────────────────────────► │  as above

A message is a line, a JSON list: the name of its type, and its fields. Only Happened is a line for
each event, a JSON object: a process that passes events on has nothing to parse. Pipes need no
import, and one whose writers are gone reads as closed: that is how each side sees the other end,
also by SIGKILL.
"""

from __future__ import annotations

import posix

from minicontainer import jsontext, steps
from minicontainer.contexts import suppress
from minicontainer.errors import Error, InitError
from minicontainer.event import Event, Unsent
from minicontainer.kernel import pidfds, signals
from minicontainer.record import Record
from minicontainer.runtime.parent import foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.event import Unwritten


class Go(Record):
    """To init: the id maps are written, begin. Later: the hooks have run, or an agent listens; go
    on.
    """


class Forked(Record):
    """From the joiner: it has forked init, which has this number in the parent's PID namespace."""

    pid: int


class Happened(Record):
    """From init, the joiner, or a hook's process: events, for who listens in the parent.

    Nobody sends it as a message: `Channel.put` writes the lines of events, and `receive` makes this
    of them.
    """

    lines: str


class Waiting(Record):
    """From init or the joiner: it takes the step that this event begins after the parent's Go."""

    event: Event


class Mounted(Record):
    """From init: all mounts are made, and the root is still the host's, as the runtime's hooks need
    it.
    """


class Ready(Record):
    """From init: everything is set up, only the program is missing."""


class Start(Record):
    """To init: become the program."""


class Leaving(Record):
    """From init: the remaining steps end in execve(2)."""


class Hooking(Record):
    """From init: before that, hooks run; a second Leaving comes after them."""


class Filtering(Record):
    """From init: it will load a filter that has a listener, and may then be unable to send
    anything.

    Args:
        fd: the number that the listener's descriptor will have.
        byte_fd: the descriptor of a file of one byte; the parent sets the byte when it has the
            listener.
        listener_path: the socket of the agent;  metadata: what is sent to it as well.
    """

    fd: int
    byte_fd: int
    listener_path: str
    metadata: str = ""


class Failed(Record):
    """From init or the joiner: an error; the process ends after it.

    Args:
        message: the line for the user.
        step, call: where it happened;  errno: the kernel's number, 0 if no call failed.
    """

    message: str
    step: str = ""
    call: str = ""
    errno: int = 0

    def error(self) -> InitError:
        """Return the error that the parent raises."""
        return InitError(self.message, self.step, self.call, self.errno)


_LAST_WORDS_S = 1.0  # of processes that end by themselves

# All that a process which is not init's parent can say.
ENDED = "the container's first process ended before its program ran"

_TYPES: dict[str, type[Record]] = {
    kind.__name__: kind
    for kind in (
        Go, Forked, Waiting, Mounted, Ready, Start, Leaving, Hooking, Filtering, Failed,
    )
}  # fmt: skip


def _line(message: Record) -> bytes:
    return (jsontext.dump([type(message).__name__, message.to_json()]) + "\n").encode()


class Channel:
    """One end of the conversation.

    Args:
        reads, writes: pipe ends, close-on-exec.

    `on_filtering` is called with a Filtering message and the number of the process that sent it.
    """

    def __init__(self, reads: int, writes: int) -> None:
        self.reads = reads
        self.writes = writes
        self.on_filtering: Callable[[Filtering, int], None] | None = None
        self._rest = b""
        self._unsent = Unsent()
        # Whether events wait for the next message. Not once Leaving is sent: the end is execve(2).
        self.gathers = False

    def send(self, message: Record) -> None:
        """Send a whole message.

        Raises:
            BrokenPipeError: the other side has closed.
        """
        if isinstance(message, Leaving):
            self.gathers = False
        self._write(self._unsent.take().encode() + _line(message))

    def _write(self, data: bytes) -> None:
        while data:
            data = data[posix.write(self.writes, data) :]

    def put(self, event: Unwritten | str) -> None:
        """Send an event; if this end gathers, together with the next message."""
        if self._unsent.add(event) or not self.gathers:
            self.flush()

    def flush(self) -> None:
        """Send the events that wait for the next message."""
        try:
            self._write(self._unsent.take().encode())
        except OSError as error:
            _stay_silent(error)

    def has_message(self) -> bool:
        """Report whether `receive` would return at once, since it has read a message already."""
        return b"\n" in self._rest

    def receive(self) -> Record | None:
        """Wait for the next message; return None when the other side has closed."""
        while b"\n" not in self._rest:
            part = posix.read(self.reads, 65536)
            if not part:
                return None
            self._rest += part
        if self._rest.startswith(b"{"):
            # up to the next message, or to the last event that is there whole
            end = self._rest.find(b"\n[") + 1 or self._rest.rfind(b"\n") + 1
            events, self._rest = self._rest[:end], self._rest[end:]
            return Happened(lines=events.decode())
        line, _, self._rest = self._rest.partition(b"\n")
        kind, content = jsontext.parse(line.decode())
        return _TYPES[kind].from_json(content, kind)

    def close(self) -> None:
        """Close both pipe ends; a second call does nothing."""
        for fd in (self.reads, self.writes):
            if fd >= 0:
                posix.close(fd)
        self.reads = self.writes = -1


def pass_events_on(channel: Channel, actor: str) -> None:
    """Send this process's events to the parent from now on, if the parent listens to events.

    Likewise, if the parent holds its steps, each step of this process waits for the parent's Go.
    """
    if steps.listening():
        channel.gathers = actor == "init"  # a write for each event would slow the start down
        steps.pass_on(channel.put, actor, to_parent=True)
    if steps.held():
        steps.hold(lambda event: _wait_for_go(channel, event))


def _stay_silent(error: OSError) -> None:
    """Tell no more, nor wait: a start goes on without it where the filter forbids write(2)."""
    if isinstance(error, BrokenPipeError):
        raise error
    steps.listen(None, "init")
    steps.hold(None)


def _wait_for_go(channel: Channel, event: Event) -> None:
    try:
        channel.send(Waiting(event=event))
    except OSError as error:
        _stay_silent(error)
        return
    try:
        answer = channel.receive()
    except OSError:  # the filter forbids read(2)
        steps.hold(None)
        return
    if not isinstance(answer, Go):
        raise InitError("the parent has given the start up")  # and does not hear this


def let_wait(channel: Channel, pid: int) -> None:
    """Let init, which has sent Ready, take the step in which it waits for Start.

    Start would otherwise arrive before the Go that this step waits for.
    """
    if (message := _receive(channel)) is None:
        raise InitError(_why_it_ended(pid))
    _handle(channel, message, pid)


def failure(error: BaseException) -> Failed:
    """Turn an exception into the message for the parent."""
    known = isinstance(error, (Error, OSError))
    text = str(error) if known else f"{type(error).__name__}: {error}"
    return Failed(
        message=text,
        step=steps.current_step(),
        call=str(getattr(error, "filename", "") or getattr(error, "call", "")),
        errno=getattr(error, "errno", 0) or 0,
    )


def channel_pair() -> tuple[Channel, Channel]:
    """Return both ends of a new channel: the parent's and init's."""
    from_init, to_parent = posix.pipe()
    from_parent, to_init = posix.pipe()
    return Channel(from_init, to_init), Channel(from_parent, to_parent)


def go(channel: Channel) -> None:
    """Send Go: the forked process may begin."""
    with suppress(BrokenPipeError):  # it has died: the next read reports that
        channel.send(Go())


def start_program(pid: int, channel: Channel) -> None:
    """Tell init to become the program, and wait until execve(2) has happened."""
    with suppress(BrokenPipeError):  # it has died: the next read reports that
        channel.send(Start())
    wait_for_program(pid, channel)


def wait_for_program(pid: int, channel: Channel) -> None:
    """Wait until a process has become its program.

    Args:
        pid: the process;  channel: to it, closed on return.
    Raises:
        InitError: what the process reports, or that it was killed.
    """
    leaving = False
    # Until Leaving, this may take for ever: a hook may hang, or the container may be paused, so a
    # signal must end the wait. After Leaving the program may run, and the signals are meant for it.
    while (message := channel.receive() if leaving else _receive(channel)) is not None:
        if _handle(channel, message, pid):
            leaving = isinstance(message, Leaving)
    channel.close()
    if not leaving:  # it was killed before that
        raise InitError(_why_it_ended(pid))


def next_message(channel: Channel, pid: int) -> Record:
    """Wait for the next message that is neither an event nor a failure.

    Args:
        pid: the process that sends it.
    Raises:
        InitError: the failure that it reports; or it ended without a message.
    """
    while (message := _receive(channel)) is not None:
        if _handle(channel, message, pid):
            return message
    raise InitError(_why_it_ended(pid))


def _receive(channel: Channel) -> Record | None:
    if not channel.has_message():
        foreground.wait_readable(channel.reads)
    return channel.receive()


def _handle(channel: Channel, message: Record, pid: int) -> bool:
    """Handle an event, a failure or a filter; report whether the message is a different one."""
    if isinstance(message, Happened):
        steps.deliver(message.lines, pid)
        return False
    if isinstance(message, Waiting):
        steps.wait_to_begin(_numbered(message.event, pid))
        go(channel)
        return False
    if isinstance(message, Failed):
        _hear_out(channel, pid)
        raise message.error()
    if isinstance(message, Filtering) and channel.on_filtering:
        channel.on_filtering(message, pid)
        return False
    return True


def _hear_out(channel: Channel, pid: int) -> None:
    """Hear what is still told of a start that has failed: with --init it is init and the program
    that tell, and one of them fails.
    """
    while steps.listening() and (
        channel.has_message() or foreground.is_readable(channel.reads, _LAST_WORDS_S)
    ):
        if (message := channel.receive()) is None:
            return
        if isinstance(message, Happened):
            steps.deliver(message.lines, pid)


def _numbered(event: Event, pid: int) -> Event:
    # Some events are passed on for another process: for the program, if init stays beside it,
    # or for a hook. Such a process only knows its number inside the container.
    known = event.pid == pid or event.actor not in ("program", "hook")
    return event.replace(pid=pid if known else 0)


# SIGSYS, and SIGSEGV where not even exit_group(2) was allowed.
_BY_A_FILTER = (128 + 31, 128 + 11)


def _why_it_ended(pid: int) -> str:
    try:
        return why_it_ended(pidfds.wait_exit(pid))
    except ChildProcessError:  # init is not this process's child, which can't read the exit status
        return ENDED


def why_it_ended(status: int) -> str:
    """Explain the exit status of an init that has not become its program."""
    if status == 128 + signals.SIGKILL:
        return (
            "the container's first process was killed before its program ran: "
            "if the memory limit is small, raise it"
        )
    hint = ""
    if status in _BY_A_FILTER:
        hint = ": its seccomp profile may forbid what starts a program, such as execve"
    return f"the container's first process ended before its program ran (status {status}){hint}"
