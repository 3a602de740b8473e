"""exec, ps: start another program in a container, and list its processes."""

from __future__ import annotations

import sys

from minicontainer import jsontext
from minicontainer.contexts import ExitStack
from minicontainer.errors import InvalidArgument, KernelError, NotFound, Unsupported
from minicontainer.runtime.container import operations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.cli.command_line import Asked
    from minicontainer.runtime.cli.main import Session
    from minicontainer.runtime.config.spec import Spec
    from minicontainer.runtime.config.spec_process import Capabilities, Process, User


def execute(session: Session, asked: Asked) -> int:
    """Start a program in a container; wait for it, unless --detach is given."""
    from minicontainer.runtime import inputs
    from minicontainer.runtime.cli import handover
    from minicontainer.runtime.config.spec import Bundle
    from minicontainer.runtime.config.spec_check import warnings
    from minicontainer.runtime.container import execs
    from minicontainer.runtime.parent import foreground

    if not asked.arguments:
        raise InvalidArgument("expected a container ID and a program")
    name, *words = asked.arguments
    detached = asked.has("detach")
    groups = _cgroups(asked.values("cgroup"))
    with foreground.interruptible(), ExitStack() as undo:
        state, pidfd = execs.hold(name, session.store, undo, paused=asked.has("ignore-paused"))
        spec = session.store.load_config(name)
        preserved = handover.preserved_descriptors(asked)
        program = _described(asked, words, spec)
        for warning in warnings(spec.replace(process=program)):
            session.warn(warning)
        ours, theirs = handover.console(program, asked, undo, detached=detached)
        wanted = handover.pidfd_socket(asked, undo)
        bundle = Bundle(path=state.bundle, spec=spec.replace(process=program), text="")
        options = inputs.Options(
            console=theirs, plain_lines=handover.shows_in_a_file(ours),
            detached=detached, preserve_fds=preserved, new_keyring=state.new_keyring,
        )  # fmt: skip
        running = execs.start_exec(state, pidfd, bundle, session.store, options, groups)
        try:
            handover.write_pid_file(asked, running.pid)
            handover.send_pidfd(wanted, running.pidfd)
        except KernelError:  # without its pid file, the caller does not know about the process
            execs.end(state, running.pid, running.pidfd)
            raise
        return 0 if detached else handover.follow(running, ours)


def _cgroups(asked: list[str]) -> dict[str, str]:
    """Parse the cgroups for the program: `NAME`, or on v1 several `CONTROLLER,CONTROLLER:NAME`.

    Returns:
        The group by controller; "" means all controllers.
    """
    found: dict[str, str] = {}
    for text in asked:
        controllers, colon, group = text.rpartition(":")
        names = controllers.split(",")
        if colon and not all(names):
            raise InvalidArgument(f"--cgroup {text}: expected a controller before the colon")
        if not colon and len(asked) > 1:
            raise InvalidArgument(f"--cgroup {text}: one of several, expected CONTROLLER:NAME")
        for name in names:
            if name in found:
                raise InvalidArgument(f"--cgroup {text}: {name} is given twice")
            found[name] = group
    return found


def _described(asked: Asked, words: list[str], spec: Spec) -> Process:
    """Return the process to start: from a file, or the container's own with the options'
    changes.
    """
    from minicontainer.runtime.config.spec_check import check
    from minicontainer.runtime.config.spec_process import Process

    if asked.value("process"):
        found = Process.from_json(_read_json(asked.value("process")), "process")
    else:
        if not words:
            raise InvalidArgument("expected a program to run in the container, or --process FILE")
        found = _changed(spec.process, asked, tuple(words))
    if asked.has("tty"):
        found = found.replace(terminal=True)
    check(spec.replace(process=found))
    return found


def _read_json(path: str) -> object:
    try:
        with open(path, encoding="utf-8") as file:
            return jsontext.parse(file.read())
    except OSError as error:
        raise NotFound(f"--process {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"--process {path} can't be read as JSON: {error}") from None


def _changed(own: Process, asked: Asked, words: tuple[str, ...]) -> Process:
    user = _user(asked.value("user"), own.user) if asked.value("user") else own.user
    groups = tuple(_id("additional-gids", gid) for gid in asked.values("additional-gids"))
    return own.replace(
        args=words,
        terminal=asked.has("tty"),
        cwd=asked.value("cwd") or own.cwd,
        env=(*own.env, *asked.values("env")),
        user=user.replace(additional_gids=(*user.additional_gids, *groups)),
        capabilities=_with_capabilities(own, asked.values("cap")),
        no_new_privileges=own.no_new_privileges or asked.has("no-new-privs"),
        apparmor_profile=asked.value("apparmor") or own.apparmor_profile,
        selinux_label=asked.value("process-label") or own.selinux_label,
    )


def _with_capabilities(own: Process, names: list[str]) -> Capabilities | None:
    """Add capabilities to the effective, permitted and bounding sets.

    They are not added to the inheritable set: programs that the program starts would get them. See:
    CVE-2022-29162. If they are inheritable already, they become ambient too. A user other than root
    loses permitted ones at execve(2), and keeps only these.
    """
    if not names:
        return own.capabilities
    from minicontainer.runtime.config.spec_process import Capabilities

    held = own.capabilities or Capabilities()
    return held.replace(
        bounding=(*held.bounding, *names),
        effective=(*held.effective, *names),
        permitted=(*held.permitted, *names),
        ambient=(*held.ambient, *(name for name in names if name in held.inheritable)),
    )


def _user(text: str, own: User) -> User:
    """Parse UID[:GID]; without GID, the group is the container's own."""
    uid, colon, gid = text.partition(":")
    return own.replace(uid=_id("user", uid), gid=_id("user", gid) if colon else own.gid)


def _id(option: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):  # int() would accept -1, 1_0 and blanks
        raise InvalidArgument(f"--{option}: expected a number, got {text!r}")
    return int(text)


def ps(session: Session, asked: Asked) -> int:
    """List a container's processes: their numbers, or the lines of ps(1) about them."""
    if not asked.arguments:
        raise InvalidArgument("expected one container ID, got 0 arguments")
    name, *options = asked.arguments
    how = asked.value("format", "table")
    pids = operations.processes(name, session.store)
    if how == "json":
        sys.stdout.write(f"[{','.join(map(str, pids))}]\n")
    elif how == "table":
        sys.stdout.write(_lines_of(pids, options or ["-ef"]))
    else:
        raise InvalidArgument(f"--format: expected table or json, got {how!r}")
    return 0


def _lines_of(pids: tuple[int, ...], options: list[str]) -> str:
    """Return the lines of ps(1) about *pids*, and its heading."""
    import subprocess  # 13 ms, for this format alone

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True)
    except FileNotFoundError:
        raise Unsupported("ps is not installed: use --format json") from None
    if done.returncode != 0:
        raise InvalidArgument(f"ps {' '.join(options)}: {done.stderr.strip()}")
    heading, *lines = done.stdout.splitlines()
    titles = heading.split()
    if "PID" not in titles:
        raise InvalidArgument(f"ps {' '.join(options)}: its output has no column PID")
    place = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = (line for line in lines if wanted.intersection(line.split()[place : place + 1]))
    return "".join(f"{line}\n" for line in (heading, *kept))
