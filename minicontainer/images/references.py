"""Image references: `mongo`, `host:5000/team/app:1.2`, `busybox@sha256:…`.

Docker reads a short name as a long one: `mongo` is `docker.io/library/mongo:latest`. Everything
that is stored or sent uses the long form, everything that a user sees the short one.

    reference := name [":" tag] ["@" digest]
    name      := [domain "/"] component {"/" component}
    domain    := (label {"." label} | "[" IPv6 "]") [":" port]

See: distribution/reference, "Grammar"; OCI distribution-spec "Pulling manifests".
"""

from __future__ import annotations

import re

from minicontainer.errors import InvalidArgument, printable, shortened
from minicontainer.record import Record

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_OLD_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_LONGEST_PATH = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEXADECIMAL = re.compile(r"[a-f0-9]+")


class Reference(Record):
    """Where an image is found: a repository, and a tag or a digest in it.

    Args:
        domain: the registry, with its port: `docker.io`.
        path: the repository's path there: `library/mongo`.
        tag: "" where there is only a digest, or nothing but the repository.
        digest: "" where there is none.
    """

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Give the full name without tag and digest: `docker.io/library/mongo`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """Give the name as a user reads it, without tag and digest: `mongo`."""
        first, slash, rest = self.path.partition("/")
        if self.domain != DEFAULT_DOMAIN or (slash and _is_domain(first)):
            return self.repository
        return rest if first + slash == _OFFICIAL and "/" not in rest else self.path

    @property
    def canonical(self) -> str:
        """Give the full name: `docker.io/library/mongo:latest`."""
        return self.repository + self._suffix()

    @property
    def familiar(self) -> str:
        """Give the name as a user reads it: `mongo:latest`."""
        return self.familiar_repository + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def __str__(self) -> str:
        """Show it as a user reads it."""
        return self.familiar


def parse(text: str, default_tag: str = DEFAULT_TAG) -> Reference:
    """Read a reference as Docker does.

    Args:
        text: what the user typed.
        default_tag: the tag of a reference that has neither tag nor digest; "" leaves it without.
    Raises:
        InvalidArgument: in Docker's words.
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidArgument(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, rest = _split_domain(text)
    remote = rest.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidArgument(
            f"invalid reference format: repository name ({shown(remote)}) must be lowercase"
        )
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        raise InvalidArgument("invalid reference format")
    path, digest = match["path"], match["digest"] or ""
    if len(path) > _LONGEST_PATH:
        raise InvalidArgument(
            f"invalid reference format: repository name must not be more than {_LONGEST_PATH} "
            "characters"
        )
    if digest:
        check_digest(digest)
    tag = match["tag"] or ("" if digest else default_tag)
    return Reference(domain=match["domain"], path=path, tag=tag, digest=digest)


def _split_domain(text: str) -> tuple[str, str]:
    """Tell the registry from the path, and make the path a full one."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _OLD_DOMAIN:
        first = DEFAULT_DOMAIN
    elif not _is_domain(first):
        first, rest = DEFAULT_DOMAIN, text
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return first, rest


def _is_domain(first: str) -> bool:
    """Say whether what stands before a name's first slash is a registry, as Docker sees it."""
    return first == "localhost" or bool(set(".:") & set(first)) or first.lower() != first


def split_search(term: str) -> tuple[str, str]:
    """Split what is searched for into a registry and a word; Docker Hub's where it names none."""
    first, slash, rest = term.partition("/")
    if slash and (first == "localhost" or set(".:") & set(first)):
        return (DEFAULT_DOMAIN if first == "index.docker.io" else first), rest
    return DEFAULT_DOMAIN, term


def shown(text: str) -> str:
    """Give a text from outside in a form that fits into a message."""
    return shortened(printable(text))


def is_digest(text: str) -> bool:
    """Say whether *text* is a digest whose algorithm is known, such as `sha256:…`."""
    algorithm, _, encoded = text.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    return len(encoded) == length and bool(_HEXADECIMAL.fullmatch(encoded))


def check_digest(text: str) -> None:
    """Refuse what is no digest.

    Raises:
        InvalidArgument: in Docker's words.
    """
    if is_digest(text):
        return
    algorithm, colon, encoded = text.partition(":")
    if not colon or not encoded or not re.fullmatch(_DIGEST, text):
        reason = "invalid checksum digest format"
    elif algorithm not in _DIGEST_LENGTHS:
        reason = "unsupported digest algorithm"
    elif len(encoded) != _DIGEST_LENGTHS[algorithm]:
        reason = "invalid checksum digest length"
    else:
        reason = "invalid checksum digest format"
    raise InvalidArgument(f"{shown(text)}: {reason}")
