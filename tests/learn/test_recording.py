"""A start kept in a file, read back, played, and written as a page."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.event import Event, written
from minicontainer.learn import page, recorder, recording, replay

EVENTS = (
    Event(seq=1, t=1_000_000, actor="engine", step="reserve-name", source="lifecycle.py:1"),
    Event(
        seq=2, t=2_000_000, actor="engine", step="reserve-name", call="mkdir", args=("/c", 0o755),
        result=0, object="cgroup:/c", shell="mkdir /c", source="lifecycle.py:1",
    ),
    Event(seq=3, t=3_000_000, actor="init", step="set-hostname", source="init.py:9"),
    Event(
        seq=4, t=3_500_000, actor="init", step="set-hostname", call="sethostname", args=("web", 3),
        result=0, object="uts:hostname", before="host", after="web", source="init.py:9",
    ),
)  # fmt: skip
ENGLISH = 'msgctxt "reserve-name"\nmsgid ""\n"Claim "\n"the name."\nmsgstr ""\n'
RUSSIAN = 'msgctxt "reserve-name"\nmsgid "Claim the name."\nmsgstr "Занять имя."\n'
CATALOGS = {"en": ENGLISH.encode(), "ru": RUSSIAN.encode()}


def recorded(path: Path, *events: Event) -> Path:
    """Record some events into a file."""
    with path.open("wb") as file:
        keeper = recorder.Recorder(file, "run true", CATALOGS.items)
        for event in events:
            keeper(event)
        keeper.finish()
    return path


@pytest.mark.parametrize("size", [40, 400, 4_000])
def test_events_are_kept_as_they_come(tmp_path: Path, size: int) -> None:
    """In blocks that end anywhere; the catalogs stand between them, or behind them."""
    lines = "".join(written(event) for event in EVENTS).encode()
    with (tmp_path / "r").open("wb") as file:
        keeper = recorder.Recorder(file, "run true", CATALOGS.items)
        for start in range(0, len(lines), size):
            keeper.keep(lines[start : start + size])
        keeper.finish()
    found = recording.read(str(tmp_path / "r"))
    assert [entry.event for entry in found.entries] == list(EVENTS)
    assert found.steps["reserve-name"] == {"en": "Claim the name.", "ru": "Занять имя."}


def test_reading_returns_what_was_recorded(tmp_path: Path) -> None:
    """Events, texts of the calls, reasons of the steps."""
    found = recording.read(str(recorded(tmp_path / "r", *EVENTS)))
    assert tuple(entry.event for entry in found.entries) == EVENTS
    assert [entry.text for entry in found.entries] == [
        "", 'mkdir("/c", 0755) = 0', "", 'sethostname("web", 3) = 0',
    ]  # fmt: skip
    assert found.steps["reserve-name"]["ru"] == "Занять имя."
    assert found.command == "run true"


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "\x1c", "a\rb", "a\nb", "\udcff"])
def test_a_command_may_hold_any_character(tmp_path: Path, text: str) -> None:
    """Also those that end a line elsewhere."""
    with (tmp_path / "r").open("wb") as file:
        keeper = recorder.Recorder(file, f"run echo {text}", CATALOGS.items)
        keeper(EVENTS[1].replace(args=(text, 0)))
        keeper.finish()
    found = recording.read(str(tmp_path / "r"))
    assert found.entries[0].event.args == (text, 0)
    assert found.command == f"run echo {text}"


@given(st.integers(min_value=0))
def test_a_recording_that_was_cut_off_is_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """Wherever it was cut: one line that says so, or that it is none."""
    path = recorded(tmp_path_factory.mktemp("cut") / "r", *EVENTS)
    whole = path.read_text()
    path.write_text(whole[: cut % (len(whole) - 1)])
    with pytest.raises(InvalidArgument, match=r"cut off|is not a recording"):
        recording.read(str(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a recording"),
        ("hello\n", "is not a recording"),
        ("[1]\n", "is not a recording"),
        ('{"recording": 99}\n', "is a recording of version 99"),
        ("{}\n", "is not a recording"),
        (
            '{"recording": 3}\n{"call": "move_mount", "result": 0}\n{"end": true, "events": 1}\n',
            "a call in it can't be read",
        ),
        *(
            (
                f'{{"recording": 3}}\n{{"catalogs": {catalogs}}}\n{{"end": true, "events": 0}}\n',
                "can't be read",
            )
            for catalogs in ("null", "[]", '{"en": 1}', '{"en": "msgctxt x\\nmsgid y"}')
        ),
        ("[" * 100_000, "is not a recording"),
        ('{"recording": 3}\n' + "[" * 100_000, "was cut off"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """By name, in one line."""
    (tmp_path / "r").write_text(text)
    with pytest.raises(InvalidArgument, match=says):
        recording.read(str(tmp_path / "r"))


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    """By the number that an editor shows, whatever stands before it; and the file, too."""
    path = recorded(tmp_path / "r", *EVENTS)
    first, *others = path.read_text().splitlines(keepends=True)
    catalogs = next(line for line in others if line.startswith('{"catalogs"'))
    events = [line for line in others if line != catalogs]
    wrong = events[1].replace('"seq":2', '"seq":"x"')
    path.write_text("".join((first, catalogs, events[0], wrong, *events[2:])))
    with pytest.raises(InvalidArgument, match=r"r is not a recording: line 4\.seq: expected"):
        recording.read(str(path))


def test_calls_are_read_where_errors_have_other_numbers(tmp_path: Path) -> None:
    """Errors, signals and devices are named by Linux's numbers, on any system."""
    calls = (
        EVENTS[1].replace(result=-1, errno=40),
        EVENTS[1].replace(call="pidfd_send_signal", args=(7, 9)),
        EVENTS[1].replace(call="mknodat", args=("/dev", "x", 0o20666, os.makedev(300, 1_000_000))),
    )
    found = recording.read(str(recorded(tmp_path / "r", *calls)))
    assert [entry.text for entry in found.entries] == [
        'mkdir("/c", 0755) = -1 ELOOP (Too many levels of symbolic links)',
        "pidfd_send_signal(7, SIGKILL) = 0",
        'mknodat("/dev", "x", S_IFCHR|0666, makedev(300, 1000000)) = 0',
    ]


def test_an_empty_file_and_a_directory_are_no_recordings(tmp_path: Path) -> None:
    """The message says what they are."""
    (tmp_path / "empty").touch()
    with pytest.raises(InvalidArgument, match="empty is not a recording: it is empty"):
        recording.read(str(tmp_path / "empty"))
    with pytest.raises(InvalidArgument, match="is not a recording: it is a directory"):
        recording.read(str(tmp_path))


def test_a_missing_recording_is_refused(tmp_path: Path) -> None:
    """With the way to make one."""
    with pytest.raises(NotFound, match="run --record"):
        recording.read(str(tmp_path / "none"))


def test_it_plays_in_its_order(tmp_path: Path) -> None:
    """Each scene once, with its reason in the language, its calls and what they changed."""
    out = io.StringIO()
    found = recording.read(str(recorded(tmp_path / "r", *EVENTS)))
    replay.play(found, out, "ru", slower=0)
    told = out.getvalue()
    assert told.index("1/2. reserve-name") < told.index("2/2. set-hostname")
    assert "Занять имя." in told
    assert "uts:hostname: host → web" in told
    assert max(map(len, told.splitlines())) <= 80


def test_a_scene_that_fits_is_told_whole(tmp_path: Path) -> None:
    """With each namespace; of one that does not fit, each call has a line."""
    text = " ".join(f"{kind}:[{{}}]" for kind in ("ipc", "uts", "net"))
    fork = EVENTS[1].replace(
        call="clone3", args=("|".join(f"CLONE_NEW{name}" for name in ("IPC", "UTS", "NET") * 3),),
        object="ns:ipc,uts,net", before=text.format(1, 2, 3), after=text.format(4, 5, 6),
    )  # fmt: skip
    told = io.StringIO()
    replay.play(recording.read(str(recorded(tmp_path / "r", fork))), told, slower=0)
    assert "…" not in told.getvalue()
    assert "     ns:uts: 2 → 5\n     ns:net: 3 → 6\n" in told.getvalue()
    many = io.StringIO()
    replay.play(recording.read(str(recorded(tmp_path / "r", *[fork] * 9))), many, slower=0)
    assert len(many.getvalue().splitlines()) < 24
    assert "CLO…" in many.getvalue() or "…\n" in many.getvalue()
    assert max(map(len, many.getvalue().splitlines())) <= 80


def test_no_control_character_of_a_recording_reaches_the_terminal(tmp_path: Path) -> None:
    """The file may be somebody else's."""
    nasty = EVENTS[1].replace(step="\x1b[31mred", actor="\x9b1m", object="\x1b]0;x\x07")
    told = io.StringIO()
    replay.play(recording.read(str(recorded(tmp_path / "r", nasty))), told, slower=0)
    assert "1/1. \\x1b[31mred" in told.getvalue()
    assert not {"\x1b", "\x9b", "\x07"} & set(told.getvalue())


def test_keys_turn_the_pages_both_ways(tmp_path: Path) -> None:
    """Forwards, backwards, to the ends and not beyond, and out; also on a Russian keyboard."""
    out = io.StringIO()
    keys = iter(("т", " ", "и", "\x1b[F", "\x1b[H", "x", "й", "never read"))
    found = recording.read(str(recorded(tmp_path / "r", *EVENTS)))
    replay.turn_pages(found, out, lambda: next(keys))
    shown = [
        screen.splitlines()[0].split(".")[0] for screen in out.getvalue().split("\x1b[2J\x1b[H")[1:]
    ]
    assert shown == ["1/2", "2/2", "2/2", "1/2", "2/2", "1/2", "1/2"]
    assert next(keys) == "never read"


def test_a_read_may_give_several_keys() -> None:
    """Of one that is held down; each counts. A closed terminal gives none."""
    reads, writes = os.pipe()
    try:
        os.write(writes, "  \x1b[C\x1bOCт\x1b[1~q".encode())
        os.close(writes)
        read_key = replay.keyboard(reads)
        keys = [read_key() for _ in range(8)]
    finally:
        os.close(reads)
    assert keys == [" ", " ", "\x1b[C", "\x1bOC", "т", "\x1b[1~", "q", ""]


def test_the_page_holds_the_recording_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    """One file: no address of another one in it; a text that ends a script does no harm."""
    nasty = EVENTS[1].replace(args=("</script><b>", 0))
    found = recording.read(str(recorded(tmp_path / "r", nasty)))
    page.write_page(found, str(tmp_path / "p.html"), "ru")
    text = (tmp_path / "p.html").read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "src=" not in text
    data = text.partition('<script id="recording" type="application/json">')[2]
    held = json.loads(data.partition("</script>")[0])
    assert held["lang"] == "ru"
    assert held["entries"][0]["event"]["args"][0] == "</script><b>"


def test_a_file_that_is_full_disturbs_nobody() -> None:
    """Who records is told at the end; who keeps an event is not, nor does it come late."""
    full = open("/dev/full", "wb", buffering=100)  # noqa: SIM115  # the recorder closes it
    keeper = recorder.Recorder(full, "run true", CATALOGS.items)
    keeper(EVENTS[0])
    keeper.keep(written(EVENTS[1]).encode())
    failed = keeper.finish()
    assert failed is not None
    assert failed.errno == errno.ENOSPC
    assert full.closed
    keeper.keep(written(EVENTS[1]).encode())
