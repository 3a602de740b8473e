"""The translated narration: complete, of the present English text, and used."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polib
import pytest

from minicontainer.learn import words
from tests.conftest import CHECKOUT

if TYPE_CHECKING:
    from tests.learn.conftest import Engine


def the_script() -> Any:
    """Give scripts/narration.py as a module."""
    spec = importlib.util.spec_from_file_location("scripts_narration", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


SCRIPT = CHECKOUT / "scripts" / "narration.py"
RUSSIAN = CHECKOUT / "minicontainer" / "learn" / "languages" / "ru.po"


def test_no_translation_is_missing_or_stale() -> None:
    """After a change of a step's docstring: run scripts/narration.py, translate the new text."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_missing_and_stale_entries_are_found() -> None:
    """Each in a line; an update marks what is stale, and the reader gets the English text."""
    script = the_script()
    catalog = polib.pofile(str(RUSSIAN))
    entries = {entry.msgctxt: entry for entry in catalog}
    entries["set-hostname"].msgid = "Something older."
    entries["become-user"].msgstr = ""
    catalog.append(polib.POEntry(msgctxt="no-step", msgid="x", msgstr="y"))
    catalog.remove(entries["mount-rootfs"])
    expected = {
        "set-hostname: the English text has changed since it was translated",
        "become-user: no translation",
        "mount-rootfs: no translation",
        "no-step: there is no such step",
    }
    assert set(script.wrong(catalog, script.texts())) == expected
    made = {entry.msgctxt: entry for entry in script.updated(catalog, script.texts())}
    assert made["set-hostname"].fuzzy
    assert made["set-hostname"].previous_msgid == "Something older."
    assert made["mount-rootfs"].msgstr == ""
    assert "no-step" not in made
    again = script.updated(script.updated(catalog, script.texts()), script.texts())
    assert [str(entry) for entry in again] == [str(entry) for entry in made.values()]


@pytest.mark.parametrize("entry", polib.pofile(str(RUSSIAN)), ids=lambda entry: entry.msgctxt)
def test_a_translation_keeps_what_is_not_english(entry: Any) -> None:
    """Manual pages, CVEs, capabilities stand in both; the text is Russian; no line is long."""
    pattern = r"\b\w+\(\d\)|CVE-[\d-]+|\bCAP_\w+"
    assert set(re.findall(pattern, entry.msgid)) == set(re.findall(pattern, entry.msgstr))
    assert re.search("[\u0430-\u044f]{4}", entry.msgstr)
    assert max(map(len, entry.msgstr.splitlines())) <= 76
    assert entry.msgstr.count("\n\n") == entry.msgid.count("\n\n")


def test_the_locale_chooses_the_language() -> None:
    """As gettext reads it; an unknown language is English."""
    for environ, lang in (
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LANG": "ru_RU.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_MESSAGES": "ru"}, "ru"),
        ({"LANG": "xx_XX"}, "en"),
        ({}, "en"),
    ):
        assert words.language(environ) == lang


def test_a_run_is_told_in_russian(engine: Engine, tmp_path: Path) -> None:
    """By option and by locale, in all three levels; a recording has both languages."""
    run = ("run", "--rm", "--net", "none")
    sentence = "Задать имя узла в пространстве имён UTS контейнера."
    assert sentence in engine(*run, "--explain=full", "--lang", "ru", "busybox", "true").errors
    told = engine(*run, "--explain=calls", "busybox", "true", lang="ru_RU.UTF-8").errors
    assert sentence in told
    assert re.search(r"\[engine, \w+\.py:\d+, на [\d.]+ мс\]", told)
    assert re.search(r"\[monitor, \w+\.py:\d+, за [\d.]+ \u0441 до начала\]", told)
    assert not re.search(r"\[\w+, .*\b(at|ahead|before)\b", told)
    assert max(map(len, told.splitlines())) <= 80
    kept = tmp_path / "kept"
    engine(*run, "--record", str(kept), "busybox", "true")
    replayed = engine("replay", "--lang", "ru", str(kept)).output
    assert sentence in replayed
    assert "   > поиск busybox\n     image:busybox: здесь: sha256:" in replayed
    assert "(возвращается, " in replayed
    assert sentence not in engine("replay", str(kept)).output
    errors = engine(*run, "--explain", "--lang", "xx", "busybox", "true", status=125).errors
    assert errors == "minicontainer: --lang xx: there are en, ru\n"


WORDS = CHECKOUT / "minicontainer" / "learn" / "word_languages" / "ru.po"


@pytest.mark.parametrize("entry", polib.pofile(str(WORDS)), ids=lambda entry: entry.msgid)
def test_a_translated_piece_has_the_same_places(entry: Any) -> None:
    """As many values as the English one, and the kernel's own names."""
    pattern = r"\{\}|--[a-z-]+|/\w[\w/]+|\bSIG\w+|\w+\(\d\)"
    assert sorted(re.findall(pattern, entry.msgid)) == sorted(re.findall(pattern, entry.msgstr))


def test_the_pieces_are_found_in_the_source() -> None:
    """Arguments, what is returned, raised, kept in tables; also of a text with values in it."""
    found = the_script().pieces()
    assert {
        "look yourself", "links of the host", "no limit but the host's own", "did you mean {}?",
        "the container's mounts would appear on the host", "{} was cut off", "kernel log",
        "the same in {} more hierarchies", "new files can be written by everybody",
    } <= set(found)  # fmt: skip
    catalog = polib.pofile(str(WORDS))
    catalog.remove(next(entry for entry in catalog if entry.msgid == "look yourself"))
    assert the_script().wrong(catalog, found) == ("look yourself: no translation",)


def test_no_module_with_pieces_is_forgotten() -> None:
    """What `word` translates stands in a file that the script reads."""
    package = CHECKOUT / "minicontainer"
    pattern = r"from minicontainer\.learn\.words import .*\bword\b"
    using = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(pattern, path.read_text())
    }
    assert "learn/narration.py" in using
    assert using <= set(the_script().SOURCES)


def test_lines_are_translated_by_their_pieces() -> None:
    """With counts and values; what has no translation stays."""
    for line, russian in (
        ("links: links of the host (2): lo, eth0",
         "интерфейсы: сетевые интерфейсы хоста (2): lo, eth0"),
        ("--without pidd: there is no such part: did you mean pid?",
         "--without pidd: такой части нет: возможно, pid?"),
        ("No such container: web", "No such container: web"),
        ("kept was cut off: its last line is missing: record it again",
         "kept — оборванная запись: нет последней строки: запишите заново"),
    ):  # fmt: skip
        assert words.translated(line, "ru") == russian
        assert words.translated(line, "en") == line


def test_the_report_and_the_errors_are_in_russian(engine: Engine, tmp_path: Path) -> None:
    """All that a command says beside the program's output, in at most 80 columns."""
    run = ("run", "--rm", "--net", "none", "--lang", "ru")
    told = engine(*run, "--without", "uts", "busybox", "true").errors
    assert f"uts: имя хоста: имя хоста: {os.uname().nodename}" in told
    assert "посмотреть самому: hostname" in told
    refused = engine(*run, "--without", "isolate-mounts", "busybox", "true", status=125).errors
    assert "отказано: точки монтирования контейнера появились бы на хосте" in refused
    missing = engine("replay", "--lang", "ru", str(tmp_path / "none"), status=125).errors
    assert missing.startswith(f"minicontainer: записи {tmp_path}/none нет: ")
