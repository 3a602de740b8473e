"""exit.json: it is on the disk before anybody is told, unless its container goes with the power."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.engine import exits
from minicontainer.engine.protocol import Exited

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is missing")

_WRITE = """
from minicontainer.engine import exits
from minicontainer.engine.protocol import Exited
exits.write_exit({directory!r}, Exited(status=3, at_ns=5), durable={durable})
"""


@pytest.mark.parametrize(
    ("durable", "calls"), [(True, ["fsync", "rename", "fsync"]), (False, ["rename"])]
)
def test_what_reaches_the_disk(tmp_path: Path, durable: bool, calls: list[str]) -> None:
    """The file before it gets its name, then the name; strace(1) sees both, or neither."""
    exits.reserve_exit(str(tmp_path))
    told = tmp_path / "calls"
    code = _WRITE.format(directory=str(tmp_path), durable=durable)
    words = ["strace", "-o", str(told), "-e", "trace=fsync,fdatasync,rename,renameat,renameat2"]
    subprocess.run([*words, sys.executable, "-c", code], check=True)
    lines = [
        line for line in told.read_text().splitlines() if "exit.json" in line or "fsync" in line
    ]
    assert [line.partition("(")[0] for line in lines] == calls
    assert exits.read_exit(str(tmp_path)) == Exited(status=3, at_ns=5)
