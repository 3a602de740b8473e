"""The connecting words around the narration, in the reader's language.

A line that a command prints is made of pieces with ": " between them, such as `links of the host
(2): lo, eth0`. `word_languages/LANG.po` has the pieces, with {} where a value stands, as English
and as translated text. What it lacks stays as it is: names, numbers, the kernel's own words.
`scripts/narration.py` finds the pieces in the source, so that none is missing and none is stale.

See: `narration` for the texts of the steps.
"""

from __future__ import annotations

import posix

from minicontainer import jsontext
from minicontainer.contexts import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_CATALOGS = f"{__file__.rpartition('/')[0]}/word_languages"
_COUNT = r"(.*) \((\d+)\)"  # links of the host (2)


def language(environ: Mapping[str, str]) -> str:
    """Choose the reader's language by the locale; English where there is no catalog for it."""
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    asked = locale.partition("_")[0].partition(".")[0]
    return asked if f"{asked}.po" in posix.listdir(_CATALOGS) else "en"


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
    import re  # here: 3 ms, and English does without

    if counted := re.fullmatch(_COUNT, piece):
        return f"{_piece(counted[1], lang)} ({counted[2]})"
    for pattern, text in known.items():
        matcher = "(.+)".join(map(re.escape, pattern.split("{}")))
        if "{}" in pattern and (found := re.fullmatch(matcher, piece)):
            return text.format(*found.groups())
    return piece


def _pieces(lang: str) -> dict[str, str]:
    if lang == "en":
        return {}
    return {english: text for english, text in catalog(lang, _CATALOGS).values() if text}


def catalog(lang: str, directory: str) -> dict[str, tuple[str, str]]:
    """Read the catalog of a language: by name, the text that was translated and its translation."""
    return read(f"{directory}/{lang}.po")


_loaded: dict[str, dict[str, tuple[str, str]]] = {}


def read(path: str) -> dict[str, tuple[str, str]]:
    """Read a catalog once; a missing one is empty, and what is marked as fuzzy is left out.

    polib, which writes these files, takes 80 ms for one: a story would begin so much later.
    """
    if path not in _loaded:
        _loaded[path] = parsed(source(path).decode())
    return _loaded[path]


def source(path: str) -> bytes:
    """Read a catalog as it is; a missing one is empty."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read()
    return b""


def parsed(text: str) -> dict[str, tuple[str, str]]:
    """Read the fields of a catalog: quoted texts, in one or in several lines that follow.

    Raises:
        ValueError: a field is no quoted text.
    """
    quoted: list[str] = []
    for block in text.split("\n\n"):
        comments, found, fields = f"\n{block}".partition("\nmsgctxt ")
        if found and "\n#, fuzzy" not in comments:
            name, _, texts = fields.partition("\nmsgid ")
            msgid, _, msgstr = texts.partition("\nmsgstr ")
            quoted += name, msgid, msgstr or '""'
    # all at once: to parse each by itself takes three times as long
    read: list[str] = jsontext.parse(f"[{','.join(quoted)}]".replace('"\n"', ""))
    return {name: (read[i + 1], read[i + 2]) for i, name in enumerate(read) if i % 3 == 0}
