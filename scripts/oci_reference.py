"""Write docs/reference/oci.md: every field of config.json, and what becomes of it here.

    .venv/bin/python -m scripts.oci_reference           write it
    .venv/bin/python -m scripts.oci_reference --check   fail if it is not what would be written

The fields come from the Records that read config.json, their support on each version of cgroups
from the table of control files, the tests from their own marks, `@pytest.mark.oci("process.cwd")`,
and the commands from the texts that the parser reads. A field without a test
that looks at a container or at the kernel stops it.
"""

from __future__ import annotations

import ast
import sys
import types
from collections import defaultdict
from pathlib import Path

from minicontainer.cgroups.control_files import LIMITS
from minicontainer.cgroups.limits import Resources
from minicontainer.record import Record
from minicontainer.runtime.cli import command_line
from minicontainer.runtime.config.spec import Spec
from minicontainer.runtime.container.state import OCI_VERSION
from minicontainer.runtime.inputs import WANTS_REAPER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from minicontainer.cgroups.control_files import File

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "oci.md"

# Fields that are refused: without them, the container would not be the one that was requested.
REFUSED = {
    "linux.intelRdt": "allocation of a processor's cache and memory bandwidth is not supported",
    "linux.personality.flags[]": "the specification defines none",
}
# Refused on some hosts, or with some values.
REFUSED_SOMEWHERE = {
    "limits marked `refused` above": "that version of cgroups has no such limit; a limit that "
    "silently has no effect is worse than none",
    "a limit whose controller is off, or not mounted": "the same; `minicontainer check` lists the "
    "controllers",
    "`linux.sysctl`": "a parameter of no namespace, or of a namespace that the host shares, "
    "would change the host",
    "`process.apparmorProfile`, `process.selinuxLabel`, `linux.mountLabel`": "if the kernel has "
    "no such module: a container must not run unconfined against its configuration",
    "`linux.resources.devices`": "on v1, an exception from an exception: v1 has none",
}
# Fields of the schema that are ignored, because nothing is lost.
PASSED_OVER = {
    "process.commandLine": "Windows'; Linux has `process.args`",
    "process.user.username": "Windows'; Linux has `process.user.uid`",
    "linux.resources.memory.kernel": "part of `memory.limit` since Linux 5.16",
    "linux.resources.memory.useHierarchy": "since Linux 5.11 a cgroup always counts "
    "the groups below it",
}
# Parts of the schema for other kinds of containers, ignored likewise.
OTHER_KINDS = ("freebsd", "solaris", "vm", "windows", "zos")

# Support of fields that are not in the table of control files.
ELSEWHERE = {
    "linux.resources.devices": ("`devices.allow`, `devices.deny`", "a BPF program"),
    "linux.resources.unified": ("refused", "the file named"),
    "process.apparmorProfile": ("with AppArmor",) * 2,
    "process.selinuxLabel": ("with SELinux",) * 2,
    "linux.mountLabel": ("with SELinux",) * 2,
}
# Tests that check the effect: a test that a value is read would not notice that it has none.
BEHAVIOURAL = ("cgroups", "isolation", "kernel", "oci", "security")
MOST_TESTS = 3  # more would be noise in a cell

HEAD = """\
# minicontainer-oci: fields and commands

`scripts/oci_reference.py` makes this page from the code and from marks in the tests; a test checks
that it is up to date. `minicontainer-oci features` prints the same for programs.
[limits.md](limits.md) and [mounts.md](mounts.md) have more about those two.

## config.json, field by field

Every field of version {version} of the OCI runtime specification: whether it is supported on hosts
with cgroup v1 (or hybrid ones) and with v2, and its tests. For a limit, the table has its control
file. `[]` is any item of a list, `*` any name.

| Field | cgroup v1 | cgroup v2 | Tested by, in `tests/` |
| --- | --- | --- | --- |
"""

NOT_DONE = """
## What is refused, and what is ignored

The whole `config.json` is checked before anything is made. A value of the wrong type or out of
range is refused, with its path, and so is a feature that is not available:

| What | Why |
| --- | --- |
{refused}
These are ignored without a message, because nothing is lost:

| What | Why |
| --- | --- |
{passed}
A capability that this kernel does not have, or that the caller can't give, is left out with a
warning, as by runc. `annotations` are stored, and passed to hooks and printed by `state`. Two kinds
have an effect: `{annotation}` requests an init that reaps orphans, and with `--systemd-cgroup`,
`org.systemd.property.*` name properties of the scope.

A user namespace without `uidMappings` and `gidMappings` has the ids that the caller may map, as
with crun: for root all that it has, as the same numbers; for an ordinary user its own user and
group, as root. With `--cgroup-manager disabled` no cgroup is made: limits and device rules are
passed over, and `pause`, `update` and `events` are refused.

The commands `checkpoint` and `restore` fail: containers can't be frozen to disk yet.
`--rootless`, `run --no-subreaper` and `update --kernel-memory` are accepted and change nothing;
`update --l3-cache-schema` and `--mem-bw-schema` are refused, as `linux.intelRdt` is.
"""

COMMANDS = """
## The commands

As `--help` prints them. A value follows its option, as the next word or after `=`. The options of
`exec` and `ps` end where the program or the options of ps(1) begin.

In a service of systemd, these variables of the environment matter:

- `LISTEN_FDS` and `LISTEN_PID`: the program of `create` and `run` inherits these sockets from
  descriptor 3 on. See sd_listen_fds(3).
- `NOTIFY_SOCKET`: the program of `create` and `run` has a socket of its own,
  `/run/notify/notify.sock`, which its own `NOTIFY_SOCKET` names. `start` and `run` pass on READY=1
  from there, and nothing else. `start` and `run --detach` wait for it, or for the program's end,
  and name the container's first process as the service's main process. Programs of `exec` have
  none. See sd_notify(3).
"""


def leaves(annotation: Any, path: str = "") -> Iterator[str]:
    """Yield the JSON paths of the values below a type."""
    if isinstance(annotation, types.UnionType):
        annotation = next(kind for kind in annotation.__args__ if kind is not types.NoneType)
    if isinstance(annotation, types.GenericAlias):
        is_list = annotation.__origin__ is tuple
        inner = annotation.__args__[0 if is_list else 1]
        yield from leaves(inner, path + ("[]" if is_list else ".*"))
    elif isinstance(annotation, type) and issubclass(annotation, Record):
        for name, kind in annotation.json_types().items():
            yield from leaves(kind, f"{path}.{name}" if path else name)
    else:
        yield path


def fields() -> list[str]:
    """List every field that is read from config.json."""
    return list(leaves(Spec))


def is_below(field: str, mark: str) -> bool:
    """Say whether a field is what a mark names, or a part of it; `*` in a mark is any name."""
    names, wanted = (path.replace("[]", "").split(".") for path in (field, mark))
    pairs = zip(names, wanted, strict=False)  # the mark may be the shorter one
    return len(wanted) <= len(names) and all(word in ("*", name) for name, word in pairs)


def marks(file: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield each field that a test of a file is marked with, after the test's name.

    A mark may also stand at one of the values of `parametrize`.
    Raises:
        SystemExit: a mark is elsewhere, and would not be seen.
    """
    tree = ast.parse(text)
    seen = set()
    for test in ast.walk(tree):
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
            for call in (call for word in test.decorator_list for call in _mark_calls(word)):
                seen.add(call)
                for argument in call.args:
                    yield test.name, ast.literal_eval(argument)
    for call in _mark_calls(tree):
        if call not in seen:
            raise SystemExit(f"{file}:{call.lineno}: {ast.unparse(call)} is above no test")


def _mark_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.oci":
            yield node


def tests_by_field(known: list[str], directory: Path) -> dict[str, list[str]]:
    """Find the tests of every field; a mark on `linux.seccomp` is one on all below.

    Args:
        directory: has the tests.
    Raises:
        SystemExit: a mark names no field, or a field has no test of what becomes of it.
    """
    found: dict[str, list[str]] = defaultdict(list)
    wrong = []
    for path in sorted(directory.rglob("test_*.py")):
        file = str(path.relative_to(directory))
        for test, mark in marks(file, path.read_text()):
            name = f"{file}::{test}"
            below = [field for field in known if is_below(field, mark)]
            if not below:
                wrong.append(f"{name}: there is no field {mark}")
            for field in below:
                if name not in found[field]:
                    found[field].append(name)
    for field in known:
        if field not in found:
            wrong.append(f"no test is marked with {field}")
        elif not any(
            name.startswith(tuple(f"{part}/" for part in BEHAVIOURAL)) for name in found[field]
        ):
            wrong.append(f"only tests of its reading are marked with {field}")
    if wrong:
        raise SystemExit("\n".join(wrong))
    return found


def support(field: str) -> tuple[str, str]:
    """Say what becomes of a field on cgroup v1 and on v2."""
    if any(is_below(field, refused) for refused in REFUSED):
        return "refused", "refused"
    for place, told in ELSEWHERE.items():
        if is_below(field, place):
            return told
    rows = [row for row in LIMITS if is_below(field, Resources.json_path(row.field))]
    if not rows:
        return "yes", "yes"
    # of a device, its leaf weight has a row of its own
    longest = max(row.field.count(".") for row in rows)
    rows = [row for row in rows if row.field.count(".") == longest]
    return _files(row.v1 for row in rows), _files(row.v2 for row in rows)


def _files(columns: Iterable[list[File]]) -> str:
    names = dict.fromkeys(name for files in columns for name, _ in files)
    return ", ".join(f"`{name}`" for name in names) or "refused"


def table(rows: dict[str, str]) -> str:
    """Write a table's rows."""
    return "".join(f"| {what} | {why} |\n" for what, why in rows.items())


def what_is_not_done() -> str:
    """Write the section on what is refused or passed over."""
    refused = {f"`{field}`": f"{why}; leave it out" for field, why in REFUSED.items()}
    passed = {f"`{field}`": why for field, why in PASSED_OVER.items()}
    others = ", ".join(f"`{kind}`" for kind in OTHER_KINDS)
    return NOT_DONE.format(
        refused=table({**refused, **REFUSED_SOMEWHERE}),
        passed=table(
            {
                **passed,
                others: "for other kinds of containers than Linux's",
                "names that the specification does not have": "the specification demands this",
            }
        ),
        annotation=WANTS_REAPER,
    )


def page(directory: Path = ROOT / "tests") -> str:
    """Make the page's text.

    Args:
        directory: has the tests.
    """
    known = fields()
    tests = tests_by_field(known, directory)
    text = [HEAD.format(version=OCI_VERSION)]
    for field in known:
        shown = "<br>".join(f"`{name}`" for name in tests[field][:MOST_TESTS])
        text.append(f"| `{field}` | {' | '.join(support(field))} | {shown} |\n")
    text += [what_is_not_done(), COMMANDS]
    commands = {"Global options": command_line.GLOBAL, **command_line.COMMANDS}
    for name, told in commands.items():
        text.append(f"\n### {name}\n\n```text\n{told.rstrip()}\n```\n")
    return "".join(text)


def main() -> None:
    """Write the page, or compare."""
    text = page()
    if "--check" not in sys.argv:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        raise SystemExit(
            f"{PAGE.relative_to(ROOT)} is not what the code and the tests say: "
            "run `.venv/bin/python -m scripts.oci_reference`"
        )


if __name__ == "__main__":
    main()
