"""The command line of `minicontainer-oci`: runc's commands and options, read from their own help.

The help of every command is a text: its usage, what it does, its options. `--help` prints that
text, and the parser reads it, so the two can't differ. Only the text of the command that was called
costs time; argparse would cost as much as a container's start.

    --pid-file FILE   takes a value, as `--pid-file F` or `--pid-file=F`
    --env -e NAME…    may be given more than once
    --force -f        is a switch

See: runc(8) and its pages; crun(1), whose spellings stand beside runc's.
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Values = dict[str, list[str]]

PROGRAM = "minicontainer-oci"

GLOBAL = """\
minicontainer-oci [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]

A container runtime: it runs bundles of the Open Container Initiative as isolated processes.

    --root DIR              the directory for containers' state (/run/minicontainer-oci)
    --log FILE              write errors, warnings and debug lines to this file
    --log-format FORMAT     the format of that file: text or json
    --log-level LEVEL       debug: the same as --debug; others are ignored
    --debug                 report every system call
    --systemd-cgroup        let systemd make the cgroups; cgroupsPath is then slice:prefix:name
    --cgroup-manager NAME   cgroupfs, systemd, or disabled: no cgroup, and so no limits
    --rootless MODE         true, false or auto: ignored: the program finds out
    --version -v            print the version
    --help -h               print this
"""

COMMANDS = {
    "create": """\
create [OPTIONS] ID

Create a container whose first process waits for `start`.

    --bundle -b DIR         the bundle's directory (.)
    --config -f FILE        the configuration, if it is not DIR/config.json
    --console-socket FILE   a unix socket that gets the terminal's master
    --pid-file FILE         write the first process's number to it
    --pidfd-socket FILE     a unix socket that gets a pidfd of the first process
    --preserve-fds N        let the program inherit descriptors 3 to 2+N
    --no-pivot              use mount(MS_MOVE) and chroot instead of pivot_root(2)
    --no-new-keyring        keep the caller's session keyring
""",
    "start": """\
start ID

Start the program of a container that was created.
""",
    "run": """\
run [OPTIONS] ID

Create a container, start it, wait for its program and delete it.

    --bundle -b DIR         the bundle's directory (.)
    --config -f FILE        the configuration, if it is not DIR/config.json
    --console-socket FILE   a unix socket that gets the terminal's master
    --detach -d             return as soon as the program runs
    --keep                  do not delete it when it has ended
    --no-subreaper          ignored: this command adopts no orphans
    --pid-file FILE         write the first process's number to it
    --pidfd-socket FILE     a unix socket that gets a pidfd of the first process
    --preserve-fds N        let the program inherit descriptors 3 to 2+N
    --no-pivot              use mount(MS_MOVE) and chroot instead of pivot_root(2)
    --no-new-keyring        keep the caller's session keyring
""",
    "state": """\
state ID

Print a container's state as JSON.
""",
    "kill": """\
kill [OPTIONS] ID [SIGNAL]

Send a signal (TERM) to a container's first process.

    --all -a                send it to all its processes
""",
    "delete": """\
delete [OPTIONS] ID

Delete what is left of a container that has ended.

    --force -f              kill it first if it runs; a missing one is no error
    --regex                 ID is a regular expression: delete all matching names
""",
    "exec": """\
exec [OPTIONS] ID PROGRAM [ARGUMENTS]

Run another program in a running container. The exit status is the program's, or 255 if
it could not be run.

    --additional-gids -g GID…   add this group to the user's
    --apparmor PROFILE          confine it by this profile
    --cap -c NAME…              add this capability
    --cgroup GROUP…             put it in this cgroup, below the container's own; on v1
                                also CONTROLLER,…:GROUP, for some controllers
    --console-socket FILE       a unix socket that gets the terminal's master
    --cwd DIR                   the working directory
    --detach -d                 return as soon as the program runs
    --env -e NAME=VALUE…        set a variable
    --ignore-paused             in a paused container, wait until it is resumed
    --no-new-privs              let nothing that it runs gain privileges
    --pid-file FILE             write the process's number to it
    --pidfd-socket FILE         a unix socket that gets a pidfd of the process
    --preserve-fds N            let the program inherit descriptors 3 to 2+N
    --process -p FILE           read `process`, as in config.json, from this file
    --process-label LABEL       confine it by this SELinux label
    --tty -t                    give it a terminal
    --user -u UID[:GID]         run it as this user
""",
    "list": """\
list [OPTIONS]

List the containers.

    --format -f FORMAT      table or json
    --quiet -q              print only the names
""",
    "ps": """\
ps [OPTIONS] ID [PS OPTIONS]

List a container's processes.

    --format -f FORMAT      table or json
""",
    "pause": """\
pause ID

Freeze all processes of a container.
""",
    "resume": """\
resume ID

Let a paused container continue.
""",
    "update": """\
update [OPTIONS] ID

Change some limits of a container; the others stay.

    --resources -r FILE     linux.resources as JSON (- for stdin), instead of options
    --memory BYTES          memory: 64m, 1g; -1 for no limit
    --memory-swap BYTES     memory and swap together
    --memory-reservation BYTES  memory that is reclaimed last
    --kernel-memory BYTES   ignored: part of --memory
    --kernel-memory-tcp BYTES   ignored: part of --memory
    --cpu-share N           weight among siblings when processors are short, of 1024
    --cpu-period N          microseconds
    --cpu-quota N           microseconds of processor time in each period; -1 for no limit
    --cpu-burst N           microseconds that may be saved up from earlier periods
    --cpu-idle N            1: run only when no other group wants to
    --cpu-rt-period N       microseconds
    --cpu-rt-runtime N      microseconds for real-time tasks in each such period
    --cpuset-cpus LIST      processors: 0-2,7
    --cpuset-mems LIST      memory nodes
    --pids-limit N          most tasks at once; -1 for no limit
    --blkio-weight N        share of block devices among siblings, 10 to 1000
    --l3-cache-schema TEXT  not supported
    --mem-bw-schema TEXT    not supported
""",
    "events": """\
events [OPTIONS] ID

Print a container's use of resources as JSON until it ends: a line at each interval, and a
line each time that memory runs out.

    --stats                 print one line and return
    --interval TIME         5s, 500ms, 1m30s (5s)
""",
    "spec": """\
spec [OPTIONS]

Write a config.json to start from.

    --bundle -b DIR         the directory for it (.)
    --rootless              for an ordinary user
""",
    "features": """\
features

Print what this runtime can do, as JSON.
""",
    "checkpoint": """\
checkpoint ID

Not there yet.
""",
    "restore": """\
restore ID

Not there yet.
""",
}

# The words after their first argument belong to another program.
_STOP_EARLY = ("exec", "ps")
# These fail with "not there yet", whatever their options.
_NOT_THERE = ("checkpoint", "restore")


class Asked:
    """The parsed words of a command line.

    Args:
        options: the values, by the option's long name; a switch has [""].
        arguments: the words that belong to no option.
    """

    def __init__(self, options: Values, arguments: list[str]) -> None:
        self.options = options
        self.arguments = arguments

    def has(self, option: str) -> bool:
        """Report whether a switch was given: also as --switch=true, but not as --switch=false."""
        return option in self.options and self.options[option][-1] not in ("false", "0")

    def value(self, option: str, otherwise: str = "") -> str:
        """Return an option's value, the last one if there are several."""
        return self.options.get(option, [otherwise])[-1]

    def values(self, option: str) -> list[str]:
        """Return all values of an option."""
        return self.options.get(option, [])

    def number(self, option: str, otherwise: int = 0) -> int:
        """Return an option's value as a whole number.

        Raises:
            InvalidArgument: it is not a number.
        """
        text = self.value(option, str(otherwise))
        if not (text.isascii() and text.removeprefix("-").isdecimal()):
            raise InvalidArgument(f"--{option}: expected a whole number, got {text!r}")
        return int(text)

    def only_argument(self, what: str = "container ID") -> str:
        """Return the one argument that the command takes.

        Raises:
            InvalidArgument: there is none, or more than one.
        """
        if len(self.arguments) != 1 or not self.arguments[0]:
            raise InvalidArgument(f"expected one {what}, got {len(self.arguments)} arguments")
        return self.arguments[0]


def options_of(text: str) -> Mapping[str, tuple[str, bool]]:
    """Read the options from a help text: for every spelling, the long name and whether it has a
    value.
    """
    found = {}
    for line in text.splitlines():
        if not line.startswith("    -"):
            continue
        names: list[str] = []
        takes_value = False
        for word in line.split():
            if not word.startswith("-"):
                takes_value = word[:1].isupper() and line[line.index(word) - 2] != " "
                break
            names.append(word)
        for name in names:
            found[name] = (names[0][2:], takes_value)
    return found


def parse(
    text: str, words: Sequence[str], *, stop_early: bool = False, options: Values | None = None
) -> Asked:
    """Sort words into options and arguments.

    Args:
        text: the help text that lists the options.
        stop_early: whether the first argument ends the options.
        options: filled with the options' values, up to the word with an error.
    Raises:
        InvalidArgument: an option is unknown, or lacks its value.
    """
    known = options_of(text)
    options = {} if options is None else options
    arguments: list[str] = []
    todo = list(words)
    while todo:
        word = todo.pop(0)
        if stop_early and not word.startswith("-"):
            arguments.append(word)
            break
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        name, equals, value = word.partition("=")
        if len(name) > 2 and not name.startswith("--"):
            name = "-" + name  # runc accepts -bundle too
        if name not in known:
            raise InvalidArgument(f"unknown option {word}: see `{text.split()[0]} --help`")
        long_name, takes_value = known[name]
        if takes_value and not equals:
            if not todo:
                raise InvalidArgument(f"option {name} needs a value")
            value = todo.pop(0)
        options.setdefault(long_name, []).append(value)
    return Asked(options, [*arguments, *todo])


def split(words: Sequence[str], given: Values | None = None) -> tuple[Asked, str, Asked]:
    """Parse a whole command line: global options, the command, its options and arguments.

    Args:
        given: filled with the global options that stand before an error.
    Raises:
        InvalidArgument: there is no such command or option.
    """
    overall = parse(GLOBAL, words, stop_early=True, options=given)
    if not overall.arguments:
        return overall, "", Asked({}, [])
    name, *rest = overall.arguments
    if name not in COMMANDS:
        raise InvalidArgument(f"no such command: {name}: one of {', '.join(COMMANDS)}")
    if "--help" in rest[:1] or "-h" in rest[:1]:
        return overall, name, Asked({"help": [""]}, [])
    if name in _NOT_THERE:
        return overall, name, Asked({}, rest)
    return overall, name, parse(COMMANDS[name], rest, stop_early=name in _STOP_EARLY)
