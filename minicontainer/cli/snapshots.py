"""Commands about what a container changed: commit, diff, export."""

from __future__ import annotations

import os
import sys

from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle
from minicontainer.cli.images import split_tag
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.output import write_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cli.client import Response

_KINDS = "CAD"  # by number: changed, added, deleted


@command(
    "CONTAINER | host CONTAINER | CONTAINER CONTAINER",
    toggle("all", "a", "with two: show also what is the same"),
    Flag(name="format", help="with two: 'json' for one JSON object a line"),
    least=1, most=2,
)  # fmt: skip
def diff(asked: Asked) -> int:
    """Inspect changes to files of a container; with two, compare what the kernel made of them."""
    if len(asked.args) == 2:
        from minicontainer.cli import differences  # only who compares pays for it

        return differences.show(asked)
    if asked.given & {"all", "format"}:
        raise Exit("--all and --format compare two containers, or `host` and one", prefix=True)
    name = asked.args[0].strip()
    if not name:
        raise Exit("Container name cannot be empty")
    found = asked.session.client.get(path_of(name, "changes")) or ()
    write_lines(f"{_KINDS[change['Kind']]} {change['Path']}" for change in found)
    return 0


@command(
    "CONTAINER [REPOSITORY[:TAG]]",
    Flag(name="author", letter="a", help="author: 'Ada Lovelace <ada@example.org>'"),
    Flag(name="change", letter="c", many=True, metavar="list",
         help="an instruction of a Dockerfile for the image: 'CMD top'"),
    Flag(name="message", letter="m", help="what was changed, for the history"),
    toggle("pause", "p", "pause the container meanwhile", default=True),
    least=1, most=2,
)  # fmt: skip
def commit(asked: Asked) -> int:
    """Create a new image from a container's changes."""
    repository, tag = split_tag(asked.args[1]) if asked.args[1:] else ("", "")
    query = {
        "container": asked.args[0], "repo": repository, "tag": tag, "author": asked.author,
        "comment": asked.message, "changes": asked.change, "pause": None if asked.pause else "0",
    }  # fmt: skip
    made = asked.session.client.post("/commit", query, {})
    sys.stdout.write(f"{made['Id']}\n")
    return 0


_OUTPUT = Flag(name="output", letter="o", help="write to a file, and not to standard output")


@command("CONTAINER", _OUTPUT, least=1, most=1)
def export(asked: Asked) -> int:
    """Export a container's filesystem as a tar archive."""
    check_output(asked.output)
    found = asked.session.client.request("GET", path_of(asked.args[0], "export"))
    write_archive(found, asked.output)
    return 0


def check_output(path: str) -> None:
    """Refuse to write an archive to a terminal, or into a directory that does not exist."""
    if not path and os.isatty(1):
        raise Exit("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    directory = os.path.dirname(os.path.abspath(path)) if path else ""
    if directory and not os.path.isdir(directory):
        raise Exit(f'invalid output path: directory "{os.path.dirname(path)}" does not exist')
    if path and os.path.isdir(path):
        raise Exit(f"invalid output path: {path} is a directory")


def write_archive(found: Response, path: str) -> None:
    """Write the body of an answer: to a file whole or not at all, or to standard output."""
    if not path:
        sys.stdout.flush()
        for block in found.chunks():
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return
    partial = f"{path}.part{os.getpid()}"
    try:
        with open(partial, "wb") as file:
            for block in found.chunks():
                file.write(block)
        os.rename(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
