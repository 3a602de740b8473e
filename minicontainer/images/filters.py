"""Filters of image lists: `--filter reference=mongo:4*`, `dangling=true`, `label=…`, `until=24h`.

Each filter is a row of a table: its name, and a function from its values to a test of an image.
An image has to pass the tests of all filters; several values of one filter are alternatives, but
for `label` and `until`, where all have to fit.

See: `docker images --filter`, `docker image prune --filter`.
"""

from __future__ import annotations

import re
import time

from minicontainer import quantities
from minicontainer.errors import InvalidArgument
from minicontainer.images.config import nanoseconds
from minicontainer.images.references import parse, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from minicontainer.images.image import Image

    Test = Callable[[Image], bool]
    Filters = Mapping[str, Sequence[str]]
    Find = Callable[[str], Image]

FOR_LISTS = ("before", "dangling", "label", "label!", "reference", "since", "until")
FOR_PRUNING = ("dangling", "label", "label!", "until")
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


def passing(
    images: Iterable[Image], filters: Filters, find: Find, allowed: Iterable[str] = FOR_LISTS
) -> list[Image]:
    """Give the images that pass all filters.

    Args:
        images: to choose from.
        filters: names and values, as clients send them.
        find: finds an image by what a user typed, for `before` and `since`.
        allowed: the names that make sense here.
    Raises:
        InvalidArgument: a filter or a value makes no sense. NotFound: as *find* says.
    """
    wanted = combined(filters, find, allowed)
    return [image for image in images if wanted(image)]


def combined(filters: Filters, find: Find, allowed: Iterable[str] = FOR_LISTS) -> Test:
    """Make one test of all filters; see `passing`."""
    tests: list[Test] = []
    for name, values in filters.items():
        if name not in allowed:
            raise InvalidArgument(f"invalid filter '{shown(name)}'")
        if name == "until" and len(values) > 1 and allowed is FOR_PRUNING:
            raise InvalidArgument("more than one until filter specified")
        if values:
            tests.append(_MAKERS[name](values, find))
    return lambda image: all(passes(image) for passes in tests)


def boolean(name: str, values: Sequence[str]) -> bool:
    """Read a filter that is true or false.

    Raises:
        InvalidArgument: it is neither, or both.
    """
    given = {True if value in _TRUE else False if value in _FALSE else None for value in values}
    if given == {True} or given == {False}:
        return True in given
    raise InvalidArgument(f"invalid filter '{name}={shown(str(list(values)))}'")


def matching_names(image: Image, patterns: Sequence[str]) -> list[str]:
    """Give the names of an image, tags and digests, that fit one of the patterns."""
    expressions = [glob(pattern) for pattern in patterns]
    found = []
    for text in (*image.names, *image.repo_digests):
        name = parse(text)
        if any(
            expression.fullmatch(name.familiar) or expression.fullmatch(name.familiar_repository)
            for expression in expressions
        ):
            found.append(text)
    return found


def glob(pattern: str) -> re.Pattern[str]:
    """Read a pattern as Go's path.Match does: `*` and `?` stop at slashes.

    Raises:
        InvalidArgument: a bracket or a backslash is not finished.
    """
    made, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if char in "*?":
            made += "[^/]*" if char == "*" else "[^/]"
        elif char == "[":
            part = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]").match(pattern, at)
            if part is None:
                raise _bad(pattern)
            inside = re.sub(r"\\(.)|([\[&~|])", r"\\\1\2", part[2])
            made += f"(?!/)[{part[1]}{inside}]"
            at = part.end() - 1
        elif char == "\\":
            at += 1
            if at == len(pattern):
                raise _bad(pattern)
            made += re.escape(pattern[at])
        else:
            made += re.escape(char)
        at += 1
    try:
        return re.compile(made, re.DOTALL)
    except re.error:  # a range from z to a
        raise _bad(pattern) from None


def _bad(pattern: str) -> InvalidArgument:
    return InvalidArgument(f"syntax error in pattern: {shown(pattern)}")


def _reference(values: Sequence[str], find: Find) -> Test:
    for value in values:
        glob(value)  # a wrong one is wrong for no images, too
    return lambda image: bool(matching_names(image, values))


def _dangling(values: Sequence[str], find: Find) -> Test:
    if boolean("dangling", values):
        return lambda image: not image.names  # one that was pulled by its digest, too
    return lambda image: not is_dangling(image)


def is_dangling(image: Image) -> bool:
    """Say whether an image has no name at all."""
    return not image.names and not image.repo_digests


def _label(values: Sequence[str], find: Find) -> Test:
    pairs = [value.partition("=") for value in values]

    def fits(image: Image) -> bool:
        labels = image.labels
        return all(
            key in labels and (not equals or labels[key] == value) for key, equals, value in pairs
        )

    return fits


def _no_label(values: Sequence[str], find: Find) -> Test:
    tests = [_label((value,), find) for value in values]
    return lambda image: not any(fits(image) for fits in tests)


def _before(values: Sequence[str], find: Find) -> Test:
    limit = max(find(value).created_ns for value in values)
    return lambda image: image.created_ns < limit


def _since(values: Sequence[str], find: Find) -> Test:
    limit = min(find(value).created_ns for value in values)
    return lambda image: image.created_ns > limit


def _until(values: Sequence[str], find: Find) -> Test:
    limit = min(map(moment_ns, values))
    return lambda image: image.created_ns < limit


def moment_ns(text: str) -> int:
    """Read a time as nanoseconds since 1970: RFC 3339, seconds since 1970, or how long ago."""
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        whole, _, part = text.partition(".")
        return int(whole) * 10**9 + int(part.ljust(9, "0"))
    day = re.fullmatch(r"(\d{4}-\d\d-\d\d)(T\d\d(?::\d\d)?(?::\d\d(?:\.\d+)?)?)?", text)
    if day:  # what is left out is 0; without a zone it is UTC
        clock = (day[2] or "T00").split(":")
        clock += ["00"] * (3 - len(clock))
        text = f"{day[1]}{':'.join(clock)}Z"
    if moment := nanoseconds(text):
        return moment
    try:
        return time.time_ns() - int(quantities.duration_s(text) * 10**9)
    except InvalidArgument:
        raise InvalidArgument(f"invalid filter 'until={shown(text)}'") from None


_MAKERS: dict[str, Callable[[Sequence[str], Find], Test]] = {
    "before": _before,
    "dangling": _dangling,
    "label": _label,
    "label!": _no_label,
    "reference": _reference,
    "since": _since,
    "until": _until,
}
