"""The lines of passwd(5) and group(5), parsed without trust: the files belong to the image.

The engine looks up a user's ids here, and the runtime a user's home directory.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HIGHEST_ID = 2**32 - 2  # the last one means "no change" to setresuid(2)


def lines(text: str, fields: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of each line, and the text between its colons.

    Comments, and lines with fewer than *fields* fields, are passed over.
    """
    for number, line in enumerate(text.split("\n"), 1):
        found = tuple(line.split(":"))
        if len(found) >= fields and not line.startswith("#"):
            yield number, found


def to_id(text: str) -> int | None:
    """Parse an id; None if the text is not one. Python alone would also accept +1 and 1_0."""
    good = text.isascii() and text.isdecimal() and len(text) <= len(str(HIGHEST_ID))
    return int(text) if good and int(text) <= HIGHEST_ID else None
