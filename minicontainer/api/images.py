"""Routes of images. A name in a path may have slashes and a port: `host:5000/team/web`.

See: Docker Engine API, "Image".
"""

from __future__ import annotations

import base64

from minicontainer import jsontext
from minicontainer.api.calls import Answer, json_answer
from minicontainer.api.containers import TAR
from minicontainer.api.streams import progress_answer
from minicontainer.errors import InvalidArgument
from minicontainer.images import platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.api.calls import Call
    from minicontainer.images.platforms import Platform

_AUTH_HEADER = "x-registry-auth"


def list_images(call: Call) -> Answer:
    """GET /images/json."""
    images = call.engine.images.list(
        call.flag("all"),
        call.filters(),
        digests=call.flag("digests"),
        shared_size=call.flag("shared-size"),
        manifests=call.version >= (1, 47) and call.flag("manifests"),
    )
    return json_answer(images)


def inspect(call: Call) -> Answer:
    """GET /images/{name}/json."""
    platform = _platform(call, (1, 49))
    manifests = call.version >= (1, 48) and call.flag("manifests")
    if platform and manifests:
        raise InvalidArgument(
            "conflicting options: manifests and platform options cannot both be set"
        )
    return json_answer(call.engine.images.inspect(call.name, platform, manifests))


def history(call: Call) -> Answer:
    """GET /images/{name}/history."""
    return json_answer(call.engine.images.history(call.name, _platform(call, (1, 48))))


def tag(call: Call) -> Answer:
    """POST /images/{name}/tag."""
    call.engine.images.tag(call.name, call.text("repo"), call.text("tag"))
    return Answer(201)


def remove(call: Call) -> Answer:
    """DELETE /images/{name}."""
    if not call.name.strip():
        raise InvalidArgument("image name cannot be blank")
    told = call.texts("platforms") if call.version >= (1, 50) else []
    wanted = tuple(map(platforms.from_json, told))
    removed = call.engine.images.remove(
        call.name, call.flag("force"), not call.flag("noprune"), wanted
    )
    return json_answer(removed)


def prune(call: Call) -> Answer:
    """POST /images/prune."""
    return json_answer(call.engine.images.prune(call.filters()))


def create(call: Call) -> Answer:
    """POST /images/create: pull an image, or import a root file system."""
    images = call.engine.images
    repository, platform = call.text("repo"), call.text("platform")
    if name := call.text("fromImage"):
        credentials = registry_credentials(call)
        return progress_answer(images.pull(name, call.text("tag"), platform, credentials))
    source = call.text("fromSrc")
    if not source:
        raise InvalidArgument("cannot import from nothing: name a URL, or send the archive itself")
    changes = [line for text in call.texts("changes") for line in text.splitlines()]
    message, body = call.text("message"), call.stream() if source == "-" else source
    return progress_answer(
        images.import_(body, repository, call.text("tag"), message, changes, platform)
    )


def push(call: Call) -> Answer:
    """POST /images/{name}/push."""
    credentials, platform = registry_credentials(call), _platform(call, (1, 46))
    return progress_answer(
        call.engine.images.push(call.name, call.text("tag"), credentials, platform)
    )


def save(call: Call) -> Answer:
    """GET /images/{name}/get and GET /images/get."""
    names = [call.names["name"]] if "name" in call.names else call.texts("names")
    return Answer(200, call.engine.images.save(names, _platform(call, (1, 48))), TAR)


def load(call: Call) -> Answer:
    """POST /images/load."""
    body, platform = call.stream(), _platform(call, (1, 48))
    messages = call.engine.images.load(body, call.flag("quiet"), platform)
    return progress_answer(messages, errors_inside=True)


def search(call: Call) -> Answer:
    """GET /images/search."""
    term, limit = call.text("term"), call.whole("limit")
    credentials = registry_credentials(call)
    return json_answer(call.engine.images.search(term, limit, call.filters(), credentials))


def distribution(call: Call) -> Answer:
    """GET /distribution/{name}/json: what a registry knows of an image."""
    return json_answer(call.engine.images.distribution(call.name, registry_credentials(call)))


def _platform(call: Call, since: tuple[int, int]) -> Platform | None:
    """Read the parameter `platform`, a JSON object; older versions of the API have none."""
    text = call.text("platform")
    if not text or call.version < since:
        return None
    if len(call.texts("platform")) > 1:
        raise InvalidArgument("multiple platform parameters not supported")
    return platforms.from_json(text)


def registry_credentials(call: Call) -> dict[str, Any]:
    """Read the header in which a client sends its credentials for a registry; {} without one."""
    text = call.request.headers.get(_AUTH_HEADER, "")
    if not text:
        return {}
    try:
        # The padding is optional; the alphabet is that of URLs, or the other one.
        raw = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_")
        value = jsontext.parse(raw.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid X-Registry-Auth header: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument("invalid X-Registry-Auth header: expected an object")
    return value
