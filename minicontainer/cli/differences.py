"""diff with two arguments: two containers, or the host and a container, side by side."""

from __future__ import annotations

import os

from minicontainer import jsontext
from minicontainer.cli.exits import EXIT_ENGINE, Exit
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.output import write_lines
from minicontainer.learn import differences

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cli.flags import Asked

HOST = "host"  # this very command, which runs on the host as the user's shell does


def show(asked: Asked) -> int:
    """Print what differs between the first processes of two containers."""
    if asked.format not in ("", "json"):
        raise Exit(f"--format {asked.format}: only json is known here", EXIT_ENGINE, prefix=True)
    left, right = (_pid(asked, name) for name in asked.args)
    try:
        found = differences.compare(left, right)
    except PermissionError as error:
        message = f"{error.filename}: only root may look at the processes of containers: use sudo"
        raise Exit(message, EXIT_ENGINE, prefix=True) from None
    if asked.format == "json":
        wanted = (one for one in found if asked.all or one.left != one.right)
        write_lines(jsontext.dump(one.to_json()) for one in wanted)
        return 0
    names = (asked.args[0], asked.args[1])
    write_lines(differences.lines(found, names, columns(), asked.all))
    return 0


def _pid(asked: Asked, name: str) -> int:
    """Find the process that stands for a container, or for the host."""
    if name == HOST:
        return os.getpid()
    url = asked.session.address.url
    if not url.startswith("unix://"):
        message = f"diff reads /proc of the engine's own host, and {url} may be another one"
        raise Exit(message, EXIT_ENGINE, prefix=True)
    state = asked.session.client.get(path_of(name, "json"))["State"]
    if not state.get("Pid"):
        raise Exit(f"container {name} is not running: start it first", EXIT_ENGINE, prefix=True)
    return int(state["Pid"])


def columns() -> int:
    """Give the width of the terminal; 80 without one."""
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return 80
