"""Recipes: name a step, follow a recipe, note an event, listen.

A container is made by steps, and a step makes system calls. Each call is noted where it is made,
with the step that it belongs to. A listener turns the notes into an explanation, a trace or a
lesson. Without a listener, a note costs one `if`.

Most events reach their reader through several processes. The process that makes an event writes it
as a line of JSON, and the reader parses that; those between them pass the line on as it is.

This is the only module with state of its own, because a trace is about the process itself. Each
thread has one, which `listen` begins; a forked child calls `listen` for itself. (Only the engine
has threads, and each of its requests is a story of its own.)
"""

from __future__ import annotations

import posix
import time
from _thread import _local  # what threading.local is, without what that module imports

from minicontainer import jsontext
from minicontainer.errors import KernelError, shortened
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


class Event(Record):
    """One change of the kernel's state; or, without a call, the beginning of a step.

    Args:
        seq: its place among the events of one start, from 1.
        t: nanoseconds on CLOCK_MONOTONIC since the listener began.
        actor: the process that did it: client (the command), engine, spawner, monitor, creator,
            exec, joiner, init, hook; or program, if init stays beside it.
        pid: the actor's number in the host's PID namespace; 0 if it is not known there.
        step: the name of its step, with dashes: mount-rootfs.
        source: module.py:line of that step.
        call: the system call, netlink request or `write`; "" when a step begins.
        args: its arguments, as they were passed.
        result: its result; None for a call that does not return (execve(2); if it does return, it
            has failed, and another event reports that).
        errno: 0, or the kernel's error number.
        object: the kernel object that it changed: ns:pid:4026532281, mount:/proc, link:eth0.
        before: that object's value before, if it has one;  after: its value after.
        shell: a command of util-linux, iproute2 or coreutils with the same effect, if there is one.
    """

    seq: int = 0
    t: int = 0
    actor: str = ""
    pid: int = 0
    step: str = ""
    source: str = ""
    call: str = ""
    args: tuple[object, ...] = ()
    result: int | None = None  # with that default, JSON, which leaves None out, restores it
    errno: int = 0
    object: str | None = None
    before: str | None = None
    after: str | None = None
    shell: str | None = None

    # A story has hundreds of events. What Record does for any type takes eight times as long as
    # these three.

    def replace(self, **changes: Any) -> Event:
        """Make a copy with some fields changed."""
        made = Event.__new__(Event)
        made.__dict__.update(self.__dict__)
        made.__dict__.update(changes)
        return made

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON holds it; fields that are None are left out."""
        own = {**_DEFAULTS, **self.__dict__}
        return {name: value for name, value in own.items() if value is not None}

    @staticmethod
    def of(fields: dict[str, Any]) -> Event:
        """Make an event of what `to_json` of another process of this program gave, unchecked."""
        made = Event.__new__(Event)
        made.__dict__.update(fields)
        made.__dict__["args"] = tuple(fields.get("args", ()))
        return made


_DEFAULTS = {name: getattr(Event, name) for name in Event.fields()}


class _Trace(_local):
    """What this thread is doing, and who listens."""

    listener: Callable[[Event], None] | None = None
    pass_on: Callable[[str], None] | None = None
    actor = ""
    pid = 0
    begun = 0  # on CLOCK_MONOTONIC, in nanoseconds;  begun_wall: the same moment on the wall clock
    begun_wall = 0
    seq = 0
    step: Callable[..., Any] | None = None
    named: tuple[Callable[..., Any] | None, str, str] = None, "", ""  # a step, its name and source
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


def listen(
    listener: Callable[[Event], None] | None,
    actor: str,
    begun_wall_ns: int = 0,
    pass_on: Callable[[str], None] | None = None,
) -> None:
    """Pass every event from now on to *listener*; None ends that.

    Args:
        listener: called with each event, in order, in the process that made it.
        actor: the name of this process in the events.
        begun_wall_ns: when the story began, by the wall clock, if another process began it.
        pass_on: called with the events of children, as lines that `written` could have returned,
            several at a time; without it, they are parsed, and *listener* gets them.
    """
    _trace.listener = listener
    _trace.pass_on = pass_on
    _trace.actor = actor
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
    """Send the listener an event about one call; the arguments are the fields of `Event`."""
    if _trace.listener is not None:
        _trace.seq += 1
        made = _event(call, args, result, errno, object, before, after, shell, _trace.seq)
        _trace.listener(made)


def _event(
    call: str = "",
    args: tuple[object, ...] = (),
    result: int | None = 0,
    errno: int = 0,
    object: str | None = None,
    before: str | None = None,
    after: str | None = None,
    shell: str | None = None,
    seq: int = 0,
) -> Event:
    if (step := _trace.step) is not _trace.named[0]:
        _trace.named = step, step_name(step) if step else "", step_source(step) if step else ""
    _, name, source = _trace.named
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
            0.
            An OSError becomes a KernelError.
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
    """Send an event of a child to the listener, with the next number."""
    if _trace.listener is not None:
        _trace.seq += 1
        _trace.listener(event.replace(seq=_trace.seq))


def written(event: Event) -> str:
    """Write an event for another process: a line of JSON."""
    return f'{{"seq":{event.seq:d},"pid":{event.pid:d},{_rest_of(event)}'


def written_by_child(event: Event, *, own: bool) -> str:
    """Write an event for the parent, which numbers it, and knows the number of its child.

    Args:
        own: this process has done it, or a thread of it. The number of another process means
            nothing to the parent, since it may be that of another PID namespace: it becomes 0.
    """
    return f"{{{_rest_of(event)}" if own else f'{{"pid":0,{_rest_of(event)}'


def _rest_of(event: Event) -> str:
    """Write all fields but `seq` and `pid`, and the end of the line.

    Init writes most events, and its parent waits for it: `to_json` and a dump would take longer.
    """
    text, args = jsontext.escaped, jsontext.dump(event.args) if event.args else "[]"
    written = f'"t":{event.t},"actor":{text(event.actor)},"step":{text(event.step)},"source":'
    written += f'{text(event.source)},"call":{text(event.call)},"args":{args}'
    written += f',"errno":{event.errno:d}'
    if event.result is not None:
        written += f',"result":{event.result:d}'
    if event.object is not None:
        written += f',"object":{text(event.object)}'
    if event.before is not None:
        written += f',"before":{text(event.before)}'
    if event.after is not None:
        written += f',"after":{text(event.after)}'
    if event.shell is not None:
        written += f',"shell":{text(event.shell)}'
    return f"{written}}}\n"


def deliver_written(lines: str, pid: int) -> None:
    """Send events of a child to who listens, with the next numbers.

    Args:
        lines: as `written_by_child` returned them.
        pid: the child's number.
    """
    each = lines.split("\n")[:-1]
    if _trace.pass_on is None:
        for line in each:
            deliver(Event.of({"pid": pid, **jsontext.parse(line)}))
        return
    numbered = []
    for seq, line in enumerate(each, _trace.seq + 1):
        whose = "" if line.startswith('{"pid":') else f'"pid":{pid},'
        numbered.append(f'{{"seq":{seq},{whose}{line[1:]}\n')
    _trace.seq += len(each)
    _trace.pass_on("".join(numbered))


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
