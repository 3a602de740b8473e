"""Docker's config.json and its credential helpers, and what clients send in X-Registry-Auth."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from minicontainer.errors import Error, InvalidArgument
from minicontainer.images.credentials import Credentials, DockerConfig, from_auth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANN = Credentials(username="ann", password="pass:word")
HUB = "https://index.docker.io/v1/"

# A helper as the protocol describes it, with a directory for its secrets.
HELPER = """#!/bin/sh
read -r told
name=$(printf %s "$told" | sed 's/.*"ServerURL": *"\\([^"]*\\)".*/\\1/' | tr / _)
cd "${0%/*}/kept" || exit 9
case $1 in
    store) printf %s "$told" >"$name" ;;
    get) [ -e "$name" ] || { echo credentials not found; exit 1; }; cat "$name" ;;
    erase) rm "$name" ;;
esac
"""


@pytest.fixture
def config(tmp_path: Path) -> DockerConfig:
    """Give an empty configuration."""
    return DockerConfig(str(tmp_path / "docker"))


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install `docker-credential-tests`; give the directory of its secrets."""
    kept = tmp_path / "bin" / "kept"
    kept.mkdir(parents=True)
    program = tmp_path / "bin" / "docker-credential-tests"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return kept


def write(config: DockerConfig, content: dict[str, Any]) -> None:
    """Write config.json as somebody else would."""
    Path(config.path).parent.mkdir(parents=True, exist_ok=True)
    Path(config.path).write_text(json.dumps(content))


@pytest.mark.parametrize("domain", ["docker.io", "quay.io", "127.0.0.1:5000"])
def test_a_login_is_kept_and_forgotten(domain: str, config: DockerConfig) -> None:
    """In a file that nobody else can read; what else is in it stays."""
    assert config.get(domain) is None
    write(config, {"psFormat": "x", "auths": {"other:1": {"auth": "eDp5"}}})
    assert config.login(domain, ANN) == config.path
    assert config.get(domain) == ANN
    with open(config.path) as file:
        content = json.load(file)
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    assert content["psFormat"] == "x"
    key = HUB if domain == "docker.io" else domain
    assert content["auths"][key] == {"auth": base64.b64encode(b"ann:pass:word").decode()}
    assert config.logout(domain)
    assert not config.logout(domain)
    assert config.get(domain) is None
    assert config.get("other:1") == Credentials(username="x", password="y")


@pytest.mark.parametrize("name", ["quay.io", "https://quay.io", "https://quay.io/v2/"])
def test_a_registry_is_found_under_its_old_names(name: str, config: DockerConfig) -> None:
    """Docker once wrote URLs."""
    write(config, {"auths": {name: {"auth": "eDp5"}}})
    assert config.get("quay.io") == Credentials(username="x", password="y")
    assert config.get("quay.io:444") is None


def test_an_identity_token_is_kept(config: DockerConfig) -> None:
    """And read again."""
    token = Credentials(username="ann", identity_token="t")
    config.login("quay.io", token)
    assert config.get("quay.io") == token


@pytest.mark.parametrize("setting", [{"credsStore": "tests"}, {"credHelpers": {"a.b": "tests"}}])
def test_a_helper_keeps_the_password(
    setting: dict[str, Any], config: DockerConfig, helper: Path
) -> None:
    """And the file does not have it."""
    write(config, setting)
    assert config.get("a.b") is None
    assert config.login("a.b", ANN) == "docker-credential-tests"
    assert config.get("a.b") == ANN
    assert [path.name for path in helper.iterdir()] == ["a.b"]
    with open(config.path) as file:
        assert json.load(file) == setting
    config.login("a.b", Credentials(identity_token="t"))
    assert config.get("a.b") == Credentials(identity_token="t")
    assert config.logout("a.b")
    assert list(helper.iterdir()) == []


def test_a_helper_that_is_missing_or_fails_is_named(
    config: DockerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own words."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    write(config, {"credsStore": "nosuch"})
    with pytest.raises(Error, match="docker-credential-nosuch is not installed"):
        config.get("quay.io")
    program = tmp_path / "docker-credential-broken"
    program.write_text("#!/bin/sh\necho no bus >&2; exit 1\n")
    program.chmod(0o755)
    write(config, {"credsStore": "broken"})
    with pytest.raises(Error, match="docker-credential-broken get: no bus"):
        config.get("quay.io")
    write(config, {"credsStore": "../broken"})
    with pytest.raises(Error, match="is not installed"):
        config.get("quay.io")


@pytest.mark.parametrize("content", ["[]", "{", '{"auths": {"a": {"auth": "eA=="}}}'])
def test_a_damaged_file_is_an_error(content: str, config: DockerConfig) -> None:
    """And not an anonymous pull."""
    write(config, {})
    Path(config.path).write_text(content)
    with pytest.raises(InvalidArgument):
        config.get("a")


def test_no_secret_is_shown() -> None:
    """In an error, a log, or a debugger."""
    assert "pass" not in repr(ANN).replace("…", "")


def test_what_clients_send_is_read() -> None:
    """A name with its password, or both in one, or a token; empty is nobody."""
    assert from_auth({"username": "ann", "password": "pass:word", "serveraddress": "a"}) == ANN
    assert from_auth({"auth": base64.b64encode(b"ann:pass:word").decode()}) == ANN
    assert from_auth({"identitytoken": "t"}) == Credentials(identity_token="t")
    assert from_auth({}) is None
    with pytest.raises(InvalidArgument, match="username"):
        from_auth({"username": 1})
