"""A container by hand: a shell script that makes what the engine would make, and takes it back.

The script is written from the engine's plan (`script_plan`), in the order of the engine's recipe:
each step of `init.RECIPE` that the specification asks for becomes its commands, with the step's own
narration above. What the shell can't do stands there as a comment: `script_words.CANNOT`.

    outside   on the host: directories, cgroup, network; changes the root; takes everything back
    first     in the new namespaces: joins the cgroup
    inside    makes the mounts, gives up its rights, waits, becomes the program

See: unshare(1), nsenter(1), mount(8), pivot_root(8), setpriv(1), prlimit(1), ip(8), nft(8).
"""

from __future__ import annotations

from minicontainer import steps
from minicontainer.kernel import sysctls
from minicontainer.learn import script_host as host
from minicontainer.learn import script_mounts as tree
from minicontainer.learn import script_process as process
from minicontainer.learn import script_user as user
from minicontainer.learn.script_plan import (
    cannot,
    comment,
    heading,
    indented,
    quoted,
    taken,
)
from minicontainer.learn.script_words import CANNOT, say
from minicontainer.runtime.child import init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.learn.script_plan import Commands, Plan


# What differs in the kernel from the engine's container: table and name as in `differences`; why.
DIFFERENCES = {
    ("seccomp", "system call filter"): "no command of Debian 12 loads one",
    ("seccomp", "number of filters"): "likewise",
    ("process", "descriptors"): "the shell's, if it has more than the three streams",
}
# What differs beside it in a user namespace.
DIFFERENCES_MAPPED = {
    ("filesystems", "/"): "the lower directory is a copy of the layers, with other owners",
    ("devices", "/dev/mqueue"): "unshare(1) is the inner root already when it makes the namespace",
}
_FLAGS = {"mount": "--mount", "uts": "--uts", "ipc": "--ipc", "network": "--net", "pid": "--pid",
          "time": "--time"}  # fmt: skip
_JOINS = {**_FLAGS, "cgroup": "--cgroup"}


def write(plan: Plan, command: str) -> str:
    """Write the script.

    Args:
        command: what the user would have typed for the engine.
    """
    parts = (
        _head(plan, command),
        tree.resolver(plan),
        _outside(plan),
        _first(plan),
        _inside(plan),
        _enter(plan),
        _cleanup(plan),
        _main(plan),
    )
    return "".join(f"{line}\n" for part in parts for line in part)


def _head(plan: Plan, command: str) -> Iterator[str]:
    yield "#!/bin/sh"
    yield from comment(say("title", plan.lang))
    yield "#"
    yield f"#     {command}"
    yield "#"
    yield from comment(say("origin", plan.lang))
    yield "#"
    yield from comment(say("roles", plan.lang))
    yield ""
    yield "set -eu"
    yield "umask 022"
    yield ""
    yield from comment(say("names", plan.lang))
    yield f"id={plan.id}"
    yield f"group={quoted(plan.group.removesuffix(plan.id))}$id"
    first, *others = tree.layers(plan)
    yield f"layers={quoted(first)}"
    yield from (f"layers=$layers:{quoted(layer)}" for layer in others)
    yield from comment(say("hierarchies", plan.lang))
    yield "hierarchies='"
    yield from (f"    {top}" for top in host.tops())
    yield "'"


def _outside(plan: Plan) -> Iterator[str]:
    yield ""
    yield "prepare() {"
    yield from heading("make-directory", plan.lang)
    yield f"    own=$(mktemp -d {quoted(plan.own_parent + '/by-hand.XXXXXX')})"
    yield "    root=$own/rootfs"
    yield "    export own root"
    yield '    mkdir "$root" "$own/upper" "$own/work"'
    yield '    chmod --reference="${layers%%:*}" "$own/upper"'
    yield '    chown --reference="${layers%%:*}" "$own/upper"'
    if plan.is_mapped:
        yield from indented(tree.pack_layers(plan))
    for name, text in plan.files.items():
        yield f"    cat >\"$own/{name}\" <<'END'"
        yield from text.rstrip("\n").split("\n")
        yield "END"
    yield '    mkfifo "$own/ready" "$own/gate"'
    if plan.is_mapped:
        yield from indented(user.give(plan))
    yield from heading("create-cgroup", plan.lang)
    yield from indented(host.create_cgroup(plan))
    yield "}"
    if plan.is_mapped:
        yield from user.enter(plan, _joined(plan), _made(plan))
    yield ""
    yield "start() {"
    if plan.is_mapped:
        yield from indented(user.hold(plan))
        yield from heading("write-id-maps", plan.lang)
        yield from indented(user.write_maps(plan))
    yield from heading("fork-init", plan.lang)
    yield from indented(_unshare(plan))
    yield '    read -r pid <"$own/ready"'
    if plan.is_mapped:
        yield '    echo go >"$own/hold"'
    yield "}"


def _joined(plan: Plan) -> list[str]:
    """Give the options of nsenter(1): the namespaces that are there already."""
    return [
        f"{_JOINS[one.type]}={quoted(one.path)}"
        for one in plan.spec.linux.namespaces
        if one.path and one.type in _JOINS
    ]


def _made(plan: Plan) -> str:
    """Write the command that makes the new namespaces."""
    new = [_FLAGS[kind] for kind in _FLAGS if plan.spec.new_namespace(kind)]
    end = " --kill-child" if "die-with-parent" in plan.steps else ""
    return f"unshare {' '.join(new)} --propagation unchanged --fork{end}"


def _unshare(plan: Plan) -> Iterator[str]:
    yield from comment(say("stdin", plan.lang))
    yield "exec 3<&0"
    if plan.is_mapped:
        yield 'enter <&3 3<&- 4>"$own/ready" &'
    else:
        joined = _joined(plan)
        lead = f"nsenter {' '.join(joined)} " if joined else ""
        yield f"{lead}{_made(plan)} \\"
        yield '    sh "$0" first <&3 3<&- 4>"$own/ready" &'
    yield "child=$!"
    yield "exec 3<&-"


def _first(plan: Plan) -> Iterator[str]:
    yield ""
    yield "first() {"
    if not plan.is_mapped:
        yield from taken(plan, "join-cgroups", host.join_cgroups)
    yield from comment(say("number", plan.lang), "    ")
    yield "    read -r pid _ </proc/self/stat"
    yield "    export pid"
    if "unshare-cgroup" in plan.steps:
        yield from heading("unshare-cgroup", plan.lang)
        yield '    exec unshare --cgroup sh "$0" inside'
    else:
        yield "    inside"
    yield "}"


# The steps of the recipe that are commands in `inside`. All others are in `script_process`, since
# they are options of the last line; in another function here; or in CANNOT.
def _set_sysctls(plan: Plan) -> Iterator[str]:
    for name, value in plan.spec.linux.sysctl.items():
        yield f"echo {quoted(value)} >{quoted(f'/proc/sys/{sysctls.path_of(name)}')}"


def _isolate(plan: Plan) -> Iterator[str]:
    yield "mount --make-rprivate /"


def _hostname(plan: Plan) -> Iterator[str]:
    yield from _uts(plan, "hostname", plan.spec.hostname)


def _domainname(plan: Plan) -> Iterator[str]:
    yield from _uts(plan, "domainname", plan.spec.domainname)


def _uts(plan: Plan, kind: str, name: str | None) -> Iterator[str]:
    # the files belong to the host's root, whoever owns the namespace
    told = quoted(name or "")
    yield f"{kind} {told}" if plan.is_mapped else f"echo {told} >/proc/sys/kernel/{kind}"


def _affinity(plan: Plan) -> Iterator[str]:
    yield 'taskset -pc "0-$(($(nproc --all) - 1))" "$$" >/dev/null || :'


def _directory(plan: Plan) -> Iterator[str]:
    yield f"make_dir {quoted(plan.spec.process.cwd)}"


def _umask(plan: Plan) -> Iterator[str]:
    asked = plan.spec.process.user.umask
    yield f"umask {0o022 if asked is None else asked:04o}"


def _loopback(plan: Plan) -> Iterator[str]:
    yield "ip link set lo up"


INSIDE: dict[str, Commands] = {
    "reset-affinity": _affinity,
    "set-sysctls": _set_sysctls,
    "isolate-mounts": _isolate,
    "mount-rootfs": tree.mount_rootfs,
    "mount-filesystems": tree.mount_filesystems,
    "make-devices": tree.make_devices,
    "enter-directory": _directory,
    "protect-paths": tree.protect_paths,
    "make-rootfs-readonly": tree.make_rootfs_readonly,
    "set-hostname": _hostname,
    "set-domainname": _domainname,
    "raise-loopback": _loopback,
    "find-home": process.find_home,
    "set-umask": _umask,
}
# Steps whose place is another function of the script, or that a shell does by itself.
ELSEWHERE = (
    "join-cgroups", "unshare-cgroup", "enter-rootfs", "find-program", "report-ready",
    "wait-for-start", "announce-program", "run-program",
    "become-root-inside", "wait-for-runtime-hooks", "run-create-container-hooks",
    "run-start-container-hooks",
)  # fmt: skip


def _inside(plan: Plan) -> Iterator[str]:
    yield ""
    yield "inside() {"
    for step in steps.chosen(init.RECIPE, plan.spec):
        name = steps.step_name(step)
        if name in INSIDE:
            yield from taken(plan, name, INSIDE[name])
        elif name in CANNOT:
            yield from heading(name, plan.lang)
            yield from cannot(name, plan.lang)
    yield ""
    yield from comment(say("last", plan.lang), "    ")
    yield from indented(process.last_line(plan))
    yield "}"


def _pivot(plan: Plan) -> Iterator[str]:
    yield from comment(say("pivot", plan.lang))
    yield "# shellcheck disable=SC2016 # the inner shell expands it"
    yield 'nsenter --target "$pid" --mount \\'
    yield '    sh -c \'cd "$1" && exec pivot_root . .\' sh "$root"'
    yield 'umount --namespace "$pid" --lazy /'


def _enter(plan: Plan) -> Iterator[str]:
    yield ""
    yield "finish() {"
    if plan.networks:
        yield from heading("connect-container", plan.lang)
        yield from comment(say("bridge", plan.lang), "    ")
        yield "    forwarding=$(cat /proc/sys/net/ipv4/ip_forward)"
        for network in plan.networks:
            # not indented: the text for nft ends with a line of its own
            yield from _nested(host.connect(plan, network))
    if plan.spec.process.oom_score_adj is not None:
        yield from heading("set-oom-score", plan.lang)
        score = plan.spec.process.oom_score_adj
        yield f'    echo {score} >"/proc/$pid/oom_score_adj"'
    yield from taken(plan, "enter-rootfs", _pivot)
    yield from heading("start-program", plan.lang)
    yield from comment(say("go", plan.lang), "    ")
    yield '    echo go >"$own/gate"'
    yield "}"


def _nested(lines: Iterator[str]) -> Iterator[str]:
    """Indent commands, but not a text that is fed to one of them."""
    fed = False
    for line in lines:
        yield line if fed else f"    {line}"
        fed = line.endswith("<<'END'") or (fed and line != "END")


def _cleanup(plan: Plan) -> Iterator[str]:
    yield ""
    yield from comment(say("cleanup", plan.lang))
    yield from _REMOVE_GROUP.splitlines()
    yield ""
    yield "cleanup() {"
    yield "    trap '' INT TERM HUP"
    yield "    set +e"
    yield from heading("end-init", plan.lang)
    yield '    [ -z "$child" ] || { kill -KILL "$child"; wait "$child"; } 2>/dev/null'
    yield '    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null'
    if plan.is_mapped:
        yield '    [ -z "$holder" ] || kill -KILL "$holder" 2>/dev/null'
    if plan.networks:
        yield '    if [ -n "$forwarding" ]; then'
        yield from (f"        {line}" for line in host.disconnect(plan))
        yield "    fi"
    yield from heading("remove-cgroup", plan.lang)
    yield from indented(host.remove_cgroup(plan))
    yield '    [ -z "$own" ] || rm -rf --one-file-system "$own"'
    yield "}"


def _main(plan: Plan) -> Iterator[str]:
    yield ""
    more = " bridges='' forwarding=''" if plan.networks else ""
    text = _MAIN.format(more=more + (" holder=''" if plan.is_mapped else ""))
    for line in text.splitlines():
        if "wait" in line and plan.spec.process.terminal:
            yield from comment(say("interrupt", plan.lang), "    ")
            yield "    trap '' INT"
        yield line


_REMOVE_GROUP = """\
remove_group() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -d "$1" ] || return
        while read -r left; do kill -KILL "$left"; done <"$1/cgroup.procs"
        rmdir "$1" && return
        sleep 0.1 # its last processes are dying
    done 2>/dev/null
}
"""
_MAIN = """\
case ${{1-}} in
first | inside) "$1" ;;
'')
    own='' pid='' child=''{more}
    [ -f "$0" ] || {{ echo "run me as a file: sh FILE" >&2; exit 2; }}
    [ "$(id -u)" = 0 ] || {{ echo "$0: only root can do this: use sudo" >&2; exit 1; }}
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    prepare
    start
    finish
    status=0
    wait "$child" || status=$?
    exit "$status"
    ;;
*) echo "usage: sh $0" >&2; exit 2 ;;
esac
"""
