"""From which commit this engine comes, and when it was made: for `version`.

See: gitrepository-layout(5), for a checkout and its worktrees.
"""

from __future__ import annotations

import os
import time

from minicontainer import startup

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(startup.__file__)))
_SHOWN = 7  # digits, as of Docker's


def commit(checkout: str = _CHECKOUT) -> str:
    """Give the short name of the commit that is checked out; the version where there is none."""
    try:
        directory = os.path.join(checkout, ".git")
        if os.path.isfile(directory):  # a worktree: the path of its directory
            directory = os.path.join(checkout, _read(directory).removeprefix("gitdir: "))
        head = _read(f"{directory}/HEAD")
        if not head.startswith("ref: "):
            return head[:_SHOWN]
        return _resolve(directory, head.removeprefix("ref: "))[:_SHOWN]
    except OSError:
        return startup.VERSION


def _resolve(directory: str, ref: str) -> str:
    common = directory
    if os.path.exists(f"{directory}/commondir"):
        common = os.path.join(directory, _read(f"{directory}/commondir"))
    if os.path.exists(f"{common}/{ref}"):
        return _read(f"{common}/{ref}")
    for line in _read(f"{common}/packed-refs").splitlines():
        name, _, packed = line.partition(" ")
        if packed == ref:
            return name
    raise FileNotFoundError(ref)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def built() -> str:
    """Give the time when the code was installed, in Docker's form."""
    at = time.gmtime(os.stat(startup.__file__).st_mtime)
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000000+00:00", at)
