"""What the tools say of the source: nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    ["ruff format --check --quiet", "ruff check --quiet", "mypy --no-error-summary"],
)
def test_the_source_passes(command: str) -> None:
    """Each tool reads its rules from pyproject.toml, and finds nothing."""
    tool, *arguments = command.split()
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    found = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
