"""`--predict`: what will a step change? The question, and the answer, are the state of the kernel.

Before a step the process is looked at through /proc, and once more when the next step waits: what
differs is what the step changed. Nothing is looked up in a table.

See: `differences` for the looks; proc(5).
"""

from __future__ import annotations

import itertools
import os
import textwrap

from minicontainer.kernel.procfs import lines_of
from minicontainer.learn import differences
from minicontainer.learn.calls import short_ids
from minicontainer.learn.words import word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Values = dict[str, str]
    State = dict[str, Values]

_SHOWN = 5  # changes of one topic
_WIDTH = 76


def _mounts(pid: int) -> Values:
    """Give each mount with its options, and whether it is shared with other namespaces."""
    found = {}
    for line in lines_of(pid, "mountinfo"):
        before, _, after = line.partition(" - ")
        number, _, _, _, place, options, *more = before.split(" ")
        kinds = sorted(word.partition(":")[0] for word in more) or ["private"]
        told = f"{after.split(' ', 1)[0]} ({options}; {', '.join(kinds)})"
        found[place if place not in found else f"{place} ({number})"] = told
    return _root(pid) | found


def _root(pid: int) -> Values:
    """Tell the root directory by its device and inode: the link itself shows / for every root."""
    root = os.stat(f"/proc/{pid}/root/")
    return {"root directory": f"inode {root.st_ino} of device {root.st_dev}"}


def _network(pid: int) -> Values:
    """Give the links, and the addresses that the kernel answers for."""
    lines = [line.strip() for line in lines_of(pid, "net/fib_trie")]
    addresses = {
        line.rpartition(" ")[2]: "local"
        for line, after in itertools.pairwise(lines)
        if after.startswith("/32 host LOCAL")
    }
    return differences.TABLES["links"](pid) | addresses


def _program(pid: int) -> Values:
    return {"program": os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")}


TOPICS: dict[str, Callable[[int], Values]] = {
    "namespaces": differences.TABLES["namespaces"],
    "mounts": _mounts,
    "ids": differences.TABLES["ids"],
    "capabilities": differences.TABLES["capabilities"],
    "cgroup": differences.TABLES["limits"],
    "filter": differences.TABLES["seccomp"],
    "network": _network,
    "program": _program,
}


SHOWN_AS = {
    "namespaces": "namespaces",
    "mounts": "mounts",
    "ids": "users and groups",
    "capabilities": "capabilities",
    "cgroup": "cgroup and its limits",
    "filter": "system call filter",
    "network": "network",
    "program": "program",
    "nothing": "nothing of these",
}


def look(pid: int) -> State | None:
    """Look at a process: the values of each topic; None when it has ended."""
    try:
        return {topic: see(pid) for topic, see in TOPICS.items()}
    except (FileNotFoundError, ProcessLookupError):
        return None


def choices(state: State, lang: str) -> Iterator[str]:
    """Write the question: a letter for each topic, and what is there before the step."""
    question = "What will this step change? Type letters such as a or bc; Enter skips"
    yield word(question, lang)
    width = max(len(_shown(topic, lang)) for topic in state)
    for letter, (topic, values) in zip("abcdefghij", state.items(), strict=False):
        yield f"  {letter}  {_shown(topic, lang):<{width}}  {_summary(topic, values)}"
    yield f"  {_last(state)}  {_shown('nothing', lang)}"


def _shown(topic: str, lang: str) -> str:
    return word(SHOWN_AS[topic], lang)


def _last(state: State) -> str:
    return chr(ord("a") + len(state))


def _summary(topic: str, values: Values) -> str:
    """Say in a few words what a topic's state is."""
    if topic == "namespaces":
        mine = differences.TABLES["namespaces"](os.getpid())
        own = [name for name, number in values.items() if mine.get(name) != number]
        return " ".join(own) or "-"
    if topic in ("mounts", "capabilities", "cgroup"):
        return str(len(values))
    if topic == "filter":
        return values.get("system call filter", "")
    if topic == "ids":
        user, group = (values.get(name, "").split() for name in ("users", "groups"))
        return f"uid {user[1]}, gid {group[1]}"  # the effective ones
    if topic == "program":
        return os.path.basename(values["program"])
    return " ".join(values)


def answer(text: str, state: State) -> set[str] | None:
    """Read letters: the topics that they stand for; None if one stands for nothing."""
    topics = [*state, "nothing"]
    numbers = [ord(letter) - ord("a") for letter in text.strip().lower()]
    if not all(0 <= number < len(topics) for number in numbers):
        return None
    return {topics[number] for number in numbers}


def refusal(state: State, lang: str) -> str:
    """Say which letters there are."""
    return word("type letters from a to {}, without a space; Enter skips", lang, _last(state))


def changes(before: State, after: State) -> dict[str, list[str]]:
    """List what changed, by topic."""
    found: dict[str, list[str]] = {}
    for topic, values in before.items():
        others = after[topic]
        for name in dict.fromkeys((*values, *others)):
            one, other = values.get(name), others.get(name)
            if one != other:
                found.setdefault(topic, []).append(short_ids(_changed(name, one, other)))
    return found


def _changed(name: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"+ {name}: {after}"
    return f"- {name}: {before}" if after is None else f"{name}: {before} → {after}"


def verdict(said: set[str], found: dict[str, list[str]], lang: str) -> Iterator[str]:
    """Judge an answer, and show what changed; without an answer only that."""
    right = set(found) or {"nothing"}
    if said:
        words = ", ".join(_shown(topic, lang) for topic in said)
        if said == right:
            yield word("Right", lang)
        else:
            wrong = "Right in part: you said {}" if said & right else "Wrong: you said {}"
            yield word(wrong, lang, words)
    yield word("What changed:" if found else "Nothing of these changed", lang)
    for topic, lines in found.items():
        yield f"  {_shown(topic, lang)}:"
        for line in lines[:_SHOWN]:
            yield from textwrap.wrap(f"    {line}", _WIDTH, subsequent_indent=" " * 6)
        if len(lines) > _SHOWN:
            yield "    " + word("… {} more", lang, len(lines) - _SHOWN)
