"""Several calls as one act: what a reader wants to know of a step, in a few lines.

A step may make fifty calls where a person would type one command: a mount takes six system calls,
and cgroup v1 has a directory in each of nine hierarchies. Nothing is left out here, it is counted:

    an attempt that was refused,    one act: the attempt that succeeded, with the directories
    and then answered in another    that were made for it
    way
    calls that prepare another      part of the act of the call that changes something; those that
                                    prepare a mount, not of the file that is made to mount it on
    the same in other hierarchies   one act, and the names of the other hierarchies
    more writes to the same file,   one act, and what else was written or dropped
    more of one option

See: mkdir(1) `-p`; cgroups(7) on the hierarchies of version 1.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.event import Event

# Where a hierarchy of cgroup v1 is mounted, on the host and in the container alike.
_HIERARCHY = re.compile(r"(/sys/fs/cgroup/)([a-z_,]+)(?=/|$|\s)")

# A mount may be prepared before the file or directory is made that it goes on.
_OF_MOUNTS = ("open_tree", "mount_setattr", "fsopen", "fsconfig", "fsmount")
_MAKING = ("mkdir", "mkdirat", "mknod", "mknodat")


class Act:
    """What a reader sees as one thing that was done.

    Args:
        event: the call that changed something.
    """

    def __init__(self, event: Event) -> None:
        self.event = event
        self.prepared: list[Event] = []  # the calls that it needed
        self.parents: list[str] = []  # directories that were made for it, the uppermost first
        self.hierarchies: list[str] = []  # where else the same was done
        self.more: list[str] = []  # what else was written to the same file, dropped, …

    @property
    def shell(self) -> str:
        """The command that does the same, or ""."""
        told = (self.event.shell or "").rstrip()
        if self.parents and told.startswith("mkdir "):
            return told.replace("mkdir ", "mkdir -p ", 1)
        return told


def fold(events: Iterable[Event]) -> list[Act]:
    """Turn the calls of one step into acts, in their order."""
    return _merge_repeated(_gather(_without_answered(list(events))))


def _without_answered(events: list[Event]) -> list[tuple[Event, list[str]]]:
    """Leave out each attempt that was refused and then succeeded; note the parents made for it."""
    kept: list[tuple[Event, list[str]]] = []
    waiting: list[tuple[Event, int]] = []  # a refused attempt, and the place of what follows it
    for event in events:
        answered = next((entry for entry in waiting if _same_call(entry[0], event)), None)
        if event.errno and any(_same_call(event, later) and not later.errno for later in events):
            waiting.append((event, len(kept)))
            continue
        parents: list[str] = []
        if answered is not None:
            waiting.remove(answered)
            parents = _take_parents(kept, answered[1], event)
        kept.append((event, parents))
    return kept


def _same_call(one: Event, other: Event) -> bool:
    return (one.call, one.args, one.pid) == (other.call, other.args, other.pid)


def _take_parents(kept: list[tuple[Event, list[str]]], start: int, event: Event) -> list[str]:
    """Take the directories above *event*'s that were made since out of *kept*."""
    path = str(event.args[0]) if event.args else ""
    above = [entry for entry in kept[start:] if _is_above(entry[0], path)]
    for entry in above:
        kept.remove(entry)
    return [parent for entry in above for parent in (*entry[1], str(entry[0].args[0]))]


def _is_above(event: Event, path: str) -> bool:
    return event.call == "mkdir" and path.startswith(f"{event.args[0]}/")


def _gather(kept: list[tuple[Event, list[str]]]) -> list[Act]:
    """Give each call that changes something the calls that prepared it."""
    acts: list[Act] = []
    preparing: list[Event] = []
    for event, parents in kept:
        if not (event.object or event.shell or event.errno or event.result is None):
            preparing.append(event)
            continue
        act = Act(event)
        later = [one for one in preparing if event.call in _MAKING and one.call in _OF_MOUNTS]
        act.prepared, preparing = [one for one in preparing if one not in later], later
        act.parents = parents
        acts.append(act)
    acts += map(Act, preparing)  # nothing came of these that has a name
    return acts


def _merge_repeated(acts: list[Act]) -> list[Act]:
    """Count what was done again: in other hierarchies, or to the same file."""
    kept: list[Act] = []
    first: dict[tuple[str, ...], Act] = {}
    for act in acts:
        hierarchy = _hierarchy_of(act.event)
        key = _pattern(act.event) if hierarchy else ()
        if key and key in first and hierarchy != _hierarchy_of(first[key].event):
            if hierarchy not in first[key].hierarchies:
                first[key].hierarchies.append(hierarchy)
        elif kept and (value := _further_value(kept[-1].event, act.event)):
            kept[-1].more.append(value)
        else:
            first.setdefault(key, act)
            kept.append(act)
    return kept


def _hierarchy_of(event: Event) -> str:
    found = _HIERARCHY.search(event.shell or "") or _HIERARCHY.search(event.object or "")
    return found[2] if found else ""


def _pattern(event: Event) -> tuple[str, ...]:
    """Describe a call so that the same one in another hierarchy has the same description."""
    told = event.shell or " ".join(map(str, event.args))
    return event.call, str(event.errno), _HIERARCHY.sub(r"\1*", told)


def _further_value(first: Event, event: Event) -> str:
    """Give what a call does that is otherwise the one before: the text, the option's value."""
    if first.errno or event.errno or (first.call, first.args[:1]) != (event.call, event.args[:1]):
        return ""
    if event.call == "write":
        return str(event.args[-1])
    option, equals, value = (event.shell or "").rpartition("=")
    return value if equals and option == (first.shell or "").rpartition("=")[0] else ""
