"""The page about the API names every route, with its handler."""

from __future__ import annotations

import re

from minicontainer.api import routes, swarm
from minicontainer.api.calls import JSON_LIMIT
from minicontainer.api.connection import HEADER_LIMIT
from tests.conftest import CHECKOUT

PAGE = (CHECKOUT / "docs/reference/api.md").read_text()
# These stand in the text under the table: three methods, three depths, one answer.
_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def test_the_page_has_the_table_of_routes() -> None:
    """In the code's order."""
    wanted = [
        (f"{method} {path}", f"{handler.__module__.split('.')[-1]}.{handler.__name__}")
        for method, path, handler in routes.ROUTES
        if not (handler is swarm.no_manager and path.split("/")[1] in _SWARM)
    ]
    assert re.findall(r"^\| `([A-Z]+ /\S*)` \| `(\S+)` \|", PAGE, re.MULTILINE) == wanted


def test_the_page_has_the_limits() -> None:
    """Of headers and JSON bodies."""
    assert f"{HEADER_LIMIT // 1024} KiB" in PAGE
    assert f"{JSON_LIMIT // 1024 // 1024} MiB" in PAGE
