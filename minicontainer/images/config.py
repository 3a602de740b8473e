"""An image's config: the JSON document that says how its containers start, and what it is made of.

The digest of that document is the image's ID, so its bytes are kept as they came.

See: OCI image-spec config.md.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument
from minicontainer.images.references import is_digest
from minicontainer.record import NO_ENTRIES, Record, pascal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

NO_TIME = "0001-01-01T00:00:00Z"  # what Go prints for a time that was never set
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")


class Healthcheck(Record, names=pascal):
    """How a container's health is looked at; times are in nanoseconds, 0 is the default.

    See: Docker's image specification v1.2, "Healthcheck".
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class History(Record, names=str):
    """One step of how the image was made; an *empty_layer* changed no file."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class RootFilesystem(Record, names=str):
    """The layers, bottom first, each by the digest of its uncompressed tar."""

    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class RunConfig(Record, names=pascal):
    """What a container of the image starts with, where the user says nothing else."""

    user: str = ""
    exposed_ports: dict[str, object] = NO_ENTRIES
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, object] = NO_ENTRIES
    working_dir: str = ""
    labels: dict[str, str] = NO_ENTRIES
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] = ()


_WHOLE = ("architecture", "os", "variant", "os.version", "created", "author", "rootfs", "history")


class ImageConfig(RunConfig, names=str, json={"os_version": "os.version"}):
    """The whole document, with the fields of its `config` object beside those around it."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = ""
    created: str = ""
    author: str = ""
    rootfs: RootFilesystem = RootFilesystem()
    history: tuple[History, ...] = ()

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Give the layers, bottom first, by the digests of their uncompressed tars."""
        return self.rootfs.diff_ids

    @property
    def platform(self) -> str:
        """Name the platform as Docker does: `linux/arm64/v8`."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse(raw: bytes | str) -> ImageConfig:
    """Read the document.

    Raises:
        InvalidArgument: it is no JSON, a field is of a wrong type, or a layer is no digest.
    """
    document = parse_json(raw, "image config")
    inner = document.get("config") or {}
    if not isinstance(inner, dict):
        raise InvalidArgument("image config: config: expected an object")
    outer = {name: document[name] for name in _WHOLE if name in document}
    config = ImageConfig.from_json({**inner, **outer}, "image config")
    for index, diff_id in enumerate(config.diff_ids):
        if not is_digest(diff_id):
            raise InvalidArgument(f"image config: rootfs.diff_ids[{index}]: is no digest")
    return config


def parse_json(raw: bytes | str, what: str) -> dict[str, Any]:
    """Read a JSON object that came from outside.

    Args:
        raw: its text.
        what: what it is, for the message.
    Raises:
        InvalidArgument: it is none.
    """
    try:
        document = jsontext.parse(raw if isinstance(raw, str) else raw.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what}: is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidArgument(f"{what}: expected an object")
    return document


def chain_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """Give each layer the name of itself and all layers below it.

    See: OCI image-spec config.md, "Layer ChainID".
    """
    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            both = f"{chain[-1]} {diff_id}".encode()
            chain.append(f"sha256:{hashlib.sha256(both).hexdigest()}")
        else:
            chain.append(diff_id)
    return tuple(chain)


def nanoseconds(text: str) -> int:
    """Read a time of RFC 3339 as nanoseconds since 1970; 0 for what is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in "Zz" else zone
    try:
        seconds = datetime.fromisoformat(f"{day}T{clock}{zone}")
    except ValueError:
        return 0
    whole = (seconds - datetime(1970, 1, 1, tzinfo=UTC)) // _SECOND
    return whole * 10**9 + int((fraction or "").ljust(9, "0"))


_SECOND = datetime(1970, 1, 1, 0, 0, 1) - datetime(1970, 1, 1)


def rfc3339(time_ns: int) -> str:
    """Write a time as RFC 3339 in UTC, with the decimals that it needs, as Go does."""
    seconds, rest = divmod(time_ns, 10**9)
    moment = datetime(1970, 1, 1) + seconds * _SECOND
    decimals = f".{rest:09}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{decimals}Z"
