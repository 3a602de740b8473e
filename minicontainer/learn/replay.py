"""A recording played back: in its own time, or step by step, forwards and backwards.

It reads the recording and nothing else: neither root nor Linux is needed.

    (in time)   each step appears when it happened, slowed down by a factor
    (by key)    Space, → or n: next step    ←, p or b: the step before    Home, End    q: leave
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time

from minicontainer.errors import printable
from minicontainer.learn.calls import changes, short_ids
from minicontainer.learn.explain import folded, folded_call
from minicontainer.learn.narration import moment
from minicontainer.learn.words import word
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from minicontainer.learn.recording import Entry, Recording

_WIDTH = 80
_MOST_LINES = 14  # about the calls of a step, so that it fits a screen
# Also the letters on the same keys of a Russian keyboard.
_NEXT = (" ", "n", "т", "\x1b[C", "\x1b[B", "\r", "\n")
_BEFORE = ("p", "b", "з", "и", "\x1b[D", "\x1b[A", "\x7f")
_FIRST, _LAST = ("\x1b[H", "g"), ("\x1b[F", "G")
_KEY = re.compile(r"\x1b[\[O][\d;]*.|.", re.DOTALL)
_LEAVE = ("q", "й", "\x03", "\x04", "")


class Scene(Record):
    """One step of a recording: what was done in it, until another step began.

    Args:
        number: from 1.
        step, actor, source: as in its events.
        t: when it began, in nanoseconds since the recording began.
        entries: its events.
    """

    number: int
    step: str
    actor: str
    source: str
    t: int
    entries: tuple[Entry, ...]


def scenes(recording: Recording) -> tuple[Scene, ...]:
    """Cut a recording into steps; a step that another one interrupts makes two scenes."""
    found: list[list[Entry]] = []
    for entry in recording.entries:
        last = found[-1][0].event if found else None
        if last is None or (last.step, last.actor) != (entry.event.step, entry.event.actor):
            found.append([])
        found[-1].append(entry)
    return tuple(
        Scene(
            number=number, step=entries[0].event.step, actor=entries[0].event.actor,
            source=entries[0].event.source, t=entries[0].event.t, entries=tuple(entries),
        )
        for number, entries in enumerate(found, 1)
    )  # fmt: skip


def describe(scene: Scene, recording: Recording, lang: str = "en", total: int = 0) -> str:
    """Write one scene as text that fits a screen.

    Args:
        lang: of the narration; English where the step has none in it.
        total: how many scenes there are; 0 to leave that out.
    """
    place = f"{scene.number}/{total}" if total else str(scene.number)
    where = ", ".join(filter(None, (scene.actor, scene.source, moment(scene.t, lang))))
    lines = [f"{place}. {scene.step or word('between the steps', lang)}   [{where}]"]
    texts = recording.steps.get(scene.step, {})
    reason = texts.get(lang) or texts.get("en", "")
    lines += textwrap.wrap(reason.partition("\n\n")[0], _WIDTH, initial_indent="   ",
                           subsequent_indent="   ", break_on_hyphens=False)  # fmt: skip
    calls = list(_calls(scene, lang, whole=True))
    if len(calls) > _MOST_LINES:  # then rather more of them
        calls = list(_calls(scene, lang, whole=False))
    lines += calls[:_MOST_LINES]
    if len(calls) > _MOST_LINES:
        lines.append("   " + word("(and {} more lines)", lang, len(calls) - _MOST_LINES))
    return "\n".join(map(printable, lines)) + "\n"  # the file may be somebody else's


def _calls(scene: Scene, lang: str, *, whole: bool) -> Iterator[str]:
    """Write the calls of a scene, and what each changed: in as many lines as they need, or cut."""
    for entry in scene.entries:
        event = entry.event
        if not event.call:
            continue
        call = entry.texts.get(lang, entry.text)
        yield from folded_call("   > ", call) if whole else (_cut(f"   > {call}"),)
        if event.after and event.before != event.after:
            for line in map(short_ids, changes(event, lang)):
                yield from folded("     ", line.split()) if whole else (_cut(f"     {line}"),)


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def play(recording: Recording, out: TextIO, lang: str = "en", slower: float = 20.0) -> None:
    """Print the scenes in the time in which they happened.

    Args:
        slower: how many times slower: a start takes 30 ms, too fast to be read. 0: at once.
    """
    shown = scenes(recording)
    now = shown[0].t if shown else 0
    for scene in shown:
        time.sleep(max(scene.t - now, 0) / 1e9 * slower)
        now = max(scene.t, now)
        out.write("\n" + describe(scene, recording, lang, len(shown)))
        out.flush()


def turn_pages(
    recording: Recording, out: TextIO, read_key: Callable[[], str], lang: str = "en"
) -> None:
    """Show one scene at a time, as the keys say.

    Args:
        read_key: waits for a key; gives its character or escape sequence, "" at the end.
    """
    shown = scenes(recording)
    place = 0
    while shown:
        out.write("\x1b[2J\x1b[H" + describe(shown[place], recording, lang, len(shown)))
        out.write("\n" + word("[space] next  [b] back  [q] leave", lang) + "\n")
        out.flush()
        key = read_key()
        if key in _LEAVE:
            return
        place = _turned(key, place, len(shown))


def _turned(key: str, place: int, total: int) -> int:
    if key in _NEXT:
        return min(place + 1, total - 1)
    if key in _BEFORE:
        return max(place - 1, 0)
    if key in _FIRST:
        return 0
    return total - 1 if key in _LAST else place


def keyboard(fd: int) -> Callable[[], str]:
    """Give a reader of single keys from a terminal in raw mode.

    One read may give several: of a key that is held down, over a slow connection.
    """
    typed: list[str] = []

    def read_key() -> str:
        if not typed:
            typed.extend(_KEY.findall(os.read(fd, 1024).decode(errors="replace")))
        return typed.pop(0) if typed else ""

    return read_key


def at_the_keyboard(recording: Recording, lang: str = "en") -> None:
    """Show one scene at a time on this process's terminal, which is restored at the end."""
    import termios  # only where somebody presses keys
    import tty

    before = termios.tcgetattr(0)
    try:
        tty.setcbreak(0)
        turn_pages(recording, sys.stdout, keyboard(0), lang)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
