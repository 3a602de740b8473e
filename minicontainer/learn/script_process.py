"""The last line of a script's `inside`: a chain of commands, each of which gives something up.

Each command does its part and executes the next. The last is a shell that holds no rights of its
own any more: it waits until the root has changed, and becomes the program.
"""

from __future__ import annotations

from minicontainer.learn import narration
from minicontainer.learn.script_plan import cannot, comment, quoted
from minicontainer.learn.script_words import say
from minicontainer.runtime.child import programs
from minicontainer.runtime.config.spec_process import RLIMIT_INFINITY, Capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minicontainer.learn.script_plan import Plan

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
    told: set[str] = set()
    for name in LAST:
        command = LAST[name]
        if name == "start-session" and process.terminal:
            continue
        if name in plan.steps and command not in told:
            told.add(command)
            yield from comment(f"{command}: {narration.summary_of(name, plan.lang)}")
        elif name in plan.left_out:
            yield from comment(f"{command}: {say('left-out', plan.lang)} {name}")
    if process.terminal:
        yield from cannot("open-terminal", plan.lang, "")
    alone = "start-session" in plan.steps and not process.terminal
    first, *others = [*_limits(plan), *_rights(plan)]
    yield "# shellcheck disable=SC2016 # the inner shell expands it"
    yield f"exec {'setsid ' if alone else ''}{first} \\"
    yield from (f"    {part} \\" for part in others)
    yield f"    env -i{' --default-signal' if 'reset-signals' in plan.steps else ''} \\"
    yield from (f"    {quoted(setting)} \\" for setting in _environment(plan))
    if "find-home" in plan.steps:
        yield '    "HOME=$home" \\'
    yield "    /bin/sh -c '"
    yield '        echo "$1" >&4; exec 4>&-'
    yield "        read -r _ <&3; exec 3<&-"
    yield '        cd "$2"; unset PWD OLDPWD; shift 2; exec "$@"'
    directory = process.cwd if "enter-directory" in plan.steps else "/"
    words = " ".join(quoted(word) for word in process.args)
    yield f'    \' sh "$pid" {quoted(directory)} {words} 3<>"$own/gate"'


def _environment(plan: Plan) -> list[str]:
    settings = programs.environment(plan.spec.process.env)
    return [f"{name}={value}" for name, value in settings.items()]


def _limits(plan: Plan) -> Iterator[str]:
    if not {"set-rlimits", "set-last-rlimits"} & plan.steps:
        return
    words = [
        f"--{limit.type.removeprefix('RLIMIT_').lower()}={_number(limit.soft)}:{_number(limit.hard)}"
        for limit in plan.spec.process.rlimits
    ]
    yield f"prlimit {' '.join(words)}"


def _number(limit: int) -> str:
    return "unlimited" if limit == RLIMIT_INFINITY else str(limit)


def _rights(plan: Plan) -> list[str]:
    """Write setpriv with the options of the steps that are taken."""
    process, steps = plan.spec.process, plan.steps
    user, asked = process.user, process.capabilities or Capabilities()
    groups = ",".join(map(str, user.additional_gids))
    found = ["setpriv --no-new-privs" if "forbid-new-privileges" in steps else "setpriv"]
    if "become-user" in steps:
        found[0] += f" --reuid={user.uid} --regid={user.gid}"
        found[0] += f" --groups={groups}" if groups else " --clear-groups"
    if "set-capabilities" in steps:
        found += [_set("--inh-caps", asked.inheritable), _set("--ambient-caps", asked.ambient)]
    if "drop-bounding-set" in steps:
        found.append(_set("--bounding-set", asked.bounding))
    return found


def _set(option: str, names: Iterable[str]) -> str:
    return f"    {option}={','.join(['-all', *_words(names)])}"


def _words(names: Iterable[str]) -> list[str]:
    return [f"+{name.removeprefix('CAP_').lower()}" for name in names]
