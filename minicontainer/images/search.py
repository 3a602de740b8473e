"""Search a registry for repositories: `GET /v1/search`, which Docker Hub answers, and few others.

    redis                      asks index.docker.io for redis
    registry.lan:5000/redis    asks that registry

See: moby registry/search.go. No specification has this request.
"""

from __future__ import annotations

import urllib.parse

from minicontainer.errors import Error, InvalidArgument, NotFound
from minicontainer.images import config, filters
from minicontainer.images.references import DEFAULT_DOMAIN, shown, split_search
from minicontainer.images.registry import Registry, Settings
from minicontainer.images.registry_errors import Refused
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from minicontainer.images.credentials import Credentials

_HUB = "index.docker.io"  # the images themselves are at another host
_USUAL_LIMIT, _HIGHEST_LIMIT = 25, 100
_FILTERS = ("is-automated", "is-official", "stars")


class Result(Record, names=str):
    """A repository that was found; the fields have the registry's own names."""

    name: str
    description: str = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


def search(
    term: str,
    limit: int = 0,
    wanted: Mapping[str, Sequence[str]] | None = None,
    credentials: Credentials | None = None,
    settings: Settings | None = None,
) -> list[Result]:
    """Search for repositories.

    Args:
        term: a word, or `HOST[:PORT]/WORD` for another registry than Docker Hub.
        limit: the most results, up to 100; 0 for 25.
        wanted: filters: `is-official`, `stars`; `is-automated` finds nothing any more.
    Raises:
        InvalidArgument: in Docker's words. NotFound: that registry can't be searched.
        Unreachable: it does not answer.
    """
    passes = _passing(wanted or {})
    if "://" in term:
        raise InvalidArgument(
            f"invalid repository name: repository name ({shown(term)}) should not have a scheme"
        )
    domain, word = split_search(term)
    if domain == DEFAULT_DOMAIN:
        domain, word = _HUB, word.removeprefix("library/")
    limit = limit or _USUAL_LIMIT
    if not 1 <= limit <= _HIGHEST_LIMIT:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, {_HIGHEST_LIMIT}]")
    query = urllib.parse.urlencode({"q": word, "n": limit})
    with Registry(domain, credentials, settings or Settings()) as registry:
        try:
            _, _, body = registry.call("GET", f"/v1/search?{query}", (200,))
        except Refused as error:
            if error.status == 404:
                raise NotFound(f"registry {domain} can't be searched: {error}") from error
            raise
    listed = config.parse_json(body, f"search results of {domain}").get("results")
    if not isinstance(listed, list):
        raise Error(f"registry {domain} can't be searched: its answer has no results")
    found = (
        Result.from_json(item, f"results[{i}]").replace(is_automated=False)  # as Docker does
        for i, item in enumerate(listed)
    )
    return [result for result in found if passes(result)]


def _passing(wanted: Mapping[str, Sequence[str]]) -> Callable[[Result], bool]:
    """Read the filters; return what says whether a result passes all of them."""
    for name in wanted:
        if name not in _FILTERS:
            raise InvalidArgument(f"invalid filter '{shown(name)}'")
    automated = _boolean(wanted, "is-automated")
    official = _boolean(wanted, "is-official")
    stars = 0
    for text in wanted.get("stars", ()):
        if not text.isdecimal():
            raise InvalidArgument(f"invalid filter 'stars={shown(text)}'")
        stars = max(stars, int(text))
    return lambda result: (
        not automated and official in (None, result.is_official) and result.star_count >= stars
    )


def _boolean(wanted: Mapping[str, Sequence[str]], name: str) -> bool | None:
    values = wanted.get(name, ())
    return filters.boolean(name, values) if values else None
