"""Variables of a new program: -e, --env-file, and the files of both variables and labels.

See: Docker's `docker container run` reference, "--env".
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def lines_of(path: str, what: str) -> list[tuple[int, str]]:
    """Read a file of variables or labels: numbered lines, without comments and empty ones."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise InvalidArgument(f"open {path}: {(error.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"{what} file {path}: is not UTF-8 text") from None
    lines = [line.lstrip() for line in text.removeprefix("\ufeff").splitlines()]
    return [(i, line) for i, line in enumerate(lines, 1) if line and not line.startswith("#")]


def environment(given: Iterable[str], files: Iterable[str], own: dict[str, str]) -> list[str]:
    """Read -e and --env-file: files first. A name alone takes this process's value.

    What is wrong is not shown: it may be a secret, or a part of one that has several lines.
    """
    found = []
    for path in files:
        for number, line in lines_of(path, "env"):
            name, equals, _ = line.partition("=")
            if not name.strip() or " " in name or "\t" in name:
                is_bare = not name.strip()
                why = "no variable name" if is_bare else "the variable's name contains whitespaces"
                raise InvalidArgument(f"invalid env file ({path}): line {number}: {why}")
            if equals:
                found.append(line)
            elif name in own:
                found.append(f"{name}={own[name]}")
    for text in given:
        name, equals, _ = text.partition("=")
        if not name:
            raise InvalidArgument(
                "invalid environment variable: it has no name: use NAME=VALUE, or NAME"
            )
        found.append(f"{name}={own[name]}" if not equals and name in own else text)
    return found
