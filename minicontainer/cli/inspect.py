"""inspect: all that the engine knows of an object, as JSON or by a template."""

from __future__ import annotations

import sys

from minicontainer.cli import platforms
from minicontainer.cli.client import EngineError, quoted
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle
from minicontainer.cli.template_functions import Struct, html_escaped, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicontainer.cli.client import Client

_FORMAT = Flag(name="format", letter="f", help="'json', or a Go template")
_SIZE = toggle("size", "s", "show what a container takes on disk")
_STATUS_BAD_TEMPLATE = 64


def _path(kind: str, name: str) -> str:
    """Give the path of an object; an image's name may have slashes of its own."""
    if kind == "image":
        return f"/images/{quoted(name)}/json"
    name = quoted(name).replace("/", "%2F")
    return f"/containers/{name}/json" if kind == "container" else f"/{kind}s/{name}"


KINDS = ("container", "image", "network", "volume")


@command(
    "NAME|ID [NAME|ID...]",
    _FORMAT,
    _SIZE,
    Flag(name="type", help="look only at: container, image, network, volume"),
    least=1,
)
def inspect(asked: Asked) -> int:
    """Return low-level information on objects."""
    kinds = (asked.type,) if asked.type else KINDS
    if asked.type and asked.type not in KINDS:
        raise Exit(f"unknown type: {asked.type}: use one of {', '.join(KINDS)}", prefix=True)

    def find(client: Client, name: str) -> Any:
        for kind in kinds:
            query = {"size": asked.size} if kind == "container" else {}
            try:
                return client.get(_path(kind, name), query)
            except EngineError as error:
                if error.status != 404 or asked.type:
                    raise
        raise Exit(f"Error: No such object: {name}")

    return _show(asked, find)


@command("CONTAINER [CONTAINER...]", _FORMAT, _SIZE, least=1)
def container_inspect(asked: Asked) -> int:
    """Display detailed information on one or more containers."""
    return _show(asked, lambda c, name: c.get(_path("container", name), {"size": asked.size}))


@command(
    "IMAGE [IMAGE...]",
    _FORMAT,
    platforms.PLATFORM,
    least=1,
)
def image_inspect(asked: Asked) -> int:
    """Display detailed information on one or more images."""
    query = {"platform": platforms.as_json(asked.platform)}
    return _show(asked, lambda c, name: c.get(_path("image", name), query))


@command("NETWORK [NETWORK...]", _FORMAT, toggle("verbose", "v", "show more"), least=1)
def network_inspect(asked: Asked) -> int:
    """Display detailed information on one or more networks."""
    query = {"verbose": asked.verbose}
    return _show(asked, lambda c, name: c.get(_path("network", name), query))


@command("VOLUME [VOLUME...]", _FORMAT, least=1)
def volume_inspect(asked: Asked) -> int:
    """Display detailed information on one or more volumes."""
    return _show(asked, lambda c, name: c.get(_path("volume", name)))


def _show(asked: Asked, find: Callable[[Client, str], Any]) -> int:
    """Find every object and print it; what was not found is told at the end."""
    write = writer("" if asked.format == "json" else asked.format)
    found, errors = [], []
    for name in asked.args:
        try:
            found.append(find(asked.session.client, name))
        except (EngineError, Exit) as error:
            if isinstance(error, Exit) and not str(error).startswith("Error: No such"):
                raise
            errors.append(str(error))
    if asked.format == "json":
        sys.stdout.write(to_json(found) + "\n")
    elif write is None:
        sys.stdout.write(indented(found) + "\n")
    else:
        for value in found:
            sys.stdout.write(write(value) + "\n")
        if not found:  # as Docker's client: an empty line where a template had nothing to show
            sys.stdout.write("\n")
    if errors:
        raise Exit("\n".join(errors))
    return 0


def writer(format: str) -> Callable[[Any], str] | None:
    """Read --format; None for the JSON of everything."""
    if not format:
        return None
    from minicontainer.cli import templates  # only a template pays for it
    from minicontainer.cli.template_words import TemplateError

    try:
        template = templates.Template(format)
    except TemplateError as error:
        raise Exit(f"template parsing error: {error}", _STATUS_BAD_TEMPLATE) from None

    def write(value: Any) -> str:
        try:
            return template.render(Struct(value) if isinstance(value, dict) else value)
        except TemplateError as error:
            sys.stdout.write("\n")
            raise Exit(f"template parsing error: {error}") from None

    return write


def indented(value: Any, margin: str = "\n") -> str:
    """Write JSON as Docker's client shows it: four blanks a level, and HTML's signs escaped."""
    if not value or not isinstance(value, (dict, list)):
        return html_escaped(to_json(value))
    deeper = margin + "    "
    if isinstance(value, dict):
        parts = [f"{to_json(key)}: {indented(item, deeper)}" for key, item in value.items()]
        opening, closing = "{}"
    else:
        parts = [indented(item, deeper) for item in value]
        opening, closing = "[]"
    return f"{opening}{deeper}{f',{deeper}'.join(parts)}{margin}{closing}"
