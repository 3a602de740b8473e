"""The keys that end an attachment: `ctrl-p,ctrl-q` as bytes.

See: `docker attach` reference, "Override the detach sequence".
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl- with each: the bytes from 0 on


def parse(text: str) -> bytes:
    """Read keys, separated by commas: a character, or `ctrl-` and one.

    Raises:
        InvalidArgument: naming the key.
    """
    return bytes(_key(key) for key in (text or DEFAULT).split(","))


def _key(key: str) -> int:
    name = key.lower()
    if name == "del":
        return 127
    if name.startswith("ctrl-") and len(name) == 6 and name[5] in _CONTROL:
        return _CONTROL.index(name[5])
    if len(key) == 1 and key.isascii():
        return ord(key)
    raise InvalidArgument(f"Unknown character: '{key}'")
