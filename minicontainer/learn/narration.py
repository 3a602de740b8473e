"""What a step does and why, in the reader's language.

English is the docstring of the function that takes the step. `languages/steps.pot` is a copy of
them all, made by `scripts/narration.py`: a client that tells a story does not import the engine.
Every other language has a catalog, `languages/LANG.po`, in the format of gettext: `msgctxt` is the
step's name, `msgid` the docstring that was translated, `msgstr` the translation. When the docstring
has changed since, the translation is stale: then the reader gets the English text, which is true.

See: https://www.gnu.org/software/gettext/manual/ "The Format of PO Files".
"""

from __future__ import annotations

import posix

from minicontainer.contexts import suppress
from minicontainer.learn import words
from minicontainer.learn.words import word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_CATALOGS = f"{__file__.rpartition('/')[0]}/languages"
_ENGLISH = f"{_CATALOGS}/steps.pot"


def known_steps() -> tuple[str, ...]:
    """Name the steps that a story can have, the client's included."""
    return tuple(words.read(_ENGLISH))


def languages() -> tuple[str, ...]:
    """List the languages that there are: English, and those with a catalog."""
    found: list[str] = []
    with suppress(FileNotFoundError):
        found = posix.listdir(_CATALOGS)
    return ("en", *sorted(name.removesuffix(".po") for name in found if name.endswith(".po")))


def reason_of(name: str, lang: str = "en") -> list[str]:
    """Give the lines that say what a step does and why; [] for no step.

    Args:
        lang: the language; English where its catalog lacks the step, or has an older text of it.
    """
    text, _ = words.read(_ENGLISH).get(name, ("", ""))
    return translated(name, text, lang).splitlines()


def translated(name: str, text: str, lang: str, catalogs: str = _CATALOGS) -> str:
    """Give the translation of a text; the text itself where the catalog has none of it.

    Args:
        name: of the text, in the catalog.
        catalogs: the directory of the catalogs.
    """
    return text if lang == "en" else _found(words.catalog(lang, catalogs), name, text)


def _found(catalog: Mapping[str, tuple[str, str]], name: str, text: str) -> str:
    msgid, msgstr = catalog.get(name, ("", ""))
    return msgstr if msgid == text and msgstr else text


def summary_of(name: str, lang: str = "en") -> str:
    """Give the first sentences of what a step does: one paragraph, on one line."""
    lines = reason_of(name, lang)
    return " ".join(lines[: lines.index("")] if "" in lines else lines)


def sources() -> Iterator[tuple[str, bytes]]:
    """Give each language and its catalog as it is: for a reader elsewhere, who uses `texts`."""
    for lang in languages():
        yield lang, words.source(_ENGLISH if lang == "en" else f"{_CATALOGS}/{lang}.po")


def texts(catalogs: Mapping[str, str], names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Give what steps do and why: by name, then by language.

    Args:
        catalogs: by language, as `sources` gave them.
    Raises:
        ValueError: one of them is no catalog.
    """
    read = {lang: words.parsed(text) for lang, text in catalogs.items()}
    english = read.pop("en", {})
    found = {}
    for name in names:
        text, _ = english.get(name, ("", ""))
        found[name] = {"en": text} | {lang: _found(read[lang], name, text) for lang in read}
    return found


def moment(t: int, lang: str) -> str:
    """Say when something happened.

    Args:
        t: in nanoseconds since the story began; less than 0 for what was done ahead.
    """
    if t < 0:
        return word("ahead, {} s before", lang, f"{-t / 1e9:.1f}")
    return word("at {} ms", lang, f"{t / 1e6:.1f}")
