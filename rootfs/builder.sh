# Sourced by the builders beside it: what they share, from the arguments to the tree in its place.
#
#     rootfs/NAME [--rebuild] [DIR]        DIR: /var/lib/minicontainer/rootfs/NAME
#
# A tree is built beside its place and renamed into it when it is complete. So there is never half a
# tree at DIR, and what a failed or interrupted build began is removed.
#
# The same input gives the same tree, byte for byte and time for time (`rootfs/digest` compares):
# what the build itself writes gets the time of its input, or SOURCE_DATE_EPOCH.
set -euo pipefail
umask 022
export LC_ALL=C

name=${0##*/}
mark=etc/minicontainer-rootfs # in each tree: which builder made it, from what, and the recipe's sum
recipe=$(cat "$0" "${BASH_SOURCE[0]}" | sha256sum | cut -c 1-12)

say() {
    printf 'rootfs/%s: %s\n' "$name" "$*" >&2
}

fail() {
    say "$@"
    exit 1
}

# Fail unless there is a program $1, which the package $2 brings.
need() {
    command -v "$1" >/dev/null || fail "$1 is missing: apt-get install $2"
}

# Read the arguments; leave when there is nothing to do; make $tree, an empty directory to build in.
begin() {
    local rebuild=
    if [ "${1-}" = --rebuild ]; then
        rebuild=1
        shift
    fi
    case $#/${1-} in
        0/ | 1/[!-]*) ;;
        *) fail "usage: rootfs/$name [--rebuild] [DIR]" ;;
    esac
    destination=$(realpath --canonicalize-missing "${1-/var/lib/minicontainer/rootfs/$name}")
    if [ -e "$destination/$mark" ] && grep --quiet "^$name " "$destination/$mark"; then
        [ "$rebuild" ] || { say_it_is_there; exit 0; }
    elif [ -e "$destination" ] && [ "$(ls -A "$destination")" ]; then
        fail "$destination exists and is not from this builder: remove it, or name another"
    fi
    [ "$(id -u)" = 0 ] || fail "the files of a root filesystem belong to several users: use sudo"
    make_workplace
}

say_it_is_there() {
    local by=
    grep --quiet " recipe $recipe\$" "$destination/$mark" || by=', made by another version of this builder'
    say "$destination is there$by (--rebuild makes it anew)"
}

make_workplace() {
    local parent=${destination%/*} abandoned pid
    mkdir -p "$parent"
    # what a builder that was killed could not remove
    for abandoned in "$parent/.$name".*.partial; do
        pid=${abandoned%.partial}
        pid=${pid##*.}
        [ -d "/proc/$pid" ] || rm -rf --one-file-system "$abandoned"
    done
    work=$parent/.$name.$$.partial
    tree=$work/tree
    trap 'rm -rf --one-file-system "$work"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir "$work" "$tree"
}

# Put the finished tree in its place. $1: what it was made from; $2: that input's time, in seconds.
finish() {
    local made_from=$1 epoch=${SOURCE_DATE_EPOCH-$2}
    printf '%s %s recipe %s\n' "$name" "$made_from" "$recipe" >"$tree/$mark"
    find "$tree" -newermt "@$epoch" -exec touch --no-dereference --date="@$epoch" {} +
    trap '' HUP INT TERM # not between the two renames
    [ ! -e "$destination" ] || mv --no-target-directory "$destination" "$work/replaced"
    mv --no-target-directory "$tree" "$destination"
    say "$destination is made from $made_from"
}
