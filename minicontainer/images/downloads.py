"""Manifests and blobs from a registry; blobs are resumed, and verified on the way.

A blob is written to a partial file that its digest names (`blobs.py`). When the connection breaks,
and when a later pull begins, the download goes on behind the last byte, with a Range header. One
process downloads a blob; the others wait and then have it.

See: OCI distribution-spec "Pulling manifests", "Pulling blobs"; RFC 9110 section 14.
"""

from __future__ import annotations

import hashlib
import re

from minicontainer.errors import InvalidArgument
from minicontainer.images.registry_errors import Interrupted, Stalled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.images.blobs import Blobs, Partial
    from minicontainer.images.registry import Registry, Response

_ATTEMPTS = 5  # without a new byte in between
_STALLS = 2  # each has cost the user `Patience.stall_s` already
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


def pull_scope(path: str) -> str:
    """Name what a token must allow for a pull from the repository *path*."""
    return f"repository:{path}:pull"


def fetch_document(
    registry: Registry, path: str, reference: str, accept: str
) -> tuple[bytes, str, str]:
    """Fetch a manifest or an index.

    Args:
        registry: where it is.
        path: the repository's: `library/mongo`.
        reference: a tag or a digest.
        accept: the media types that can be read.
    Returns:
        Its bytes, its media type, and the digest that the registry says it has, or "".
    """
    _, headers, body = registry.call(
        "GET", _manifest_url(path, reference), (200,),
        scopes=(pull_scope(path),), headers={"Accept": accept},
    )  # fmt: skip
    return body, headers.get("Content-Type", ""), headers.get("Docker-Content-Digest", "")


def fetch_digest(registry: Registry, path: str, reference: str, accept: str) -> str:
    """Ask for the digest of what a tag means now; "" where the registry does not say it.

    Docker Hub counts the requests for manifests, and not these.
    """
    status, headers, _ = registry.call(
        "HEAD", _manifest_url(path, reference), (200, 404, 405),
        scopes=(pull_scope(path),), headers={"Accept": accept},
    )  # fmt: skip
    return headers.get("Docker-Content-Digest", "") if status == 200 else ""


def _manifest_url(path: str, reference: str) -> str:
    return f"/v2/{path}/manifests/{reference}"


def check_document(content: bytes, expected: str, name: str) -> None:
    """Compare a document with its digest.

    Raises:
        InvalidArgument: it has another.
    """
    algorithm = expected.partition(":")[0]
    found = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    if found != expected:
        raise InvalidArgument(
            f"digest mismatch: manifest of {name} should be {expected}, its content is {found}"
        )


def download(
    registry: Registry,
    path: str,
    blobs: Blobs,
    digest: str,
    size: int,
    advance: Callable[[int], object] = lambda done: None,
) -> bool:
    """Bring a blob into the store.

    Args:
        registry: where it is.
        path: the repository's, there.
        blobs: where it goes.
        digest: which blob.
        size: bytes, as the manifest says.
        advance: is called with the number of bytes that are here, after each block.
    Returns:
        False where the blob was here already.
    Raises:
        InvalidArgument: what the registry sends has another digest, or more bytes.
        Error: it refuses, or breaks the connection again and again; what came is kept.
    """

    def waiting(done: int) -> None:
        if registry.stopped.is_set():
            raise Interrupted(f"the download of {digest} was cancelled")
        advance(done)

    with blobs.partial(digest, size, waiting) as part:
        if part is None:
            return False
        resumed = part.offset > 0
        _complete(registry, path, part, size, advance)
        try:
            part.commit()
        except InvalidArgument:
            if not resumed:
                raise
            _complete(registry, path, part, size, advance)  # the old part of it was to blame
            part.commit()
        return True


def _complete(
    registry: Registry, path: str, part: Partial, size: int, advance: Callable[[int], object]
) -> None:
    """Fetch what is missing of a blob, over as many connections as it takes."""
    failures = stalls = 0
    farthest = part.offset  # a blob that is too short comes again and again: that is no progress
    while part.offset < size:
        try:
            _fetch(registry, path, part, size, advance)
        except Interrupted as error:
            stalls += isinstance(error, Stalled)
            failures = 1 if part.offset > farthest else failures + 1
            farthest = max(farthest, part.offset)
            if failures >= _ATTEMPTS or stalls >= _STALLS or registry.stopped.is_set():
                raise
            registry.pause(failures - 1)


def _fetch(
    registry: Registry, path: str, part: Partial, size: int, advance: Callable[[int], object]
) -> None:
    """Make one request for what is missing of a blob, and write what comes."""
    headers = {"Range": f"bytes={part.offset}-"} if part.offset else {}
    url = f"/v2/{path}/blobs/{part.digest}"
    with registry.open("GET", url, scopes=(pull_scope(path),), headers=headers) as response:
        _take_up(registry, part, response)
        advance(part.offset)
        for block in response.iter_raw():  # as they come: what is written is not lost
            if registry.stopped.is_set():
                raise Interrupted(f"the download of {part.digest} was cancelled")
            part.write(block)
            advance(part.offset)
    if part.offset < size:
        raise Interrupted(
            f"blob {part.digest} is cut off: registry {registry.domain} sent {part.offset} of "
            f"{size} bytes"
        )


def _take_up(registry: Registry, part: Partial, response: Response) -> None:
    """Find out where an answer's bytes begin, and go back there."""
    status = response.status_code
    if status == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != part.offset:
            part.restart()
            raise Interrupted(f"registry {registry.domain} sent a range that was not asked for")
    elif status == 200:
        if part.offset:  # it does not know Range
            part.restart()
    elif status == 416:
        part.restart()
        raise Interrupted(f"registry {registry.domain} has no such range of blob {part.digest}")
    else:
        raise registry.refusal(response)
