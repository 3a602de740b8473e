"""Recipes: name a step, follow a recipe, note an event, listen.

A container is made by steps, and a step makes system calls. Each call is noted where it is made,
with the step it belongs to; who listens turns the notes into an explanation, a trace or a lesson.
Without a listener a note costs one `if`.

This is the one place with state of its own, because what is traced is the process itself: one
trace a thread, begun by `listen`, taken over by a forked child through `listen` again. (Only the
engine has threads: each of its requests has its own story.)
"""

from __future__ import annotations

import posix
import time
from _thread import _local  # what threading.local is, without what that module imports

from minicontainer.errors import KernelError, shortened
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


class Event(Record):
    """One thing done to the kernel; or, without a call, the beginning of a step.

    Args:
        seq: order among the events of one start, from 1.
        t: nanoseconds on CLOCK_MONOTONIC since the listener began.
        actor: who did it: client (the command), joiner, init, hook; program, beside an init that
            stays.
        pid: of the actor, in the host's PID namespace; 0 where it is not known there.
        step: the recipe's step it belongs to, with dashes: mount-rootfs.
        source: module.py:line of that step.
        call: the system call, netlink request or `write` as it was made; "" when a step begins.
        args: its arguments, as they were passed.
        result: what came back; None while it cannot come back (execve(2); if it does, it has
            failed, and another event says so).
        errno: 0, or the kernel's error number.
        object: the kernel object it changed: ns:pid:4026532281, mount:/proc, link:eth0.
        before: that object's value before, where it has one;  after: and after.
        shell: the same done with util-linux, iproute2 or coreutils, when there is a way.
    """

    seq: int = 0
    t: int = 0
    actor: str = ""
    pid: int = 0
    step: str = ""
    source: str = ""
    call: str = ""
    args: tuple[object, ...] = ()
    result: int | None = None  # so that JSON, which leaves None out, gives it back
    errno: int = 0
    object: str | None = None
    before: str | None = None
    after: str | None = None
    shell: str | None = None


class _Trace(_local):
    """What this thread is doing, and who wants to know."""

    listener: Callable[[Event], None] | None = None
    actor = ""
    pid = 0
    begun = 0  # on CLOCK_MONOTONIC, in nanoseconds;  begun_wall: the same moment on the wall clock
    begun_wall = 0
    seq = 0
    step: Callable[..., Any] | None = None


class _Warnings:
    """Who is told of what is no reason to fail, in any thread."""

    warner: Callable[[str], None] | None = None


_trace = _Trace()
_warnings = _Warnings()


def listen(listener: Callable[[Event], None] | None, actor: str, begun_wall_ns: int = 0) -> None:
    """Hand every event from now on to *listener*; None ends that.

    Args:
        listener: called with each event, in order, in the process that made it.
        actor: who this process is, for the events.
        begun_wall_ns: when the story began, by the wall clock, if another process began it.
    """
    _trace.listener = listener
    _trace.actor = actor
    _trace.pid = posix.getpid()
    # By the wall clock too: the monotonic one of a child in another time namespace is another.
    now, wall = time.monotonic_ns(), time.time_ns()
    if begun_wall_ns:
        _trace.begun_wall = begun_wall_ns
    elif not _trace.begun_wall:
        _trace.begun_wall = wall
    _trace.begun = now - (wall - _trace.begun_wall)


def tell_warnings_to(warner: Callable[[str], None]) -> None:
    """Hand every warning from now on to *warner*: it tells the user."""
    _warnings.warner = warner


def warn(message: str) -> None:
    """Tell the user of what went wrong, where it is no reason to fail."""
    if _warnings.warner is not None:
        _warnings.warner(message)


def listening() -> bool:
    """Say whether anybody listens: before work that only an event needs."""
    return _trace.listener is not None


def note(
    call: str,
    args: tuple[object, ...] = (),
    result: int | None = 0,
    errno: int = 0,
    *,
    object: str | None = None,
    before: str | None = None,
    after: str | None = None,
    shell: str | None = None,
) -> None:
    """Tell the listener of one call; the fields are those of `Event`."""
    if _trace.listener is None:
        return
    step = _trace.step
    deliver(
        Event(
            t=time.monotonic_ns() - _trace.begun,
            actor=_trace.actor,
            pid=_trace.pid,
            step=step_name(step) if step else "",
            source=step_source(step) if step else "",
            call=call,
            args=args,
            result=result,
            errno=errno,
            object=object,
            before=before,
            after=after,
            shell=shell,
        )
    )


def noted(
    name: str,
    args: tuple[object, ...],
    act: Callable[[], object],
    *,
    object: str | None = None,
    before: str | None = None,
    after: str | None = None,
    shell: str | None = None,
) -> None:
    """Do what Python or a library has a function for; note it as the call that it makes.

    Args:
        name, args: the system call, as it will be made.
        act: makes it; a number that it returns is the call's result, everything else stands for
            0; an OSError that it raises becomes a KernelError.
        object, before, after, shell: for the event; see `Event`.
    """
    errno, text = 0, ""
    try:
        returned = act()
        result = returned if isinstance(returned, int) else 0
    except OSError as error:
        result, errno, text = -1, error.errno or 0, error.strerror or str(error)
    note(
        name, args, result, errno,
        object=object, before=before, after=None if text else after, shell=shell,
    )  # fmt: skip
    if text:
        told = ", ".join(shortened(str(arg)) for arg in args)
        raise KernelError(errno, text, f"{name}({told})")


def deliver(event: Event) -> None:
    """Give an event, of this process or a child's, to the listener, numbered here."""
    if _trace.listener is not None:
        _trace.seq += 1
        _trace.listener(event.replace(seq=_trace.seq))


def step_name(step: Callable[..., Any]) -> str:
    """Name a step as events and options do: mount-rootfs."""
    return step.__name__.strip("_").replace("_", "-")


def step_source(step: Callable[..., Any]) -> str:
    """Say where a step is written: rootfs.py:42."""
    code = step.__code__
    return f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}"


def current_step() -> str:
    """Name the step this process is in, or ""."""
    return step_name(_trace.step) if _trace.step else ""


def take(step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Take one step: call it, with every event meanwhile noted under its name.

    When it fails, the step stays the current one: that is how the error's report knows where.
    """
    outer, _trace.step = _trace.step, step
    note("")
    result = step(*args, **kwargs)
    _trace.step = outer
    return result


def needed_if(asked: Callable[[Any], object]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a step as part of a recipe only where *asked*, given the spec, is true."""

    def mark(step: Callable[P, R]) -> Callable[P, R]:
        step.asked = asked  # type: ignore[attr-defined]  # functions take attributes
        return step

    return mark


def chosen(recipe: Iterable[Callable[..., Any]], spec: object) -> Iterator[Callable[..., Any]]:
    """Yield the steps of *recipe* that *spec* asks for, in order."""
    for step in recipe:
        asked = getattr(step, "asked", None)
        if asked is None or asked(spec):
            yield step


def follow(recipe: Iterable[Callable[[Any], None]], spec: object, container: object) -> None:
    """Take the steps of *recipe* that *spec* asks for, each with *container*."""
    for step in chosen(recipe, spec):
        take(step, container)
