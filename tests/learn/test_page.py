"""The page of a recording, in a browser: keys, clicks, both languages, two sizes.

The page is driven as a reader drives it, by key events and mouse events of the browser itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.learn import browser
from tests.learn.browser import Browser

if TYPE_CHECKING:
    from tests.learn.conftest import Engine

SIZES = {"projector": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def kept(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a page, made of a start by the command."""
    directory = tmp_path_factory.mktemp("page")
    record, made = directory / "start.rec", directory / "start.html"
    engine("run", "--rm", "--net", "none", "--record", str(record), "busybox", "true")
    engine("replay", "--html", str(made), "--lang", "en", str(record))
    return made


@pytest.fixture(params=SIZES, scope="module")
def shown(kept: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Give the page in a browser, of each size."""
    program = browser.find()
    if program is None:
        pytest.skip("needs chromium")
    made = Browser(program, kept, SIZES[request.param])
    try:
        yield made
    finally:
        made.close()


def step(shown: Browser) -> str:
    """Read which step the page is at."""
    return str(shown.value("document.querySelector('#step').textContent"))


def go_to(shown: Browser, name: str) -> None:
    """Press the key until a step is there; the first of several processes is chance."""
    shown.press("Home")
    while step(shown) != name:
        assert place(shown)[0] < place(shown)[1], name
        shown.press("ArrowRight")


def place(shown: Browser) -> tuple[int, int]:
    """Read the step's number, and how many there are."""
    now, total = str(shown.value("document.querySelector('#place').textContent")).split(" / ")
    return int(now), int(total)


def test_keys_go_forwards_and_backwards(shown: Browser) -> None:
    """Arrows and space, to the ends and not beyond."""
    shown.press("Home")
    assert (step(shown), place(shown)[0]) == ("send-request", 1)
    shown.press("ArrowLeft")
    assert place(shown)[0] == 1
    shown.press("ArrowRight")
    shown.press(" ")
    assert place(shown)[0] == 3
    shown.press("ArrowLeft")
    assert place(shown)[0] == 2
    shown.press("End")
    assert place(shown)[0] == place(shown)[1]
    assert step(shown) == "discard-directory"


def test_a_click_opens_a_step_and_its_reason(shown: Browser) -> None:
    """A block in a lane leads to the step; a call opens to what it changed and why."""
    index = shown.value(
        "[...document.querySelectorAll('.block')].find((b) => b.title.endsWith('. set-hostname'))"
        ".dataset.index"
    )
    shown.click(f".block[data-index='{index}']")
    assert step(shown) == "set-hostname"
    assert "host name" in shown.value("document.querySelector('#why').textContent")
    shown.click("#calls summary")
    assert shown.value("document.querySelector('#calls details').open") is True
    opened = shown.value("document.querySelector('#calls pre').innerText")
    assert "$ hostname " in opened
    assert "init (pid " in opened


def test_the_language_changes(shown: Browser) -> None:
    """By key and by button, back and forth; the step stays."""
    shown.press("Home")
    shown.press("ArrowRight")
    before = step(shown)
    shown.press("l")
    assert shown.value("document.documentElement.lang") == "ru"
    assert "Клавиши" in shown.value("document.body.innerText")
    assert step(shown) == before
    assert (
        shown.value("/[\\u0430-\\u044f]{4}/.test(document.querySelector('#why').textContent)")
        is True
    )
    shown.click("#language")
    assert shown.value("document.documentElement.lang") == "en"


def test_the_engines_own_words_are_in_the_language(shown: Browser) -> None:
    """What it looked for, and whether that is here."""
    told = "document.querySelector('main').innerText"
    go_to(shown, "resolve-image")
    while "look for busybox" not in shown.value(told):  # the image is made first, as others speak
        assert place(shown)[0] < place(shown)[1]
        shown.press("ArrowRight")
    assert "image:busybox: here: sha256:" in shown.value(told)
    shown.press("l")
    assert "поиск busybox" in shown.value(told)
    assert "image:busybox: здесь: sha256:" in shown.value(told)
    shown.press("l")


def test_each_namespace_changes_by_itself(shown: Browser) -> None:
    """From one number to another: the call that forks init is opened."""
    go_to(shown, "fork-init")
    shown.click("#calls summary")
    opened = shown.value("document.querySelector('#calls pre').innerText")
    for kind in ("ipc", "uts", "net", "pid", "mnt"):
        assert len(re.findall(rf"changed: ns:{kind} \d+ → \d+\n", opened)) == 1


def test_objects_appear_and_go(shown: Browser) -> None:
    """Namespaces are there once init is forked, and go with the last process; so do mounts."""

    def told() -> str:
        return str(shown.value("document.querySelector('#objects').innerText"))

    shown.press("Home")
    assert "net" not in told()
    seen = {}
    while place(shown)[0] < place(shown)[1]:
        shown.press("ArrowRight")
        seen[step(shown)] = told()
    assert "/rootfs\n" in seen["mount-filesystems"]
    assert "/rootfs\n" not in seen["enter-rootfs"]  # it is / now
    assert "Namespaces" in seen["run-program"]
    assert "Mounts" in seen["run-program"]
    assert "Cgroups" in seen["run-program"]
    assert "Namespaces" not in seen["end-processes"]
    assert "Mounts" not in seen["end-processes"]
    assert "pids.max" not in seen["remove-cgroup"]
    assert "devices.allow" not in seen["remove-cgroup"]


def test_the_title_breaks_between_words(shown: Browser) -> None:
    """A line does not end within an option, at its hyphens."""
    heights = (
        "[...document.querySelectorAll('#command span')].map((e) => e.getClientRects().length)"
    )
    assert set(shown.value(heights)) == {1}


def test_only_a_start_is_called_one(shown: Browser, engine: Engine, tmp_path: Path) -> None:
    """Other commands are kept, too."""
    title = "document.querySelector('h1').innerText"
    assert str(shown.value(title)).startswith("A container's start: run ")
    kept, made = tmp_path / "update.rec", tmp_path / "update.html"
    identity = engine("run", "-d", "--net", "none", "busybox", "sleep", "1000").output.strip()
    engine("update", "--memory", "64m", "--record", str(kept), identity)
    engine("rm", "-f", identity)
    engine("replay", "--html", str(made), "--lang", "en", str(kept))
    program = browser.find()
    assert program is not None
    other = Browser(program, made)
    try:
        assert str(other.value(title)).startswith("minicontainer update ")
    finally:
        other.close()


def test_nothing_is_wider_than_the_window(shown: Browser) -> None:
    """At every step, in both languages: only the lanes scroll sideways, in their own box."""
    for _ in range(2):
        shown.press("Home")
        for _ in range(place(shown)[1]):
            wide = shown.value(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, step(shown)
            shown.press("ArrowRight")
        shown.press("l")


def test_the_page_asks_for_nothing_else(kept: Path) -> None:
    """No address of a network stands in it: it works where there is none."""
    text = kept.read_text()
    assert "http://" not in text
    assert "https://" not in text


def test_screenshots_are_pictures(shown: Browser, tmp_path: Path) -> None:
    """What the documentation shows is made like this."""
    shown.screenshot(tmp_path / "start.png")
    assert (tmp_path / "start.png").read_bytes().startswith(b"\x89PNG")
