"""Names for containers: those that the engine makes up, and which names are valid.

See: Docker Engine API, ContainerCreate, "name".
"""

from __future__ import annotations

import random

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

_ADJECTIVES = (
    "able", "amber", "awake", "bold", "brave", "brisk", "calm", "candid", "clever", "cosmic",
    "curious", "daring", "deft", "eager", "early", "fair", "fearless", "fluent", "gentle", "glad",
    "golden", "handy", "happy", "honest", "humble", "keen", "kind", "lively", "lucid", "lucky",
    "merry", "mighty", "modest", "neat", "nimble", "noble", "patient", "placid", "polite", "proud",
    "quick", "quiet", "rapid", "ready", "silent", "sincere", "smart", "snappy", "solid", "steady",
    "sunny", "swift", "tidy", "tranquil", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
)  # fmt: skip
# People who made operating systems, networks and languages what they are.
_SURNAMES = (
    "allen", "backus", "barton", "berners", "borg", "brooks", "cerf", "church", "clarke", "codd",
    "corbato", "cox", "daemen", "dijkstra", "engelbart", "estrin", "feinler", "floyd", "goldberg",
    "gosling", "hamilton", "hamming", "hoare", "holberton", "hopper", "iverson", "johnson", "joy",
    "kahn", "karels", "kay", "kernighan", "kleene", "knuth", "lamport", "liskov", "lovelace",
    "mccarthy", "mcilroy", "mckusick", "moore", "naur", "perlman", "pike", "postel", "ritchie",
    "rossum", "shannon", "sinclair", "stallman", "steele", "sutherland", "tanenbaum", "tarjan",
    "thompson", "torvalds", "turing", "wheeler", "wilkes", "wirth", "zuse",
)  # fmt: skip
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_OTHERS = _FIRST | frozenset("_.-")


def check(name: str) -> str:
    """Check a container's name; give it without the slash that the API allows before it.

    Raises:
        InvalidArgument: saying which characters are allowed.
    """
    asked, name = name, name.removeprefix("/")
    if len(name) < 2 or name[0] not in _FIRST or set(name) - _OTHERS:
        raise InvalidArgument(
            f"Invalid container name ({asked}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name


def generate(taken: Container[str]) -> str:
    """Make up a name that is not taken: adjective_surname, with a digit when it must be."""
    for attempt in range(100):
        name = f"{random.choice(_ADJECTIVES)}_{random.choice(_SURNAMES)}"
        name += str(random.randrange(10)) if attempt > 5 else ""
        if name not in taken:
            return name
    return f"{random.choice(_ADJECTIVES)}_{random.randrange(10**9)}"
