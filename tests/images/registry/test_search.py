"""Searching a registry: what is asked of it, what passes the filters, and what goes wrong."""

from __future__ import annotations

import socket

import pytest

from minicontainer.errors import Error, InvalidArgument, NotFound
from minicontainer.images import search
from minicontainer.images.credentials import Credentials
from minicontainer.images.references import split_search

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.registry import Settings
    from tests.images.registry.strict_registry import StrictRegistry

REDIS = {"name": "redis", "description": "a store", "star_count": 9, "is_official": True}
TEAM = {"name": "team/redis", "description": None, "star_count": 2, "is_automated": True}


def test_what_a_registry_finds(strict: StrictRegistry, settings: Settings) -> None:
    """In its order, with the fields that Docker's API has."""
    strict.results = [REDIS, TEAM]
    found = search.search(f"{strict.host}/red is", settings=settings)
    assert [one.to_json() for one in found] == [
        {**REDIS, "is_automated": False},
        {**TEAM, "description": "", "is_official": False, "is_automated": False},
    ]
    assert strict.seen("GET", "/v1/search?q=red+is&n=25")
    search.search(f"{strict.host}/x", 3, settings=settings)
    assert strict.seen("GET", "/v1/search?q=x&n=3")


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"is-official": ["true"]}, ["redis"]),
        ({"is-official": ["false"]}, ["team/redis"]),
        ({"stars": ["2"]}, ["redis", "team/redis"]),
        ({"stars": ["3", "1"]}, ["redis"]),
        ({"is-automated": ["true"]}, []),
    ],
)
def test_the_filters(
    strict: StrictRegistry, settings: Settings, filters: dict[str, list[str]], names: list[str]
) -> None:
    """The registry knows none of them."""
    strict.results = [REDIS, TEAM]
    found = search.search(f"{strict.host}/redis", 0, filters, settings=settings)
    assert [one.name for one in found] == names


def test_where_docker_hub_is_searched() -> None:
    """A first part is a registry where it looks like a host."""
    assert split_search("redis") == split_search("docker.io/redis") == ("docker.io", "redis")
    assert split_search("team/app") == ("docker.io", "team/app")
    assert split_search("index.docker.io/library/redis") == ("docker.io", "library/redis")
    assert split_search("lan:5000/a/b") == ("lan:5000", "a/b")


def test_what_is_no_search(strict: StrictRegistry, settings: Settings) -> None:
    """Nothing is asked then."""
    strict.results = []
    here = f"{strict.host}/x"
    for term, limit, filters, words in (
        ("http://x/redis", 0, {}, "should not have a scheme"),
        (here, 101, {}, r"outside the range of \[1, 100\]"),
        (here, -1, {}, r"outside the range of \[1, 100\]"),
        (here, 0, {"name": ["x"]}, "invalid filter 'name'"),
        (here, 0, {"stars": ["many"]}, "invalid filter 'stars=many'"),
        (here, 0, {"is-official": ["perhaps"]}, "invalid filter 'is-official"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            search.search(term, limit, filters, settings=settings)
    assert not strict.requests


def test_a_registry_without_a_search(strict: StrictRegistry, settings: Settings) -> None:
    """One clear line: of a registry that has none, of one with other answers, of none at all."""
    with pytest.raises(NotFound, match=f"^registry {strict.host} can't be searched: "):
        search.search(f"{strict.host}/x", settings=settings)
    strict.results = [{"name": 1}]
    with pytest.raises(Error, match=r"results\[0\].*name"):
        search.search(f"{strict.host}/x", settings=settings)
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with pytest.raises(Error, match=f"^registry 127.0.0.1:{free} can't be reached: "):
        search.search(f"127.0.0.1:{free}/x", settings=settings)


def test_the_name_of_who_searches(strict: StrictRegistry, settings: Settings) -> None:
    """Sent to a registry that asks for one."""
    strict.results = [REDIS]
    who = Credentials(username="u", password="p")
    assert search.search(f"{strict.host}/x", 0, {}, who, settings)
