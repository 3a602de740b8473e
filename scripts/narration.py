"""Bring the catalogs of translated narration up to date with the docstrings they translate.

    python scripts/narration.py [--check] [LANG…]

There are three kinds of catalogs: of the steps' docstrings; of what the scripts of `explain
--script` say beside them (`learn/script_words.py`); of the words around both (`learn/words.py`).
Adds an entry for each text that a catalog lacks, with an empty translation; marks an entry as fuzzy
whose English text has changed, and keeps the text that was translated beside it; removes entries of
texts that are gone. With --check nothing is written: what is missing or stale is listed, and the
exit status is 1 if there is any.

See: https://www.gnu.org/software/gettext/manual/ "The Format of PO Files", "Fuzzy Entries".
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import polib

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from minicontainer import steps  # noqa: E402  (the path is set above)
from minicontainer.cli.client import send_request  # noqa: E402  (the path is set above)
from minicontainer.learn import narrated, narration, script_words  # noqa: E402

LEARN = ROOT / "minicontainer" / "learn"
TEMPLATE = LEARN / "languages" / "steps.pot"
HEADER = {"MIME-Version": "1.0", "Content-Type": "text/plain; charset=UTF-8",
          "Content-Transfer-Encoding": "8bit"}  # fmt: skip


def texts() -> dict[str, str]:
    """Give the English text of every step that a story can have, in their order."""
    known = narrated.all_steps() | {steps.step_name(send_request): send_request}
    return {name: narrated.reason_in(step) for name, step in known.items()}


def template() -> str:
    """Write the English texts of the steps: narration reads them from there."""
    made = polib.POFile(wrapwidth=100)
    made.metadata = HEADER
    made.extend(polib.POEntry(msgctxt=name, msgid=text) for name, text in texts().items())
    return f"{made}\n"


# Where the words stand that `learn.words` translates: arguments of these, and what is raised.
SOURCES = ("learn/calls.py", "learn/explain.py", "learn/narration.py", "learn/predictions.py",
           "learn/recording.py", "learn/replay.py", "engine/measures.py", "engine/parts.py",
           "engine/probes.py", "cli/replay.py", "cli/stepping.py", "cli/stories.py")  # fmt: skip
TAKERS = ("word", "some", "_tell", "_refused", "Exit", "NotFound", "InvalidArgument")
FINDERS = ("engine/measures.py", "engine/probes.py")
VARIABLES = ("told", "hint", "warning", "message", "question", "wrong", "behind", "ended", "never",
             "CONTAINED", "NEEDED", "HARMFUL", "SHOWN_AS")  # fmt: skip
# What a client says before every answer of an engine; what the recipe says of a step.
OTHERS = ("Error response from daemon", "left out, as --without asks",
          "the engine closed the connection in the middle of an answer",
          "the engine ended before the container did",
          "look for {}", "unpack {}", "add {}",
          "here", "not here", "a registry must be asked")  # fmt: skip


def pieces() -> dict[str, str]:
    """Give the pieces of lines that commands print, in the order of the source."""
    found = list(OTHERS)
    for name in SOURCES:
        tree = ast.parse((LEARN.parent / name).read_text())
        for node in ast.walk(tree):
            found += _literals(node, name)
    told = (piece for text in found for piece in text.split(": "))
    return {piece: piece for piece in told if _is_language(piece)}


def _literals(node: ast.AST, name: str) -> list[str]:
    """Give the texts in a node that are shown to a user."""
    if isinstance(node, ast.Call) and _name(node.func) in TAKERS:
        args = node.args[1:3] if _name(node.func) == "_tell" else node.args  # not the command
        return [text for arg in args for text in _texts_in(arg)]
    if isinstance(node, ast.keyword) and node.arg in ("what", "effect"):
        return _texts_in(node.value)
    if isinstance(node, ast.Return) and node.value and name in FINDERS:
        return _texts_in(node.value)
    if isinstance(node, ast.Assign) and _name(node.targets[0]) in VARIABLES:
        if isinstance(node.value, ast.Dict):
            return [text for value in node.value.values for text in _texts_in(value)]
        return _texts_in(node.value)
    return []


def _name(node: ast.expr) -> str:
    return str(getattr(node, "id", "") or getattr(node, "attr", ""))


def _texts_in(node: ast.expr) -> list[str]:
    """Give a literal, with {} for what is filled in; of a choice, each."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        parts = (getattr(value, "value", "") if isinstance(value, ast.Constant) else "{}"
                 for value in node.values)  # fmt: skip
        return ["".join(map(str, parts))]
    if isinstance(node, ast.IfExp):
        return [*_texts_in(node.body), *_texts_in(node.orelse)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in _texts_in(value)]
    return _texts_in(node.left) if isinstance(node, ast.BinOp) else []


def _is_language(piece: str) -> bool:
    """Say whether there is anything to translate: more than options, paths and values."""
    rest = re.sub(r"\{\}|--[a-z-]+|/[\w/]+", "", piece)
    return bool(re.search(r"[a-z]{2}", rest)) and not re.fullmatch(r"\w+[._]\w+", piece)


KINDS = (
    (LEARN / "languages", texts),
    (LEARN / "script_languages", script_words.texts),
    (LEARN / "word_languages", pieces),
)


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
    if not check:
        TEMPLATE.write_text(template())
    elif TEMPLATE.read_text() != template():
        sys.stderr.write(f"{TEMPLATE.name}: a docstring has changed: run scripts/narration.py\n")
        status = 1
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
