"""prune: remove what no container uses, once the user has said yes."""

from __future__ import annotations

import sys

from minicontainer.cli import filters, units
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FILTER = Flag(name="filter", many=True, metavar="filter", read=filters.read,
               help="remove only what matches: until=24h, label=KEY")  # fmt: skip
_FORCE = toggle("force", "f", "do not ask")


def confirm(asked: Asked, warning: str) -> None:
    """Ask the user.

    Raises:
        Exit: the answer is not yes.
    """
    if asked.force:
        return
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip() not in ("y", "Y"):
        raise Exit("", 0)


def _total(reclaimed: int) -> None:
    sys.stdout.write(f"Total reclaimed space: {units.size(reclaimed)}\n")


def _prune(asked: Asked, path: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    query = {"filters": filters.as_json(pairs)}
    found: dict[str, Any] = asked.session.client.post(path, query) or {}
    return found


def _lines(title: str, names: list[str] | None) -> None:
    if names:
        sys.stdout.write("\n".join((f"{title}:", *names, "", "")))


def containers(asked: Asked, pairs: list[tuple[str, str]]) -> int:
    """Remove stopped containers; give the bytes that this freed."""
    done = _prune(asked, "/containers/prune", pairs)
    _lines("Deleted Containers", done.get("ContainersDeleted"))
    return int(done.get("SpaceReclaimed") or 0)


def networks(asked: Asked, pairs: list[tuple[str, str]]) -> int:
    """Remove networks without containers."""
    done = _prune(asked, "/networks/prune", pairs)
    _lines("Deleted Networks", done.get("NetworksDeleted"))
    return 0


def volumes(asked: Asked, pairs: list[tuple[str, str]]) -> int:
    """Remove volumes without containers; give the bytes that this freed."""
    done = _prune(asked, "/volumes/prune", pairs)
    _lines("Deleted Volumes", done.get("VolumesDeleted"))
    return int(done.get("SpaceReclaimed") or 0)


def images(asked: Asked, pairs: list[tuple[str, str]], everything: bool) -> int:
    """Remove images without a name, or all without a container; give the bytes freed."""
    done = _prune(asked, "/images/prune", [*pairs, ("dangling", "false" if everything else "true")])
    lines = [
        f"{word.lower()}: {name}"
        for entry in done.get("ImagesDeleted") or ()
        for word, name in entry.items()
        if name
    ]
    _lines("Deleted Images", lines)
    return int(done.get("SpaceReclaimed") or 0)


@command("", _FILTER, _FORCE, most=0)
def container_prune(asked: Asked) -> int:
    """Remove all stopped containers."""
    confirm(asked, "This will remove all stopped containers.")
    _total(containers(asked, asked.filter))
    return 0


@command("", toggle("all", "a", "remove named images too"), _FILTER, _FORCE, most=0)
def image_prune(asked: Asked) -> int:
    """Remove unused images."""
    what = "images without at least one container associated to them" if asked.all else ""
    confirm(asked, f"This will remove all {what or 'dangling images'}.")
    _total(images(asked, asked.filter, asked.all))
    return 0


@command("", _FILTER, _FORCE, most=0)
def network_prune(asked: Asked) -> int:
    """Remove all unused networks."""
    confirm(asked, "This will remove all custom networks not used by at least one container.")
    networks(asked, asked.filter)
    return 0


@command("", toggle("all", "a", "remove named volumes too"), _FILTER, _FORCE, most=0)
def volume_prune(asked: Asked) -> int:
    """Remove unused local volumes."""
    which = "" if asked.all else "anonymous "
    confirm(asked, f"This will remove {which}local volumes not used by at least one container.")
    pairs = [*asked.filter, ("all", "true")] if asked.all else asked.filter
    _total(volumes(asked, pairs))
    return 0


@command(
    "",
    toggle("all", "a", "remove all unused images, and not only those without a name"),
    _FILTER,
    _FORCE,
    toggle("volumes", "", "remove anonymous volumes too"),
    most=0,
)
def system_prune(asked: Asked) -> int:
    """Remove unused data."""
    unused = "images without at least one container associated to them"
    rows = [
        "all stopped containers", "all networks not used by at least one container",
        *(["all anonymous volumes not used by at least one container"] if asked.volumes else []),
        f"all {unused if asked.all else 'dangling images'}",
        "all build cache" if asked.all else "unused build cache",
    ]  # fmt: skip
    warning = "This will remove:\n" + "".join(f"  - {row}\n" for row in rows)
    if asked.filter:
        told = "".join(f"  - {key}={value}\n" for key, value in asked.filter)
        warning += f"\n  Items to be pruned will be filtered with:\n{told}"
    confirm(asked, warning)
    labels = [pair for pair in asked.filter if pair[0].startswith("label")]
    freed = containers(asked, asked.filter)
    networks(asked, asked.filter)
    freed += volumes(asked, labels) if asked.volumes else 0
    freed += images(asked, asked.filter, asked.all)
    _total(freed)
    return 0
