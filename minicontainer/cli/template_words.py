"""The words of a template's actions.

See: pkg.go.dev/text/template "Text and spaces", "Arguments".
"""

from __future__ import annotations

from minicontainer import jsontext
from minicontainer.errors import Error
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_BLANK = " \t\r\n"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_NAME = _LETTERS + "0123456789"


class TemplateError(Error):
    """A template is none, or asks for what is not there; the message is Go's."""


class Word(Record):
    """One word of an action.

    Args:
        kind: "dot" (`.`, `.A.B`), "variable" (`$x.A`), "name", "text" (a constant) or "sign".
        text: the word as it stands; with fields, for messages.
        value: of a constant; the name of a variable.
        chain: the fields `.A.B` that follows.
        place: line, and column counted from 0, as Go writes them.
    """

    kind: str
    text: str
    value: Any = None
    chain: tuple[str, ...] = ()
    place: str = ""


def actions(text: str) -> Iterator[tuple[str, list[Word] | None, str]]:
    """Cut a template into texts, and actions as lists of words.

    Gives:
        the text and None; or "", the words and the place of an action.
    """
    position, trim = 0, False
    while position < len(text):
        start = text.find("{{", position)
        plain = text[position:] if start < 0 else text[position:start]
        if trim:
            plain = plain.lstrip(_BLANK)
        if start < 0:
            if plain:
                yield plain, None, ""
            return
        inside = start + 2
        if text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2] in tuple(_BLANK):
            plain = plain.rstrip(_BLANK)
            inside += 1
        if plain:
            yield plain, None, ""
        words, position, trim = _Action(text, inside).read()
        yield "", words, _place(text, start + 2)


def _place(text: str, index: int) -> str:
    before = text[:index]
    return f"{before.count(chr(10)) + 1}:{index - before.rfind(chr(10)) - 1}"


class _Action:
    """Reads one action, from behind its `{{`."""

    def __init__(self, text: str, position: int) -> None:
        self._text = text
        self._at = position

    def read(self) -> tuple[list[Word], int, bool]:
        """Give the words, the position behind `}}`, and whether the blanks behind it go."""
        text = self._text
        words: list[Word] = []
        line = _place(text, self._at).split(":")[0]
        while True:
            self._at += len(text[self._at :]) - len(text[self._at :].lstrip(_BLANK))
            if text.startswith("/*", self._at):
                end = text.find("*/", self._at)
                if end < 0:
                    raise TemplateError(f"template: :{line}: unclosed comment")
                self._at = end + 2
            elif text.startswith("}}", self._at):
                return words, self._at + 2, False
            elif text.startswith("-}}", self._at) and text[self._at - 1] in _BLANK:
                return words, self._at + 3, True
            elif self._at >= len(text):
                raise TemplateError(f"template: :{line}: unclosed action")
            else:
                words.append(self._word())

    def _word(self) -> Word:
        text, start = self._text, self._at
        place, char = _place(text, start), text[start]
        if char in "\"'`":
            value = self._constant(char, place)
            return Word(kind="text", text=text[start : self._at], value=value, place=place)
        if char.isdecimal() or (char in "+-" and text[start + 1 : start + 2].isdecimal()):
            return self._number(place)
        if char == ".":
            chain = self._fields()
            if not chain:
                self._at += 1
            return self._word_with(chain, "dot", start)
        if char == "$":
            self._at += 1
            name = "$" + self._name()
            return self._word_with(self._fields(), "variable", start, name)
        if char in _LETTERS:
            return Word(kind="name", text=self._name(), place=place)
        for sign in (":=", "=", "|", "(", ")", ","):
            if text.startswith(sign, start):
                self._at += len(sign)
                chain = self._fields() if sign == ")" else ()
                return Word(kind="sign", text=sign, chain=chain, place=place)
        raise TemplateError(f"template: :{place.split(':')[0]}: unexpected {char!r} in command")

    def _word_with(self, chain: tuple[str, ...], kind: str, start: int, value: Any = None) -> Word:
        """Make a word with fields: its place is that of the last one, as Go counts."""
        place = _place(self._text, self._at - len(chain[-1]) - 1 if chain else start)
        shown = self._text[start : self._at]
        return Word(kind=kind, text=shown, value=value, chain=chain, place=place)

    def _name(self) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in _NAME:
            self._at += 1
        return self._text[start : self._at]

    def _fields(self) -> tuple[str, ...]:
        fields = []
        while self._text[self._at : self._at + 1] == "." and (
            self._text[self._at + 1 : self._at + 2] in tuple(_LETTERS)
        ):
            self._at += 1
            fields.append(self._name())
        return tuple(fields)

    def _number(self, place: str) -> Word:
        start = self._at
        self._at += 1
        while self._at < len(self._text) and (
            self._text[self._at] in _NAME or self._text[self._at] in "."
        ):
            self._at += 1
        shown = self._text[start : self._at]
        try:
            value: float = float(shown) if "." in shown or "e" in shown else int(shown, 0)
        except ValueError:
            line = place.split(":")[0]
            raise TemplateError(f'template: :{line}: bad number syntax: "{shown}"') from None
        return Word(kind="text", text=shown, value=value, place=place)

    def _constant(self, quote: str, place: str) -> Any:
        """Read a text in quotes, or a character, which is a number."""
        start, line = self._at, place.split(":")[0]
        end = start + 1
        while end < len(self._text) and self._text[end] != quote:
            end += 2 if self._text[end] == "\\" and quote != "`" else 1
        if end >= len(self._text):
            kind = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}[
                quote
            ]
            raise TemplateError(f"template: :{line}: unterminated {kind}")
        self._at = end + 1
        inside = self._text[start + 1 : end]
        if quote == "`":
            return inside
        try:
            read = jsontext.parse(f'"{inside}"') if quote == '"' else ord(inside)
        except (ValueError, TypeError):
            raise TemplateError(
                f"template: :{line}: invalid syntax: {quote}{inside}{quote}"
            ) from None
        return read
