"""The commands of docs/tutorials/see-through.md, typed as they stand there, in both languages."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts import pictures
from tests.conftest import CHECKOUT, PATIENCE_S, command, wait_until
from tests.terminal import Terminal

if TYPE_CHECKING:
    from tests.learn.conftest import Engine

TUTORIALS = CHECKOUT / "docs" / "tutorials"
PAGES = {"en": TUTORIALS / "see-through.md", "ru": TUTORIALS / "see-through.ru.md"}
# What the reader is promised to see, by a word of the command.
SEEN = {
    "--explain=steps": r"hello[\s\S]*1\. send-request[\s\S]*\. run-program ",
    "isolate-mounts": r"mount --make-rprivate /",
    "enter-rootfs": r"pivot_root",
    "drop-bounding-set": r"drop-bounding-set[\s\S]*become-user[\s\S]*set-capabilities",
    "replay --lang en start.rec": r"1/\d+\. send-request",
    "replay --lang ru start.rec": r"1/\d+\. send-request",
    "diff host web": r"NAMESPACES[\s\S]*LIMITS[\s\S]*67108864[\s\S]*CAPABILITIES",
    "--without pid": r"PID +USER[\s\S]* minicontainer [\s\S]*processes of the\s+host\s+\(\d+\)",
    "--without memory": r"no limit but the host's own",
    "--without seccomp": r"Seccomp:\s+0",
    "--without user": r"0 +0 +4294967295",
    "sh by-hand.sh": r"PID +USER[\s\S]* 1 root +ps\n$",
    "compare --with runc": r"CAPABILITIES   \(\d+ the same\)[\s\S]*of them documented",
}  # fmt: skip


def commands(lang: str, kind: str = "sh") -> list[str]:
    """Give the lines of the page's shell blocks; "sh terminal": of those with a prompt."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", PAGES[lang].read_text(), re.S)
    return [line for block in blocks for line in block.splitlines()]


def test_both_pages_have_the_same_commands() -> None:
    """But for the language that they ask for."""
    for kind in ("sh", "sh terminal"):
        russian = [line.replace("--lang ru", "--lang en") for line in commands("ru", kind)]
        assert russian == commands("en", kind)


def follows(engine: Engine, terminal: Terminal) -> bool:
    """Start a container, and say whether the terminal shows its first process at work."""
    engine("run", "--rm", "--net", "none", "busybox", "true")
    terminal.read()
    return bool(re.search(r"^[0-9a-f]{12} init +\d+  isolate-mounts ", terminal.seen, re.M))


def programs_of(engine: Engine, tmp_path: Path) -> Path:
    """Make a directory of the programs that the pages name, for this engine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, line in (
        ("sudo", '"$@"'),
        ("minicontainer", f'{" ".join(engine.words())} "$@"'),
        ("minicontainer-oci", f'{" ".join(command("minicontainer-oci"))} "$@"'),
    ):
        (programs / name).write_text(f"#!/bin/sh\nexec {line}\n")
        (programs / name).chmod(0o755)
    return programs


@pytest.mark.parametrize("lang", PAGES)
def test_the_commands_that_wait_at_a_prompt(engine: Engine, tmp_path: Path, lang: str) -> None:
    """What the page tells to type and to look at, with a second terminal; then all is undone."""
    path = f"PATH={programs_of(engine, tmp_path)}:{os.environ['PATH']}"
    followed, stepped, predicted = commands(lang, "sh terminal")
    terminal = Terminal(["env", path, "sh", "-c", followed])
    wait_until(lambda: follows(engine, terminal), "the events of a start")
    terminal.type("\x03")
    assert terminal.end() == -signal.SIGINT
    assert not terminal.close()
    terminal = Terminal(["env", path, "sh", "-c", stepped])
    look = re.findall("# (findmnt .*?)\r", terminal.expect("isolate-mounts> "))[0]
    assert "Created" in engine("ps", "-a").output
    subprocess.run(["sh", "-c", look], check=True, capture_output=True)
    terminal.type("\r")
    terminal.expect("mount-rootfs> ")
    shown = subprocess.run(["sh", "-c", look], check=True, capture_output=True, text=True)
    assert "shared" not in shown.stdout
    terminal.type("enter-rootfs\r")
    root = re.findall("# ls (.*?)\r", terminal.expect("enter-rootfs> "))[0]
    assert os.path.samestat(os.stat(root), os.stat("/"))
    terminal.type("\r")
    terminal.expect("enter-directory> ")
    assert not os.path.samestat(os.stat(root), os.stat("/"))
    terminal.type("q\r")
    assert terminal.end() == 130
    assert not terminal.close()
    terminal = Terminal(["env", path, "sh", "-c", predicted])
    terminal.expect("\n? ")
    terminal.type("d\r")
    terminal.expect("set-capabilities> ")
    terminal.type("q\r")
    assert terminal.end() == 130
    assert not terminal.close()
    assert engine("ps", "-aq").output == ""


@pytest.mark.parametrize("lang", PAGES)
def test_the_page_holds_what_it_promises(engine: Engine, tmp_path: Path, lang: str) -> None:
    """Each command ends well, and shows what the text says about it."""
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed: it is compared with")
    programs = programs_of(engine, tmp_path)
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    untested = set(SEEN)
    for line in commands(lang):
        done = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        for word in [word for word in SEEN if word in line]:
            untested.discard(word)
            assert re.search(SEEN[word], done.stdout + done.stderr), f"{line}\n{done.stdout}"
    assert all("replay --lang" in word for word in untested)
    assert os.listdir(tmp_path) == ["bin"]


def size_of(picture: Path) -> tuple[int, int]:
    """Read the width and the height of a PNG."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def test_the_pictures_are_made_anew(tmp_path: Path) -> None:
    """As `make docs` does it: the page of a replay, as large as those that the tutorials show."""
    for lang, name in pictures.PICTURES.items():
        assert f"]({name})" in PAGES[lang].read_text()
        assert size_of(TUTORIALS / name) == pictures.SIZE
    if os.geteuid() != 0 or pictures.browser() is None:
        pytest.skip("needs root and chromium")
    pictures.make(tmp_path)
    assert {name: size_of(tmp_path / name) for name in os.listdir(tmp_path)} == dict.fromkeys(
        pictures.PICTURES.values(), pictures.SIZE
    )
