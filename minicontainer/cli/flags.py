"""Options and arguments of a command, from one table: the parser and the help.

The rules are those of Docker's client, which takes them from pflag: `--name VALUE` and
`--name=VALUE`, `--switch` and `--switch=false`, `-it`, `-n5`, `--` ends the options. A command that
runs a program (`run`, `exec`, `top`) reads options only before its first argument.

argparse is not used: its import costs half of what `minicontainer ps` may take.
"""

from __future__ import annotations

from minicontainer import quantities
from minicontainer.cli import filters
from minicontainer.cli.exits import EXIT_ENGINE, EXIT_FAILED, Exit, Lost
from minicontainer.errors import InvalidArgument
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicontainer.cli.session import Session

PROGRAM = "minicontainer"
_YES = ("1", "t", "T", "true", "TRUE", "True")
_NO = ("0", "f", "F", "false", "FALSE", "False")


def switch(value: str) -> bool:
    """Read what follows `--switch=`, as Go does."""
    if value not in (*_YES, *_NO):
        raise InvalidArgument(f"expected true or false, got '{value}'")
    return value in _YES


def number(value: str) -> int:
    """Read a whole number."""
    return quantities.whole_number(value)


class Flag(Record):
    """One option.

    Args:
        name: the long spelling, without the two hyphens.
        letter: the short spelling, without the hyphen.
        help: one line.
        read: turns the text into the value, or raises InvalidArgument; None for the text itself;
            `switch` makes an option that needs no value.
        metavar: what the value is called in the help.
        default: the value when the option is not given.
        many: it may be given more than once, and the value is a list.
        aliases: other long spellings, which the help does not show.
        key: the name of the value, when it is not the option's own.
        alone: the text that stands for the option without a value: a switch's is "true".
    """

    name: str
    letter: str = ""
    help: str = ""
    read: Any = None
    metavar: str = "string"
    default: Any = ""
    many: bool = False
    aliases: tuple[str, ...] = ()
    key: str = ""
    alone: str = ""

    @property
    def dest(self) -> str:
        """Name the attribute of `Asked` that holds the value."""
        return self.key or self.name.replace("-", "_")

    @property
    def spelling(self) -> str:
        """Write the option as messages name it: `-t, --timeout`."""
        return f"-{self.letter}, --{self.name}" if self.letter else f"--{self.name}"


def toggle(name: str, letter: str = "", help: str = "", default: bool = False) -> Flag:
    """Make an option without a value."""
    return Flag(name=name, letter=letter, help=help, read=switch, default=default, alone="true")


# Which engine, when not the host's own: accepted before the command and among its options.
ROOT_FLAGS = (
    Flag(name="data-root", metavar="DIR", help="images and containers of the engine to be used"),
    Flag(name="exec-root", metavar="DIR", help="sockets and locks of the engine to be used"),
)
FILTER = Flag(name="filter", letter="f", help="show only what matches: KEY=VALUE",
              metavar="filter", read=filters.read, many=True)  # fmt: skip
FORMAT = Flag(name="format", help="'table', 'table TEMPLATE', 'json', or a Go template")
NO_TRUNC = toggle("no-trunc", "", "show whole values")


def _level(value: str) -> str:
    if value not in ("steps", "calls", "full"):
        raise InvalidArgument("use steps, calls or full")
    return value


# What makes a command tell what it does to the kernel, and the commands that can.
STORY_FLAGS = (
    Flag(name="explain", alone="calls", metavar="LEVEL", read=_level,
         help="print every step, why, and what it changes: =steps, =calls or =full"),
    toggle("plain", "", "--explain, with one line for each step and each act, however long"),
    toggle("json", "", "print the kernel events, one JSON object a line"),
    Flag(name="record", metavar="FILE", help="keep the kernel events, for `minicontainer replay`"),
    Flag(name="lang", metavar="LANG", help="the language of --explain: en, ru; by the locale"),
)  # fmt: skip
# What makes a start wait before each step, and the commands that have steps of a start.
STEP_FLAGS = (
    toggle("step", "", "wait before each step of the start: read, look, go on, or undo all"),
    Flag(name="until", metavar="STEP", help="--step, but the first one to wait is this"),
    toggle("predict", "", "--step, and ask what each step will change"),
)
_WITH_STEPS = ("run", "create", "start")
_TELLING = ("explain", "json", "record", "without", "step")
_WITH_STORY = ("run", "create", "start", "stop", "restart", "kill", "rm", "exec", "pull", "update")


class Asked:
    """A parsed command line: each option is an attribute, `args` has the rest.

    Args:
        values: the options' values, given or default.
        args: the arguments that are no options.
        given: the names of the options that were given.
        session: what the command has beside its own options: environment and engine.
        words: the command line as it was typed.
    """

    def __init__(
        self,
        values: dict[str, Any],
        args: list[str],
        given: set[str],
        session: Session,
        words: list[str],
    ) -> None:
        self.__dict__.update(values)
        self.words = words
        self.args = args
        self.given = given
        self.session = session

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Command:
    """A command: what it takes, and the function that does it.

    Args:
        act: takes the parsed command line, gives the exit status; its docstring is the help.
        takes: its arguments, as the help shows them: "CONTAINER [CONTAINER...]".
        flags: its options.
        least, most: how many arguments; None for no limit.
        options_first: the options end at the first argument.
        without_engine: the exit status where no engine answers; None for that of the error.
    """

    def __init__(
        self,
        act: Callable[[Asked], int],
        takes: str,
        flags: tuple[Flag, ...],
        least: int,
        most: int | None,
        options_first: bool,
        without_engine: int | None,
    ) -> None:
        self.act = act
        self.without_engine = without_engine
        self.takes = takes
        self.flags = flags
        self.least = least
        self.most = most
        self.options_first = options_first
        self.help = (act.__doc__ or "").partition("\n")[0]

    def usage(self, name: str) -> str:
        """Write the one line that shows how the command is called."""
        parts = (PROGRAM, name, "[OPTIONS]" if self.flags else "", self.takes)
        return " ".join(part for part in parts if part)

    def story_flags(self, name: str) -> tuple[Flag, ...]:
        """Give the options that have a command tell what it does."""
        verb = name.rpartition(" ")[2]
        steps = STEP_FLAGS if verb in _WITH_STEPS else ()
        return (*STORY_FLAGS, *steps) if verb in _WITH_STORY else ()

    def __call__(self, name: str, argv: list[str], session: Session) -> int:
        """Parse the rest of the command line, and do what it says.

        Args:
            name: as it was typed: "stop", or "container stop".
            argv: what followed.
            session: the environment and the engine.
        """
        tells = name.rpartition(" ")[2] in _WITH_STORY
        flags = (*self.flags, *self.story_flags(name), *ROOT_FLAGS)
        try:
            values, args, given = parse(flags, argv, self.options_first)
        except InvalidArgument as error:
            message = f"{error}: see '{PROGRAM} {name} --help'"
            raise Exit(message, EXIT_ENGINE, prefix=True) from None
        for flag in ROOT_FLAGS:
            if value := values.pop(flag.dest):
                session.options[flag.dest] = value
        self._check_number(name, len(args))
        if "step" in values:  # each of the other two says it as well
            values["step"] = bool(values["step"] or values["until"] or values["predict"])
        if values.get("plain"):
            values["explain"] = values["explain"] or "calls"
        asked = Asked(values, args, given, session, argv)
        try:
            if tells and any(getattr(asked, name, None) for name in _TELLING):
                from minicontainer.cli import stories  # only who asks for it pays for it

                with stories.told(asked, name):
                    return self.act(asked)
            return self.act(asked)
        except Lost as error:
            if self.without_engine is None:
                raise
            raise Exit(str(error), self.without_engine, prefix=True) from None

    def _check_number(self, name: str, count: int) -> None:
        if self.least <= count <= (count if self.most is None else self.most):
            return
        few = count < self.least
        bound = self.least if few or self.most is None else self.most
        how = "" if self.least == self.most else "at least " if few else "at most "
        rule = f"requires {how}{bound} argument{'s' if bound != 1 else ''}"
        rule = "accepts no arguments" if self.most == 0 else rule
        raise Exit(f"'{PROGRAM} {name}' {rule}: {self.usage(name)}", EXIT_FAILED, prefix=True)


def command(
    takes: str = "",
    *flags: Flag,
    least: int = 0,
    most: int | None = None,
    options_first: bool = False,
    without_engine: int | None = None,
) -> Callable[[Callable[[Asked], int]], Command]:
    """Make a command of a function: its arguments as the help shows them, and its options."""
    return lambda act: Command(act, takes, flags, least, most, options_first, without_engine)


class HelpWanted(Exception):
    """--help stood on the command line."""


def parse(
    flags: tuple[Flag, ...], argv: list[str], options_first: bool
) -> tuple[dict[str, Any], list[str], set[str]]:
    """Read a command line: give the values, the arguments, and which options were given.

    Raises:
        InvalidArgument: an option is unknown, lacks its value or can't read it; in pflag's words.
        HelpWanted: --help is among the options.
    """
    by_name = {name: flag for flag in flags for name in (flag.name, *flag.aliases)}
    by_letter = {flag.letter: flag for flag in flags if flag.letter}
    values = {flag.dest: [] if flag.many else flag.default for flag in flags}
    given: set[str] = set()
    args: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            args += rest
            break
        if word == "-" or not word.startswith("-"):
            args.append(word)
            if options_first:
                args += rest
                break
        elif word.startswith("--"):
            _read_long(word, rest, by_name, values, given)
        else:
            _read_short(word, rest, by_letter, values, given)
    return values, args, given


def _read_long(
    word: str, rest: list[str], by_name: dict[str, Flag], values: dict[str, Any], given: set[str]
) -> None:
    name, equals, value = word[2:].partition("=")
    flag = by_name.get(name)
    if flag is None:
        if name == "help":
            raise HelpWanted
        raise InvalidArgument(f"unknown flag: --{name}")
    if not equals:
        if flag.alone:
            value = flag.alone
        elif rest:
            value = rest.pop(0)
        else:
            raise InvalidArgument(f"flag needs an argument: --{name}")
    _store(flag, value, values, given)


def _read_short(
    word: str, rest: list[str], by_letter: dict[str, Flag], values: dict[str, Any], given: set[str]
) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = by_letter.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpWanted
            raise InvalidArgument(f"unknown shorthand flag: '{letter}' in {word}")
        if letters.startswith("="):
            value, letters = letters[1:], ""
        elif flag.alone:
            value = flag.alone
        elif letters:
            value, letters = letters, ""
        elif rest:
            value = rest.pop(0)
        else:
            raise InvalidArgument(f"flag needs an argument: '{letter}' in {word}")
        _store(flag, value, values, given)


def _store(flag: Flag, value: str, values: dict[str, Any], given: set[str]) -> None:
    try:
        read = flag.read(value) if flag.read else value
    except InvalidArgument as error:
        raise InvalidArgument(
            f'invalid argument "{value}" for "{flag.spelling}" flag: {error}'
        ) from None
    given.add(flag.dest)
    if flag.many:
        values[flag.dest].append(read)
    else:
        values[flag.dest] = read
