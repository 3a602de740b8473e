"""Look at what a registry has under a name, without pulling it.

See: OCI distribution-spec "Pull", "Listing Tags"; Docker Engine API, "Distribution".
"""

from __future__ import annotations

import re

from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images import config, downloads, indexes, mirrors, platforms
from minicontainer.images.references import DEFAULT_TAG, Reference
from minicontainer.images.registry import Registry, Settings
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.credentials import Credentials
    from minicontainer.images.manifests import Descriptor
    from minicontainer.images.platforms import Platform

_MOST_PAGES = 1000
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_CONFIG_LIMIT = 8 << 20


class Described(Record):
    """What a name means in a registry.

    Args:
        digest: of the index, or of the manifest where there is none.
        size: of that document, in bytes.
        media_type: of that document.
        platforms: what there are images for.
    """

    digest: str
    size: int
    media_type: str
    platforms: tuple[Platform, ...]


def describe(
    name: Reference, credentials: Credentials | None = None, settings: Settings | None = None
) -> Described:
    """Ask a registry what a name means.

    Raises:
        NotFound: it has no such image, in Docker's words. Unauthorized: log in first.
        Error: it can't be reached, or refuses.
    """
    return mirrors.ask(
        name, credentials, settings or Settings(), lambda registry: _described(registry, name)
    )


def _described(registry: Registry, name: Reference) -> Described:
    content, carried, told = downloads.fetch_document(
        registry, name.path, name.digest or name.tag or DEFAULT_TAG, indexes.ACCEPT
    )
    digest = name.digest or told or indexes.digest_of(content)
    downloads.check_document(content, digest, name.familiar)
    found = indexes.parse(content, carried, name.familiar)
    if isinstance(found, indexes.Index):
        kind = config.parse_json(content, "index").get("mediaType") or carried
        listed = tuple(entry.platform for entry in found.manifests if entry.platform)
    else:
        kind = found.media_type
        listed = (_platform(registry, name, found.config),)
    return Described(
        digest=digest, size=len(content), media_type=kind.partition(";")[0], platforms=listed
    )


def _platform(registry: Registry, name: Reference, blob: Descriptor) -> Platform:
    """Read an image's platform from its config."""
    if blob.size > _CONFIG_LIMIT:
        raise InvalidArgument(f"{name.familiar}: its config has {blob.size} bytes")
    with registry.open(
        "GET", f"/v2/{name.path}/blobs/{blob.digest}", scopes=(downloads.pull_scope(name.path),)
    ) as response:
        if response.status_code != 200:
            raise registry.refusal(response)
        content = b""
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > blob.size:
                break
    downloads.check_document(content, blob.digest, name.familiar)
    return platforms.of(config.parse(content))


def list_tags(
    name: Reference, credentials: Credentials | None = None, settings: Settings | None = None
) -> list[str]:
    """List the tags of a repository, sorted.

    Raises:
        NotFound: there is no such repository, or it has no tags. Error: as for `describe`.
    """
    tags = mirrors.ask(
        name, credentials, settings or Settings(), lambda registry: _listed(registry, name)
    )
    if not tags:
        raise NotFound(f"repository {name.familiar_repository} has no tags")
    return sorted(tags)


def _listed(registry: Registry, name: Reference) -> set[str]:
    tags: set[str] = set()
    url = f"/v2/{name.path}/tags/list"
    for _ in range(_MOST_PAGES):
        _, headers, body = registry.call(
            "GET", url, (200,), scopes=(downloads.pull_scope(name.path),)
        )
        page = config.parse_json(body, f"tags of {name.familiar_repository}").get("tags")
        tags.update(tag for tag in page or () if isinstance(tag, str))
        following = _NEXT.search(headers.get("Link", ""))
        if following is None:
            break
        url = following[1]
    return tags
