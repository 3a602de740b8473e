"""Commands about containers."""

from __future__ import annotations

import argparse
import os
import sys

from minicontainer import steps
from minicontainer.cli import values
from minicontainer.cli.output import say
from minicontainer.engine.config import ContainerConfig, HostConfig
from minicontainer.engine.containers import Containers
from minicontainer.errors import Error, InvalidArgument
from minicontainer.runtime.foreground import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_DATA_ROOT = "/var/lib/minicontainer"
_EXEC_ROOT = "/run/minicontainer"
_EXIT_NO_TERMINAL = 1  # as Docker's client


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process."""
        raise InvalidArgument(f"{message}: see '{self.prog} --help'")


def _typed(read: Any) -> Any:
    """Make a reader of values fit argparse, which wants its own kind of error."""

    def reader(text: str) -> Any:
        try:
            return read(text)
        except Error as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return reader


def run_parser() -> Parser:
    """Make the parser of `run`: names, spelling and defaults are Docker's."""
    parser = Parser(
        prog="minicontainer run",
        usage="%(prog)s [--rootfs DIR] [OPTIONS] [COMMAND [ARG…]]",
        description="Run a command in a new container.",
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--help", action="help", help="show this and exit")
    add(
        "--rootfs",
        default="busybox",
        metavar="DIR",
        help="root file system: a directory, or the name of one built by rootfs/NAME (busybox)",
    )
    add("-i", "--interactive", action="store_true", help="keep standard input open")
    add("-t", "--tty", action="store_true", help="give the container a terminal")
    add("--rm", action="store_true", help="remove the container when it ends (it always is)")
    add("--name", default="", help="name the container")
    add("-h", "--hostname", default="", help="the container's host name")
    add("-u", "--user", default="", metavar="USER[:GROUP]", help="run as this user: name or id")
    add("-w", "--workdir", default="", metavar="DIR", help="working directory inside")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable")
    add(
        "--env-file", action="append", default=[], metavar="FILE", help="read variables from a file"
    )
    add(
        "-v",
        "--volume",
        action="append",
        default=[],
        metavar="HOST:CONTAINER[:ro]",
        help="mount a host directory or file",
    )
    add(
        "--mount",
        action="append",
        default=[],
        type=_typed(values.mount),
        metavar="type=bind,src=…,dst=…",
        help="mount a host directory, or a tmpfs",
    )
    add(
        "--tmpfs",
        action="append",
        default=[],
        type=_typed(values.tmpfs),
        metavar="DIR[:OPTIONS]",
        help="mount a tmpfs",
    )
    add("--read-only", action="store_true", help="make the root file system read-only")
    add(
        "-m",
        "--memory",
        default=0,
        type=_typed(values.size),
        metavar="BYTES",
        help="memory limit: 64m, 1g",
    )
    add(
        "--memory-swap",
        default=0,
        type=_typed(values.size_or_unlimited),
        metavar="BYTES",
        help="limit of memory and swap together; -1: none",
    )
    add(
        "--cpus",
        default=0,
        type=_typed(values.nano_cpus),
        metavar="N",
        help="how many processors' time it gets: 0.5",
    )
    add(
        "-c",
        "--cpu-shares",
        default=0,
        type=_typed(values.whole_number),
        metavar="N",
        help="its share of busy processors, of 1024",
    )
    add("--cpuset-cpus", default="", metavar="LIST", help="processors it may use: 0-3,5")
    add(
        "--pids-limit",
        default=0,
        type=_typed(values.whole_number),
        metavar="N",
        help="most processes at once; -1: no limit",
    )
    add(
        "--net",
        "--network",
        default="bridge",
        metavar="MODE",
        help="network: bridge (default), none, host, container:NAME, ns:PATH",
    )
    add("--cap-add", action="append", default=[], metavar="CAP", help="add a capability, or ALL")
    add("--cap-drop", action="append", default=[], metavar="CAP", help="drop a capability, or ALL")
    add(
        "--privileged",
        action="store_true",
        help="all capabilities and devices; no seccomp, no masks",
    )
    add("--no-new-privileges", action="store_true", help="set-user-ID programs gain nothing")
    add(
        "--ulimit",
        action="append",
        default=[],
        type=_typed(values.ulimit),
        metavar="TYPE=SOFT[:HARD]",
        help="set a resource limit: nofile=1024:2048",
    )
    add(
        "--device",
        action="append",
        default=[],
        type=_typed(values.device),
        metavar="PATH[:PATH][:rwm]",
        help="let a device of the host be used",
    )
    add(
        "--init",
        action="store_true",
        help="keep a process 1 that reaps orphans and passes signals on",
    )
    add(
        "--userns",
        default="",
        metavar="MODE",
        help="user namespace: host (default), or private: root inside is user 100000 outside",
    )
    add("--uts", default="", metavar="MODE", help="host name: private (default), host, …")
    add(
        "--ipc",
        default="private",
        metavar="MODE",
        help="shared memory and queues: private, host, …",
    )
    add("--pid", default="", metavar="MODE", help="processes: private (default), host, …")
    add("--cgroupns", default="private", metavar="MODE", help="view of cgroups: private, host, …")
    add(
        "--explain",
        action="store_true",
        help="print every step: what, why, the calls and what they changed",
    )
    add("--data-root", default=_DATA_ROOT, metavar="DIR", help=f"({_DATA_ROOT})")
    add("--exec-root", default=_EXEC_ROOT, metavar="DIR", help=f"({_EXEC_ROOT})")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="/bin/sh when none is given")
    return parser  # fmt: skip


def config_from(asked: argparse.Namespace, own: dict[str, str]) -> ContainerConfig:
    """Put the parsed command line into the body of Docker's create request."""
    env = [item for path in asked.env_file for item in values.environment_file(path, own)]
    env += filter(None, (values.environment(text, own) for text in asked.env))
    return ContainerConfig(
        rootfs=asked.rootfs,
        cmd=tuple(asked.command) or ("/bin/sh",),
        name=asked.name,
        hostname=asked.hostname,
        user=asked.user,
        working_dir=asked.workdir,
        env=tuple(env),
        tty=asked.tty,
        open_stdin=asked.interactive,
        host_config=HostConfig(
            binds=tuple(asked.volume),
            mounts=tuple(asked.mount),
            tmpfs=dict(asked.tmpfs),
            readonly_rootfs=asked.read_only,
            memory=asked.memory,
            memory_swap=asked.memory_swap,
            nano_cpus=asked.cpus,
            cpu_shares=asked.cpu_shares,
            cpuset_cpus=asked.cpuset_cpus,
            pids_limit=asked.pids_limit,
            network_mode=asked.net,
            pid_mode=asked.pid,
            ipc_mode=asked.ipc,
            uts_mode=asked.uts,
            userns_mode=asked.userns,
            cgroupns_mode=asked.cgroupns,
            cap_add=tuple(asked.cap_add),
            cap_drop=tuple(asked.cap_drop),
            privileged=asked.privileged,
            no_new_privileges=asked.no_new_privileges,
            ulimits=tuple(asked.ulimit),
            devices=tuple(asked.device),
            init=asked.init,
            console_size=_window_size() if asked.tty else (),
        ),
    )


def _window_size() -> tuple[int, ...]:
    from minicontainer.kernel import terminal  # 4 ms that only a terminal costs

    return terminal.window_size(0) if os.isatty(0) else ()


def run(argv: list[str], environ: dict[str, str]) -> int:
    """Run a command in a new container, in the foreground."""
    asked = run_parser().parse_args(argv)
    if asked.tty and asked.interactive and not os.isatty(0):
        say("the input device is not a TTY: leave -t out, or run this in a terminal")
        return _EXIT_NO_TERMINAL
    config = config_from(asked, environ)
    if asked.explain:
        from minicontainer.learn.explain import Explainer  # only who asks for it pays for it

        steps.listen(Explainer(sys.stderr), "client")
    try:
        outcome = Containers(asked.data_root, asked.exec_root).run(config, say)
    except Interrupted as interrupt:
        say("interrupted before the container ran: nothing was left behind")
        return 128 + interrupt.number
    if outcome.reason:
        say(outcome.reason)
    return outcome.status
