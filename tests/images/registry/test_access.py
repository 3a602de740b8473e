"""Who may: passwords, tokens, certificates, and where no TLS is allowed."""

from __future__ import annotations

import base64
import datetime
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minicontainer.errors import Error, InvalidArgument, NotFound, Unauthorized
from minicontainer.images import logins
from minicontainer.images.credentials import Credentials
from minicontainer.images.references import parse
from minicontainer.images.registry import Registry
from minicontainer.images.registry_auth import challenges
from minicontainer.images.registry_endpoints import endpoint
from minicontainer.images.registry_errors import Unreachable, refused
from tests.images.conftest import add_image
from tests.images.registry.certificates import Authority
from tests.images.registry.conftest import need_registry
from tests.images.registry.debian_registry import DebianRegistry, htpasswd
from tests.images.registry.images import Made, tar_of
from tests.images.registry.strict_registry import TokenServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from minicontainer.images.registry import Settings
    from tests.images.registry.conftest import Host
    from tests.images.registry.strict_registry import StrictRegistry

ANN = Credentials(username="ann", password="pass:word")
WRONG = ANN.replace(password="other")
LAYER = tar_of({"a": b"1"})


# -- passwords


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[DebianRegistry]:
    """Give Debian's registry with one user."""
    need_registry()
    htpasswd(tmp_path / "htpasswd", ANN.username, ANN.password)
    auth = {"htpasswd": {"realm": "tests", "path": str(tmp_path / "htpasswd")}}
    registry = DebianRegistry(tmp_path / "registry", auth=auth)
    yield registry
    registry.stop()


def test_a_password_opens_the_registry(
    guarded: DebianRegistry, host: Host, other_host: Host
) -> None:
    """For a push and for a pull."""
    name = f"{guarded.host}/x:1"
    image = add_image(host.store, name)
    host.push(name, credentials=ANN)
    assert other_host.pull(name, credentials=ANN).id == image.id


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (None, ": no basic auth credentials$"),
        (WRONG, "unauthorized: authentication required"),
    ],
    ids=["nobody", "wrong"],
)
def test_a_wrong_password_is_refused(
    credentials: Credentials | None, words: str, guarded: DebianRegistry, host: Host
) -> None:
    """401 is `unauthorized`, of push, pull and login."""
    name = f"{guarded.host}/x:1"
    add_image(host.store, name)
    with pytest.raises(Unauthorized, match=words):
        host.push(name, credentials=credentials)
    with pytest.raises(Unauthorized, match=words):
        host.pull(f"{guarded.host}/other:1", credentials=credentials)
    with pytest.raises(Unauthorized, match=words):
        logins.check(guarded.host, credentials, host.settings)


def test_a_login_is_checked(guarded: DebianRegistry, settings: Settings) -> None:
    """By any spelling of the registry."""
    for address in (guarded.host, f"http://{guarded.host}", f"https://{guarded.host}/v2/"):
        logins.check(address, ANN, settings)
    for address in ("https://", "a b", "user@host"):
        with pytest.raises(InvalidArgument, match="registry address"):
            logins.check(address, ANN, settings)


# -- tokens


@pytest.fixture
def tokens(strict: StrictRegistry) -> Iterator[TokenServer]:
    """Give the token server of the strict registry, with one user."""
    with TokenServer(strict) as server:
        server.users[ANN.username] = ANN.password
        strict.put("x", "1", Made(LAYER))
        yield server


def test_a_token_is_fetched_once(tokens: TokenServer, host: Host) -> None:
    """For all requests of a pull; without a password where none is known."""
    host.pull(f"{tokens.registry.host}/x:1")
    ((query, authorization),) = tokens.requests
    assert (query["scope"], query["service"]) == (["repository:x:pull"], ["strict"])
    assert authorization == ""


def test_a_token_that_is_void_is_replaced(tokens: TokenServer, host: Host) -> None:
    """The registry forgets its tokens between two requests."""
    with Registry(tokens.registry.host, None, host.settings) as registry:
        for _ in range(2):
            registry.call("GET", "/v2/x/manifests/1", (200,), scopes=("repository:x:pull",))
            tokens.registry.tokens.clear()
    assert len(tokens.requests) == 2


def test_a_push_asks_for_more(tokens: TokenServer, host: Host) -> None:
    """And a mount for the other repository, too."""
    name = f"{tokens.registry.host}/y:1"
    host.pull(f"{tokens.registry.host}/x:1")
    tokens.requests.clear()
    image = host.store.list()[0]
    host.store.tag(image.id, parse(name))
    host.push(name, credentials=ANN)
    assert [query["scope"] for query, _ in tokens.requests] == [
        ["repository:y:pull,push"], ["repository:y:pull,push", "repository:x:pull"],
    ]  # fmt: skip
    basic = "Basic " + base64.b64encode(b"ann:pass:word").decode()
    assert {authorization for _, authorization in tokens.requests} == {basic}
    assert host.statuses(image.layers[0].diff_id[7:19])[-1] == "Mounted from x"


def test_401_and_403_are_told_apart(tokens: TokenServer, host: Host) -> None:
    """A wrong password, and a repository that nobody may see."""
    tokens.private.add("x")
    name = f"{tokens.registry.host}/x:1"
    assert host.pull(name, credentials=ANN).names == (name,)
    with pytest.raises(Unauthorized) as wrong:
        host.pull(name, credentials=WRONG)
    assert str(wrong.value) == "unauthorized: incorrect username or password"
    with pytest.raises(NotFound) as denied:
        host.pull(name)
    assert str(denied.value) == (
        f"pull access denied for {tokens.registry.host}/x, repository does not exist or may "
        "require 'docker login': denied: requested access to the resource is denied"
    )


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (429, b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "x"}]}', "toomanyrequests: x"),
        (401, b'{"errors": [{"Code": "UNAUTHORIZED", "message": "y"}]}', "unauthorized: y"),
        (401, b'{"details": "the token has expired"}', "unauthorized: the token has expired"),
        (401, b'{"error": "unauthorized"}', "unauthorized: authentication required"),
        (403, b"no way", r"unauthorized: http://127.0.0.1:\d+/token answered with 403 Forbidden"),
    ],
)
def test_a_token_server_says_why_it_gives_no_token(
    tokens: TokenServer, host: Host, status: int, body: bytes, words: str
) -> None:
    """Its words are the error's, for a pull as for a push."""
    tokens.refusal = status, body
    with pytest.raises(Error) as caught:
        host.pull(f"{tokens.registry.host}/x:1")
    assert re.search(f"{words}$", str(caught.value))
    tokens.refusal = None
    host.pull(f"{tokens.registry.host}/x:1")
    tokens.refusal = status, body
    host.store.tag(host.store.list()[0].id, parse(f"{tokens.registry.host}/y:1"))
    with pytest.raises(Error) as caught:
        host.push(f"{tokens.registry.host}/y:1")
    assert re.search(f"{words}$", str(caught.value))


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b'{"errors": [{"code": "NAME_UNKNOWN", "message": "no"}]}', "name unknown: no"),
        (403, b"", "denied: requested access to the resource is denied"),
        (502, b"<html>", 'GET "https://a/": received unexpected HTTP status: 502 Bad Gateway'),
        (500, b'{"errors": [{"code": "X", "message": "a\\nb"}]}', "x: a\\nb"),
        (500, b'{"errors": []}', 'GET "https://a/": received unexpected HTTP status: 500 Inter'),
    ],
)
def test_a_refusal_is_shown_in_the_registrys_words(status: int, body: bytes, words: str) -> None:
    """With its code, on one line."""
    assert str(refused("GET", "https://a/", status, body)).startswith(words)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
         {"bearer": {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"}}),
        ('Basic realm="a \\"b\\""', {"basic": {"realm": 'a "b"'}}),
        ("Negotiate, Basic realm=x", {"negotiate": {}, "basic": {"realm": "x"}}),
        ('Basic realm="x", BEARER realm="y"', {"basic": {"realm": "x"}, "bearer": {"realm": "y"}}),
        ("", {}),
    ],
)  # fmt: skip
def test_challenges_are_read(header: str, found: dict[str, dict[str, str]]) -> None:
    """As RFC 9110 writes them."""
    assert challenges(header) == found


# -- Debian's registry with signed tokens


class Signer:
    """A token server whose tokens Debian's registry believes: they are signed."""

    def __init__(self, directory: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        self.authority = Authority(directory)
        certificate, key = self.authority.issue("signer")
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        der = loaded.public_bytes(serialization.Encoding.DER)
        self._chain = [base64.b64encode(der).decode()]
        self._key = serialization.load_pem_private_key(key.read_bytes(), None)
        signer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Sign what is asked for."""
                from urllib.parse import parse_qs, urlparse

                query = parse_qs(urlparse(self.path).query)
                body = json.dumps({"token": signer.token(query.get("scope", []))}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def token(self, scopes: list[str]) -> str:
        """Make a token for *scopes*."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        now = int(datetime.datetime.now().timestamp())
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        claims = {
            "iss": "tests", "sub": "", "aud": "registry", "exp": now + 300, "nbf": now - 60,
            "iat": now, "jti": uuid.uuid4().hex, "access": access,
        }  # fmt: skip
        header = {"typ": "JWT", "alg": "ES256", "x5c": self._chain}
        signed = b".".join(_url64(json.dumps(part).encode()) for part in (header, claims))
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)
        numbers = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = b"".join(number.to_bytes(32, "big") for number in numbers)
        return (signed + b"." + _url64(signature)).decode()


def _url64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def test_debians_registry_takes_signed_tokens(tmp_path: Path, host: Host, other_host: Host) -> None:
    """The whole dance, with a registry that nobody here wrote."""
    need_registry()
    signer = Signer(tmp_path / "signer")
    auth = {
        "token": {
            "realm": f"http://127.0.0.1:{signer.server.server_address[1]}/token",
            "service": "registry",
            "issuer": "tests",
            "rootcertbundle": str(signer.authority.certificate),
        }
    }
    registry = DebianRegistry(tmp_path / "registry", auth=auth)
    try:
        name = f"{registry.host}/x:1"
        image = add_image(host.store, name)
        host.push(name)
        assert other_host.pull(name).id == image.id
    finally:
        registry.stop()
        signer.server.shutdown()
        signer.server.server_close()


# -- certificates


def tls_registry(tmp_path: Path, authority: Authority, **tls: object) -> DebianRegistry:
    """Start Debian's registry with a certificate of *authority*."""
    need_registry()
    certificate, key = authority.issue("server")
    section = {"certificate": str(certificate), "key": str(key), **tls}
    return DebianRegistry(tmp_path / "registry", http={"tls": section})


def test_a_registrys_own_authority_is_trusted(tmp_path: Path, host: Host) -> None:
    """Where its certificate is in certs.d; without, the error says where to put it."""
    authority = Authority(tmp_path / "authority")
    registry = tls_registry(tmp_path, authority)
    try:
        name = f"{registry.host}/x:1"
        image = add_image(host.store, name)
        place = tmp_path / "certs.d" / registry.host
        with pytest.raises(Unreachable, match=f"{place}/ca.crt, or list it as insecure"):
            host.push(name)
        host.push(name, insecure=(registry.host,))
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(authority.certificate.read_bytes())
        host.push(name)
        assert host.pull(name).id == image.id
    finally:
        registry.stop()


def test_a_client_shows_its_certificate(tmp_path: Path, host: Host) -> None:
    """A registry that knows its clients by theirs."""
    authority = Authority(tmp_path / "authority")
    registry = tls_registry(tmp_path, authority, clientcas=[str(authority.certificate)])
    try:
        name = f"{registry.host}/x:1"
        add_image(host.store, name)
        place = tmp_path / "certs.d" / registry.host
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(authority.certificate.read_bytes())
        with pytest.raises(Unreachable, match="refuses the TLS connection"):
            host.push(name)
        certificate, key = authority.issue("client")
        (place / "client.cert").write_bytes(certificate.read_bytes())
        with pytest.raises(InvalidArgument, match=r"missing key client\.key for client certif"):
            host.push(name)
        (place / "client.key").write_bytes(key.read_bytes())
        host.push(name)
    finally:
        registry.stop()


def test_plain_http_is_for_loopback_and_what_is_listed() -> None:
    """Everything else is spoken to by TLS, and its certificate is checked."""
    assert endpoint("docker.io").host == "registry-1.docker.io"
    for domain in ("docker.io", "quay.io", "10.1.2.3:5000", "localhost.example:5000"):
        assert (endpoint(domain).plain, endpoint(domain).verify) == (False, True)
    for domain in ("localhost:5000", "127.9.9.9:5000", "[::1]:5000", "localhost"):
        assert (endpoint(domain).plain, endpoint(domain).verify) == (True, True)
    for listed in ("10.1.2.3:5000", "10.1.2.3", "10.0.0.0/8"):
        found = endpoint("10.1.2.3:5000", ("a:1", listed))
        assert (found.plain, found.verify) == (True, False)
    assert not endpoint("10.1.2.3:5000", ("10.1.2.3:5001", "11.0.0.0/8", "nonsense/8")).plain


def test_a_password_does_not_leave_tls(settings: Settings) -> None:
    """A registry with TLS names a token server without; a redirect leads away from TLS."""
    import httpx

    registry = Registry("quay.io", ANN, settings)
    with pytest.raises(Exception, match="does not use https"):
        registry._fetch_token("GET", "http://tokens.example/", [], {"Authorization": "Basic x"})
    for target in ("http://cdn.example/x", "http://[::1", "ftp://quay.io/x", "https://\0/"):
        with pytest.raises(Error, match=r"registry quay\.io leads"):
            registry._next(httpx.URL("https://quay.io/v2/x"), target)
    assert (
        str(registry._next(httpx.URL("https://quay.io/v2/x"), "y?z=1"))
        == "https://quay.io/v2/y?z=1"
    )
    registry.close()
