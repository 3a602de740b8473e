"""The last line of a script's `inside`: a chain of commands, each of which gives something up.

Each command does its part and executes the next. The last is a shell that holds no rights of its
own any more: it waits until the root has changed, and becomes the program.
"""

from __future__ import annotations

from minicontainer import steps
from minicontainer.learn import narration
from minicontainer.learn.script_plan import cannot, comment, quoted
from minicontainer.runtime.child import init, programs
from minicontainer.runtime.config.spec_process import RLIMIT_INFINITY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minicontainer.learn.script_plan import Plan
    from minicontainer.runtime.config.spec_process import Capabilities

# The steps of the recipe that are words of the last line, in its order, and their commands.
LAST = {
    "start-session": "setsid",
    "set-rlimits": "prlimit",
    "set-last-rlimits": "prlimit",
    "forbid-new-privileges": "setpriv --no-new-privs",
    "drop-bounding-set": "setpriv --bounding-set",
    "become-user": "setpriv --reuid --regid --groups",
    "set-capabilities": "setpriv --inh-caps --ambient-caps",
    "die-with-parent": "unshare --kill-child",
    "reset-signals": "env --default-signal",
}


def find_home(plan: Plan) -> Iterator[str]:
    """Find the user's home directory in the image."""
    yield "resolve /etc/passwd"
    yield "home=/"
    yield "while IFS=: read -r _ _ number _ _ directory _; do"
    yield f'    [ "$number" != {plan.spec.process.user.uid} ] || {{ home=$directory; break; }}'
    yield 'done <"$at"'


def last_line(plan: Plan) -> Iterator[str]:
    """Write the chain, and what its words are for."""
    process = plan.spec.process
    wanted = [
        name
        for name in LAST
        if not (name == "start-session" and process.terminal)
        and not ("rlimits" in name and not process.rlimits)
        and not (name == "forbid-new-privileges" and not process.no_new_privileges)
    ]
    told: set[str] = set()
    for name in wanted:
        if (command := LAST[name]) not in told:
            told.add(command)
            yield from comment(f"{command}: {narration.summary_of(name, plan.lang)}")
    if process.terminal:
        yield from cannot("open-terminal", plan.lang, "")
    lead = "exec " if process.terminal else "exec setsid "
    rights = _rights(plan)
    first, *others = [*_limits(plan), *rights]
    yield "# shellcheck disable=SC2016 # the inner shell expands it"
    yield f"{lead}{first} \\"
    yield from (f"    {part} \\" for part in others)
    yield "    env -i --default-signal \\"
    yield from (f"    {quoted(setting)} \\" for setting in _environment(plan))
    if init.find_home in steps.chosen(init.RECIPE, plan.spec):
        yield '    "HOME=$home" \\'
    yield "    /bin/sh -c '"
    yield '        echo "$1" >&4; exec 4>&-'
    yield "        read -r _ <&3; exec 3<&-"
    yield '        cd "$2"; unset PWD OLDPWD; shift 2; exec "$@"'
    words = " ".join(quoted(word) for word in process.args)
    yield f'    \' sh "$pid" {quoted(process.cwd)} {words} 3<>"$work/gate"'


def _environment(plan: Plan) -> list[str]:
    settings = programs.environment(plan.spec.process.env)
    return [f"{name}={value}" for name, value in settings.items()]


def _limits(plan: Plan) -> Iterator[str]:
    words = [
        f"--{limit.type.removeprefix('RLIMIT_').lower()}={_number(limit.soft)}:{_number(limit.hard)}"
        for limit in plan.spec.process.rlimits
    ]
    if words:
        yield f"prlimit {' '.join(words)}"


def _number(limit: int) -> str:
    return "unlimited" if limit == RLIMIT_INFINITY else str(limit)


def _rights(plan: Plan) -> list[str]:
    process = plan.spec.process
    user, asked = process.user, process.capabilities
    groups = ",".join(map(str, user.additional_gids))
    return [
        f"setpriv{' --no-new-privs' if process.no_new_privileges else ''} "
        f"--reuid={user.uid} --regid={user.gid} "
        f"{f'--groups={groups}' if groups else '--clear-groups'}",
        *_sets(asked),
    ]


def _sets(asked: Capabilities | None) -> Iterator[str]:
    for option, names in (
        ("--inh-caps", asked.inheritable if asked else ()),
        ("--ambient-caps", asked.ambient if asked else ()),
        ("--bounding-set", asked.bounding if asked else ()),
    ):
        yield f"    {option}={','.join(['-all', *_words(names)])}"


def _words(names: Iterable[str]) -> list[str]:
    return [f"+{name.removeprefix('CAP_').lower()}" for name in names]
