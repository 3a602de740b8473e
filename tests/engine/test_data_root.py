"""CVE-2021-41091: what an engine keeps is out of reach for the host's other users.

Root of a container can make a set-id program. Where a user of the host gets at it, that user runs
it as root of the host.

See: https://www.cve.org/CVERecord?id=CVE-2021-41091.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from .conftest import Lab, payload

NOBODY = 65534
MAKE = "cp /bin/busybox {0}; chmod 4755 {0}"


def run_by_nobody(program: Path) -> str:
    """Run a busybox as another user of the host; give what it says, or why it can't be run."""
    assert program.stat().st_mode & 0o4000
    return as_nobody(f"exec -a echo {program} it runs")


def as_nobody(script: str) -> str:
    """Run a shell as another user of the host.

    The shell looks for the files: setpriv(1) still has root's rights when it calls execve(2).
    """
    ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    done = subprocess.run(["setpriv", *ids, "bash", "-c", script], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_the_look_finds_a_program_within_reach(roots: Path, busybox: Path) -> None:
    """The control: in a directory that is open, it runs."""
    program = roots / "program"
    program.write_bytes((busybox / "bin/busybox").read_bytes())
    program.chmod(0o4755)
    assert run_by_nobody(program) == "it runs\n"


@pytest.mark.parametrize("userns", ["host", "private"])
def test_a_containers_files_are_out_of_reach(lab: Lab, userns: str) -> None:
    """Those that it made; in a user namespace too, where root inside still gets at them."""
    made, status = lab.run(
        "sh", "-c", MAKE.format("/program") + "; stat -c %a /program", host={"UsernsMode": userns}
    )
    assert (status, payload(lab.logs(made))) == (0, b"4755\n")
    directory = Path(lab.engine.containers.find(made).directory)
    assert "Permission denied" in run_by_nobody(directory / "upper/program")


def test_a_volumes_files_are_out_of_reach(lab: Lab) -> None:
    """A volume's name is no secret."""
    host = {"Binds": ["shared:/shared"]}
    _, status = lab.run("sh", "-c", MAKE.format("/shared/program"), host=host)
    assert status == 0
    place = Path(lab.engine.data_root) / "volumes/shared/_data/program"
    assert "Permission denied" in run_by_nobody(place)


def test_an_images_files_are_out_of_reach(lab: Lab, busybox: Path) -> None:
    """Nor is the digest of a layer."""
    content = (busybox / "bin/busybox").read_bytes()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry = tarfile.TarInfo("program")
        entry.size, entry.mode = len(content), 0o4755
        archive.addfile(entry, io.BytesIO(content))
    made.seek(0)
    list(lab.engine.images.import_(made, "x", "", "", ()))
    layers = lab.engine.images.store.resolve("x").chain_ids
    place = Path(lab.engine.images.layers.directory(layers[0])) / "program"
    assert "Permission denied" in run_by_nobody(place)
    blob = lab.engine.images.store.resolve("x").layers[0].digest
    path = lab.engine.images.store.blobs.path(blob)
    assert "Permission denied" in as_nobody(f"cat {path}")
