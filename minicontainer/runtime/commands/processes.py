"""ps: what runs in a container."""

from __future__ import annotations

import sys

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.runtime import control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.command_line import Asked
    from minicontainer.runtime.main import Session


def ps(session: Session, asked: Asked) -> int:
    """List a container's processes: their numbers, or the lines that ps(1) has of them."""
    if not asked.arguments:
        raise InvalidArgument("expected one container ID, got 0 arguments")
    name, *options = asked.arguments
    how = asked.value("format", "table")
    pids = control.processes(name, session.store)
    if how == "json":
        sys.stdout.write(f"[{','.join(map(str, pids))}]\n")
    elif how == "table":
        sys.stdout.write(_lines_of(pids, options or ["-ef"]))
    else:
        raise InvalidArgument(f"--format: expected table or json, got {how!r}")
    return 0


def _lines_of(pids: tuple[int, ...], options: list[str]) -> str:
    """Give those lines of ps(1) that are about *pids*, and its heading."""
    import subprocess  # 13 ms that only this form costs

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True)
    except FileNotFoundError:
        raise Unsupported("ps is not installed: use --format json") from None
    if done.returncode != 0:
        raise InvalidArgument(f"ps {' '.join(options)}: {done.stderr.strip()}")
    heading, *lines = done.stdout.splitlines()
    titles = heading.split()
    if "PID" not in titles:
        raise InvalidArgument(f"ps {' '.join(options)}: its output has no column PID")
    place = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = (line for line in lines if line.split()[place : place + 1][0] in wanted)
    return "".join(f"{line}\n" for line in (heading, *kept))
