"""Where a registry listens, whether plain HTTP is allowed there, and which certificates it needs.

    docker.io            https://registry-1.docker.io
    127.0.0.1:5000       https, and http where nothing speaks TLS: loopback
    registry.lan:5000    the same, if it is listed as insecure; then certificates are not checked
    quay.io              https

See: Docker's "Verify repository client with certificates"; ENGINE-FACTS of the OCI
distribution-spec leave the choice of the scheme to the client.
"""

from __future__ import annotations

import ipaddress
import os
import ssl

from minicontainer.errors import InvalidArgument
from minicontainer.images.references import DEFAULT_DOMAIN
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_HOST = "registry-1.docker.io"
# Docker's places: of an engine that is root, and of one that is not.
CERTIFICATES = ("/etc/docker/certs.d", "~/.config/docker/certs.d")


class Endpoint(Record):
    """A registry, and how it may be spoken to.

    Args:
        host: name and port, as in a URL.
        plain: http is allowed where no TLS is spoken.
        verify: the certificate is checked.
        loopback: the host is this machine; no proxy leads there.
    """

    host: str
    plain: bool = False
    verify: bool = True
    loopback: bool = False


def endpoint(domain: str, insecure: Sequence[str] = ()) -> Endpoint:
    """Say how the registry of a reference may be spoken to.

    Args:
        domain: as in a reference: `docker.io`, `127.0.0.1:5000`.
        insecure: registries that the user trusts without TLS: `host`, `host:port`, or a range of
            addresses, `10.0.0.0/8`.
    """
    host = DEFAULT_HOST if domain == DEFAULT_DOMAIN else domain
    name = hostname(host)
    loopback = is_loopback(name)
    listed = any(_lists(entry, host, name) for entry in insecure)
    return Endpoint(host=host, plain=loopback or listed, verify=not listed, loopback=loopback)


def hostname(host: str) -> str:
    """Give *host* without its port and without the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(name: str) -> bool:
    """Say whether a host name means this machine; no name server is asked."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _lists(entry: str, host: str, name: str) -> bool:
    if "/" in entry:
        try:
            return ipaddress.ip_address(name) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    return entry in (host, name)


def tls_context(
    host: str, verify: bool = True, directories: Sequence[str] = CERTIFICATES
) -> ssl.SSLContext:
    """Make the TLS settings for a registry: its own certificates, beside the system's.

    In `DIRECTORY/HOST/`, each `*.crt` is a certificate authority, and each `NAME.cert` with its
    `NAME.key` a certificate that tells the registry who we are.

    Raises:
        InvalidArgument: a file there is missing or is no certificate; the file is named.
    """
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for directory in directories:
        place = os.path.join(os.path.expanduser(directory), host)
        try:
            names = sorted(os.listdir(place))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            _load(context, place, name, set(names))
    return context


def _load(context: ssl.SSLContext, place: str, name: str, names: set[str]) -> None:
    """Load one file of a registry's directory of certificates."""
    path = os.path.join(place, name)
    stem, ending = os.path.splitext(name)
    try:
        if ending == ".crt":
            context.load_verify_locations(cafile=path)
        elif ending == ".cert":
            if f"{stem}.key" not in names:
                raise InvalidArgument(
                    f"missing key {stem}.key for client certificate {name} in {place}: CA "
                    "certificates must use the extension .crt"
                )
            context.load_cert_chain(path, os.path.join(place, f"{stem}.key"))
        elif ending == ".key" and f"{stem}.cert" not in names:
            raise InvalidArgument(
                f"missing client certificate {stem}.cert for key {name} in {place}"
            )
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise InvalidArgument(f"cannot load {path}: {reason}") from error
