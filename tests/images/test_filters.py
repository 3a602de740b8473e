"""Filters of image lists, as `docker images --filter` has them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images.config import rfc3339
from minicontainer.images.filters import FOR_PRUNING, glob, passing
from tests.images.conftest import add_image, sha256, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.store import ImageStore

DIGEST = sha256(b"an index")


@pytest.fixture
def filled(store: ImageStore) -> ImageStore:
    """Give a store with some images."""
    add_image(store, "mongo:4.4", created="2020-01-01T00:00:00Z", config={"Labels": {"a": "1"}})
    add_image(store, "mongo", "host:5000/team/mongo:v1", created="2021-01-01T00:00:00Z")
    add_image(store, "team/app:1", created="2022-01-01T00:00:00Z", config={"Labels": {"a": "2"}})
    add_image(store, layers=(tar_of({"x": b"x"}),), created="2023-01-01T00:00:00Z")
    add_image(
        store, layers=(tar_of({"y": b"y"}),), created="2024-01-01T00:00:00Z",
        repo_digests=(f"redis@{DIGEST}",),
    )  # fmt: skip
    return store


def years(store: ImageStore, filters: dict[str, list[str]]) -> str:
    """Give the last digits of the years of the images that pass."""
    return "".join(image.created[3] for image in passing(store.list(), filters, store.resolve))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "43210"),
        ({"reference": ["mongo"]}, "10"),
        ({"reference": ["mongo:4*"]}, "0"),
        ({"reference": ["mongo:4.4", "team/*"]}, "20"),
        ({"reference": ["*/*/*"]}, "1"),
        ({"reference": ["*"]}, "410"),
        ({"reference": ["redis@sha256:*"]}, "4"),
        ({"reference": ["docker.io/library/mongo"]}, ""),
        ({"reference": ["mong[o-p]:[^0-9]*"]}, "1"),
        ({"dangling": ["true"]}, "43"),
        ({"dangling": ["0"]}, "4210"),
        ({"label": ["a"]}, "20"),
        ({"label": ["a=2"]}, "2"),
        ({"label": ["a", "a=1"]}, "0"),
        ({"label": ["b"]}, ""),
        ({"label!": ["a=1"]}, "4321"),
        ({"before": ["team/app:1"]}, "10"),
        ({"since": ["mongo:4.4"]}, "4321"),
        ({"since": ["mongo:4.4"], "before": ["team/app:1"]}, "1"),
        ({"until": ["2022-06-01"]}, "210"),
        ({"until": ["2022-01-01T00:00:00Z"]}, "10"),
        ({"until": ["1640995201"]}, "210"),
        ({"until": ["2h"]}, "43210"),
        ({"until": ["2022-06-01", "1640995201", "2h"]}, "210"),
        ({"until": ["1000000h"]}, ""),
        ({"dangling": []}, "43210"),
    ],
)
def test_images_pass_by_all_filters(
    filled: ImageStore, filters: dict[str, list[str]], expected: str
) -> None:
    """The youngest come first."""
    assert years(filled, filters) == expected


def test_until_counts_back_from_now(store: ImageStore) -> None:
    """`until=1h` is what was made more than an hour ago."""
    now = time.time_ns()
    add_image(store, "old", created=rfc3339(now - 2 * 3600 * 10**9))
    add_image(store, "new", created=rfc3339(now - 1800 * 10**9))
    passed = passing(store.list(), {"until": ["1h"]}, store.resolve)
    assert [image.names for image in passed] == [("docker.io/library/old:latest",)]


def test_to_prune_until_is_one_moment(store: ImageStore) -> None:
    """What is removed must not depend on which of two was meant."""
    with pytest.raises(InvalidArgument, match="more than one until filter specified"):
        passing([], {"until": ["1h", "2h"]}, store.resolve, FOR_PRUNING)


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"color": ["red"]}, "invalid filter 'color'"),
        ({"dangling": ["maybe"]}, "invalid filter 'dangling="),
        ({"dangling": ["true", "false"]}, "invalid filter 'dangling="),
        ({"until": ["yesterday"]}, "invalid filter 'until=yesterday'"),
        ({"reference": ["mongo:[a"]}, "syntax error in pattern"),
        ({"reference": ["mongo\\"]}, "syntax error in pattern"),
        ({"reference": ["[z-a]"]}, "syntax error in pattern"),
    ],
)
def test_a_filter_without_sense_is_refused(
    store: ImageStore, filters: dict[str, list[str]], words: str
) -> None:
    """Also where there is no image that it could be asked about."""
    with pytest.raises(InvalidArgument, match=words.replace("[", r"\[")):
        passing([], filters, store.resolve)


def test_some_filters_are_not_for_pruning(store: ImageStore) -> None:
    """As Docker has it."""
    with pytest.raises(InvalidArgument, match="invalid filter 'reference'"):
        passing([], {"reference": ["x"]}, store.resolve, FOR_PRUNING)


def test_an_image_to_compare_with_must_be_there(store: ImageStore) -> None:
    """By its name or its ID."""
    with pytest.raises(NotFound, match="No such image: nosuch:latest"):
        passing([], {"before": ["nosuch"]}, store.resolve)


@given(st.text(st.sampled_from("ab/:*?[]^-\\.&|~("), max_size=12))
def test_any_pattern_is_read_or_refused(pattern: str) -> None:
    """And a pattern without signs matches itself alone."""
    try:
        expression = glob(pattern)
    except InvalidArgument:
        return
    expression.fullmatch("mongo:4.4")
    if not set("*?[]\\") & set(pattern):
        assert expression.fullmatch(pattern)
        assert not expression.fullmatch(pattern + "x")
