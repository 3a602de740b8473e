"""The connecting words around the narration, in the reader's language.

A line that a command prints is made of pieces with ": " between them, such as `links of the host
(2): lo, eth0`. `word_languages/LANG.po` has the pieces, with {} where a value stands, as English
and as translated text. What it lacks stays as it is: names, numbers, the kernel's own words.
`scripts/narration.py` finds the pieces in the source, so that none is missing and none is stale.

See: `narration` for the texts of the steps.
"""

from __future__ import annotations

import os
import re

from minicontainer import jsontext
from minicontainer.contexts import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_CATALOGS = os.path.join(os.path.dirname(__file__), "word_languages")
_COUNT = re.compile(r"(.*) \((\d+)\)")  # links of the host (2)


def language(environ: Mapping[str, str]) -> str:
    """Choose the reader's language by the locale; English where there is no catalog for it."""
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    asked = locale.partition("_")[0].partition(".")[0]
    return asked if os.path.exists(os.path.join(_CATALOGS, f"{asked}.po")) else "en"


def word(text: str, lang: str, *values: object) -> str:
    """Give a text in a language, with values in the places of {}.

    Args:
        text: in English; it is written out here, so that the scripts find it.
    """
    shown = ": ".join(_pieces(lang).get(piece, piece) for piece in text.split(": "))
    return shown.format(*values)


def translated(line: str, lang: str) -> str:
    """Translate the pieces of a line that was made elsewhere: by the engine, by an error."""
    if lang == "en":
        return line
    return ": ".join(_piece(piece, lang) for piece in line.split(": "))


def _piece(piece: str, lang: str) -> str:
    known = _pieces(lang)
    if piece in known:
        return known[piece]
    if counted := _COUNT.fullmatch(piece):
        return f"{_piece(counted[1], lang)} ({counted[2]})"
    for pattern, text in known.items():
        if "{}" in pattern and (found := _matcher(pattern).fullmatch(piece)):
            return text.format(*found.groups())
    return piece


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile("(.+)".join(map(re.escape, pattern.split("{}"))))


def _pieces(lang: str) -> dict[str, str]:
    if lang == "en":
        return {}
    return {english: text for english, text in catalog(lang, _CATALOGS).values() if text}


def catalog(lang: str, directory: str) -> dict[str, tuple[str, str]]:
    """Read the catalog of a language: by name, the text that was translated and its translation."""
    return read(os.path.join(directory, f"{lang}.po"))


_loaded: dict[str, dict[str, tuple[str, str]]] = {}


def read(path: str) -> dict[str, tuple[str, str]]:
    """Read a catalog once; a missing one is empty, and what is marked as fuzzy is left out.

    polib, which writes these files, takes 80 ms for one: a story would begin so much later.
    """
    if path not in _loaded:
        text = ""
        with suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
            text = file.read()
        entries = (
            _entry(block) for block in text.split("\n\n") if "\n#, fuzzy" not in f"\n{block}"
        )
        _loaded[path] = {
            fields["msgctxt"]: (fields["msgid"], fields.get("msgstr", ""))
            for fields in entries
            if "msgctxt" in fields
        }
    return _loaded[path]


def _entry(block: str) -> dict[str, str]:
    """Read the fields of one entry; each is one quoted text, or several that follow one another."""
    fields: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if line.startswith("#"):
            continue
        word, _, quoted = line.partition(" ") if line[0] != '"' else ("", "", line)
        name = word or name
        fields[name] = fields.get(name, "") + jsontext.parse(quoted)
    return fields
