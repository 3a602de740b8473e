"""How the engine is configured: by options, else by a TOML file, else by defaults.

A key of the file is named as its option without the dashes in front:

    data-root = "/srv/minicontainer"
    host = ["unix:///run/minicontainer/minicontainer.sock", "fd://"]
    insecure-registry = ["registry.lan:5000"]
    idle-timeout = 600

See: toml.io; dockerd(8), daemon.json.
"""

from __future__ import annotations

import argparse
import tomllib

from minicontainer.errors import InvalidArgument
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CONFIG_FILE = "/etc/minicontainer/daemon.toml"
DATA_ROOT = "/var/lib/minicontainer"
EXEC_ROOT = "/run/minicontainer"
SOCKET = "minicontainer.sock"
GROUP = "minicontainer"
LOG_LEVELS = ("debug", "info", "warning", "error")


class Setting(Record):
    """One thing that can be configured: an option, and a key of the file.

    Args:
        name: of the key; the option has two dashes before it.
        metavar: what the help calls its value.
        help: one line.
        default: its type is the type of the value; a tuple can be given several times.
        choices: the only values that are accepted; () for any.
    """

    name: str
    metavar: str
    help: str
    default: Any = ""
    choices: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """Give the name of the value among the parsed options."""
        return self.name.replace("-", "_")


SETTINGS = (
    Setting(name="data-root", metavar="DIR", default=DATA_ROOT, help="what is kept over a reboot"),
    Setting(name="exec-root", metavar="DIR", default=EXEC_ROOT, help="sockets and state"),
    Setting(
        name="host", metavar="URL", default=(),
        help="where to listen: unix://PATH, tcp://HOST:PORT, or fd:// for systemd's sockets; can "
        f"be repeated (unix://EXEC_ROOT/{SOCKET})",
    ),
    Setting(
        name="group", metavar="NAME", default=GROUP,
        help="who may use the unix socket beside root",
    ),
    Setting(name="tlscacert", metavar="FILE", help="the authority of the clients' certificates"),
    Setting(name="tlscert", metavar="FILE", help="the certificate for tcp://"),
    Setting(name="tlskey", metavar="FILE", help="its key"),
    Setting(
        name="insecure-registry", metavar="REGISTRY", default=(),
        help="a registry without TLS: HOST:PORT or a network such as 10.0.0.0/8",
    ),
    Setting(
        name="registry-mirror", metavar="URL", default=(), help="asked before docker.io itself",
    ),
    Setting(
        name="log-level", metavar="LEVEL", default="info", choices=LOG_LEVELS,
        help=f"how much is logged: {', '.join(LOG_LEVELS)}",
    ),
    Setting(
        name="cgroup-parent", metavar="CGROUP", default="/minicontainer",
        help="the cgroup that those of the containers are made in",
    ),
    Setting(
        name="add-runtime", metavar="NAME=PATH", default=(),
        help="another OCI runtime for run --runtime; runc and crun are found by themselves",
    ),
    Setting(
        name="idle-timeout", metavar="SECONDS", default=0,
        help="end after so long without requests and running containers; 0: never",
    ),
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process."""
        raise InvalidArgument(f"{message}: see '{self.prog} --help'")


def parse(argv: list[str]) -> dict[str, Any]:
    """Read the options, and the file that they name.

    Returns:
        The values by field; `config_file` is among them.
    Raises:
        InvalidArgument: an option, a key or a value makes no sense.
    """
    given = vars(_parser().parse_args(argv))
    path = given.pop("config_file")
    values = {setting.field: setting.default for setting in SETTINGS}
    values |= read_file(path or CONFIG_FILE, needed=bool(path))
    values |= {name: value for name, value in given.items() if value not in (None, [])}
    for setting in SETTINGS:
        _check(setting, values[setting.field], f"--{setting.name}")
    tls = [values[name] for name in ("tlscacert", "tlscert", "tlskey")]
    if any(tls) and not all(tls):
        raise InvalidArgument("TLS needs all of --tlscacert, --tlscert and --tlskey")
    values["host"] = tuple(values["host"]) or (f"unix://{values['exec_root']}/{SOCKET}",)
    return values | {"config_file": path or CONFIG_FILE}


def _parser() -> _Parser:
    parser = _Parser(
        prog="minicontainer daemon",
        description="Run the engine in the foreground.",
        allow_abbrev=False,
    )
    parser.add_argument("--config-file", metavar="FILE", help=f"({CONFIG_FILE}, if it is there)")
    for setting in SETTINGS:
        default = setting.default
        kind = type(default) if isinstance(default, int) else str
        parser.add_argument(
            *(("-H",) if setting.name == "host" else ()),
            f"--{setting.name}",
            metavar=setting.metavar,
            type=kind,
            action="append" if isinstance(default, tuple) else "store",
            choices=setting.choices or None,
            help=setting.help + (f" ({default})" if default not in ((), "", 0) else ""),
        )
    return parser


def read_file(path: str, needed: bool) -> dict[str, Any]:
    """Read a configuration file; {} where there is none and none is needed."""
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError:
        if needed:
            raise InvalidArgument(f"{path}: there is no such file") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: {error}") from None
    known = {setting.name: setting for setting in SETTINGS}
    values = {}
    for name, value in found.items():
        if name not in known:
            raise InvalidArgument(f"{path}: unknown key {name}: known are {', '.join(known)}")
        setting = known[name]
        as_told = tuple(value) if isinstance(value, list) else value
        _check(setting, as_told, f"{path}: {name}")
        values[setting.field] = as_told
    return values


def _check(setting: Setting, value: Any, where: str) -> None:
    """Check a value's type, and that it is one of the choices."""
    if isinstance(setting.default, tuple):
        good = isinstance(value, (tuple, list)) and all(isinstance(one, str) for one in value)
        expected = "a list of strings"
    elif isinstance(setting.default, int):
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        expected = "a whole number from 0 on"
    else:
        good, expected = isinstance(value, str), "a string"
    if not good:
        raise InvalidArgument(f"{where}: expected {expected}, got {value!r}")
    if setting.choices and value not in setting.choices:
        raise InvalidArgument(f"{where}: expected one of {', '.join(setting.choices)}, got {value}")
