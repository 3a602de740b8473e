"""Events: each change of the kernel's state, as a value and as a line of JSON.

The process that makes an event writes it as a line, and the reader parses that. Those between them
only add to the line what they alone know: its number, the pid of their child, the container.
"""

from __future__ import annotations

from minicontainer import jsontext
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # What an event's line is written of, later: its opening, t, `where_written`, and then the
    # fields from `call` on.
    Unwritten = tuple[
        str, int, str, str, tuple[object, ...], int | None, int,
        str | None, str | None, str | None, str | None,
    ]  # fmt: skip


_MOST_UNSENT = 24_576  # characters, so that a process that is killed takes few events along
_USUAL_SIZE = 300  # of a line


class Event(Record):
    """One change of the kernel's state; or, without a call, the beginning of a step.

    Args:
        seq: its place among those that one process sends, its children's included, from 1: the
            engine numbers those of each request, a creator its own and init's.
        t: nanoseconds since the story began; less than 0 for what was done ahead.
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
        """Make an event of a line that another process of this program wrote, unchecked."""
        made = Event.__new__(Event)
        made.__dict__.update(fields)
        made.__dict__["args"] = tuple(fields.get("args", ()))
        return made


_DEFAULTS = {name: getattr(Event, name) for name in Event.fields()}


def written(event: Event) -> str:
    """Write an event that a listener got: a line of JSON."""
    opening = f'{{"seq":{event.seq:d},"pid":{event.pid:d},'
    where = where_written(event.actor, event.step, event.source)
    return line_written(
        opening, event.t, where, event.call, event.args, event.result, event.errno, event.object,
        event.before, event.after, event.shell,
    )  # fmt: skip


def where_written(actor: str, step: str, source: str) -> str:
    """Write the fields that are the same in all events of a step."""
    text = jsontext.escaped
    return f'"actor":{text(actor)},"step":{text(step)},"source":{text(source)}'


def line_written(
    opening: str,
    t: int,
    where: str,
    call: str,
    args: tuple[object, ...],
    result: int | None,
    errno: int,
    object: str | None,
    before: str | None,
    after: str | None,
    shell: str | None,
) -> str:
    """Write the line of an event: `to_json` and a dump would take longer.

    Args:
        opening: `{`, and the fields `seq` and `pid` as far as they are known here.
        where: of `where_written`; the other fields are those of `Event`.
    """
    text = jsontext.escaped
    listed = jsontext.dump(args) if args else "[]"
    line = f'{opening}"t":{t},{where},"call":{text(call)},"args":{listed},"errno":{errno:d}'
    if result is not None:
        line += f',"result":{result:d}'
    if object is not None:
        line += f',"object":{text(object)}'
    if before is not None:
        line += f',"before":{text(before)}'
    if after is not None:
        line += f',"after":{text(after)}'
    if shell is not None:
        line += f',"shell":{text(shell)}'
    return f"{line}}}\n"


def lines_of(event: Unwritten | str) -> str:
    """Write an event, or give the lines of those that are written."""
    return event if isinstance(event, str) else line_written(*event)


class Unsent:
    """Events that wait to be sent with others.

    Their lines are written when they are sent. Init is as slow as its events are: to write one
    between two other calls takes it three times as long as to write it right after another one,
    since the processor has that code and its data at hand then.
    """

    def __init__(self) -> None:
        self._waiting: list[Unwritten | str] = []
        self._size = 0  # in characters, about

    def add(self, event: Unwritten | str) -> bool:
        """Add an event, or lines of events; report whether it is time to send them."""
        self._waiting.append(event)
        self._size += len(event) if isinstance(event, str) else _USUAL_SIZE
        return self._size >= _MOST_UNSENT

    def take(self) -> str:
        """Take the lines of all events that wait."""
        if not self._waiting:
            return ""
        waiting, self._waiting, self._size = self._waiting, [], 0
        return "".join(map(lines_of, waiting))
