"""The bundle that a start takes its modules from: what is in it, and when it is not used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# As scripts/setup has them: what writes a bundle, and what a launcher does with it.
WRITE = """
import sys
sys.path[:0] = [{root!r}, {place!r}]
from minicontainer import modules
modules.write({bundle!r}, [["first"], ["second"]])
"""
USE = """
import sys
sys.path[:0] = [{root!r}, {place!r}]
import marshal
with open({bundle!r}, "rb") as file:
    version, code, *rest = marshal.loads(file.read(int.from_bytes(file.read(4), "big")))
space = dict(__name__="minicontainer.modules")
exec(code, space)
space["use"]({bundle!r}, *rest)
"""


class Place:
    """A directory with modules, and a bundle of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name, text in {
            "shared.py": "VALUE = 1",
            "first/__init__.py": "",
            "first/inner.py": "VALUE = 1",
            "second.py": "import shared; VALUE = shared.VALUE",
        }.items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(text)
        (path / "first/__init__.py").write_text("import shared, first.inner, struct, _ctypes")
        self.run(WRITE)

    def run(self, code: str) -> str:
        """Run code in an interpreter as bare as the launchers'; give what it prints."""
        names = {"root": str(ROOT), "place": str(self.path), "bundle": str(self.path / "bundle")}
        done = subprocess.run(
            [sys.executable, "-IS", "-c", code.format(**names)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def loaders(self, *modules: str) -> dict[str, str]:
        """Say by whom modules are loaded, where the bundle is used."""
        told = self.run(
            f"{USE}\nfor name in {modules!r}:\n"
            "    __import__(name)\n"
            "    print(name, type(sys.modules[name].__spec__.loader).__name__)"
        )
        return dict(line.split() for line in told.splitlines())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give a directory with modules, and a bundle of them."""
    return Place(tmp_path)


def test_what_was_bundled_is_taken_from_the_bundle(place: Place) -> None:
    """Packages, modules, the standard library's; an extension module only has its place known."""
    loaders = place.loaders("first", "first.inner", "second", "shared", "struct", "_ctypes")
    assert loaders.pop("_ctypes") == "ExtensionFileLoader"
    assert set(loaders.values()) == {"BundleFinder"}


def test_no_directory_is_looked_into(place: Place) -> None:
    """That is what a bundle saves."""
    code = f"{USE}\nimport second, first\nprint(sorted(sys.path_importer_cache))"
    bare = place.run("import sys\nprint(sorted(sys.path_importer_cache))")
    assert place.run(code) == bare


def test_a_module_knows_its_file(place: Place) -> None:
    """For tracebacks, and for whoever looks for what lies beside it."""
    told = place.run(f"{USE}\nimport first.inner; print(first.inner.__file__, first.__path__)")
    assert told.split()[0] == str(place.path / "first/inner.py")
    assert str(place.path / "first") in told.split()[1]


@pytest.mark.parametrize("change", ["text", "time"])
def test_a_source_that_was_changed_wins(place: Place, change: str) -> None:
    """Even when its length is the same; and its neighbours still come from the bundle."""
    path = place.path / "shared.py"
    if change == "text":
        path.write_text("VALUE = 2222")
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    loaders = place.loaders("second", "shared")
    assert loaders == {"second": "BundleFinder", "shared": "SourceFileLoader"}
    if change == "text":
        assert place.run(f"{USE}\nimport second; print(second.VALUE)") == "2222\n"


def test_functions_lose_their_annotations_and_classes_keep_theirs(place: Place) -> None:
    """Those of a class are the fields of a Record; the control is the module without a bundle."""
    text = "class Kept:\n    field: int\n\ndef f(a: int, *b: int, c: int = 1) -> int: ..."
    (place.path / "shared.py").write_text(text)
    (place.path / "second.py").write_text("import shared")
    place.run(WRITE)
    look = "import shared; print(*shared.f.__annotations__, *shared.Kept.__annotations__)"
    assert place.run(f"{USE}\n{look}").split() == ["field"]
    bare = place.run(f"import sys; sys.path[:0] = [{{place!r}}]; {look}")
    assert bare.split() == ["a", "b", "c", "return", "field"]


def test_a_module_that_is_gone_is_not_there(place: Place) -> None:
    """The bundle does not keep alive what was deleted."""
    (place.path / "shared.py").unlink()
    told = place.run(f"{USE}\ntry:\n    import shared\nexcept ImportError as e:\n    print(e.name)")
    assert told == "shared\n"


def test_what_is_not_bundled_comes_the_ordinary_way(place: Place) -> None:
    """As before."""
    (place.path / "later.py").write_text("import shared")
    loaders = place.loaders("later", "shared")
    assert loaders == {"later": "SourceFileLoader", "shared": "BundleFinder"}


def test_a_package_may_import_its_own_modules_which_import_it(place: Place) -> None:
    """As ctypes does: whichever is asked for first, the package runs first."""
    (place.path / "first/__init__.py").write_text("VALUE = 1\nimport first.inner")
    (place.path / "first/inner.py").write_text("from first import VALUE")
    place.run(WRITE)
    for name in ("first", "first.inner"):
        assert set(place.loaders(name, "first.inner").values()) == {"BundleFinder"}


def test_a_module_that_fails_is_not_there_and_fails_again(place: Place) -> None:
    """With its own error; those that ran before it stay, those after it can be had."""
    (place.path / "broken.py").write_text("import sys\nif hasattr(sys, 'broken'): 1 / 0")
    (place.path / "first/__init__.py").write_text("import shared, broken, first.inner")
    place.run(WRITE)
    attempt = (
        "try:\n    import {name}\n    print('{name}')\nexcept ZeroDivisionError:\n    print(0)\n"
    )
    code = USE + "sys.broken = 1\n" + "".join(
        attempt.replace("{name}", name) for name in ("first", "broken", "shared", "second")
    )  # fmt: skip
    told = place.run(code + "print('broken' in sys.modules, 'first' in sys.modules)")
    assert told.split() == ["0", "0", "shared", "second", "False", "False"]


def test_a_finder_that_was_changed_is_not_used(place: Place) -> None:
    """Who works on it shall not see what an older one does."""
    for later_ns, first in ((0, "BundleFinder"), (1, "BuiltinImporter")):
        change = f"path, time, size = rest[0]; rest[0] = path, time + {later_ns}, size\nspace["
        code = USE.replace("space[", change)
        told = place.run(f"{code}\nprint(getattr(sys.meta_path[0], '__name__', 'BundleFinder'))")
        assert told.strip() == first
