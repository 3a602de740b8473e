"""The rules of the house, held against the source itself: who imports whom, and what stands where.

CONTRIBUTING.md gives the rules in words; ruff and mypy see to those they know
(tests/repository/test_lint.py).
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minicontainer"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ALL_PYTHON = [
    *SOURCES,
    *(path for part in ("scripts", "tests") for path in sorted((ROOT / part).rglob("*.py"))),
]

# Bottom to top. A row imports from the rows below it, a package also from itself.
ROWS = (
    {
        "contexts",
        "errors",
        "event",
        "faults",
        "jsontext",
        "modules",
        "quantities",
        "record",
        "startup",
        "steps",
    },
    {"kernel"},
    {"cgroups"},
    {"runtime", "images", "network"},
    {"engine"},
    {"api", "learn"},
    {"cli"},
    {"__main__"},
)
ROW_OF = {part: row for row, parts in enumerate(ROWS) for part in parts}

# Each library is used in one place, so that it can be replaced there.
LIBRARY_HOMES = {
    "ctypes": ("kernel/*.py",),
    "_prctl": ("kernel/process.py", "kernel/capabilities.py"),
    "pyseccomp": ("kernel/seccomp*.py",),
    "cgroupspy": ("cgroups/v1_controllers.py",),
    "jeepney": ("cgroups/systemd_bus.py",),
    "pyroute2": ("kernel/netlink.py",),
    "httpx": ("images/registry*.py", "images/web.py"),
    "zstandard": ("images/compression.py",),
    "h11": ("api/connection.py",),
    "wsproto": ("api/relay.py",),
    "rich": ("cli/progress.py",),
    "polib": (),  # of scripts/narration.py: to import it takes longer than `words.read`
    "sqlite3": ("images/store*.py", "engine/store*.py"),
}

LONGEST_FILE = 450
LONGEST_FUNCTION = 50  # without its docstring

# What would make a start slow: each costs between 1 and 200 ms to import.
SLOW_TO_IMPORT = {
    "argparse", "asyncio", "cgroupspy", "collections", "contextlib", "dataclasses", "email", "enum",
    "functools", "hashlib", "http", "inspect", "jeepney", "json", "logging", "multiprocessing",
    "pathlib", "pyroute2", "pyseccomp", "re", "shutil", "site", "socket", "ssl", "subprocess",
    "tempfile", "threading", "typing", "urllib",
}  # fmt: skip
# Where the commands of minicontainer-oci are.
COMMAND_MODULES = sorted((PACKAGE / "runtime/cli").glob("[a-z]*.py"))

THE_END = re.compile(r"# .*\b(process|thread|request) ends here\b")
EXPLAINED_IGNORE = re.compile(r"# type: ignore\[[a-z, -]+\]  # \w")


def parsed(path: Path) -> ast.Module:
    """Parse the file *path*."""
    return ast.parse(path.read_text(), str(path))


def place(path: Path, node: ast.AST) -> str:
    """Say where *node* stands, as an editor understands it."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def part_of(path: Path) -> str:
    """Name the part of the package, `kernel` or `errors`, that the file *path* belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Yield every import wherever it stands, with the full name of each thing it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, f"{'.' * node.level}{node.module or ''}.{alias.name}"


@functools.cache
def imports_of(path: Path) -> tuple[tuple[ast.stmt, str], ...]:
    """Give every import of the file *path*, as `imports` does; many rules look at them."""
    return tuple(imports(parsed(path)))


def with_function(node: ast.AST, function: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Yield every node below *node* with the name of the innermost function around it."""
    for child in ast.iter_child_nodes(node):
        yield child, function
        inside = child.name if isinstance(child, ast.FunctionDef) else function
        yield from with_function(child, inside)


def may_import(importer: str, imported: str) -> bool:
    """Say whether the part *importer* may import from *imported*: its own, or a row below."""
    if importer == imported or ROW_OF[importer] == ROW_OF[imported] == 0:
        return True
    return ROW_OF[imported] < ROW_OF[importer]


def test_every_part_has_its_row() -> None:
    """A new package or module of the top level says in ROWS what it may import."""
    parts = {part_of(path) for path in SOURCES} - {"__init__"}
    assert parts <= set(ROW_OF)


def test_a_row_imports_only_from_the_rows_below() -> None:
    """So a part can be read, tested and used without what stands on it."""
    wrong = [
        f"{place(path, node)}: {part_of(path)} imports {name}"
        for path in SOURCES
        if part_of(path) != "__init__"
        for node, name in imports_of(path)
        if name.startswith("minicontainer.") and not may_import(part_of(path), name.split(".")[1])
    ]
    assert not wrong


def imports_at_run_time(path: Path) -> set[str]:
    """Name the package's own modules that the file *path* imports: late ones too, types not."""
    tree = parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for _, name in imports(tree):
        place = PACKAGE.parent / name.replace(".", "/")
        found.add(name if place.with_suffix(".py").exists() else name.rpartition(".")[0])
    return {name for name in found if name.startswith("minicontainer.")}


def test_no_imports_run_in_a_circle() -> None:
    """Two modules that need one another can't be read one after the other.

    Circles for types alone are fine: architecture.md names them.
    """
    below = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): imports_at_run_time(path)
        for path in SOURCES
    }
    while leaves := [name for name, needed in below.items() if not needed & below.keys()]:
        for name in leaves:
            del below[name]
    assert not below, "each of these imports another of them"


def test_imports_name_what_they_import_in_full() -> None:
    """A relative import would hide from the reader, and from the test above, what it reaches."""
    wrong = [
        f"{place(path, node)}: {name}"
        for path in SOURCES
        for node, name in imports_of(path)
        if name.startswith(".") or name in ("minicontainer", "minicontainer.*")
    ]
    assert not wrong


@pytest.mark.parametrize("library", LIBRARY_HOMES)
def test_a_library_has_one_home(library: str) -> None:
    """What it is used for has a wrapper there, typed and noted."""
    wrong = [
        place(path, node)
        for path in SOURCES
        for node, name in imports_of(path)
        if name.split(".")[0] == library
        and not any(
            fnmatch.fnmatch(str(path.relative_to(PACKAGE)), home) for home in LIBRARY_HOMES[library]
        )
    ]
    assert not wrong


def test_files_are_short() -> None:
    """A file that outgrows this splits by noun or mechanism."""
    lengths = {path: len(path.read_text().splitlines()) for path in ALL_PYTHON}
    wrong = [
        f"{path.relative_to(ROOT)}: {length}"
        for path, length in lengths.items()
        if length > LONGEST_FILE
    ]
    assert not wrong


def test_functions_are_short() -> None:
    """A function that outgrows this does more than one thing."""
    wrong = []
    for path in ALL_PYTHON:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                described = ast.get_docstring(node) is not None
                docstring = (first.end_lineno or 0) - first.lineno + 1 if described else 0
                length = (node.end_lineno or 0) - node.lineno + 1 - docstring
                if length > LONGEST_FUNCTION:
                    wrong.append(f"{place(path, node)}: {node.name}: {length}")
    assert not wrong


def test_an_init_file_is_a_docstring_and_nothing_else() -> None:
    """Importing a package must not cost what one of its modules costs."""
    wrong = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.name == "__init__.py"
        and not (len(parsed(path).body) == 1 and ast.get_docstring(parsed(path)))
    ]
    assert not wrong


def test_only_the_command_line_and_the_lessons_print() -> None:
    """And a main(), which is a command line too. The rest returns, raises or notes."""
    wrong = [
        place(path, node)
        for path in SOURCES
        if part_of(path) not in ("cli", "learn")
        for node, function in with_function(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and function != "main"
    ]
    assert not wrong


def test_only_a_main_reads_the_arguments_and_the_environment() -> None:
    """Everything below is told by its caller, and so can be tested and used as a library."""
    wrong = [
        place(path, node)
        for path in SOURCES
        for node, function in with_function(parsed(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("sys", "argv"), ("os", "environ"), ("os", "environb"), ("os", "getenv")}
        and function != "main"
    ]
    assert not wrong


def test_everything_is_caught_only_where_something_ends() -> None:
    """There, a comment on the line says what: `# the process ends here`."""
    wrong = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler):
                kinds = ast.unparse(node.type) if node.type else "BaseException"
                if re.search(r"\b(Base)?Exception\b", kinds) and not THE_END.search(
                    lines[node.lineno - 1]
                ):
                    wrong.append(place(path, node))
    assert not wrong


def test_a_type_error_that_is_ignored_has_a_code_and_a_reason() -> None:
    """As in `# type: ignore[attr-defined]  # functions take attributes`."""
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in ALL_PYTHON
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "# type: ignore" in line and not EXPLAINED_IGNORE.search(line)
    ]
    assert not wrong


def imported_by(*modules: str) -> set[str]:
    """List what modules bring with them, in an interpreter as bare as the launchers'."""
    paths = [str(ROOT), sysconfig.get_path("purelib")]
    look = f"import sys; sys.path[:0] = {paths!r}; import {', '.join(modules)}; print(*sys.modules)"
    told = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", look], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return set(told.stdout.split())


@pytest.mark.parametrize("command", COMMAND_MODULES, ids=lambda path: path.stem)
def test_the_start_path_imports_nothing_slow(command: Path) -> None:
    """What is slow is imported in the one function that needs it, when it is called.

    For the context managers of contextlib there is minicontainer.contexts.
    """
    name = f"minicontainer.runtime.cli.{command.stem}"
    assert not imported_by("minicontainer.runtime.cli.main", name) & SLOW_TO_IMPORT


def test_commands_on_what_exists_do_without_os() -> None:
    """What os defines in Python costs a tenth of `start`: they need no more than posix."""
    modules = "minicontainer.runtime.cli.main", "minicontainer.runtime.cli.existing"
    assert not imported_by(*modules, "minicontainer.cgroups.directories") & {"os", "ctypes"}


def test_what_a_start_imports_late_is_not_slow_either() -> None:
    """The cgroups, of the version that is mounted; cgroupspy alone is allowed there."""
    late = ("v1", "v2", "device_filter")
    slow = imported_by(*(f"minicontainer.cgroups.{name}" for name in late)) & SLOW_TO_IMPORT
    assert slow == {"cgroupspy"}


def test_the_readme_names_every_command() -> None:
    """Of make, here; those of the program are in docs/reference/cli.md, and tested there."""
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = [f"make {name}" for name in targets]
    assert len(targets) > 5
    assert not [name for name in wanted if not re.search(rf"\b{name}\b", readme)]


def test_the_readme_names_no_make_target_that_is_not_there() -> None:
    """A renamed target would stay in the README otherwise."""
    named = re.findall(r"`make ([a-z]+)|^ *make ([a-z]+)", (ROOT / "README.md").read_text(), re.M)
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {one or other for one, other in named} <= set(targets)


def test_a_rule_that_is_broken_is_found(tmp_path: Path) -> None:
    """The control: each look finds what it looks for, in a file made to break the rules."""
    broken = tmp_path / "broken.py"
    broken.write_text("def show():\n    import minicontainer.cli.main\n    print(sys.argv)\n")
    tree = parsed(broken)
    assert [name for _, name in imports(tree)] == ["minicontainer.cli.main"]
    assert ("print", "show") in [
        (node.id, function) for node, function in with_function(tree) if isinstance(node, ast.Name)
    ]
    assert not may_import("runtime", "cli")
    assert not may_import("network", "runtime")
    assert may_import("cli", "learn")
    assert not THE_END.search("except Exception:")
    assert not EXPLAINED_IGNORE.search("x = y  # type: ignore")
