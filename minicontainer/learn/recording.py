"""A start that was kept in a file, read again: for a replay, or a page.

See: `recorder` for the file.
"""

from __future__ import annotations

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.event import Event
from minicontainer.learn import narration
from minicontainer.learn.recorder import FORMAT
from minicontainer.record import NO_ENTRIES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CATALOGS = '{"catalogs":'  # what their line begins with


class Entry(Record):
    """One event of a recording, as a reader sees it.

    Args:
        text: the call; "" for the begin of a step.
        texts, afters: the call, and the object's new value, by the languages in which they read
            otherwise.
    """

    event: Event
    text: str = ""
    texts: dict[str, str] = NO_ENTRIES
    afters: dict[str, str] = NO_ENTRIES


class Recording(Record):
    """What a recording holds.

    Args:
        command: what the user typed.
        begun: when, by the wall clock.
        entries: the events, in their order.
        steps: what each step does and why: by its name, then by language.
    """

    command: str
    begun: str
    entries: tuple[Entry, ...]
    steps: dict[str, dict[str, str]]


def read(path: str) -> Recording:
    """Read a recording.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it is no recording, one of another version, or it was cut off.
    """
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            lines = file.read().removesuffix("\n").split("\n")  # a command may hold any other
    except FileNotFoundError:
        raise NotFound(f"no recording at {path}: make one with `run --record {path}`") from None
    except IsADirectoryError:
        raise InvalidArgument(f"{path} is not a recording: it is a directory") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path} is not a recording: it is not text") from None
    if lines == [""]:
        raise InvalidArgument(f"{path} is not a recording: it is empty")
    head = _parsed(lines[0], path)
    version = head.get("recording")
    if version is None:
        raise InvalidArgument(f"{path} is not a recording: its first line does not say so")
    if version != FORMAT:
        raise InvalidArgument(
            f"{path} is a recording of version {version}, and this program reads version {FORMAT}: "
            "record it again"
        )
    return _whole(path, head, lines[1:])


def _whole(path: str, head: dict[str, object], lines: list[str]) -> Recording:
    try:
        last = jsontext.parse(lines[-1]) if lines else {}
    except (ValueError, RecursionError):
        last = {}
    catalogs = [line for line in lines if line.startswith(_CATALOGS)]
    events = [
        (number, line)
        for number, line in enumerate(lines[:-1], 2)
        if not line.startswith(_CATALOGS)
    ]
    if not isinstance(last, dict) or not last.get("end") or last.get("events") != len(events):
        raise InvalidArgument(f"{path} was cut off: its last line is missing: record it again")
    entries = tuple(_entries(path, events))
    names = dict.fromkeys(entry.event.step for entry in entries)
    texts = _parsed(catalogs[0], path)["catalogs"] if catalogs else {}
    try:
        steps = narration.texts(texts, names)  # type: ignore[arg-type]  # what is wrong shows here
    except (ValueError, TypeError, AttributeError, RecursionError):  # somebody has edited it
        wrong = f"{path} is not a recording: what its steps do can't be read"
        raise InvalidArgument(wrong) from None
    command, begun = str(head.get("command", "")), str(head.get("begun", ""))
    return Recording(command=command, begun=begun, entries=entries, steps=steps)


def _entries(path: str, lines: list[tuple[int, str]]) -> Iterator[Entry]:
    """Read the events of some lines, which have a number each."""
    from minicontainer.learn.calls import Calls, new_value  # who records does without

    writers = {lang: Calls(lang) for lang in narration.languages()}
    for number, line in lines:
        fields = _parsed(line, path)
        try:
            event = Event.from_json(fields, f"line {number}")
        except InvalidArgument as error:
            raise InvalidArgument(f"{path} is not a recording: {error}") from None
        try:
            texts = {lang: calls.text(event) for lang, calls in writers.items() if event.call}
            afters = {lang: new_value(event, lang) for lang in writers}
        except (ValueError, TypeError, IndexError, KeyError):
            message = f"{path} is not a recording: a call in it can't be read"
            raise InvalidArgument(message) from None
        others, other_afters = _not_english(texts), _not_english(afters)
        yield Entry(event=event, text=texts.get("en", ""), texts=others, afters=other_afters)


def _not_english(texts: dict[str, str]) -> dict[str, str]:
    """Give the languages in which a text is another one than in English."""
    return {lang: text for lang, text in texts.items() if text != texts["en"]}


def _parsed(line: str, path: str) -> dict[str, object]:
    try:
        value = jsontext.parse(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{path} is not a recording: a line of it is no JSON object")
    return value
