"""Words of a Dockerfile line: split at blanks, quotes kept together, variables put in.

See: Dockerfile reference, "Environment replacement".
"""

from __future__ import annotations

import re

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#]")
_BRACED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+?])((?:[^{}]|\$\{[^}]*\})*))?\}")


def environment_of(entries: Iterable[str] | None) -> dict[str, str]:
    """Read `NAME=value` entries as a dictionary."""
    return dict(entry.partition("=")[::2] for entry in entries or ())


def split(text: str) -> list[str]:
    """Split at blanks outside quotes; quotes and backslashes stay, for `expand` to take."""
    words: list[str] = []
    word, quote, index = "", "", 0
    while index < len(text):
        char = text[index]
        if char == "\\" and quote != "'" and index + 1 < len(text):
            word += text[index : index + 2]
            index += 2
            continue
        if char in "\"'" and quote in ("", char):
            quote = "" if quote else char
        if char.isspace() and not quote:
            if word:
                words.append(word)
            word = ""
        else:
            word += char
        index += 1
    if word:
        words.append(word)
    return words


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Take quotes and backslashes from a word, and put variables in.

    Raises:
        InvalidArgument: a quote or a brace is not closed.
    """
    made, quote, index = "", "", 0
    while index < len(word):
        char = word[index]
        if char == "\\" and quote != "'" and index + 1 < len(word):
            following = word[index + 1]
            # inside double quotes a backslash stands for itself before most characters
            made += following if not quote or following in '"$\\' else char + following
            index += 2
        elif char in "\"'" and quote in ("", char):
            quote = "" if quote else char
            index += 1
        elif char == "$" and quote != "'":
            value, index = _variable(word, index + 1, variables)
            made += value
        else:
            made += char
            index += 1
    if quote:
        raise InvalidArgument(f"unexpected end of statement while looking for matching {quote}")
    return made


def _variable(word: str, at: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """Give the value of the variable whose name begins at *at*, and where it ends."""
    if match := _NAME.match(word, at):
        return variables.get(match[0], ""), match.end()
    if not word.startswith("{", at):
        return "$", at
    match = _BRACED.match(word, at)
    if match is None:
        raise InvalidArgument(f"syntax error: missing '}}' or bad substitution in {word!r}")
    name, modifier, other = match.groups()
    value = variables.get(name, "")
    if modifier == "-" and not value:
        value = expand(other, variables)
    elif modifier == "+":
        value = expand(other, variables) if value else ""
    elif modifier == "?" and not value:
        raise InvalidArgument(f"{name}: {other or 'is not set'}")
    return value, match.end()
