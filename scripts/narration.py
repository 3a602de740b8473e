"""Bring the catalogs of translated narration up to date with the docstrings they translate.

    python scripts/narration.py [--check] [LANG…]

There are two kinds of catalogs: of the steps' docstrings, and of what the scripts of
`explain --script` say beside them (`learn/script_words.py`). Adds an entry for each text that a
catalog lacks, with an empty translation; marks an entry as fuzzy whose English text has changed,
and keeps the text that was translated beside it; removes entries of texts that are gone. With
--check nothing is written: what is missing or stale is listed, and the exit status is 1 if there is
any.

See: https://www.gnu.org/software/gettext/manual/ "The Format of PO Files", "Fuzzy Entries".
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import polib

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from minicontainer.cli.client import send_request  # noqa: E402  (the path is set above)
from minicontainer.learn import narration, phrases, script_words  # noqa: E402

LEARN = ROOT / "minicontainer" / "learn"
HEADER = {"MIME-Version": "1.0", "Content-Type": "text/plain; charset=UTF-8",
          "Content-Transfer-Encoding": "8bit"}  # fmt: skip


def texts() -> dict[str, str]:
    """Give the English text of every step that a story can have, in their order, and phrases."""
    narration.know(send_request)
    told = {name: "\n".join(narration.reason_of(name)) for name in narration.known_steps()}
    return told | phrases.all_phrases()


KINDS = ((LEARN / "languages", texts), (LEARN / "script_languages", script_words.texts))


def wrong(catalog: Any, known: dict[str, str]) -> tuple[str, ...]:
    """List what is missing in a catalog, and what is stale, by name.

    Args:
        known: the English texts by their names.
    """
    entries = {entry.msgctxt: entry for entry in catalog}
    found = []
    for name, text in known.items():
        entry = entries.pop(name, None)
        if entry is None or not entry.msgstr:
            found.append(f"{name}: no translation")
        elif entry.msgid != text or entry.fuzzy:
            found.append(f"{name}: the English text has changed since it was translated")
    return (*found, *(f"{name}: there is no such step" for name in entries))


def updated(catalog: Any, known: dict[str, str]) -> Any:
    """Make a catalog that has all of the texts, in their order."""
    entries = {entry.msgctxt: entry for entry in catalog}
    made = polib.POFile(wrapwidth=100)
    made.metadata = {**HEADER, **catalog.metadata}
    for name, text in known.items():
        entry = entries.get(name) or polib.POEntry(msgctxt=name, msgid=text)
        if entry.msgid != text:
            if entry.msgstr and not entry.fuzzy:
                entry.previous_msgid = entry.msgid
                entry.flags.append("fuzzy")
            entry.msgid = text
        made.append(entry)
    return made


def main(words: list[str]) -> int:
    """Check or bring up to date the catalogs of some languages, or of all."""
    check = "--check" in words
    langs = [word for word in words if word != "--check"] or list(narration.languages()[1:])
    status = 0
    for lang, (directory, texts_of) in ((lang, kind) for lang in langs for kind in KINDS):
        path, known = directory / f"{lang}.po", texts_of()
        catalog = polib.pofile(str(path)) if path.exists() else polib.POFile()
        if not check:
            path.parent.mkdir(exist_ok=True)
            catalog = updated(catalog, known)
            catalog.metadata.setdefault("Language", lang)
            catalog.save(str(path))
        for line in wrong(catalog, known):
            sys.stderr.write(f"{directory.name}/{path.name}: {line}\n")
            status = 1
    return status if check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
