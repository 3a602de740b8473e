"""Images as archives: save, load, import."""

from __future__ import annotations

import os
import sys

from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle
from minicontainer.cli.images import split_tag
from minicontainer.cli.platforms import PLATFORM
from minicontainer.cli.platforms import as_json as platform_json
from minicontainer.cli.progress import show_progress
from minicontainer.cli.snapshots import check_output, write_archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_BLOCK = 1 << 18


@command(
    "IMAGE [IMAGE...]",
    Flag(name="output", letter="o", help="write to a file, and not to standard output"),
    PLATFORM,
    least=1,
)
def save(asked: Asked) -> int:
    """Save one or more images to a tar archive (streamed to STDOUT by default)."""
    check_output(asked.output)
    wanted = platform_json(asked.platform)
    found = asked.session.client.request(
        "GET", "/images/get", {"names": asked.args, "platform": wanted}
    )
    write_archive(found, asked.output)
    return 0


@command(
    "",
    Flag(name="input", letter="i", help="read from a file, and not from standard input"),
    PLATFORM,
    toggle("quiet", "q", "do not show progress"),
    most=0,
)
def load(asked: Asked) -> int:
    """Load an image from a tar archive or STDIN."""
    if not asked.input and os.isatty(0):
        raise Exit("requested load from stdin, but stdin is empty")
    quiet = asked.quiet or not os.isatty(1)
    query = {"quiet": "1" if quiet else "0", "platform": platform_json(asked.platform)}
    headers = {"Content-Type": "application/x-tar"}
    with _opened(asked.input) as file:
        answer = asked.session.client.request("POST", "/images/load", query, _blocks(file), headers)
        show_progress(answer.messages(), sys.stdout)
    return 0


def _opened(path: str) -> BinaryIO:
    if not path or path == "-":
        return open(0, "rb", closefd=False)
    try:
        return open(path, "rb")
    except OSError as error:
        raise Exit(f"open {path}: {(error.strerror or '').lower()}") from None


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


@command(
    "file|URL|- [REPOSITORY[:TAG]]",
    Flag(name="change", letter="c", many=True, metavar="list",
         help="an instruction of a Dockerfile for the image: 'CMD top'"),
    Flag(name="message", letter="m", help="what it is, for the history"),
    Flag(name="platform", help="what the image is for: os[/arch[/variant]]"),
    least=1, most=2,
)  # fmt: skip
def import_(asked: Asked) -> int:
    """Import the contents from a tarball to create a filesystem image."""
    source = asked.args[0]
    repository, tag = split_tag(asked.args[1]) if asked.args[1:] else ("", "")
    remote = source.startswith(("http://", "https://"))
    query = {
        "fromSrc": source if remote else "-", "repo": repository, "tag": tag,
        "message": asked.message, "changes": asked.change, "platform": asked.platform,
    }  # fmt: skip
    client = asked.session.client
    if remote:
        show_progress(client.request("POST", "/images/create", query).messages(), sys.stdout)
        return 0
    with _opened(source) as file:
        answer = client.request("POST", "/images/create", query, _blocks(file),
                                {"Content-Type": "application/x-tar"})  # fmt: skip
        show_progress(answer.messages(), sys.stdout)
    return 0
