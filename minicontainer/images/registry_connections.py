"""Connections to a registry and to the hosts that it names: certificates, proxies, what is wrong.

See: `registry_endpoints.py`, which says where a registry listens; RFC 8446.
"""

from __future__ import annotations

import re
import ssl
import threading

import httpx

from minicontainer.errors import Error
from minicontainer.images import registry_endpoints as endpoints
from minicontainer.images.registry_errors import Interrupted, Stalled, Unreachable
from minicontainer.record import Record

_NUMBER = re.compile(r"\[Errno -?\d+\] ")
_LONGEST_LABEL = 63  # RFC 1035
# Parts of OpenSSL's words when the other side does speak TLS.
_TLS_ERRORS = ("CERTIFICATE_VERIFY_FAILED", "_ALERT_")


class Patience(Record):
    """How long a registry is waited for.

    Args:
        connect_s: seconds until a connection is made, TLS included.
        stall_s: seconds without a byte before a connection is given up.
        attempts: how often a request is made before its error is final.
        backoff_s: seconds before the second attempt; each later one waits twice as long.
        longest_wait_s: a registry that asks for a longer pause (Retry-After) is not waited for.
    """

    connect_s: float = 15.0
    stall_s: float = 60.0
    attempts: int = 5
    backoff_s: float = 0.5
    longest_wait_s: float = 60.0


class Settings(Record):
    """What is configured about registries.

    Args:
        insecure: registries without TLS or with any certificate: `host:port` or `10.0.0.0/8`.
        certificates: directories with a directory of certificates for each registry.
        mirrors: URLs of registries that hold copies of what docker.io has; asked first.
        patience: how long they are waited for.
    """

    insecure: tuple[str, ...] = ()
    certificates: tuple[str, ...] = endpoints.CERTIFICATES
    mirrors: tuple[str, ...] = ()
    patience: Patience = Patience()


class Connections:
    """The connections of one client; threads may share them.

    Args:
        domain: the registry, as in a reference.
        settings: what is configured about registries.
    """

    def __init__(self, domain: str, settings: Settings) -> None:
        self._settings = settings
        self._endpoint = endpoints.endpoint(domain, settings.insecure)
        self._lock = threading.Lock()
        self._base_lock = threading.Lock()
        self._clients: dict[tuple[str, str], httpx.Client] = {}
        self._base = ""

    def close(self) -> None:
        """Close all of them."""
        for client in self._clients.values():
            client.close()

    def is_own(self, url: str) -> bool:
        """Say whether a URL is the registry's, so that it may see who we are."""
        return _origin(httpx.URL(url)) == _origin(httpx.URL(self.base()))

    def base(self) -> str:
        """Give the registry's URL; find out, once, whether it speaks TLS where it need not."""
        with self._base_lock:
            if not self._base:
                host = self._endpoint.host
                tls = not self._endpoint.plain or self._speaks_tls()
                self._base = f"https://{host}" if tls else f"http://{host}"
            return self._base

    def _speaks_tls(self) -> bool:
        place = httpx.URL(f"https://{self._endpoint.host}/v2/")
        patience_s = min(self._settings.patience.connect_s, self._settings.patience.stall_s, 5.0)
        try:
            self.client(place).get(place, timeout=patience_s, auth=None)
        except httpx.ConnectError as error:
            if any(sign in str(error) for sign in _TLS_ERRORS):
                raise self.error(error) from error
            return False
        except (httpx.ConnectTimeout, httpx.ProxyError):  # it may wait for a line of HTTP
            return False
        except httpx.TransportError:  # later than the handshake
            return True
        return True

    def client(self, place: httpx.URL) -> httpx.Client:
        """Give the client for a host; each has its own certificates."""
        scheme, host = place.scheme, host_of(place)
        with self._lock:
            client = self._clients.get((scheme, host))
            if client is None:
                client = self._clients[scheme, host] = self._new_client(scheme, host)
            return client

    def _new_client(self, scheme: str, host: str) -> httpx.Client:
        labels = endpoints.hostname(host).split(".")
        if any(len(label) > _LONGEST_LABEL for label in labels):  # the resolver would fail on it
            raise Unreachable(
                f"registry {host} can't be reached: a part of its name is longer than "
                f"{_LONGEST_LABEL} characters"
            )
        known = endpoints.endpoint(host, self._settings.insecure)
        if scheme == "https":
            tls = endpoints.tls_context(host, known.verify, self._settings.certificates)
        else:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused: to load authorities takes time
        patience = self._settings.patience
        limits = httpx.Timeout(patience.stall_s, connect=patience.connect_s, pool=None)
        # trust_env: httpx finds the proxies in the environment. None leads to this machine.
        return httpx.Client(verify=tls, timeout=limits, trust_env=not known.loopback)

    def error(self, error: httpx.TransportError) -> Error:
        """Say in one line what is wrong with a connection."""
        try:
            host = host_of(error.request.url)
        except RuntimeError:  # httpx has not noted the request
            host = self._endpoint.host
        words = _NUMBER.sub("", str(error)) or type(error).__name__
        if isinstance(error, httpx.ConnectTimeout):
            return Unreachable(
                f"registry {host} does not answer: no connection within "
                f"{self._settings.patience.connect_s:g} s"
            )
        if isinstance(error, httpx.TimeoutException):
            return Stalled(
                f"registry {host} stalls: nothing came for {self._settings.patience.stall_s:g} s"
            )
        if "CERTIFICATE_VERIFY_FAILED" in words:
            return Unreachable(
                f"the certificate of registry {host} can't be verified: put its authority's into "
                f"{self._settings.certificates[0]}/{host}/ca.crt, or list it as insecure ({words})"
            )
        if "_ALERT_" in words:
            return Unreachable(f"registry {host} refuses the TLS connection: {words}")
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return Unreachable(f"registry {host} can't be reached: {words}")
        if isinstance(error, httpx.UnsupportedProtocol):
            return Error(f"registry {host}: {words}")
        return Interrupted(f"the connection to registry {host} broke: {words}")


def host_of(place: httpx.URL) -> str:
    """Give host and port as a reference has them: the port only where it is not the usual one."""
    return place.netloc.decode("ascii").rpartition("@")[2]


def _origin(place: httpx.URL) -> tuple[str, str, int | None]:
    port = place.port or {"https": 443, "http": 80}.get(place.scheme)
    return place.scheme, place.host, port
