"""compare: one OCI bundle through minicontainer-oci and another runtime, side by side."""

from __future__ import annotations

import os
import sys
import tempfile

from minicontainer import jsontext
from minicontainer.cli.exits import EXIT_ENGINE, EXIT_FAILED, Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle
from minicontainer.cli.output import say, write_lines
from minicontainer.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.learn.differences import Difference
    from minicontainer.learn.runtimes import Runtime, Seen
    from minicontainer.runtime.config.spec import Bundle

_OURS = "minicontainer-oci"


@command(
    "BUNDLE",
    Flag(name="with", metavar="RUNTIME", key="runtime", default="runc",
         help="the other runtime: runc, crun, or a path; runc by default"),
    toggle("calls", "", "compare also how often each system call was made, by strace"),
    toggle("all", "a", "show also what is the same"),
    Flag(name="format", help="json: one JSON object a line"),
    least=1, most=1,
)  # fmt: skip
def compare(asked: Asked) -> int:
    """Run a bundle with two OCI runtimes, and show what differs in the kernel.

    The exit status is 1 if a difference is not documented. How often a call was made is no such
    difference: each runtime has its own way to the same state.
    """
    from minicontainer.learn import differences, known_differences, runtimes
    from minicontainer.runtime.config.spec import read_bundle

    if asked.format not in ("", "json"):
        raise Exit(f"--format {asked.format}: only json is known here", EXIT_ENGINE, prefix=True)
    if os.geteuid() != 0:
        raise Exit("compare needs root: use sudo", EXIT_ENGINE, prefix=True)
    try:
        other = runtimes.find(asked.runtime)
        bundle = read_bundle(asked.args[0])
        ours = runtimes.find(_path_of_ours(asked.session.program))
        left, right = _looked(ours, other, bundle, asked.calls)
    except Error as error:
        raise Exit(str(error), EXIT_ENGINE, prefix=True) from None
    found = differences.between(left.tables, right.tables)
    known = {one: why for one in found if (why := known_differences.why(one, other.name))}
    _print(asked, (*found, *_calls(left, right)), known, (ours.name, other.name))
    unknown = any(one.left != one.right for one in found if one not in known)
    return EXIT_FAILED if unknown else 0


def _looked(ours: Runtime, other: Runtime, bundle: Bundle, trace: bool) -> tuple[Seen, Seen]:
    """Look at both; if the other knows only old versions of the specification, at an old one."""
    from minicontainer.learn import runtimes

    try:
        right = runtimes.look(other, bundle, trace)
    except Error as error:
        if runtimes.UNKNOWN_VERSION not in str(error):
            raise
    else:
        return runtimes.look(ours, bundle, trace), right
    with tempfile.TemporaryDirectory(prefix="minicontainer-compare-") as place:
        old = runtimes.of_old_version(bundle, place)
        say(
            f"{other.name} does not know version {bundle.spec.oci_version} of the specification: "
            f"both get {old.spec.oci_version}"
        )
        return runtimes.look(ours, old, trace), runtimes.look(other, old, trace)


def _path_of_ours(program: str) -> str:
    """Find the runtime that belongs to this very program."""
    beside = os.path.join(os.path.dirname(os.path.abspath(program)), _OURS)
    return beside if os.access(beside, os.X_OK) else _OURS


def _calls(left: Seen, right: Seen) -> Iterator[Difference]:
    from minicontainer.learn.differences import Difference

    for name in dict.fromkeys((*left.calls, *right.calls)):
        ones, others = (str(side.calls.get(name, "")) for side in (left, right))
        yield Difference(table="calls", name=name, left=ones, right=others)


def _print(
    asked: Asked,
    found: tuple[Difference, ...],
    known: dict[Difference, str],
    names: tuple[str, str],
) -> None:
    from minicontainer.cli.differences import columns
    from minicontainer.learn import differences

    if asked.format == "json":
        for one in found:
            if asked.all or one.left != one.right:
                told = one.to_json() | ({"documented": known[one]} if one in known else {})
                sys.stdout.write(jsontext.dump(told) + "\n")
        return
    notes = {one: f"documented: {why}" for one, why in known.items() if one.left != one.right}
    write_lines(differences.lines(found, names, columns(), asked.all, notes))
    count = sum(one.left != one.right and one.table != "calls" for one in found)
    sys.stdout.write(f"{count} differences, {len(notes)} of them documented\n")
