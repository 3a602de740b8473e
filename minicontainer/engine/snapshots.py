"""A container's files as a whole: what has changed, an archive of all, an image made of them.

See: Docker Engine API, ContainerChanges, ContainerExport, ImageCommit.
"""

from __future__ import annotations

import contextlib
import tempfile

from minicontainer import jsontext, steps
from minicontainer.engine import bundles, stops
from minicontainer.engine.images import read_name
from minicontainer.engine.progress import streamed
from minicontainer.errors import Conflict
from minicontainer.images import changes, instructions
from minicontainer.images.config import parse_json
from minicontainer.images.making import keep_layer, make_image, new_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine
    from minicontainer.engine.progress import Tell
    from minicontainer.images.image import Image

    Json = dict[str, Any]

# Mounted in every container, and so never part of its own files.
_ALWAYS_MOUNTED = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
# How a container starts, as far as an image can say it.
_OF_IMAGES = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
    "StopSignal", "Healthcheck", "Shell", "OnBuild",
)  # fmt: skip
# The digest of an archive without an entry: two blocks of zeros.
_EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def hidden(container: Container) -> tuple[str, ...]:
    """List the mount points in a container: the runtime has made what was missing of them."""
    found = [*_ALWAYS_MOUNTED, *(mount["Destination"] for mount in container.mounts)]
    with contextlib.suppress(FileNotFoundError):  # it has never started
        with open(f"{container.directory}/config.json", encoding="utf-8") as file:
            spec = jsontext.parse(file.read())
        found += [mount["destination"] for mount in spec.get("mounts", ())]
    return tuple(found)


def _ways(container: Container) -> Json:
    return {"copied": container.copied, "first_id": bundles.first_id_of(container)}


def list_changes(engine: Engine, container: Container) -> list[Json] | None:
    """List what differs from the image; None for nothing, as Docker has it."""
    upper, lowers = f"{container.directory}/upper", engine.lowers_of(container)
    found = [
        {"Path": path, "Kind": kind}
        for kind, path in changes.changes(upper, lowers, hidden(container), **_ways(container))
    ]
    return found or None


class _Parts:
    """A file that is only written: what is written goes out as a message."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def write(self, data: bytes, /) -> None:
        """Send a part of the archive."""
        self._tell({"data": bytes(data)})


def export(engine: Engine, container: Container) -> Iterator[bytes]:
    """Write all files as a tar, in parts; an empty part is a sign of life."""
    directories = engine.directories_of(container)
    engine.publish(container, "export")
    first_id = bundles.first_id_of(container)
    messages = streamed(
        lambda tell: changes.write_tree(directories, _Parts(tell), first_id=first_id)
    )
    return (message.get("data", b"") for message in messages)


def commit(engine: Engine, container: Container, query: Json, config: Json) -> Json:
    """Make an image of a container.

    Args:
        engine: with its images.
        container: it may run; it is paused meanwhile, unless `pause` is false.
        query: repo, tag, comment, author, changes (Dockerfile instructions) and pause.
        config: replaces parts of how it starts, in Docker's fields.
    """
    name = read_name(query["repo"], query.get("tag") or "") if query.get("repo") else None
    asked = instructions.apply(config or container.body, query.get("changes") or ())
    settled = _merged(asked, container.body)
    store, layers = engine.images.store, engine.images.layers
    below = store.resolve(container.image_id) if container.image_id else None
    base = below.layers if below else ()
    with contextlib.ExitStack() as undo:
        archive = undo.enter_context(tempfile.TemporaryFile(dir=container.directory))
        with _paused(engine, container, query.get("pause", True)):
            upper = f"{container.directory}/upper"
            if below:
                changes.write_changeset(
                    upper, engine.lowers_of(container), archive, hidden(container),
                    **_ways(container),
                )  # fmt: skip
            else:  # made from a directory: the image has all of it
                changes.write_tree(
                    engine.directories_of(container), archive,
                    first_id=bundles.first_id_of(container),
                )  # fmt: skip
        archive.seek(0)
        steps.reach("before keep-layer")
        lease = undo.enter_context(store.lease("commit", is_resumable=False))
        diff_ids = tuple(layer.diff_id for layer in base)
        layer = keep_layer(store, layers, lease, archive, diff_ids)
        steps.reach("after keep-layer")
        is_empty = layer.diff_id == _EMPTY
        image = make_image(
            store, lease, _document(container, below, settled, query, is_empty),
            base if is_empty else (*base, layer), () if name is None else (name,),
            below.id if below else "",
        )  # fmt: skip
        steps.reach("after make-image")
    engine.publish(
        container, "commit", comment=query.get("comment") or "", imageID=image.id,
        imageRef=name.familiar if name else "",
    )  # fmt: skip
    return {"Id": image.id}


def _document(
    container: Container, below: Image | None, settled: Json, query: Json, is_empty: bool
) -> Json:
    """Write the new image's config: the one of the image below, with another step."""
    fresh = new_document(settled, query.get("comment") or "", " ".join(container.program()))
    author = {"author": query["author"]} if query.get("author") else {}
    step = fresh["history"][0] | author | ({"empty_layer": True} if is_empty else {})
    before: Json = parse_json(below.config_json, "image config") if below else {}
    own = {"config": settled, "created": fresh["created"], **author}
    return {**fresh, **before, **own, "history": [*(before.get("history") or ()), step]}


def _merged(asked: Json, below: Json) -> Json:
    """Fill up how a container starts from how another does: what is asked for wins."""
    found = {name: asked.get(name) or below.get(name) for name in _OF_IMAGES}
    found["Cmd"], found["Entrypoint"] = asked.get("Cmd"), asked.get("Entrypoint")
    if not found["Entrypoint"]:
        found["Cmd"] = found["Cmd"] or below.get("Cmd")
        if found["Entrypoint"] is None:
            found["Entrypoint"] = below.get("Entrypoint")
    names = {text.partition("=")[0] for text in asked.get("Env") or ()}
    more = [text for text in below.get("Env") or () if text.partition("=")[0] not in names]
    found["Env"] = [*(asked.get("Env") or ()), *more]
    for name in ("ExposedPorts", "Labels", "Volumes"):
        found[name] = {**(below.get(name) or {}), **(asked.get(name) or {})}
    return {name: value for name, value in found.items() if value}


@contextlib.contextmanager
def _paused(engine: Engine, container: Container, wanted: bool) -> Iterator[None]:
    """Hold a running container still, so that its files fit together."""
    if not wanted or container.state.status != "running":
        yield
        return
    try:
        stops.pause(engine, container)
    except Conflict:  # it has ended, or somebody else has paused it
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(Conflict):
            stops.resume(engine, container)
