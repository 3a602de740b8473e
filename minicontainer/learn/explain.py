"""A story of steps and calls, printed while it happens.

Nothing here knows what a start does: it prints the events that the code noted where it acted, and
explains a step by the docstring of the function that takes it. Three levels of detail:

    steps   a line a step: its number, its name, what it does and how long it took
    calls   each step with its reason, and the calls that changed something: repeated ones are
            counted (`folding`), and everything fits 80 columns
    full    every call, with all its arguments as the manual pages write them; a long one goes on
            in the next line, and so does a command, after a backslash: it can still be typed
"""

from __future__ import annotations

import re
import textwrap

from minicontainer.learn.calls import Calls, changes, short_ids
from minicontainer.learn.folding import fold
from minicontainer.learn.narration import moment, reason_of, summary_of
from minicontainer.learn.words import word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from minicontainer.event import Event
    from minicontainer.learn.folding import Act

LEVELS = ("steps", "calls", "full")
_WIDTH = 80
# A piece of a call: an argument, or one of its flags; a string is one, with its blanks.
_ARGUMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s"|])+\|?|\S')
_FLAGS = re.compile(r"\w\|$")  # the end of a line of which more flags follow
_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|\\.|\S)+""")  # of a shell command
_BREAK = "\x1f"  # before a space: a line may end here, and the word goes on without a space


class Explainer:
    """A listener that prints steps and calls.

    Args:
        out: where the text goes.
        level: one of LEVELS.
        lang: the language of the narration; calls and names are the kernel's own.
        plain: a line for each step and each act, however long, for other programs to read.
    """

    def __init__(
        self, out: TextIO, level: str = "full", lang: str = "en", plain: bool = False
    ) -> None:
        self._plain = plain
        self._out = out
        self._told = ""  # what is to be printed
        self._lang = lang
        self.level = level  # of what comes
        self.thorough = False  # whether each reason is told whole, whatever the level
        self._headings: dict[str, int] = {}  # the number of each step
        self._current: Event | None = None  # the first event of the step that is being told
        self._calls = Calls(lang)
        self._held: list[Event] = []  # calls of that step, to be folded when it is over

    def __call__(self, event: Event) -> None:
        """Print an event; a new step's heading first."""
        if self._current is None or event.step != self._current.step:
            self._end_step(event.t)
            self._current = event
            self._calls.forget()
            self._begin_step(event)
        if event.call and self.level == "full":
            self._print_call(event)
        elif event.call:
            self._held.append(event)
        self._tell()

    def finish(self) -> None:
        """Print what is still held: no event comes any more."""
        if self._current is not None:
            self._end_step(max(event.t for event in (self._current, *self._held)))
            self._current = None
            self._tell()

    def _write(self, text: str) -> None:
        self._told += text

    def _tell(self) -> None:
        """Print what was written, at once: the program may print too, on the same terminal."""
        told, self._told = self._told, ""
        if told:
            self._out.write(told)
            self._out.flush()

    def _begin_step(self, event: Event) -> None:
        known = self._headings.get(event.step)
        if self.level == "steps":
            return  # its line comes when it is known how long it took
        if known is not None:
            line = word("(back in {}. {})", self._lang, known, event.step) + "\n"
            self._write(line if self._plain else f"\n{line}")
            return
        number = self._headings[event.step] = len(self._headings) + 1
        name = event.step or word("between the steps", self._lang)
        when = moment(event.t, self._lang)
        where = ", ".join(filter(None, (event.actor, event.source, when)))
        if self._plain:
            reason = summary_of(event.step, self._lang)
            self._write(f"{number}. {name} [{where}] {reason}".rstrip() + "\n")
            return
        self._write(f"\n{number}. {name}   [{where}]\n")
        for line in self._reason(event.step):
            self._write(f"   {line}".rstrip() + "\n")

    def _reason(self, step: str) -> list[str]:
        if self.level == "full" or self.thorough:
            return _wrapped(reason_of(step, self._lang))
        return _filled(summary_of(step, self._lang))

    def _end_step(self, now: int) -> None:
        held, self._held = self._held, []
        if self.level == "calls":
            for act in fold(held):
                self._print_act(act)
        elif self.level == "steps" and self._current is not None:
            self._print_step(self._current, now)

    def _print_step(self, event: Event, now: int) -> None:
        if event.step in self._headings:
            return  # it goes on after another process had its say: one line is enough
        number = self._headings[event.step] = len(self._headings) + 1
        if event.t < 0:  # and the next step may be one of the story
            took = word("ahead", self._lang)
        else:
            took_ms = max(now - event.t, 0) / 1e6  # two processes have two clocks to be late by
            took = word("{} ms", self._lang, f"{took_ms:.1f}")
        name = event.step or word("between the steps", self._lang)
        if self._plain:
            reason = summary_of(event.step, self._lang)
            self._write(f"{number}. {name} [{event.actor}, {took}] {reason}".rstrip() + "\n")
            return
        line = f"{number:>3}. {name:<24} "
        room = _WIDTH - len(line) - len(took) - 2
        reason = _cut(summary_of(event.step, self._lang), room, self._lang)
        self._write(f"{line}{reason:<{room}}  {took}\n")

    # -- one act: its command, or the call; what changed; how often ------------------------------

    def _print_act(self, act: Act) -> None:
        event = act.event
        if self._plain:
            failed = event.errno or event.result is None or not act.shell
            told = f"> {self._calls.text(event)}" if failed else f"$ {act.shell}"
            counts = (f"({line})" for line in _counts(act, self._lang))
            self._write_line(told, *changes(event, self._lang), *counts)
            return
        if event.errno or event.result is None or not act.shell:
            self._write_wrapped("   > ", self._calls.text(event))
        if act.shell and not event.errno:
            first, *others = short_ids(act.shell).splitlines()
            self._write_wrapped("   $ ", first)
            for line in others:  # of a file that the command reads
                self._write_wrapped("     ", line)
        for line in changes(event, self._lang):
            self._write_wrapped("     ", short_ids(line))
        for line in _counts(act, self._lang):
            self._write_wrapped("     ", f"({short_ids(line)})")

    def _write_wrapped(self, lead: str, text: str) -> None:
        further = " " * (len(lead) + 2)
        room = _WIDTH - len(further)
        words = " ".join(_broken(word, room) for word in text.split())
        for line in textwrap.wrap(
            words, _WIDTH, initial_indent=lead, subsequent_indent=further,
            break_long_words=False, break_on_hyphens=False,
        ):  # fmt: skip
            self._write(f"{line.replace(_BREAK + ' ', '').replace(_BREAK, '')}\n")

    def _write_line(self, *parts: str) -> None:
        self._write("; ".join(" ".join(short_ids(part).split()) for part in parts) + "\n")

    def _print_call(self, event: Event) -> None:
        if self._plain:
            shell = (f"$ {event.shell}",) if event.shell else ()
            self._write_line(f"> {self._calls.text(event)}", *changes(event, self._lang), *shell)
            return
        self._write_lines(folded_call("   > ", self._calls.text(event)))
        for line in changes(event, self._lang):
            self._write_lines(folded("     ", short_ids(line).split()))
        if event.shell:
            first, *others = short_ids(event.shell).rstrip().splitlines()
            self._write_lines(folded("     $ ", _WORD.findall(first), " \\"))
            for line in others:  # of a file that the command reads
                self._write(f"       {line}\n")

    def _write_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._write(f"{line}\n")


def folded_call(lead: str, text: str) -> Iterator[str]:
    """Write a call in as many lines as it needs; it is broken between arguments and flags."""
    return folded(lead, _ARGUMENT.findall(text))


def folded(lead: str, words: list[str], end: str = "") -> Iterator[str]:
    """Write words in as many lines as they need; nothing is cut.

    Args:
        lead: what the first line begins with; the others are indented two columns more.
        end: of each line but the last, if this is a command.
    """
    further = " " * (len(lead) + 2)
    line, joint = lead, ""
    for number, one in enumerate(words, 1):
        room = _WIDTH - (len(end) if number < len(words) else 0)
        if number > 1:
            joint = "" if _FLAGS.search(line) else " "
            if len(line) + len(joint) + len(one) > room:
                yield f"{line}{end}"
                line, joint = further, ""
        line += joint + one
        while len(line) > room:
            first, line = _parted(line) if end else _parted_call(line, further)
            yield first
    yield line


def _parted(line: str) -> tuple[str, str]:
    """Break a word of a command, which the shell reads as one: at the next line's first column."""
    place = _place(line, _WIDTH - 2)
    quote = _open_quote(line[:place])
    return f"{line[:place]}{quote}\\", f"{quote}{line[place:]}"


def _parted_call(line: str, further: str) -> tuple[str, str]:
    place = _place(line, _WIDTH)
    return line[:place], further + line[place:]


def _place(line: str, most: int) -> int:
    """Find where to break a word that is too long for a line: between paths, or parts of one."""
    for mark in (":", ",", "/"):
        if (found := line.rfind(mark, _WIDTH // 2, most)) > 0:
            return found + 1
    return most


def _open_quote(text: str) -> str:
    """Give the quotation mark that is open at the end of a text, or ""."""
    mark, escaped = "", False
    for one in text:
        if escaped:
            escaped = False
        elif one == "\\" and mark != "'":
            escaped = True
        elif one in ("'", '"') and mark in ("", one):
            mark = "" if mark else one
    return mark


def _wrapped(lines: list[str]) -> list[str]:
    """Wrap paragraphs; the lines of a list or a drawing, which are indented, stay as they are."""
    found: list[str] = []
    for paragraph in "\n".join(lines).split("\n\n"):
        drawn = any(line.startswith(" ") for line in paragraph.splitlines())
        found += paragraph.splitlines() if drawn else _filled(paragraph)
        found.append("")
    return found[:-1]


def _filled(text: str) -> list[str]:
    """Break a text into lines, between words: a hyphen belongs to a name, such as set-user-ID."""
    return textwrap.wrap(text, _WIDTH - 3, break_on_hyphens=False)


def _counts(act: Act, lang: str) -> list[str]:
    """Say what an act stands for beside its own call."""
    told = []
    if act.parents:
        told.append(word("with its parents: {}", lang, ", ".join(act.parents)))
    if act.prepared:
        names = [event.call for event in act.prepared]
        each = [f"{name} x{names.count(name)}" if names.count(name) > 1 else name
                for name in dict.fromkeys(names)]  # fmt: skip
        told.append(word("by {}", lang, ", ".join((*each, act.event.call))))
    if act.hierarchies:
        others = ", ".join(act.hierarchies)
        if len(act.hierarchies) == 1:
            told.append(word("the same in 1 more hierarchy: {}", lang, others))
        else:
            number = len(act.hierarchies)
            told.append(word("the same in {} more hierarchies: {}", lang, number, others))
    if act.more:
        told.append(word("and {} more like it: {}", lang, len(act.more), ", ".join(act.more)))
    return told


def _cut(text: str, width: int, lang: str) -> str:
    """Cut a sentence that is too long for a line: at the end of a clause, or at a word.

    A comma ends a clause in English. In Russian one stands before every "that" and "when" too, and
    what comes before it is no sentence.
    """
    text = text.rstrip(".")
    if len(text) <= width:
        return text
    marks = (": ", "; ", ", ") if lang == "en" else (": ", "; ")
    clause = max(text.rfind(mark, 0, width + 1) for mark in marks)
    if clause >= width // 2:
        return text[:clause]
    return f"{text[: text.rfind(' ', 0, width - 1)].rstrip(',;:— ')} …"


def _broken(word: str, width: int) -> str:
    """Let a word that is too long for a line break after commas; cut what is still too long.

    Each of an overlay's lower directories matters, and they are one word, with colons between.
    """
    if len(word) <= width - 2:
        return word
    half = (width - 3) // 2
    parts = re.findall(r"[^,|:]*[,|:]|[^,|:]+", word)
    return f"{_BREAK} ".join(
        part if len(part) <= width - 2 else f"{part[:half]}…{part[-half:]}" for part in parts
    )
