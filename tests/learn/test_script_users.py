"""`explain --script` in a user namespace: whose the image's files are (see test_script)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import PATIENCE_S
from tests.learn.test_script import id_of, left, within

if TYPE_CHECKING:
    from tests.learn.conftest import Engine


def test_a_user_namespace_owns_what_the_image_has(engine: Engine) -> None:
    """Several layers, one of which takes a file away; the script's own mode lets nobody read it."""
    make = "echo hi >/mine; chown 7:8 /mine; chmod 4755 /mine; rm -r /home"
    engine("run", "--name", "layer", "--net", "none", "busybox", "sh", "-c", make)
    engine("commit", "layer", "layered")
    engine("rm", "layer")
    see = "stat -c '%a %u:%g' /mine /bin/busybox; cat /proc/self/uid_map; ls /home; exit 3"
    options = ("--userns", "private", "--net", "host", "--pid", "host")
    text = engine("explain", "--script", *options, "layered", "sh", "-c", see).output
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "script"  # in a directory of mode 700
        file.write_text(text)
        done = subprocess.run(
            [*within(engine), "sh", str(file)], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
    assert done.returncode == 3, done.stderr
    told = done.stdout.split("\n")
    assert told[:2] == ["4755 7:8", "755 0:0"]
    assert told[2].split() == ["0", "100000", "65536"]
    assert "/home: No such file" in done.stderr
    assert left(engine, id_of(text)) == []
    engine("rmi", "layered")
