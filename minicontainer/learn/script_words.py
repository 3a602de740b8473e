"""What a script says beside the narration of the steps, in English.

`CANNOT` is the list of what no command of Debian 12 does: the script names it where the step would
stand, tests/learn/test_script.py expects these differences and no others, and
docs/reference/learn.md shows the list.

The other languages are in catalogs of gettext's format, script_languages/LANG.po, as those of the
narration are: `narration`.
"""

from __future__ import annotations

import os

from minicontainer.learn import narration

# By step: what the script leaves out.
CANNOT = {
    "filter-if-privileged": (
        "No command of Debian 12 loads a seccomp filter: this container has none."
    ),
    "filter-if-unprivileged": (
        "No command of Debian 12 loads a seccomp filter: this container has none."
    ),
    "device-rules": (
        "On cgroup v2 a BPF program decides about devices, and no command here loads one."
    ),
    "join-keyring": (
        "The session keyring stays the caller's: keyctl(1) is in another package, keyutils."
    ),
    "forbid-tracing": (
        "The shell has no prctl(2). Nobody else is in the container yet, unless it shares one."
    ),
    "open-terminal": (
        "The program keeps your terminal, and does not get one of the container's devpts."
    ),
    "settle-streams": "The program keeps the streams of this shell.",
    "set-scheduler": "Not made here: see chrt(1).",
    "set-io-priority": "Not made here: see ionice(1).",
    "set-memory-policy": "Not made here: see numactl(8).",
    "set-personality": "Not made here: see setarch(8).",
    "set-labels": "Not made here: setpriv(1) has --apparmor-profile and --selinux-label.",
    "spread-mounts": (
        "Not made here: this must follow pivot_root, when no command of the host is left."
    ),
    "stay-as-reaper": (
        "The program is process 1 itself: no command here stays as a reaper (see tini)."
    ),
}

WORDS = {
    "stdin": "A command in the background gets an empty stdin: so yours goes by descriptor 3.",
    "number": "The number that this process has on the host, whose /proc this still is.",
    "title": "A container by hand: the commands for what this command does:",
    "origin": (
        "Written from the engine's plan for this container: its OCI specification and its "
        "place in networks. Read it from the top; run it as root: sh FILE. When the program "
        "ends, or at Ctrl-C, everything is taken back."
    ),
    "roles": (
        "Two processes work here, as in the engine. `prepare`, `start`, `finish` and "
        "`cleanup` run on the host, in this order: see the end of the file. `start` makes a "
        "process in new namespaces, which runs `first` and `inside`, and becomes the program."
    ),
    "hierarchies": "Where the cgroup hierarchies of this host are mounted.",
    "controllers": "Each group above must pass a controller on, or the new group lacks its files.",
    "cpuset": "A new group of this controller has no processors, and no process could be in it.",
    "devices": "No device but these, whoever made its file: cgroup-v1/devices.rst.",
    "cannot": "The shell can't do this.",
    "names": (
        "The names of this container. It gets directories of its own; the layers of the image"
        " are the engine's, and are only read."
    ),
    "resolve": (
        "Find where a path leads inside $root: `resolve /etc/hosts` sets $at. A link of the "
        "image may be absolute, or lead upwards, and must not lead out of $root: mount(8) "
        "would follow it on the host. The engine asks the kernel, by openat2(2) with "
        "RESOLVE_IN_ROOT; the shell follows the links itself."
    ),
    "fresh": "A new volume is filled with what the image has at that place.",
    "bind": "A bind takes its options in a second call: the first one ignores them.",
    "readonly-later": "It becomes read-only below, once everything is in it.",
    "recursive": (
        "The mounts below it too, one by one. findmnt writes a blank as \\x20, and printf undoes "
        "that."
    ),
    "option-left-out": "Left out, no such option here:",
    "last": (
        "From here on the process gives up its rights. The root is still the host's, since "
        "these commands are the host's; so the last of them, a shell, waits until `finish` "
        "has changed the root, and only then becomes the program. In the order of the line:"
    ),
    "pivot": (
        "pivot_root(8) moves every process of the mount namespace whose root was the old one:"
        " the waiting shell too. Then the old tree lies over the new one, and is taken away "
        "from outside, where umount(8) can still be found."
    ),
    "bridge": (
        "If the engine has this bridge already, the container joins it: then choose an "
        "address that no container has."
    ),
    "interrupt": "From now on Ctrl-C is the program's, which has the same terminal.",
    "copy": (
        "mount(8) shows files with other owners only since util-linux 2.39. So the user "
        "namespace gets a copy of what the layers show together; tar(1) packs it here."
    ),
    "unpack": "Unpacked in the user namespace, the files belong to its users.",
    "give": (
        "The root of the user namespace is an ordinary user of the host: it must be able to read "
        "this script, and its files must belong to it."
    ),
    "holder": (
        "execve(2) takes the capabilities of a process that has no user 0 in its user namespace. "
        "So a shell only holds the new namespace, until its id maps are written; the container's "
        "process enters it after that."
    ),
    "joined-early": (
        "Here, on the host: the root of the user namespace may not write these files. So the "
        "cgroup also has the command that waits for the container's end."
    ),
    "entered": "nsenter(1) does this when it enters a user namespace.",
    "no-mknod": "mknod(2) is forbidden in a user namespace: these are binds of the host's devices.",
    "left-out": "Left out by --without",
    "go": "Let the waiting shell go on.",
    "cleanup": (
        "Taken back in reverse order. What is in the container's namespaces goes with them: "
        "mounts, its end of the veth pair, processes."
    ),
    "no-limits": "No limit was asked for: the cgroup only counts.",
}

_CATALOGS = os.path.join(os.path.dirname(__file__), "script_languages")


def texts() -> dict[str, str]:
    """Give every English text by its key."""
    return {**CANNOT, **WORDS}


def say(key: str, lang: str) -> str:
    """Give a text of WORDS or CANNOT in a language; English where its catalog lacks it."""
    english = WORDS.get(key) or CANNOT[key]
    return english if lang == "en" else narration.translated(key, english, lang, _CATALOGS)
