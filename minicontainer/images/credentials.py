"""Who logs in where: Docker's config.json, and the programs that keep passwords for it.

    {"auths":       {"quay.io": {"auth": "base64 of user:password"}},
     "credsStore":  "pass",                       all registries:  docker-credential-pass
     "credHelpers": {"gcr.io": "gcloud"}}         one registry:    docker-credential-gcloud

A helper gets the registry's name on its standard input and prints JSON, `{"Username", "Secret"}`;
the user name `<token>` says that the secret is an identity token.

See: Docker's "docker login", "Credential helper protocol".
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import shutil
import subprocess

from minicontainer.errors import Error, InvalidArgument, printable, shortened
from minicontainer.images.references import DEFAULT_DOMAIN
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB = "https://index.docker.io/v1/"  # what Docker calls docker.io in its files
_HUB_HOSTS = {DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io"}
_TOKEN_USER = "<token>"
_HELPER_LIMIT_S = 60
_NOT_FOUND = "credentials not found"


class Credentials(Record):
    """A name and what proves it.

    Args:
        username: "" with a token.
        password: in the clear.
        identity_token: a refresh token, which the token server trades for others.
        registry_token: a bearer token, sent as it is.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        """Show no secret: this may end up in a log."""
        return f"Credentials(username={self.username!r}, …)"


def from_auth(values: dict[str, Any]) -> Credentials | None:
    """Read what Docker's clients send in the header X-Registry-Auth, decoded and parsed.

    Returns:
        None where it names nobody.
    Raises:
        InvalidArgument: a value is no string, or `auth` is no base64 of `user:password`.
    """
    found: dict[str, str] = {}
    for name in ("username", "password", "auth", "identitytoken", "registrytoken"):
        value = values.get(name) or ""
        if not isinstance(value, str):
            raise InvalidArgument(f"{name}: expected a string")
        found[name] = value
    username, password = found["username"], found["password"]
    if found["auth"] and not username:
        username, password = _decode(found["auth"])
    made = Credentials(
        username=username,
        password=password,
        identity_token=found["identitytoken"],
        registry_token=found["registrytoken"],
    )
    return None if made == Credentials() else made


def _decode(auth: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(auth, validate=False).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    username, colon, password = text.partition(":")
    if not colon:
        raise InvalidArgument("invalid auth: expected base64 of user:password")
    return username, password.rstrip("\0")


def server_of(domain: str) -> str:
    """Give the name under which Docker's files keep a registry."""
    return HUB if domain in _HUB_HOSTS else domain


class DockerConfig:
    """Docker's config.json, as far as it is about registries.

    Args:
        directory: where config.json is; `~/.docker` unless it is given.
    """

    def __init__(self, directory: str = "") -> None:
        self.path = os.path.join(directory or os.path.expanduser("~/.docker"), "config.json")

    def get(self, domain: str) -> Credentials | None:
        """Find the credentials for a registry; None where there are none.

        Raises:
            InvalidArgument: the file is damaged. Error: a credential helper fails.
        """
        config = self._read()
        server = server_of(domain)
        if helper := self._helper(config, server):
            found = _ask_helper(helper, server)
            if found is not None:
                return found
        auths = config.get("auths")
        for name, values in auths.items() if isinstance(auths, dict) else ():
            if isinstance(values, dict) and (name == server or _host_of(name) == _host_of(server)):
                return from_auth(values)
        return None

    def login(self, domain: str, credentials: Credentials) -> str:
        """Keep the credentials for a registry; say where: a helper's name, or the file's path."""
        config = self._read()
        server = server_of(domain)
        if helper := self._helper(config, server):
            token = credentials.identity_token
            told = {
                "ServerURL": server,
                "Username": _TOKEN_USER if token else credentials.username,
                "Secret": token or credentials.password,
            }
            _run_helper(helper, "store", json.dumps(told))
            return f"docker-credential-{helper}"
        plain = f"{credentials.username}:{credentials.password}"
        entry = {"auth": base64.b64encode(plain.encode()).decode()}
        if credentials.identity_token:
            plain = f"{credentials.username}:"
            entry = {
                "auth": base64.b64encode(plain.encode()).decode(),
                "identitytoken": credentials.identity_token,
            }
        auths = config.get("auths")
        config["auths"] = {**(auths if isinstance(auths, dict) else {}), server: entry}
        self._write(config)
        return self.path

    def logout(self, domain: str) -> bool:
        """Forget the credentials for a registry; say whether there were any."""
        config = self._read()
        server = server_of(domain)
        known = False
        if helper := self._helper(config, server):
            known = _ask_helper(helper, server) is not None
            if known:
                _run_helper(helper, "erase", server)
        auths = config.get("auths")
        if isinstance(auths, dict):
            left = {
                name: kept for name, kept in auths.items() if _host_of(name) != _host_of(server)
            }
            if len(left) < len(auths):
                known = True
                self._write({**config, "auths": left})
        return known

    def _helper(self, config: dict[str, Any], server: str) -> str:
        """Name the helper that keeps a registry's password; "" where the file itself does."""
        helpers = config.get("credHelpers")
        if isinstance(helpers, dict):
            for name, helper in helpers.items():
                if _host_of(name) == _host_of(server) and isinstance(helper, str):
                    return helper
        store = config.get("credsStore")
        return store if isinstance(store, str) else ""

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, encoding="utf-8") as file:
                config = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise Error(f"cannot read {self.path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"{self.path} is no JSON: {error}") from error
        if not isinstance(config, dict):
            raise InvalidArgument(f"{self.path}: expected an object")
        return config

    def _write(self, config: dict[str, Any]) -> None:
        """Replace the file at once; only its owner may read it."""
        path = os.path.realpath(self.path)  # a link to it stays a link
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            new = f"{path}.{os.urandom(4).hex()}.new"
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with contextlib.ExitStack() as undo:
                undo.callback(os.unlink, new)
                with os.fdopen(file, "w", encoding="utf-8") as text:
                    json.dump(config, text, indent="\t")
                    text.flush()
                    os.fsync(text.fileno())
                os.rename(new, path)
                undo.pop_all()
        except OSError as error:
            raise Error(f"cannot write {self.path}: {error.strerror}") from error


def _host_of(server: str) -> str:
    """Give the host of a name in config.json, which may be a URL."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    return DEFAULT_DOMAIN if host in _HUB_HOSTS else host


def _ask_helper(helper: str, server: str) -> Credentials | None:
    answer = _run_helper(helper, "get", server)
    if not answer:
        return None
    try:
        told = json.loads(answer)
        username, secret = told["Username"], told["Secret"]
    except (ValueError, TypeError, KeyError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise Error(f"docker-credential-{helper} get: answers in a form that is not its protocol's")
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret) if username else None


def _run_helper(helper: str, command: str, told: str) -> str:
    """Run a credential helper; give what it prints, "" where it knows nothing of the registry."""
    name = f"docker-credential-{helper}"
    program = None if "/" in helper else shutil.which(name)
    if program is None:
        raise Error(f"{name} is not installed, but Docker's config.json names it")
    try:
        done = subprocess.run(
            [program, command], input=told, capture_output=True, text=True,
            timeout=_HELPER_LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Error(f"{name} {command}: no answer within {_HELPER_LIMIT_S} s") from None
    if done.returncode == 0:
        return done.stdout
    words = done.stdout.strip() or done.stderr.strip()
    if _NOT_FOUND in words.lower():
        return ""
    raise Error(f"{name} {command}: {shortened(printable(words)) or 'failed without a word'}")
