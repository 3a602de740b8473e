"""The options of `run --rootfs`, which needs no engine: one table for parser, help and body.

Names, spelling and defaults are Docker's.
"""

from __future__ import annotations

import argparse

from minicontainer import quantities
from minicontainer.cli import values
from minicontainer.engine.config import ContainerConfig, HostConfig
from minicontainer.errors import Error, InvalidArgument
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

DATA_ROOT = "/var/lib/minicontainer"
EXEC_ROOT = "/run/minicontainer"


class Option(Record):
    """One option.

    Args:
        words: as it is typed.
        field: of ContainerConfig or HostConfig, where its value goes; or one of `run`'s own.
        help: one line.
        metavar: what its value is called; "" for an option without one.
        read: turns the text into the value; None for the text itself.
        default: the value when it is not given.
        repeated: it may be given more than once, and the value is a list.
    """

    words: tuple[str, ...]
    field: str
    help: str
    metavar: str = ""
    read: Any = None
    default: Any = ""
    repeated: bool = False


OPTIONS = (
    Option(words=("--rootfs",), field="rootfs", metavar="DIR", default="busybox",
           help="root file system: a directory, or the name of one built by rootfs/NAME (busybox)"),
    Option(words=("--name",), field="name", metavar="NAME", help="name the container"),
    Option(words=("-i", "--interactive"), field="open_stdin", help="keep standard input open"),
    Option(words=("-t", "--tty"), field="tty", help="give the container a terminal"),
    Option(words=("--rm",), field="rm", help="remove the container when it ends (it always is)"),
    Option(words=("-h", "--hostname"), field="hostname", metavar="NAME",
           help="the container's host name"),
    Option(words=("-u", "--user"), field="user", metavar="USER[:GROUP]",
           help="run as this user: name or id"),
    Option(words=("-w", "--workdir"), field="working_dir", metavar="DIR",
           help="working directory inside"),
    Option(words=("-e", "--env"), field="env", metavar="NAME[=VALUE]", repeated=True,
           help="set a variable"),
    Option(words=("--env-file",), field="env_files", metavar="FILE", repeated=True,
           help="read variables from a file"),
    Option(words=("-v", "--volume"), field="binds", metavar="HOST:CONTAINER[:ro]", repeated=True,
           help="mount a host directory or file"),
    Option(words=("--mount",), field="mounts", metavar="type=bind,src=…,dst=…", repeated=True,
           read=values.mount, help="mount a host directory, or a tmpfs"),
    Option(words=("--tmpfs",), field="tmpfs", metavar="DIR[:OPTIONS]", repeated=True,
           read=values.tmpfs, help="mount a tmpfs"),
    Option(words=("--read-only",), field="readonly_rootfs",
           help="make the root file system read-only"),
    Option(words=("-m", "--memory"), field="memory", metavar="BYTES", default=0,
           read=quantities.size, help="memory limit: 64m, 1g"),
    Option(words=("--memory-swap",), field="memory_swap", metavar="BYTES", default=0,
           read=quantities.size_or_unlimited, help="limit of memory and swap together; -1: none"),
    Option(words=("--cpus",), field="nano_cpus", metavar="N", default=0, read=values.nano_cpus,
           help="how many processors' time it gets: 0.5"),
    Option(words=("-c", "--cpu-shares"), field="cpu_shares", metavar="N", default=0,
           read=quantities.whole_number, help="its share of busy processors, of 1024"),
    Option(words=("--cpuset-cpus",), field="cpuset_cpus", metavar="LIST",
           help="processors it may use: 0-3,5"),
    Option(words=("--pids-limit",), field="pids_limit", metavar="N", default=0,
           read=quantities.whole_number, help="most processes at once; -1: no limit"),
    Option(words=("--net", "--network"), field="network_mode", metavar="MODE", default="bridge",
           help="network: bridge (default), none, host, container:NAME, ns:PATH"),
    Option(words=("--cap-add",), field="cap_add", metavar="CAP", repeated=True,
           help="add a capability, or ALL"),
    Option(words=("--cap-drop",), field="cap_drop", metavar="CAP", repeated=True,
           help="drop a capability, or ALL"),
    Option(words=("--privileged",), field="privileged",
           help="all capabilities and devices; no seccomp, no masks"),
    Option(words=("--no-new-privileges",), field="no_new_privileges",
           help="set-user-ID programs gain nothing"),
    Option(words=("--ulimit",), field="ulimits", metavar="TYPE=SOFT[:HARD]", repeated=True,
           read=values.ulimit, help="set a resource limit: nofile=1024:2048"),
    Option(words=("--device",), field="devices", metavar="PATH[:PATH][:rwm]", repeated=True,
           read=values.device, help="let a device of the host be used"),
    Option(words=("--init",), field="init",
           help="keep a process 1 that reaps orphans and passes signals on"),
    Option(words=("--userns",), field="userns_mode", metavar="MODE",
           help="user namespace: host (default), or private: root inside is user 100000 outside"),
    Option(words=("--uts",), field="uts_mode", metavar="MODE",
           help="host name: private (default), host, …"),
    Option(words=("--ipc",), field="ipc_mode", metavar="MODE", default="private",
           help="shared memory and queues: private, host, …"),
    Option(words=("--pid",), field="pid_mode", metavar="MODE",
           help="processes: private (default), host, …"),
    Option(words=("--cgroupns",), field="cgroupns_mode", metavar="MODE", default="private",
           help="view of cgroups: private, host, …"),
    Option(words=("--data-root",), field="data_root", metavar="DIR", default=DATA_ROOT,
           help="root file systems and writable layers"),
    Option(words=("--exec-root",), field="exec_root", metavar="DIR", default=EXEC_ROOT,
           help="names, locks, leases"),
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process."""
        raise InvalidArgument(f"{message}: see '{self.prog} --help'")


def run_parser() -> Parser:
    """Make the parser of `run` from the table; its results are named as the fields."""
    parser = Parser(
        prog="minicontainer run",
        usage="%(prog)s [--rootfs DIR] [OPTIONS] [COMMAND [ARG…]]",
        description="Run a command in a new container.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--help", action="help", help="show this and exit")
    for option in OPTIONS:
        _add(parser, option)
    _add_explain(parser)
    parser.add_argument(
        "cmd", nargs=argparse.REMAINDER, metavar="COMMAND", help="/bin/sh when none is given"
    )
    return parser


def _add(parser: Parser, option: Option) -> None:
    if not option.metavar:
        parser.add_argument(*option.words, dest=option.field, action="store_true", help=option.help)
        return
    parser.add_argument(
        *option.words,
        dest=option.field,
        metavar=option.metavar,
        action="append" if option.repeated else "store",
        default=[] if option.repeated else option.default,
        type=_typed(option.read) if option.read else str,
        help=option.help,
    )


def _add_explain(parser: Parser) -> None:
    """Add `--explain`, alone or with `=LEVEL`: the word behind it is the user's program."""
    parser.add_argument(
        "--explain", dest="explain", action="store_const", const="calls", default="",
        help="print every step, why, and what it changes: --explain=steps, calls (default) or full",
    )  # fmt: skip
    for level in ("steps", "calls", "full"):
        word = f"--explain={level}"
        parser.add_argument(
            word, dest="explain", action="store_const", const=level, help=argparse.SUPPRESS
        )


def _typed(read: Any) -> Any:
    """Make a reader of values fit argparse, which wants its own kind of error."""

    def reader(text: str) -> Any:
        try:
            return read(text)
        except Error as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return reader


def config_from(
    asked: argparse.Namespace, own: dict[str, str], console_size: tuple[int, ...] = ()
) -> ContainerConfig:
    """Put the parsed command line into the body of Docker's create request.

    Args:
        asked: what `run_parser` gave.
        own: this process's environment, for `-e NAME`.
        console_size: rows and columns of the caller's terminal, if there is one.
    """
    given: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value
        for field, value in vars(asked).items()
    }
    env = [item for path in asked.env_files for item in values.environment_file(path, own)]
    env += filter(None, (values.environment(text, own) for text in asked.env))
    given["binds"] = tuple(map(values.bind, asked.binds))
    given |= {"env": tuple(env), "tmpfs": dict(asked.tmpfs), "console_size": console_size}
    if given["cmd"][:1] == ("--",):  # the end of the options, said explicitly
        given["cmd"] = given["cmd"][1:]
    given["cmd"] = given["cmd"] or ("/bin/sh",)
    host = HostConfig(**{field: given[field] for field in HostConfig.fields() if field in given})
    body = {field: given[field] for field in ContainerConfig.fields() if field in given}
    return ContainerConfig(**body, host_config=host)
