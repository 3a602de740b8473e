"""Blobs to a registry: found there, mounted from another repository, or sent.

    HEAD blob ── 200 ─► it is there
      │ 404
    POST uploads/?mount=DIGEST&from=OTHER ── 201 ─► mounted
      │ 202, Location
    PUT Location?digest=DIGEST, the whole blob ── 201 ─► sent
      │ the connection broke, or the blob is too large for one request
    GET Location ─► Range: 0-4095     what the registry has of it
    PATCH Location, a chunk ─► 202, another Location     … until all is there
    PUT Location?digest=DIGEST, without a body ── 201 ─► sent

See: OCI distribution-spec "Pushing blobs".
"""

from __future__ import annotations

import re
import urllib.parse

from minicontainer.errors import Error
from minicontainer.images.registry_errors import Interrupted, Stalled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from minicontainer.images.blobs import Blobs
    from minicontainer.images.registry import Registry

_BLOCK = 1 << 20
_CHUNK = 16 << 20
_ATTEMPTS = 5
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_TOO_LARGE = 413
_OUT_OF_ORDER = 416


def push_scope(path: str) -> str:
    """Name what a token must allow for a push to the repository *path*."""
    return f"repository:{path}:pull,push"


class Upload:
    """One blob on its way to a registry.

    Args:
        registry: where it goes.
        path: the repository's, there.
        blobs: where it is.
        digest: which blob.
        advance: is called with the number of bytes that were sent, after each block.
        chunk: bytes of a PATCH.
    """

    def __init__(
        self,
        registry: Registry,
        path: str,
        blobs: Blobs,
        digest: str,
        advance: Callable[[int], object] = lambda done: None,
        chunk: int = _CHUNK,
    ) -> None:
        self._registry = registry
        self._path = path
        self._blobs = blobs
        self._digest = digest
        self._size = blobs.size(digest)
        self._advance = advance
        self._chunk = chunk
        self._scopes: tuple[str, ...] = (push_scope(path),)
        self._location = ""

    def is_there(self) -> bool:
        """Say whether the repository has the blob."""
        status, _, _ = self._registry.call(
            "HEAD", f"/v2/{self._path}/blobs/{self._digest}", (200, 404), scopes=self._scopes
        )
        return status == 200

    def mount(self, sources: Iterable[str]) -> str:
        """Have the registry take the blob from another of its repositories.

        Args:
            sources: paths of repositories that may have it.
        Returns:
            The path of the one that had it, or "".
        """
        for source in sources:
            scopes = (push_scope(self._path), f"repository:{source}:pull")
            if self._begin(f"?mount={self._digest}&from={source}", scopes):
                return source
        return ""

    def send(self) -> None:
        """Send the blob, in one request if that succeeds, else in chunks.

        Raises:
            Error: the registry refuses it, or the connection breaks again and again.
        """
        if not self._location:
            self._begin("", self._scopes)
        try:
            status = self._put(0, self._size)
        except Stalled:
            raise
        except Interrupted:
            status = 0  # it may have a part of it
        if status != 201:
            self._send_chunks(from_start=status == _TOO_LARGE)

    def _begin(self, query: str, scopes: tuple[str, ...]) -> bool:
        """Begin an upload; say whether it is over, because the blob was mounted."""
        status, headers, _ = self._registry.call(
            "POST", f"/v2/{self._path}/blobs/uploads/{query}", (201, 202),
            scopes=scopes, headers={"Content-Length": "0"},
        )  # fmt: skip
        if status == 202:
            self._follow(headers.get("Location", ""))
        return status == 201

    def _follow(self, location: str) -> None:
        """Take the place of the next request from an answer."""
        if not location and not self._location:
            raise Error(f"registry {self._registry.domain} names no place for an upload")
        uploads = f"{self._registry.base()}/v2/{self._path}/blobs/uploads/"
        self._location = urllib.parse.urljoin(uploads, location) if location else self._location

    def _put(self, start: int, length: int) -> int:
        """End the upload with *length* bytes from *start*; give the status."""
        mark = "&" if "?" in self._location else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        status, _, _ = self._registry.call(
            "PUT", f"{self._location}{mark}digest={self._digest}",
            (201, _TOO_LARGE) if length else (201,),
            scopes=self._scopes, headers=headers, again=False,
            content=lambda: self._read(start, length),
        )  # fmt: skip
        return status

    def _read(self, start: int, length: int) -> Iterator[bytes]:
        """Read a part of the blob, and say how much of it was taken."""
        with self._blobs.open(self._digest) as file:
            file.seek(start)
            sent = 0
            while sent < length:
                block = file.read(min(_BLOCK, length - sent))
                if not block:
                    raise Error(f"blob {self._digest} became shorter while it was sent")
                yield block
                sent += len(block)
                self._advance(start + sent)

    # -- in chunks

    def _send_chunks(self, from_start: bool) -> None:
        """Send what the registry does not have yet, chunk by chunk."""
        if from_start:
            self._begin("", self._scopes)
        offset = 0 if from_start else self._resume()
        failures = 0
        while offset < self._size:
            length = min(self._chunk, self._size - offset)
            try:
                offset = self._patch(offset, length)
                failures = 0
            except Interrupted as error:
                failures += 1
                if failures >= _ATTEMPTS or isinstance(error, Stalled):
                    raise
                self._registry.pause(failures - 1)
                offset = self._resume()
        self._put(self._size, 0)

    def _patch(self, offset: int, length: int) -> int:
        """Send one chunk; give the place of the next."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{offset}-{offset + length - 1}",
        }
        with self._registry.open(
            "PATCH", self._location, scopes=self._scopes, headers=headers, again=False,
            content=lambda: self._read(offset, length),
        ) as response:  # fmt: skip
            status = response.status_code
            if status in (404, _OUT_OF_ORDER, 500, 502, 503, 504):
                raise Interrupted(f"registry {self._registry.domain} lost its place in an upload")
            if status not in (202, 204, 201):
                raise self._registry.refusal(response)
            self._follow(response.headers.get("Location", ""))
            match = _RANGE.fullmatch(response.headers.get("Range", ""))
        return int(match[1]) + 1 if match else offset + length

    def _resume(self) -> int:
        """Ask what the registry has of the blob; begin again where it has forgotten it."""
        status, headers, _ = self._registry.call(
            "GET", self._location, (200, 204, 404, 405), scopes=self._scopes
        )
        if status not in (200, 204):
            self._begin("", self._scopes)
            return 0
        self._follow(headers.get("Location", ""))
        match = _RANGE.fullmatch(headers.get("Range", ""))
        had = int(match[1]) + 1 if match else 0
        if 1 < had <= self._size:
            return had
        self._begin("", self._scopes)  # "0-0" may mean one byte and may mean none
        return 0


def put_manifest(
    registry: Registry, path: str, reference: str, content: bytes, media_type: str
) -> str:
    """Put a manifest into a repository.

    Args:
        registry: where it goes.
        path: the repository's, there.
        reference: a tag, or the digest.
        content: its bytes.
        media_type: its own.
    Returns:
        The digest that the registry says it has, or "".
    """
    _, headers, _ = registry.call(
        "PUT", f"/v2/{path}/manifests/{reference}", (200, 201, 202),
        scopes=(push_scope(path),), headers={"Content-Type": media_type}, content=content,
    )  # fmt: skip
    return str(headers.get("Docker-Content-Digest", ""))
