"""Commands about images that are here: images, history, tag, rmi."""

from __future__ import annotations

import sys

from minicontainer.cli import filters, platforms, units
from minicontainer.cli.client import EngineError, quoted
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import FILTER, FORMAT, NO_TRUNC, Asked, Flag, command, toggle
from minicontainer.cli.output import show_list, write_lines
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NONE = "<none>"
_HEADERS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST",
    "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE",
    "Containers": "CONTAINERS", "VirtualSize": "SIZE", "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}  # fmt: skip
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")


@command(
    "[REPOSITORY[:TAG]]",
    toggle("all", "a", "show intermediate images too"),
    toggle("digests", "", "show digests"),
    FILTER,
    FORMAT,
    NO_TRUNC,
    toggle("quiet", "q", "show only image IDs"),
    most=1,
)
def images(asked: Asked) -> int:
    """List images."""
    pairs = [*asked.filter, *(("reference", name) for name in asked.args)]
    query = {"all": asked.all, "filters": filters.as_json(pairs)}
    found = asked.session.client.get("/images/json", query)
    shape = asked.format
    if not shape and not asked.quiet:
        shape = asked.session.config.get("imagesFormat", "")
    digests = asked.digests or ".Digest" in shape or any(key == "digest" for key, _ in pairs)
    found.sort(key=lambda image: -image["Created"])
    entries = [
        fields_of(image, repository, tag, digest, asked.no_trunc)
        for image in found
        for repository, tag, digest in _names(image, digests)
    ]
    if asked.quiet and shape in ("", "table"):
        write_lines(entry["ID"] for entry in entries)
        return 0
    columns = (*_COLUMNS[:2], "Digest", *_COLUMNS[2:]) if asked.digests else _COLUMNS
    show_list(entries, _HEADERS, columns, shape, "image")
    return 0


def _names(image: dict[str, Any], digests: bool) -> list[tuple[str, str, str]]:
    """Give repository, tag and digest for every line that an image gets."""
    tags = [name for name in image.get("RepoTags") or () if name != "<none>:<none>"]
    known = [name for name in image.get("RepoDigests") or () if name != "<none>@<none>"]
    by_repository: dict[str, list[str]] = {}
    for name in known:
        repository, _, digest = name.partition("@")
        by_repository.setdefault(repository, []).append(digest)
    lines = []
    for name in tags:
        repository, _, tag = name.rpartition(":")
        found = (by_repository.get(repository) if digests else None) or [_NONE]
        lines += [(repository, tag, digest) for digest in found]
    tagged = {repository for repository, _, _ in lines}
    for repository, found in by_repository.items():
        if repository not in tagged and (digests or not tags):
            shown = found if digests else found[:1]
            lines += [(repository, _NONE, digest) for digest in shown]
    return lines or [(_NONE, _NONE, _NONE)]


def fields_of(
    image: dict[str, Any], repository: str, tag: str, digest: str, whole: bool
) -> dict[str, Any]:
    """Give what a list shows of an image."""
    created, total, shared = image["Created"], image["Size"], image.get("SharedSize", -1)
    containers = image.get("Containers", -1)
    return {
        "ID": image["Id"] if whole else units.short_id(image["Id"]),
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "CreatedSince": lambda: units.ago(created),
        "CreatedAt": lambda: units.local_time(created),
        "Size": lambda: units.size(total, 3),
        "Containers": lambda: str(containers) if containers >= 0 else "N/A",
        "VirtualSize": lambda: units.size(total),
        "SharedSize": lambda: units.size(shared) if shared >= 0 else "N/A",
        "UniqueSize": lambda: units.size(total - shared) if shared >= 0 else "N/A",
    }


@command("SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", least=2, most=2)
def tag(asked: Asked) -> int:
    """Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE."""
    source, target = asked.args
    if "@" in target:
        raise Exit("refusing to create a tag with a digest reference")
    from minicontainer.images.references import parse  # 3 ms that no other command here needs

    try:
        parse(target)
    except InvalidArgument as error:
        what = f'Error parsing reference: "{target}" is not a valid repository/tag'
        raise Exit(f"{what}: {error}") from None
    repository, name = split_tag(target)
    query = {"repo": repository, "tag": name or "latest"}
    asked.session.client.post(f"/images/{quoted(source)}/tag", query)
    return 0


def split_tag(name: str) -> tuple[str, str]:
    """Cut off an image's tag: host:5000/x:1 gives host:5000/x and 1."""
    repository, colon, last = name.rpartition(":")
    return (repository, last) if colon and "/" not in last else (name, "")


@command(
    "IMAGE [IMAGE...]",
    toggle("force", "f", "remove an image with several names, or one that a container uses"),
    toggle("no-prune", "", "keep the images that it was made of"),
    Flag(name="platform", many=True, metavar="strings",
         help="remove an image only if it is for this platform"),
    least=1,
)  # fmt: skip
def rmi(asked: Asked) -> int:
    """Remove one or more images."""
    wanted = [part for text in asked.platform for part in text.split(",")]
    query = {
        "force": asked.force, "noprune": asked.no_prune,
        "platforms": [platforms.as_json(text) for text in wanted],
    }  # fmt: skip
    errors, missing_only = [], asked.force
    for name in asked.args:
        try:
            for entry in asked.session.client.delete(f"/images/{quoted(name)}", query) or ():
                word, value = next(iter(entry.items()))
                sys.stdout.write(f"{word}: {value}\n")
        except EngineError as error:
            errors.append(str(error))
            missing_only = missing_only and error.status == 404
    if errors:
        raise Exit("\n".join(errors), 0 if missing_only else 1)
    return 0


_HISTORY_HEADERS = {
    "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
    "Size": "SIZE", "Comment": "COMMENT",
}  # fmt: skip


@command(
    "IMAGE",
    FORMAT,
    toggle("human", "H", "write sizes and dates as people say them", default=True),
    NO_TRUNC,
    toggle("quiet", "q", "show only image IDs"),
    platforms.PLATFORM,
    least=1,
    most=1,
)
def history(asked: Asked) -> int:
    """Show the history of an image."""
    query = {"platform": platforms.as_json(asked.platform)}
    found = asked.session.client.get(f"/images/{quoted(asked.args[0])}/history", query)
    entries = [_history_fields(entry, asked.no_trunc, asked.human) for entry in found]
    if asked.quiet and asked.format in ("", "table"):
        write_lines(entry["ID"] for entry in entries)
        return 0
    columns = ("ID", "CreatedSince" if asked.human else "CreatedAt", "CreatedBy", "Size", "Comment")
    show_list(entries, _HISTORY_HEADERS, columns, asked.format, "history")
    return 0


def _history_fields(entry: dict[str, Any], whole: bool, human: bool) -> dict[str, Any]:
    created = entry["Created"]
    program = " ".join(entry["CreatedBy"].replace("\t", " ").split(" "))
    utc = units.utc_time(created)
    return {
        "ID": entry["Id"] if whole else units.short_id(entry["Id"]),
        "CreatedSince": lambda: units.ago(created) if human else utc,
        "CreatedAt": utc,
        "CreatedBy": program if whole else units.shortened(program, 45),
        "Size": units.size(entry["Size"], 3) if human else str(entry["Size"]),
        "Comment": entry["Comment"],
    }
