"""Debian's docker-registry, on a loopback port, with a storage directory of its own.

See: docker-registry(1); distribution "Configuring a registry".
"""

from __future__ import annotations

import crypt  # of Python up to 3.12: bcrypt, which htpasswd files need
import json
import shutil
import socket
import subprocess

from tests.conftest import PATIENCE_S, wait_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

PROGRAM = shutil.which("docker-registry")


def free_port() -> int:
    """Find a loopback port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DebianRegistry:
    """A registry that runs until `stop`.

    Args:
        directory: its configuration and storage.
        http: more of its `http` section: `{"tls": {"certificate": …, "key": …}}`.
        auth: its `auth` section.
    """

    def __init__(
        self,
        directory: Path,
        http: dict[str, Any] | None = None,
        auth: dict[str, Any] | None = None,
    ) -> None:
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        self.storage = directory / "storage"
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}},
            "http": {"addr": self.host, **(http or {})},
        }
        if auth:
            config["auth"] = auth
        self.config = directory / "registry.yml"
        self.config.write_text(json.dumps(config))  # JSON is YAML
        self.log = directory / "registry.log"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert PROGRAM is not None
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([PROGRAM, "serve", str(self.config)], stderr=log)
        wait_until(self._listens, "docker-registry to listen")

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def blob_path(self, digest: str) -> Path:
        """Give the file in which it keeps a blob."""
        digits = digest.partition(":")[2]
        return self.storage / "docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"


def htpasswd(path: Path, username: str, password: str) -> None:
    """Write a file of one user and password."""
    salt = crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)
    path.write_text(f"{username}:{crypt.crypt(password, salt)}\n")
