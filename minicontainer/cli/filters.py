"""--filter KEY=VALUE, as the engine takes it: one JSON object.

See: Docker Engine API, "filters" of each list.
"""

from __future__ import annotations

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def read(text: str) -> tuple[str, str]:
    """Read KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument("bad format of filter (expected name=value)")
    return key.strip().lower(), value.strip()


def as_json(pairs: Iterable[tuple[str, str]]) -> str:
    """Write filters for a request's query; "" when there is none."""
    found: dict[str, dict[str, bool]] = {}
    for key, value in pairs:
        found.setdefault(key, {})[value] = True
    return jsontext.dump(found) if found else ""
