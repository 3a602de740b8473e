"""Commands that talk to registries, by way of the engine: pull, push, search."""

from __future__ import annotations

import sys

from minicontainer.cli import filters
from minicontainer.cli.client import quoted
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import FILTER, NO_TRUNC, Asked, Flag, command, number, toggle
from minicontainer.cli.output import show_list
from minicontainer.cli.platforms import PLATFORM
from minicontainer.cli.platforms import as_json as platform_json
from minicontainer.cli.progress import show_progress
from minicontainer.errors import InvalidArgument
from minicontainer.images.references import Reference, parse, split_search

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from minicontainer.cli.session import Session

_PLATFORM = Flag(name="platform", help="platform of the image: os[/arch[/variant]]")
_TRUST = toggle("disable-content-trust", "", "accepted, and without meaning here", default=True)


def reference_of(text: str) -> Reference:
    """Read an image's name; a bad one ends the command."""
    try:
        return parse(text)
    except InvalidArgument as error:
        raise Exit(str(error)) from None


def auth_header(session: Session, domain: str) -> dict[str, str]:
    """Give the header with the credentials for a registry, as Docker's config.json has them."""
    import base64

    from minicontainer import jsontext
    from minicontainer.images.credentials import DockerConfig, server_of

    directory = session.config_path.rpartition("/")[0]
    known = DockerConfig(directory).get(domain)
    values: dict[str, str] = {}
    if known is not None:
        values = {
            "username": known.username, "password": known.password,
            "identitytoken": known.identity_token, "registrytoken": known.registry_token,
            "serveraddress": server_of(domain),
        }  # fmt: skip
    text = jsontext.dump({name: value for name, value in values.items() if value})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode()}


def fetch(
    session: Session, image: str, platform: str = "", quiet: bool = False, out: TextIO = sys.stdout
) -> Reference:
    """Have the engine fetch an image; show how it goes."""
    wanted = reference_of(image)
    query = {
        "fromImage": wanted.repository, "tag": wanted.digest or wanted.tag, "platform": platform,
    }  # fmt: skip
    answer = session.client.request(
        "POST", "/images/create", query, headers=auth_header(session, wanted.domain)
    )
    show_progress(answer.messages(), out, quiet)
    return wanted


@command(
    "NAME[:TAG|@DIGEST]",
    toggle("all-tags", "a", "fetch all tags of the repository"),
    _TRUST,
    _PLATFORM,
    toggle("quiet", "q", "show only the name"),
    least=1,
    most=1,
)
def pull(asked: Asked) -> int:
    """Download an image from a registry."""
    name = asked.args[0]
    last = name.rpartition("/")[2]
    if asked.all_tags:
        if ":" in last or "@" in last:
            raise Exit("tag can't be used with --all-tags/-a")
        wanted = reference_of(name)
        query = {"fromImage": wanted.repository, "platform": asked.platform}
        answer = asked.session.client.request(
            "POST", "/images/create", query, headers=auth_header(asked.session, wanted.domain)
        )
        show_progress(answer.messages(), sys.stdout, asked.quiet)
        sys.stdout.write(f"{wanted.repository}\n")
        return 0
    reference_of(name)
    if ":" not in last and "@" not in last and not asked.quiet:
        sys.stdout.write("Using default tag: latest\n")
    wanted = fetch(asked.session, name, asked.platform, asked.quiet)
    sys.stdout.write(f"{wanted.canonical}\n")
    return 0


@command(
    "NAME[:TAG]",
    toggle("all-tags", "a", "send all tags of the image"),
    _TRUST,
    PLATFORM,
    toggle("quiet", "q", "show only the name"),
    least=1,
    most=1,
)
def push(asked: Asked) -> int:
    """Upload an image to a registry."""
    name = asked.args[0]
    last = name.rpartition("/")[2]
    if asked.all_tags and ":" in last:
        raise Exit("tag can't be used with --all-tags/-a")
    wanted = reference_of(name)
    tag = "" if asked.all_tags else wanted.tag
    if not asked.all_tags and ":" not in last and not asked.quiet:
        sys.stdout.write("Using default tag: latest\n")
    answer = asked.session.client.request(
        "POST", f"/images/{quoted(wanted.familiar_repository)}/push",
        {"tag": tag, "platform": platform_json(asked.platform)},
        headers=auth_header(asked.session, wanted.domain),
    )  # fmt: skip
    show_progress(answer.messages(), sys.stdout, asked.quiet)
    if asked.quiet:
        sys.stdout.write(f"{wanted.canonical}\n")
    return 0


_SEARCH_HEADERS = {
    "Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}  # fmt: skip


@command(
    "TERM",
    FILTER,
    Flag(name="format", help="'table TEMPLATE', 'json', or a Go template"),
    Flag(name="limit", read=number, metavar="int", default=0, help="most results to show"),
    NO_TRUNC,
    least=1,
    most=1,
)
def search(asked: Asked) -> int:
    """Search Docker Hub for images."""
    query = {
        "term": asked.args[0], "limit": asked.limit or None,
        "filters": filters.as_json(asked.filter),
    }  # fmt: skip
    headers = auth_header(asked.session, split_search(asked.args[0])[0])
    found = asked.session.client.request("GET", "/images/search", query, headers=headers).json()
    entries = [_search_fields(entry, asked.no_trunc) for entry in found]
    columns = ("Name", "Description", "StarCount", "IsOfficial")
    show_list(entries, _SEARCH_HEADERS, columns, asked.format, "search")
    return 0


def _search_fields(entry: dict[str, Any], whole: bool) -> dict[str, Any]:
    from minicontainer.cli import units

    text = entry.get("description", "").replace("\n", " ").replace("\r", " ")
    return {
        "Name": entry["name"],
        "Description": text if whole else units.shortened(text, 45),
        "StarCount": str(entry.get("star_count", 0)),
        "IsOfficial": "[OK]" if entry.get("is_official") else "",
        "IsAutomated": "[OK]" if entry.get("is_automated") else "",
    }
