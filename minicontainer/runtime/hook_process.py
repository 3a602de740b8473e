"""The process of one hook: it gets the state, is watched until it ends, and is killed at its
timeout.

It leads its own session, so that the timeout also reaches the processes that it started. It has
three descriptors and only the hook's variables. What it writes becomes part of the error.

See: runtime-spec config.md "POSIX-platform Hooks".
"""

from __future__ import annotations

import os
import select
import time

from minicontainer import steps
from minicontainer.contexts import ExitStack, suppress
from minicontainer.errors import InitError
from minicontainer.kernel import pidfds, process, signals
from minicontainer.runtime.child import programs
from minicontainer.runtime.parent import foreground
from minicontainer.runtime.sync import (
    Leaving,
    channel_pair,
    failure,
    pass_events_on,
    wait_for_program,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from minicontainer.runtime.config.spec import Hook
    from minicontainer.runtime.sync import Channel

_KEPT = 1000  # bytes of its output that are kept, the last ones
# How often to check whether the hook has ended. A pidfd would tell, but a startContainer hook is
# run by a process under the container's filter, which may be older than pidfd_open(2).
_GLANCE_MS = 2


def run(name: str, hook: Hook, state: bytes, directory: str, inherited: range | None) -> None:
    """Run a hook until it ends.

    Args:
        name: the hook's name in an error.
        state: the bytes for its standard input.
        directory: its working directory; "" for this process's.
        inherited: this process's descriptors that are not close-on-exec, if they are known: only
            those are closed. None: all are closed.
    Raises:
        InitError: it could not be run, it failed, or it ran into its timeout.
    """
    with ExitStack() as stack:
        child = _start(name, hook, directory, inherited, stack)
        with foreground.waiting():
            in_time = child.watch(state, hook.timeout)
    if not in_time:
        why = f"did not end within its timeout of {hook.timeout} s, and was killed"
    elif child.status == 0:
        return
    elif child.status < 0:
        why = f"was killed by signal {-child.status}"
    else:
        why = f"exit status {child.status}"
    said = child.output.decode(errors="replace").strip()
    raise InitError(f"{name}: {why}{said and ': '}{said}", steps.current_step())


class _Child:
    """A hook's process.

    Args:
        pid: its number.
        input_fd: a pipe to its standard input.
        output_fd: a pipe from its standard output and standard error.
    """

    def __init__(self, pid: int, input_fd: int, output_fd: int) -> None:
        self.pid = pid
        self.status = 0  # set once it has ended; negative for a signal
        self.output = b""
        self._ended = False
        self._input = input_fd
        self._output = output_fd
        os.set_blocking(input_fd, False)
        os.set_blocking(output_fd, False)

    def watch(self, told: bytes, timeout_s: int | None) -> bool:
        """Feed the hook, and read its output, until it ends; report whether that was in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._input, select.POLLOUT)
        poll.register(self._output, select.POLLIN)
        while not self._has_ended():
            if deadline is not None and time.monotonic() > deadline:
                return False
            for fd, _ in poll.poll(_GLANCE_MS):
                if fd == self._output:
                    if not self._hear():
                        poll.unregister(fd)
                else:
                    told = told[os.write(fd, told) :]
                    if not told:
                        poll.unregister(fd)
                        self._close_input()
        self._hear()  # not to the end: a process in the background may hold the pipe
        return True

    def _has_ended(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self._ended = True
            self.status = os.waitstatus_to_exitcode(status)
        return self._ended

    def _hear(self) -> bool:
        """Read what it wrote; report whether there was anything."""
        try:
            part = os.read(self._output, 65536)
        except BlockingIOError:
            return False
        self.output = (self.output + part)[-_KEPT:]
        return bool(part)

    def _close_input(self) -> None:
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def end(self) -> None:
        """Kill it with the processes of its session, if it still runs, and close its pipes."""
        if not self._ended:
            pidfds.kill_group(self.pid)
            os.waitpid(self.pid, 0)
        self._close_input()
        os.close(self._output)


def _start(
    name: str, hook: Hook, directory: str, inherited: range | None, stack: ExitStack
) -> _Child:
    """Start the process; *stack* ends it. Return when execve(2) has happened."""
    # If the caller ignores SIGCHLD, the kernel discards exit statuses.
    signals.handle(signals.SIGCHLD, signals.SIG_DFL)
    stdin, to_stdin = os.pipe()
    # Open until the end: a write to a pipe without a reader kills with SIGPIPE.
    stack.callback(os.close, stdin)
    from_output, output = os.pipe()
    ours, theirs = channel_pair()
    pid = process.fork()
    if pid == 0:
        _become(hook, directory, inherited, theirs, (stdin, output, output))
    theirs.close()
    os.close(output)
    child = _Child(pid, to_stdin, from_output)
    stack.callback(child.end)
    stack.callback(ours.close)
    try:
        wait_for_program(pid, ours)
    except InitError as error:
        raise InitError(f"{name}: {error}", error.step, error.call, error.errno) from None
    return child


def _become(
    hook: Hook,
    directory: str,
    inherited: range | None,
    channel: Channel,
    streams: tuple[int, int, int],
) -> NoReturn:
    try:
        pass_events_on(channel, "hook")
        process.new_session()
        process.die_with_parent()  # otherwise the hook of a killed runtime would run on
        for number in signals.CATCHABLE:
            signals.handle(number, signals.SIG_DFL)
        signals.set_mask(())
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        if inherited is None:
            process.close_all_but((channel.reads, channel.writes))
        else:  # close_range(2) may be newer than the filter on this process
            for fd in inherited:
                os.close(fd)
        if directory:
            _enter(directory)
        channel.send(Leaving())
        env = None if hook.env is None else programs.environment(hook.env)
        process.run_program(hook.path, hook.args or (hook.path,), env)
    except BaseException as error:  # the process ends here, and its parent says why
        with suppress(OSError):
            channel.send(failure(error))
    os._exit(1)


def _enter(directory: str) -> None:
    """Change to a directory; to / if it has gone, or if this user may not enter it."""
    try:
        os.chdir(directory)
    except OSError:
        os.chdir("/")
