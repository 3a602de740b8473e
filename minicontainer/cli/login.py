"""login and logout: credentials for registries, checked by the engine, in Docker's file."""

from __future__ import annotations

import sys

from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle
from minicontainer.cli.output import tell
from minicontainer.images.credentials import Credentials, DockerConfig, server_of
from minicontainer.images.references import DEFAULT_DOMAIN


def _domain(server: str) -> str:
    """Give a registry's domain as images name it."""
    bare = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_DOMAIN if bare in ("", "index.docker.io", "registry-1.docker.io") else bare


def _config(asked: Asked) -> DockerConfig:
    return DockerConfig(asked.session.config_path.rpartition("/")[0])


@command(
    "[SERVER]",
    Flag(name="password", letter="p", help="password, or access token"),
    toggle("password-stdin", "", "read the password from standard input"),
    Flag(name="username", letter="u", help="user name"),
    most=1,
)
def login(asked: Asked) -> int:
    """Authenticate to a registry."""
    if asked.password and asked.password_stdin:
        raise Exit("conflicting options: cannot specify both --password and --password-stdin")
    if asked.password_stdin and not asked.username:
        raise Exit("the --password-stdin option requires --username to be set")
    if asked.password:
        tell("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    domain = _domain(asked.args[0] if asked.args else "")
    known = None if asked.username else _config(asked).get(domain)
    credentials = known or _asked_for(asked)
    body = {
        "username": credentials.username, "password": credentials.password,
        "identitytoken": credentials.identity_token, "serveraddress": server_of(domain),
    }  # fmt: skip
    answer = asked.session.client.post("/auth", body=body) or {}
    if token := answer.get("IdentityToken"):
        credentials = Credentials(username=credentials.username, identity_token=token)
    where = _config(asked).login(domain, credentials)
    if where.endswith("config.json"):
        tell(f"\nWARNING! Your credentials are stored unencrypted in '{where}'.\n"
             "Name a credential helper in that file to change this: credsStore.\n")  # fmt: skip
    sys.stdout.write(f"{answer.get('Status') or 'Login Succeeded'}\n")
    return 0


def _asked_for(asked: Asked) -> Credentials:
    """Ask for what the options leave out."""
    username, password = asked.username, asked.password
    if asked.password_stdin:
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not (username and password) and not sys.stdin.isatty():
        raise Exit("Error: Cannot perform an interactive login from a non TTY device")
    if not username:
        sys.stdout.write("Username: ")
        sys.stdout.flush()
        username = sys.stdin.readline().strip()
    if not password:
        import getpass  # here: only a person is asked

        password = getpass.getpass("Password: ")
    if not username or not password:
        raise Exit("Error: a user name and a password are required")
    return Credentials(username=username, password=password)


@command("[SERVER]", most=1)
def logout(asked: Asked) -> int:
    """Log out from a registry."""
    domain = _domain(asked.args[0] if asked.args else "")
    sys.stdout.write(f"Removing login credentials for {server_of(domain)}\n")
    _config(asked).logout(domain)
    return 0
