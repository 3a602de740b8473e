"""--platform of the commands about images that are here: read, and sent as the API has it.

See: Docker Engine API 1.48, the parameter `platform` of images.
"""

from __future__ import annotations

from minicontainer import jsontext
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Flag
from minicontainer.errors import InvalidArgument

PLATFORM = Flag(name="platform", help="only an image for this platform: os[/arch[/variant]]")


def as_json(text: str) -> str:
    """Write a platform as the API has it, `{"os": "linux", …}`; "" without one."""
    if not text:
        return ""
    from minicontainer.images import platforms  # 3 ms that few calls need

    try:
        found = platforms.parse(text)
    except InvalidArgument as error:
        raise Exit(f"invalid platform: {error}") from None
    return jsontext.dump({name: value for name, value in found.to_json().items() if value})
