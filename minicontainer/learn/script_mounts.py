"""The file tree of a script's container: overlay, mounts, devices, protected paths.

Everything is mounted below $root while the host's commands can still be found there; the engine
does some of it after pivot_root(2), which makes no difference to the result.
"""

from __future__ import annotations

import os
import re

from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.errors import Unsupported
from minicontainer.kernel import mounts as kernel_mounts
from minicontainer.kernel.mount_options import OPTIONS, RECURSIVE_OPTIONS, parse_options
from minicontainer.learn.script_plan import below, comment, indented, quoted
from minicontainer.learn.script_words import say
from minicontainer.runtime.config.defaults import DEVICE_LINKS, DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.learn.script_plan import Plan
    from minicontainer.runtime.config.spec import Mount

# Words that the specification has and mount(8) of util-linux 2.38 does not, or that name a bind.
_NO_OPTION = (
    "idmap",
    "ridmap",
    "src-nofollow",
    "src-nosymlinks",
    "dest-nofollow",
    "copy-symlink",
    "tmpcopyup",
)
_PROPAGATION = tuple(word for word, option in OPTIONS.items() if option.propagation)


def resolver(plan: Plan) -> Iterator[str]:
    """Write the functions that find and make places in the root."""
    yield ""
    yield from comment(say("resolve", plan.lang))
    yield from _RESOLVE.replace("DEVICE", _BOUND if plan.is_mapped else _MADE).splitlines()


def layers(plan: Plan) -> list[str]:
    """List the image's directories, uppermost first, as overlay wants them written."""
    if plan.is_mapped:  # each is a mount of its own there, the uppermost last
        return [(mount.source or "").replace(":", "\\:") for mount in plan.roots[-2::-1]]
    lower = next(word for word in plan.root.options if word.startswith("lowerdir="))
    return re.split(r"(?<!\\):", lower.partition("=")[2])


def pack_layers(plan: Plan) -> Iterator[str]:
    """Pack what the layers show together, for a user namespace that will own other files."""
    yield from comment(say("copy", plan.lang))
    yield 'mkdir "$own/lower" "$own/empty"'
    yield "export layers"
    yield "# shellcheck disable=SC2016 # the inner shell expands it"
    yield "unshare --mount sh -euc '"
    yield '    mount -t overlay -o "ro,lowerdir=$layers:$own/empty" overlay "$root"'
    yield '    tar -C "$root" --numeric-owner -cf "$own/layers.tar" .'
    yield "'"


def mount_rootfs(plan: Plan) -> Iterator[str]:
    """Mount the overlay that is the root."""
    lower = "$layers"
    if plan.is_mapped:
        lower = "$own/lower"
        yield from comment(say("unpack", plan.lang))
        yield 'tar -C "$own/lower" --numeric-owner -xpf "$own/layers.tar"'
    others = [
        word
        for word in plan.root.options
        if not word.startswith(("lowerdir=", "upperdir=", "workdir="))
    ]
    words = ",".join([f"lowerdir={lower}", "upperdir=$own/upper", "workdir=$own/work", *others])
    yield f'mount -t overlay -o "{words}" \\'
    yield f'    {quoted(plan.root.source or "overlay")} "$root"'


def mount_filesystems(plan: Plan) -> Iterator[str]:
    """Make the mounts of the specification, in its order."""
    for mount in plan.spec.mounts:
        if mount in plan.roots:
            continue
        options = parse_options(mount.options, mount.type)
        if mount.type == "cgroup":
            yield from _cgroups(plan, mount)
        elif options.bind:
            yield from _bind(plan, mount)
        else:
            yield from _filesystem(plan, mount)


def is_read_only_later(mount: Mount) -> bool:
    """Say whether a mount becomes read-only when everything is in it."""
    filled = mount.type == "tmpfs" or os.path.normpath(mount.destination) == "/dev"
    return filled and "ro" in mount.options


def _filesystem(plan: Plan, mount: Mount) -> Iterator[str]:
    later = is_read_only_later(mount)
    words = [word for word in mount.options if word not in (*_NO_OPTION, *_PROPAGATION)]
    words = [word for word in words if not (later and word == "ro")]
    yield from _left_out(plan, mount)
    yield f"make_dir {quoted(mount.destination)}"
    mode = ""
    if mount.type == "tmpfs" and not any(word.startswith("mode=") for word in words):
        # a tmpfs gets the mode of the directory that it covers
        mode = 'mode=$(stat -c %a "$at")'
    given = quoted(",".join(words)) if words else ""
    option = f'"{mode}"{f",{given}" if given else ""}' if mode else given
    kind, source = quoted(mount.type or "none"), quoted(mount.source or "none")
    yield f'mount -t {kind} {f"-o {option} " if option else ""}{source} "$at"'
    if later:
        yield from comment(say("readonly-later", plan.lang))


def _left_out(plan: Plan, mount: Mount) -> Iterator[str]:
    unknown = [word for word in mount.options if word in (*_NO_OPTION, *_PROPAGATION)]
    # the whole namespace is private: this word asks for what is so already
    if unknown := [word for word in unknown if word not in ("private", "rprivate")]:
        yield from comment(f"{say('option-left-out', plan.lang)} {', '.join(unknown)}")


def _bind(plan: Plan, mount: Mount) -> Iterator[str]:
    options = parse_options(mount.options, mount.type)
    source, is_directory = _source(plan, mount)
    yield from _left_out(plan, mount)
    yield f"{'make_dir' if is_directory else 'make_file'} {quoted(mount.destination)}"
    if mount.source and _is_gone(plan, mount.source):
        if plan.is_mapped:
            raise Unsupported(
                f"no script fills the new volume of {mount.destination} in a user namespace: "
                "make it first, by `volume create`"
            )
        yield from comment(say("fresh", plan.lang))
        yield f"mkdir -p {source}"
        yield f'cp -a "$at/." {source}'
    whole = bool(options.bind & kernel_mounts.MS_REC)
    yield f'mount --{"r" if whole else ""}bind {source} "$at"'
    words = [word for word in mount.options if OPTIONS.get(word) and _is_attribute(word)]
    if words:
        yield from comment(say("bind", plan.lang))
        yield f'mount -o {quoted(",".join(["remount", "bind", *words]))} none "$at"'
    tree = [word[1:] for word in mount.options if word in RECURSIVE_OPTIONS and word not in OPTIONS]
    if tree and whole:
        yield from comment(say("recursive", plan.lang))
        yield 'findmnt -rnRo TARGET "$at" | while read -r below; do'
        yield '    below=$(env printf %b "$below")'
        yield f'    mount -o {quoted(",".join(["remount", "bind", *tree]))} "$below"'
        yield "done"


def _is_attribute(word: str) -> bool:
    option = OPTIONS[word]
    return bool(option.set or option.clear)


def _is_gone(plan: Plan, source: str) -> bool:
    return any(f"{source}/".startswith(f"{directory}/") for directory in plan.gone)


def _source(plan: Plan, mount: Mount) -> tuple[str, bool]:
    """Write a bind's source: the engine's files for this container are the script's own here."""
    source = mount.source or ""
    for number, directory in enumerate(plan.gone):
        if f"{source}/".startswith(f"{directory}/"):
            return below("own", f"/volume{number}{source[len(directory) :]}"), True
    if source.startswith(f"{plan.directory}/"):
        return below("own", source[len(plan.directory) :]), False
    return quoted(source), os.path.isdir(source)


def _cgroups(plan: Plan, mount: Mount) -> Iterator[str]:
    """Show the container's own groups."""
    views = open_cgroup(plan.group).mounts()
    words = [word for word in mount.options if OPTIONS.get(word) and _is_attribute(word)]
    own = plan.spec.has_namespace("cgroup")
    yield f"make_dir {quoted(mount.destination)}"
    if len(views) == 1 and not views[0].name:
        if own:
            yield f'mount -t cgroup2 -o {quoted(",".join(words))} cgroup "$at"'
        else:
            yield from _bound(views[0].hierarchy, '"$at"', words)
        return
    writable = [word for word in words if word != "ro"]
    given = quoted(",".join([*writable, "mode=755", "size=1m"]))
    yield f'mount -t tmpfs -o {given} tmpfs "$at"'
    yield "for hierarchy in $hierarchies; do"
    yield '    mkdir "$at/${hierarchy##*/}"'
    yield from indented(_bound("$hierarchy$group", '"$at/${hierarchy##*/}"', words))
    yield "done"
    for view in views:
        for name in view.links:
            yield f"ln -s {quoted(view.name)} {below('at', f'/{name}')}"
    yield f'mount -o {quoted(",".join(["remount", "bind", *words]))} none "$at"'


def _bound(source: str, place: str, words: list[str]) -> Iterator[str]:
    yield f'mount --bind "{source}" {place}'
    yield f"mount -o {quoted(','.join(['remount', 'bind', *words]))} none {place}"


def make_devices(plan: Plan) -> Iterator[str]:
    """Make the device files and links."""
    if plan.is_mapped:
        yield from comment(say("no-mknod", plan.lang))
    wanted = {os.path.normpath(one.path): one for one in (*DEVICES, *plan.spec.linux.devices)}
    wanted.pop("/dev/ptmx", None)
    for mount in plan.spec.mounts:
        wanted.pop(os.path.normpath(mount.destination), None)
    for path, device in wanted.items():
        if plan.is_mapped:
            if device not in DEVICES:
                raise Unsupported(f"no script makes {path} in a user namespace: leave --device out")
            yield f"device {quoted(path)}"
            continue
        mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        kind = {"u": "c"}.get(device.type, device.type)
        numbers = "" if kind == "p" else f" {device.major} {device.minor}"
        yield f"device {quoted(path)} {mode:o} {device.uid or 0}:{device.gid or 0} {kind}{numbers}"
    yield "make_dir /dev"
    for target, name in DEVICE_LINKS:
        yield f'[ -e "$at/{name}" ] || ln -s {target} "$at/{name}"'


def protect_paths(plan: Plan) -> Iterator[str]:
    """Mask paths, and write-protect others."""
    linux = plan.spec.linux
    for mount in plan.spec.mounts:
        if mount is not plan.root and mount.type != "cgroup" and is_read_only_later(mount):
            yield f"resolve {quoted(mount.destination)}"
            yield 'mount -o remount,bind,ro "$at"'
    yield from _each(linux.readonly_paths, "write_protect")
    yield from _each(linux.masked_paths, "mask")


def _each(paths: tuple[str, ...], function: str) -> Iterator[str]:
    if paths:
        yield "for path in \\"
        yield from (f"    {quoted(path)} \\" for path in paths[:-1])
        yield f"    {quoted(paths[-1])}"
        yield "do"
        yield f'    {function} "$path"'
        yield "done"


def make_rootfs_readonly(_: Plan) -> Iterator[str]:
    """Make the root read-only."""
    yield 'mount -o remount,bind,ro "$root"'


_MADE = """\
device() { # PATH MODE OWNER KIND [MAJOR MINOR]
    resolve "$1"
    [ -e "$at" ] && return
    mkdir -p "${at%/*}"
    path=$at mode=$2 owner=$3
    shift 3
    mknod -m "$mode" "$path" "$@"
    chown "$owner" "$path"
}
"""
_BOUND = """\
device() { # PATH
    resolve "$1"
    [ -e "$at" ] && return
    make_file "$1"
    mount --bind "$1" "$at"
    mount -o remount,bind,ro "$at"
}
"""
_RESOLVE = """\
resolve() {
    at=$root rest=$1 links=0
    while [ -n "$rest" ]; do
        part=${rest%%/*}
        case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
        case $part in
        '' | .) ;;
        ..) [ "$at" = "$root" ] || at=${at%/*} ;;
        *)
            if [ -L "$at/$part" ]; then
                links=$((links + 1))
                [ "$links" -le 40 ] || { echo "$1: too many links" >&2; exit 1; }
                rest=$(readlink "$at/$part")/$rest
                case $rest in /*) at=$root ;; esac
            else
                at=$at/$part
            fi
            ;;
        esac
    done
}

make_dir() {
    resolve "$1"
    mkdir -p "$at"
}

make_file() {
    resolve "$1"
    mkdir -p "${at%/*}"
    [ -e "$at" ] || : >"$at"
}

DEVICE
write_protect() {
    resolve "$1"
    [ -e "$at" ] || return 0
    mount --rbind "$at" "$at"
    mount -o remount,bind,ro "$at"
}

mask() {
    resolve "$1"
    if [ -d "$at" ]; then
        mount -t tmpfs -o nr_inodes=2,mode=555 tmpfs "$at"
        mount -o remount,bind,ro "$at"
    elif [ -e "$at" ]; then
        mount --bind /dev/null "$at"
        mount -o remount,bind,ro "$at"
    fi
}
"""
