"""A script's part for a user namespace: who holds it, its id maps, what its root may open.

unshare(1) of Debian 12 writes such maps only by newuidmap(1), as an ordinary user would. The
script is root's, and writes them as the engine does.

See: user_namespaces(7) "Capabilities", "User and group ID mappings".
"""

from __future__ import annotations

from minicontainer.learn import script_host as host
from minicontainer.learn.script_plan import comment, heading, taken
from minicontainer.learn.script_words import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minicontainer.kernel.namespaces import IdMap
    from minicontainer.learn.script_plan import Plan


def give(plan: Plan) -> Iterator[str]:
    """Let the root of the user namespace reach its files, and this script."""
    uid, gid = plan.first_ids
    yield from comment(say("give", plan.lang))
    yield 'mkfifo "$own/held" "$own/hold"'
    yield 'cp "$0" "$own/script"'
    yield 'chmod 755 "$own/script"'
    yield f'chown 0:{gid} "$own"'
    yield 'chmod 710 "$own"'
    yield f'chown {uid}:{gid} "$own/lower" "$own/work" "$own/gate"'
    yield f'user=$(($(stat -c %u "$own/upper") + {uid}))'
    yield f'chown "$user:$(($(stat -c %g "$own/upper") + {gid}))" "$own/upper"'


def hold(plan: Plan) -> Iterator[str]:
    """Make the user namespace, and a process that is in it until the container is."""
    yield from comment(say("holder", plan.lang))
    yield "# shellcheck disable=SC2016 # the inner shell expands it"
    yield "unshare --user sh -c 'echo >&4; exec 4>&-; read -r _ <&5' \\"
    yield '    4>"$own/held" 5<>"$own/hold" &'
    yield "holder=$!"
    yield 'read -r _ <"$own/held"'


def write_maps(plan: Plan) -> Iterator[str]:
    """Write the id maps."""
    linux = plan.spec.linux
    for kind, mappings in (("uid", linux.uid_mappings), ("gid", linux.gid_mappings)):
        yield f"printf '%s\\n' {' '.join(map(_quoted, mappings))} >\"/proc/$holder/{kind}_map\""


def _quoted(ids: IdMap) -> str:
    return f"'{ids.container_id} {ids.host_id} {ids.size}'"


def enter(plan: Plan, joined: Iterable[str], made: str) -> Iterator[str]:
    """Write the function that joins the cgroup on the host, and enters the user namespace then.

    Args:
        joined: options of nsenter(1): the other namespaces that the container is to join.
        made: the command that makes the others.
    """
    yield ""
    yield "enter() {"
    yield from taken(plan, "join-cgroups", _join_early)
    yield from heading("become-root-inside", plan.lang)
    yield from comment(say("entered", plan.lang), "    ")
    yield f"    exec nsenter {' '.join(['--user=/proc/$holder/ns/user', *joined])} \\"
    yield f"        {made} \\"
    yield '        sh "$own/script" first'
    yield "}"


def _join_early(plan: Plan) -> Iterator[str]:
    yield from comment(say("joined-early", plan.lang))
    yield from host.join_cgroups(plan)
