"""The machine that the Vagrantfile describes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(120)
def test_the_vagrantfile_is_valid(tmp_path: Path) -> None:
    """Vagrant itself says so, without any provider to start a machine with."""
    if shutil.which("vagrant") is None:
        pytest.skip("vagrant is not installed")
    told = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=ROOT,
        env={**os.environ, "VAGRANT_HOME": str(tmp_path), "VAGRANT_DOTFILE_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "validated successfully" in told.stdout


def test_the_machine_is_set_up_by_the_script_that_make_uses() -> None:
    """One script, so that what works in the one place works in the other."""
    assert "scripts/setup" in (ROOT / "Vagrantfile").read_text()
    assert "scripts/setup" in (ROOT / "Makefile").read_text()
