"""`docker cp` while the container swaps a directory for a link to the host: CVE-2018-15664."""

from __future__ import annotations

import contextlib
import os
import tarfile
import time
from pathlib import Path

import pytest

from minicontainer.engine.engine import Engine
from minicontainer.errors import Error
from tests.engine.test_files import Box, engine

__all__ = ("engine",)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers")

RACE_S = float(os.environ.get("MINICONTAINER_RACE_S", "1"))
_SECRET = b"of the host"


def _swapping(engine: Engine, host: Path) -> Box:
    """Give a container in which /d is a directory and a link to *host* in turns."""
    (host / "secret").write_bytes(_SECRET)
    moves = "mv -T /a /d; mv -T /d /a; mv -T /b /d; mv -T /d /b"
    swap = f"mkdir -p /a; ln -s {host} /b; while :; do {moves}; done"
    return Box(engine, Cmd=["sh", "-c", swap]).start()


def test_a_swapped_directory_is_not_followed_to_the_host(engine: Engine, tmp_path: Path) -> None:
    """Neither to read there, nor to write."""
    box = _swapping(engine, tmp_path)
    end = time.monotonic() + RACE_S
    tries = 0
    while time.monotonic() < end or tries < 5:
        tries += 1
        with contextlib.suppress(Error):
            assert _SECRET not in box.raw("/d/")
        with contextlib.suppress(Error):
            assert _SECRET not in box.raw("/d/secret")
        with contextlib.suppress(Error):
            box.put("/d/", ("secret", b"overwritten"), ("new", b""))
        with contextlib.suppress(Error):
            box.put("/", ("d/secret", b"overwritten"), ("d/new", b""))
    assert (tmp_path / "secret").read_bytes() == _SECRET
    assert os.listdir(tmp_path) == ["secret"]


def test_from_outside_the_link_leads_to_the_host(engine: Engine, tmp_path: Path) -> None:
    """The control: who follows the same path by /proc/PID/root finds the host's file."""
    (tmp_path / "secret").write_bytes(_SECRET)
    box = Box(engine).start()
    link = tarfile.TarInfo("d")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    box.put("/", link)
    pid = box.all.find(box.id).state.pid
    assert Path(f"/proc/{pid}/root/d/secret").read_bytes() == _SECRET
    with pytest.raises(Error, match="Could not find the file"):
        box.raw("/d/secret")
