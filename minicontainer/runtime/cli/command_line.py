"""The command line of `minicontainer-oci`: runc's commands and options, read from their own help.

Every command is a text: how it is called, what it does, its options. `--help` prints it, and the
parser reads it; so the two can't differ, and only the text of the command that was called costs
time. argparse would cost as much as a container's start.

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

A container runtime: bundles of the Open Container Initiative in, isolated processes out.

    --root DIR              where containers' state is kept (/run/minicontainer-oci)
    --log FILE              errors go there too, warnings and debug there alone
    --log-format FORMAT     of that file: text or json
    --log-level LEVEL       debug: as --debug; others are accepted
    --debug                 tell every system call
    --systemd-cgroup        let systemd make the cgroups; cgroupsPath is then slice:prefix:name
    --cgroup-manager NAME   cgroupfs or systemd
    --rootless MODE         true, false or auto: accepted, and found out by itself
    --version -v            print the version
    --help -h               print this
"""

COMMANDS = {
    "create": """\
create [OPTIONS] ID

Create a container, and let it wait before its program.

    --bundle -b DIR         the bundle's directory (.)
    --config -f FILE        the configuration, if it is not DIR/config.json
    --console-socket FILE   a unix socket that gets the terminal's master
    --pid-file FILE         write the first process's number there
    --pidfd-socket FILE     a unix socket that gets a pidfd of the first process
    --preserve-fds N        pass descriptors 3 to 2+N on to the program
    --no-pivot              use mount(MS_MOVE) and chroot where pivot_root(2) can't work
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
    --detach -d             leave it running, and return
    --keep                  don't delete it when it has ended
    --no-subreaper          accepted: this command adopts no orphans
    --pid-file FILE         write the first process's number there
    --pidfd-socket FILE     a unix socket that gets a pidfd of the first process
    --preserve-fds N        pass descriptors 3 to 2+N on to the program
    --no-pivot              use mount(MS_MOVE) and chroot where pivot_root(2) can't work
    --no-new-keyring        keep the caller's session keyring
""",
    "state": """\
state ID

Print a container's state as JSON.
""",
    "kill": """\
kill [OPTIONS] ID [SIGNAL]

Send a signal (TERM) to a container's first process.

    --all -a                to all its processes
""",
    "delete": """\
delete [OPTIONS] ID

Delete what is left of a container that has ended.

    --force -f              kill it first, if it runs; and don't complain if there is none
    --regex                 ID is a regular expression: all whose names it matches
""",
    "exec": """\
exec [OPTIONS] ID PROGRAM [ARGUMENTS]

Run another program in a container that runs. The exit status is the program's, or 255
where it could not be run.

    --additional-gids -g GID…   also a member of this group
    --apparmor PROFILE          confined by it
    --cap -c NAME…              with this capability as well
    --cgroup GROUP…             in this cgroup, below the container's own; on v1 also
                                CONTROLLER,…:GROUP, for each that shall differ
    --console-socket FILE       a unix socket that gets the terminal's master
    --cwd DIR                   the working directory
    --detach -d                 return when the program runs
    --env -e NAME=VALUE…        set a variable
    --ignore-paused             start it, to wait until the container is resumed
    --no-new-privs              nothing that it runs gains privileges
    --pid-file FILE             write the process's number there
    --pidfd-socket FILE         a unix socket that gets a pidfd of the process
    --preserve-fds N            pass descriptors 3 to 2+N on to the program
    --process -p FILE           its description, as config.json has it: process
    --process-label LABEL       confined by SELinux
    --tty -t                    with a terminal
    --user -u UID[:GID]         as this user
""",
    "list": """\
list [OPTIONS]

List the containers.

    --format -f FORMAT      table or json
    --quiet -q              the names alone
""",
    "ps": """\
ps [OPTIONS] ID [PS OPTIONS]

List a container's processes.

    --format -f FORMAT      table or json
""",
    "pause": """\
pause ID

Stop all processes of a container where they are.
""",
    "resume": """\
resume ID

Let a paused container run on.
""",
    "update": """\
update [OPTIONS] ID

Change the limits of a container; those not named stay as they are.

    --resources -r FILE     linux.resources as JSON, - for stdin; no other option counts
    --memory BYTES          memory: 64m, 1g; -1 for no limit
    --memory-swap BYTES     memory and swap together
    --memory-reservation BYTES  what is reclaimed last when the host runs short
    --kernel-memory BYTES   ignored: part of --memory
    --kernel-memory-tcp BYTES   ignored: part of --memory
    --cpu-share N           weight among siblings when processors are short, of 1024
    --cpu-period N          microseconds
    --cpu-quota N           microseconds of processor time in each period; -1 for no limit
    --cpu-burst N           microseconds that may be saved up from earlier periods
    --cpu-idle N            1: run only when nothing else wants to
    --cpu-rt-period N       microseconds
    --cpu-rt-runtime N      microseconds for real-time tasks in each of these periods
    --cpuset-cpus LIST      processors: 0-2,7
    --cpuset-mems LIST      memory nodes
    --pids-limit N          tasks at once; -1 for no limit
    --blkio-weight N        share of block devices among siblings, 10 to 1000
    --l3-cache-schema TEXT  not supported
    --mem-bw-schema TEXT    not supported
""",
    "events": """\
events [OPTIONS] ID

Print as JSON what a container has used, a line at each interval, and when memory was not
enough; until it ends.

    --stats                 print one line and return
    --interval TIME         5s, 500ms, 1m30s (5s)
""",
    "spec": """\
spec [OPTIONS]

Write a config.json to start from.

    --bundle -b DIR         where (.)
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

# Everything after the first argument of these is another program's.
_STOP_EARLY = ("exec", "ps")
# Whatever options these are given, the answer is that they are not there.
_NOT_THERE = ("checkpoint", "restore")


class Asked:
    """What a command was asked.

    Args:
        options: the values given, by the option's long name; a switch has [""].
        arguments: the words that belong to no option.
    """

    def __init__(self, options: Values, arguments: list[str]) -> None:
        self.options = options
        self.arguments = arguments

    def has(self, option: str) -> bool:
        """Say whether a switch was given; also as --switch=true, and not as --switch=false."""
        return option in self.options and self.options[option][-1] not in ("false", "0")

    def value(self, option: str, otherwise: str = "") -> str:
        """Give an option's value, the last one if there are several."""
        return self.options.get(option, [otherwise])[-1]

    def values(self, option: str) -> list[str]:
        """Give all values of an option."""
        return self.options.get(option, [])

    def number(self, option: str, otherwise: int = 0) -> int:
        """Give an option's value as a whole number.

        Raises:
            InvalidArgument: it is none.
        """
        text = self.value(option, str(otherwise))
        if not (text.isascii() and text.removeprefix("-").isdecimal()):
            raise InvalidArgument(f"--{option}: expected a whole number, got {text!r}")
        return int(text)

    def only_argument(self, what: str = "container ID") -> str:
        """Give the one argument that the command takes.

        Raises:
            InvalidArgument: there is none, or there are more.
        """
        if len(self.arguments) != 1 or not self.arguments[0]:
            raise InvalidArgument(f"expected one {what}, got {len(self.arguments)} arguments")
        return self.arguments[0]


def options_of(text: str) -> Mapping[str, tuple[str, bool]]:
    """Read the options from a help text: by every spelling, the long name and whether it takes a
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
        text: the help text that has the options.
        stop_early: whether the first argument ends the options.
        options: is filled with the options' values, as far as it comes.
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
            name = "-" + name  # runc takes -bundle as well
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
    """Read a whole command line: global options, the command, what it was asked.

    Args:
        given: is filled with the global options that stand before an error.
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
