"""What every command has beside its own options: the environment, the engine, Docker's files."""

from __future__ import annotations

from minicontainer.cli.flags import PROGRAM, ROOT_FLAGS, Flag, toggle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicontainer.cli.client import Client
    from minicontainer.cli.hosts import Address

GLOBAL_FLAGS = (
    Flag(name="config", metavar="DIR", help="where Docker's config.json is"),
    toggle("debug", "D", "show more of an error"),
    Flag(name="host", letter="H", metavar="URL", help="the engine's socket: unix://PATH, tcp://HOST:PORT"),
    toggle("tls", "", "use TLS; --tlsverify brings it along"),
    Flag(name="tlscacert", metavar="FILE", help="trust certificates signed by this CA"),
    Flag(name="tlscert", metavar="FILE", help="the client's certificate"),
    Flag(name="tlskey", metavar="FILE", help="the client's key"),
    toggle("tlsverify", "", "use TLS, and check the engine's certificate"),
    *ROOT_FLAGS,
)  # fmt: skip


class Session:
    """One run of the program.

    Args:
        environ: the process's environment.
        program: the path of the program, to start the engine with.
        options: the values of GLOBAL_FLAGS.
    """

    def __init__(self, environ: dict[str, str], program: str, options: dict[str, Any]) -> None:
        self.environ = environ
        self.program = program
        self.options = options
        # Called when a container has started, before its output is shown: a story is told first.
        self.started: Callable[[], None] = lambda: None
        self._client: Client | None = None
        self._config: dict[str, Any] | None = None

    @property
    def address(self) -> Address:
        """Find which engine is meant: by option, by environment, or this host's own."""
        from minicontainer.cli import hosts

        return hosts.find(self.options, self.environ)

    @property
    def invocation(self) -> str:
        """Write how another command is typed that shall reach the same engine."""
        if not self.address.own:
            return f"{PROGRAM} -H {self.address.url}"
        given = ((flag.name, self.options.get(flag.dest)) for flag in ROOT_FLAGS)
        return " ".join((PROGRAM, *(f"--{name} {value}" for name, value in given if value)))

    @property
    def client(self) -> Client:
        """Give the way to the engine; it is started by the first request where it has to be."""
        if self._client is None:
            from minicontainer.cli.client import Client

            self._client = Client(self.address, self.engine_starter)
        return self._client

    @property
    def engine_starter(self) -> Callable[[], None] | None:
        """Give what starts the engine where none answers; None for an engine that is not ours."""
        return self._start if self.address.own else None

    def _start(self) -> None:
        from minicontainer.cli import autostart  # rarely: an engine answers, most of the time

        autostart.start(self.address, self.program, self.options, self.environ)

    @property
    def config_path(self) -> str:
        """Give the path of Docker's config.json."""
        home = self.environ.get("HOME", "") or "/root"
        directory = (
            self.options.get("config") or self.environ.get("DOCKER_CONFIG") or f"{home}/.docker"
        )
        return f"{directory}/config.json"

    @property
    def config(self) -> dict[str, Any]:
        """Read Docker's config.json; an absent one is empty, a broken one too."""
        if self._config is None:
            from minicontainer import jsontext

            try:
                with open(self.config_path, encoding="utf-8") as file:
                    read = jsontext.parse(file.read())
            except (OSError, ValueError):
                read = {}
            self._config = read if isinstance(read, dict) else {}
        return self._config
