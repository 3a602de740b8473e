"""The processes of a container, as ps(1) on the host shows them: `docker top`.

See: Docker Engine API, ContainerTop.
"""

from __future__ import annotations

import subprocess

from minicontainer.errors import Conflict, Error, InvalidArgument, Unsupported
from minicontainer.runtime.container import operations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.container import Container
    from minicontainer.runtime.container.state import Store

    Json = dict[str, Any]

_PATIENCE_S = 20


def top(container: Container, states: Store, ps_args: str) -> Json:
    """List a container's processes.

    Args:
        container: it must run.
        states: the runtime's.
        ps_args: options of ps(1); its output must have the column PID.
    """
    with container.changed:
        if container.state.status == "restarting":
            raise Conflict(
                f"Container {container.id} is restarting, wait until the container is running"
            )
        if not container.state.is_running():
            raise Conflict(f"container {container.id} is not running")
    pids = operations.processes(container.id, states)
    return _chosen(_run_ps(ps_args.split()), {str(pid) for pid in pids})


def _run_ps(options: list[str]) -> list[str]:
    """Run ps; give the lines of its output."""
    try:
        done = subprocess.run(
            ["ps", *options], capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S
        )
    except FileNotFoundError:
        raise Unsupported("ps is not installed on this host: install procps") from None
    except subprocess.TimeoutExpired:
        raise Error(f"ps {' '.join(options)}: did not end within {_PATIENCE_S} s") from None
    if done.returncode != 0 and not done.stdout:
        raise InvalidArgument(f"ps: {done.stderr.strip()}")
    return done.stdout.splitlines()


def _chosen(lines: list[str], pids: set[str]) -> Json:
    """Choose the lines of some processes, split into columns."""
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    place = titles.index("PID")
    # The last column is a command line, which has blanks of its own.
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return {
        "Titles": titles,
        "Processes": [row for row in rows if len(row) > place and row[place] in pids],
    }
