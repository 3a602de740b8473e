"""Make the pictures of docs/tutorials/see-through.md anew: the page of a replay, in each language.

    .venv/bin/python -m scripts.pictures [DIRECTORY]

An engine of its own records a start of the image busybox, `replay --html` makes the page, and a
Chromium without a window shows it. It needs root, and chromium-headless-shell or chromium.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[1]
TUTORIALS = CHECKOUT / "docs" / "tutorials"
PICTURES = {"en": "see-through.png", "ru": "see-through.ru.png"}
SIZE = (1280, 720)
STEP = "enter-rootfs"  # namespaces and mounts are there, and the root is the container's
_COMMAND = str(CHECKOUT / ".venv" / "bin" / "minicontainer")
_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_PATIENCE_S = 60


def browser() -> str | None:
    """Find a Chromium."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def make(directory: Path) -> None:
    """Make the pictures in a directory."""
    program = browser()
    if program is None:
        raise SystemExit("no chromium: install chromium-headless-shell")
    with tempfile.TemporaryDirectory(prefix="minicontainer-pictures-") as work:
        kept = Path(work) / "start.rec"
        with _engine(Path(work)) as client:
            # the first start makes what later ones find there
            for record in ((), ("--record", kept.name)):
                run = ("run", "--rm", "--net", "none", *record, "busybox", "true")
                subprocess.run([*client, *run], cwd=work, check=True)
        for lang, name in PICTURES.items():
            page = Path(work) / f"{lang}.html"
            replay = ("replay", "--lang", lang, "--html", str(page), str(kept))
            subprocess.run([_COMMAND, *replay], check=True)
            _photograph(program, f"{page.as_uri()}#{STEP}", directory / name, work)


@contextlib.contextmanager
def _engine(work: Path) -> Iterator[list[str]]:
    """Run an engine; give the command of its client."""
    host = f"unix://{work / 'sock'}"
    places = ("--data-root", str(work / "data"), "--exec-root", str(work / "exec"))
    words = [_COMMAND, "daemon", *places, "--host", host, "--cgroup-parent", f"/{work.name}"]
    with (work / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not (work / "sock").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"no engine: {(work / 'log').read_text()}")
            time.sleep(0.05)
        yield [_COMMAND, "--host", host]
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def _photograph(program: str, url: str, picture: Path, work: str) -> None:
    words = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--hide-scrollbars", f"--user-data-dir={work}/browser",
        f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={picture}", url,
    ]  # fmt: skip
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL, timeout=_PATIENCE_S)
    if not picture.exists():
        raise SystemExit(f"{program} has made no picture")


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("an engine needs root: use sudo")
    make(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TUTORIALS)
