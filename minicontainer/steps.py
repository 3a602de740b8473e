"""Recipes: name a step, follow a recipe, note an event, listen.

A container is made by steps, and a step makes system calls. Each call is noted where it is made,
with the step that it belongs to. A listener turns the notes into an explanation, a trace or a
lesson. Without a listener, a note costs one `if`.

A listener in this process gets each event as a value (`listen`). One in another process gets a
line, and the value is made there (`pass_on`).

This module has state, because a trace is about the process itself. Each thread has a trace of its
own, which `listen` or `pass_on` begins: in the engine, each request is another story. A forked
child calls one of them for itself.
"""

from __future__ import annotations

import posix
import time
from _thread import _local  # what threading.local is, without what that module imports

from minicontainer import jsontext
from minicontainer.errors import KernelError, shortened
from minicontainer.event import Event, where_written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, ParamSpec, TypeVar

    from minicontainer.event import Unwritten

    P = ParamSpec("P")
    R = TypeVar("R")


_NO_STEP = ..., "", "", ""  # no step is known by its name yet


class _Trace(_local):
    """What this thread is doing, and who listens."""

    tell: Callable[..., None] | None = None  # gets what `note` gets, for one of the next two
    listener: Callable[[Event], None] | None = None
    put: Callable[[Unwritten | str], object] | None = None
    opening = ""  # what each line for the parent begins with; "": they are for no parent
    actor = ""
    pid = 0
    begun = 0  # on CLOCK_MONOTONIC, in nanoseconds;  begun_wall: the same moment on the wall clock
    begun_wall = 0
    seq = 0
    step: Callable[..., Any] | None = None
    named: tuple[object, str, str, str] = _NO_STEP  # a step, its name and source, `where_written`
    holder: Callable[[Event], None] | None = None
    left_out: tuple[str, ...] = ()


class _Warnings:
    """The function that prints warnings, for all threads."""

    warner: Callable[[str], None] | None = None


class _Faults:
    """The function that a test lets each process call between two of its actions: see `faults`."""

    reached: Callable[[str], None] | None = None


_trace = _Trace()
_warnings = _Warnings()
_faults = _Faults()


def listen(listener: Callable[[Event], None] | None, actor: str, begun_wall_ns: int = 0) -> None:
    """Call *listener* with every event from now on; None ends that.

    Args:
        listener: called in the process that made the event, in order.
        actor: the name of this process in the events.
        begun_wall_ns: when the story began, by the wall clock, if another process began it.
    """
    _trace.tell = None if listener is None else _tell_listener
    _trace.listener, _trace.put = listener, None
    if listener is not None:  # to end it takes no system call, which a filter may forbid
        _begin(actor, begun_wall_ns)


def pass_on(
    put: Callable[[Unwritten | str], object],
    actor: str,
    begun_wall_ns: int = 0,
    *,
    to_parent: bool = False,
) -> None:
    """Pass every event from now on to another process: nobody here needs it as a value.

    Args:
        put: called with what the line of an event is written of, or with lines of a child's events.
        actor, begun_wall_ns: as for `listen`.
        to_parent: the other process is the parent, which uses `deliver`.
    """
    _trace.tell, _trace.listener, _trace.put = _put, None, put
    _begin(actor, begun_wall_ns)
    # The program knows only its number in the container.
    _trace.opening = ('{"pid":0,' if actor == "program" else "{") if to_parent else ""


def _begin(actor: str, begun_wall_ns: int) -> None:
    _trace.actor = actor
    _trace.named = _NO_STEP  # `where_written` has the actor too
    _trace.pid = posix.getpid()
    _trace.seq = 0
    # By the wall clock too: a child in another time namespace has another monotonic clock.
    now, wall = time.monotonic_ns(), time.time_ns()
    if begun_wall_ns:
        _trace.begun_wall = begun_wall_ns
    elif not _trace.begun_wall:
        _trace.begun_wall = wall
    _trace.begun = now - (wall - _trace.begun_wall)


def hold(holder: Callable[[Event], None] | None) -> None:
    """Call *holder* before every step from now on; None ends that.

    Args:
        holder: gets the event with which the step is going to begin. It returns when the step may
            be taken; what it raises makes the step fail.
    """
    _trace.holder = holder


def held() -> bool:
    """Report whether steps wait for a holder."""
    return _trace.holder is not None


def wait_to_begin(event: Event) -> None:
    """Wait until the holder, if there is one, lets a step of this process or of a child begin."""
    if _trace.holder is not None:
        _trace.holder(event)


def tell_warnings_to(warner: Callable[[str], None]) -> None:
    """Pass every warning from now on to *warner*, which prints it."""
    _warnings.warner = warner


def warn(message: str) -> None:
    """Report something that went wrong and is no reason to fail."""
    if _warnings.warner is not None:
        _warnings.warner(message)


def listening() -> bool:
    """Report whether there is a listener: checked before work that only an event needs."""
    return _trace.tell is not None


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
    """Send who listens an event about one call; the arguments are the fields of `Event`."""
    if _trace.tell is not None:
        _trace.tell(call, args, result, errno, object, before, after, shell)


def _tell_listener(*fields: Any) -> None:
    """Make an event of the fields from `call` on, and call the listener with it."""
    _trace.seq += 1
    if _trace.listener is not None:
        _trace.listener(_event(_trace.seq, *fields))


def _put(*fields: Any) -> None:
    """Pass on an event of the fields from `call` on, without making it."""
    opening = _trace.opening or _next_opening(_trace.pid)
    if _trace.put is not None:
        _trace.put((opening, time.monotonic_ns() - _trace.begun, _named()[3], *fields))


def _next_opening(pid: int) -> str:
    """Begin the line of a process's event, with the next number."""
    _trace.seq += 1
    return f'{{"seq":{_trace.seq},"pid":{pid},'


def pass_on_kept(pid: int, *rest: Any) -> None:
    """Pass on an event that this process had kept, with the next number.

    Args:
        pid: of the process that did it.
        rest: of an `Unwritten`: what follows its opening.
    """
    if _trace.put is not None:
        _trace.put((_next_opening(pid), *rest))


def _named() -> tuple[object, str, str, str]:
    """Give the current step, its name and source, and how an event's line says so."""
    if _trace.named[0] is not (step := _trace.step):
        name, source = (step_name(step), step_source(step)) if step else ("", "")
        _trace.named = step, name, source, where_written(_trace.actor, name, source)
    return _trace.named


def _event(
    seq: int = 0,
    call: str = "",
    args: tuple[object, ...] = (),
    result: int | None = 0,
    errno: int = 0,
    object: str | None = None,
    before: str | None = None,
    after: str | None = None,
    shell: str | None = None,
) -> Event:
    _, name, source, _ = _named()
    made = Event.__new__(Event)  # of fields that are known: no need to check them
    made.__dict__.update(
        seq=seq,
        t=time.monotonic_ns() - _trace.begun,
        actor=_trace.actor,
        pid=_trace.pid,
        step=name,
        source=source,
        call=call,
        args=args,
        result=result,
        errno=errno,
        object=object,
        before=before,
        after=after,
        shell=shell,
    )
    return made


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
    """Call a function of Python or of a library, and note it as the system call that it makes.

    Args:
        name, args: the system call.
        act: makes it. If it returns a number, that is the call's result; any other value counts as
            0. An OSError becomes a KernelError.
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


def deliver(lines: str, pid: int) -> None:
    """Send events of a child to who listens, with the next numbers.

    Args:
        lines: as the child has passed them on, *to_parent*.
        pid: the child's number.
    """
    each = lines.split("\n")[:-1]
    if (listener := _trace.listener) is not None:
        for line in each:
            _trace.seq += 1
            listener(Event.of({"pid": pid, **jsontext.parse(line), "seq": _trace.seq}))
    elif _trace.put is not None:
        # A parent of this process numbers them; in its PID namespace *pid* may mean nothing.
        to_parent = bool(_trace.opening)
        known = 0 if to_parent else pid
        passed_on = []
        for number, line in enumerate(each, _trace.seq + 1):
            seq = "" if to_parent else f'"seq":{number},'
            whose = "" if line.startswith('{"pid":') else f'"pid":{known},'
            passed_on.append(f"{{{seq}{whose}{line[1:]}\n")
        _trace.seq += len(each)
        _trace.put("".join(passed_on))


def step_name(step: Callable[..., Any]) -> str:
    """Return a step's name in events and options: mount-rootfs."""
    return step.__name__.strip("_").replace("_", "-")


def step_source(step: Callable[..., Any]) -> str:
    """Return where a step is written: rootfs.py:42."""
    code = step.__code__
    return f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}"


def reach(place: str) -> None:
    """Name a place between two actions, where a test can kill a process; it costs one `if`.

    Args:
        place: such as `before delete-row`. `take` has two of its own: before and after its step.
    """
    if _faults.reached is not None:
        _faults.reached(place)


def tell_places_to(reached: Callable[[str], None]) -> None:
    """Call *reached* at every place from now on, in this process and those that it forks."""
    _faults.reached = reached


def leave_steps() -> None:
    """Be in no step: a new story begins in this thread.

    A step that failed stays the current one, so that a report can name it; see `take`.
    """
    _trace.step = None


def current_step() -> str:
    """Return the name of the step that this process is in, or ""."""
    return step_name(_trace.step) if _trace.step else ""


def take(step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Take one step, when its holder lets it: call it; every event meanwhile has its name.

    If it fails, it stays the current step, so that the error report can name it.
    """
    outer, _trace.step = _trace.step, step
    if _trace.holder is not None:
        wait_to_begin(_event())
    note("")
    if _faults.reached is not None:
        reach(f"before {step_name(step)}")
    result = step(*args, **kwargs)
    if _faults.reached is not None:
        reach(f"after {step_name(step)}")
    _trace.step = outer
    return result


def take_back(step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Take a step that undoes others: it waits for no holder, who may have ended the recipe."""
    hold(None)
    return take(step, *args, **kwargs)


def needed_if(asked: Callable[[Any], object]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a step that belongs to a recipe only if *asked*, given the spec, is true."""

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
        if step_name(step) in _trace.left_out:
            _pass_over(step)
        else:
            take(step, container)


def leave_out(names: tuple[str, ...]) -> None:
    """Pass over the steps of these names, in the recipes of this process and its children.

    Args:
        names: checked by who asks: without some steps there is no container.
    """
    _trace.left_out = names


def _pass_over(step: Callable[..., Any]) -> None:
    outer, _trace.step = _trace.step, step
    note("")
    note("left out, as --without asks")
    _trace.step = outer
