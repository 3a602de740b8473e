"""Programs of the host: where systems keep them. An ordinary user's $PATH often lacks sbin."""

from __future__ import annotations

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str) -> str | None:
    """Find a program by its name; or check that a path is one's."""
    import shutil  # not for a monitor, which needs PATH alone

    return shutil.which(name, path=PATH)
