"""A hostile root file system, a piece of the host to be reached from it, and somebody who races."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.conftest import PATIENCE_S, Result
from tests.isolation.conftest import Change, Spec, bundles, volume

__all__ = ["bundles", "volume"]  # fixtures

# How long each race is run, in seconds.
RACE_S = float(os.environ.get("MINICONTAINER_RACE_S", "1"))
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def tree(busybox: Path, roots: tuple[Path, Path]) -> Path:
    """A copy of the root file system, to be made hostile."""
    copy = roots[0].parent / "tree"
    subprocess.run(["cp", "-a", busybox, copy], check=True)
    return copy


@pytest.fixture
def canary(roots: tuple[Path, Path]) -> Iterator[Path]:
    """A directory of the host that nothing may reach; the test fails if it is changed."""
    directory = roots[0].parent / "canary"
    (directory / "deep").mkdir(parents=True)
    (directory / "file").write_text("untouched\n")
    os.mkfifo(directory / "fifo")
    before = look(directory)
    yield directory
    assert look(directory) == before


def look(directory: Path) -> dict[str, tuple[object, ...]]:
    """Take down all of a tree that a change would change: contents, owners, modes, times."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        of = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (of.st_mode, of.st_uid, of.st_gid, of.st_mtime_ns, of.st_dev, content)
    return found


def replace(path: Path, target: str) -> None:
    """Put a symbolic link at *path*, whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def rooted(tree: Path, *mounts: Spec) -> Change:
    """Make a bundle of the tree itself, writable: what is made in it is there to be seen."""

    def change(config: Spec) -> None:
        config["root"] = {"path": str(tree), "readonly": False}
        config["mounts"] += mounts

    return change


def only(config: Spec, *destinations: str) -> None:
    """Leave out all mounts but those."""
    config["mounts"] = [row for row in config["mounts"] if row["destination"] in destinations]


def bind(source: Path | str, destination: str, *options: str, **more: object) -> Spec:
    """Write a bind mount."""
    words = ["bind", *options]
    return {"destination": destination, "source": str(source), "options": words, **more}


def device_of(path: Path | str) -> tuple[str, int, int]:
    """Say which device a file is: kind and numbers."""
    found = os.stat(path)
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else "-"
    return kind, os.major(found.st_rdev), os.minor(found.st_rdev)


# ---- races


def exchange(one: Path, other: Path) -> None:
    """Swap two names at once: renameat2(2)."""
    names = (os.fsencode(one), os.fsencode(other))
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


@contextlib.contextmanager
def exchanging(*pairs: tuple[Path, Path]) -> Iterator[None]:
    """Swap names over and over meanwhile, as fast as a process of its own can."""
    pid = os.fork()
    if pid == 0:
        _exchange_for_ever(pairs)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _exchange_for_ever(pairs: tuple[tuple[Path, Path], ...]) -> NoReturn:
    with contextlib.suppress(BaseException):
        while True:
            for one, other in pairs:
                exchange(one, other)
    os._exit(0)


def race(attempt: Callable[[], Result], *outcomes: int) -> None:
    """Attempt something over and over for as long as a race shall last.

    Args:
        outcomes: the statuses that there must be, each at least once: what always fails, or never
            meets what is swapped, races nobody. It goes on until they have come.
    """
    begun = time.monotonic()
    seen: list[int] = []
    missing = set(outcomes)
    while (passed_s := time.monotonic() - begun) < RACE_S or len(seen) < 5 or missing:
        assert passed_s < RACE_S + PATIENCE_S, f"of {outcomes} there were only {set(seen)}"
        result = attempt()
        assert "Traceback" not in result.errors
        seen.append(result.status)
        missing.discard(result.status)


def naively(script: str, *arguments: object) -> str:
    """Run a script in a mount namespace of its own: what a runtime would do that trusts paths."""
    words = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-e", "-c", script, "sh"]
    done = subprocess.run(
        [*words, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S,
        check=True,
    )  # fmt: skip
    return done.stdout
