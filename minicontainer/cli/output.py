"""What the user reads."""

from __future__ import annotations

import sys

from minicontainer.errors import printable


def say(message: str) -> None:
    """Tell the user one line, apart from the container's output."""
    sys.stderr.write(f"minicontainer: {printable(message)}\n")
    sys.stderr.flush()
