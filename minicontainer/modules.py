"""A start's modules from one file, the bundle.

To find and read eighty modules one by one costs a start 8 ms: the import system lists every
directory of sys.path, and opens, checks and reads a file each. Installation writes what all of them
compiled to into one file, and where the extension modules are. Each is taken from there as long as
its source is the one that was compiled, and in the ordinary way otherwise.

The file begins with what a launcher reads: a length in four bytes, then, marshalled, `sys.version`,
this module's own code, and what `use` is to be told. The modules' code follows, in parts: no
command reads what only others need.

See: importlib's "meta path finders"; marshal.
"""
# Without `from __future__ import annotations`: even that is an import, and this comes before all.

import marshal
import posix  # os is one of the modules that are to be found
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery has both too, for 2 ms
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    # of a file: its path, time of change in ns, size in bytes
    Source = tuple[str, int, int]
    # by module name: what it was compiled from; whether it is a package; the number of the part
    # that its code is in, and where in it
    Table = dict[str, tuple[Source, bool, int, int]]
    # of each part: how far from the file's end it begins, and its length, in bytes
    Places = tuple[tuple[int, int], ...]

_EXTENSION = -1  # in no part: the file itself is loaded
_UNWATCHED = -1  # no time: it belongs to the interpreter, and changes with that


class BundleFinder:
    """Finds and loads the modules of a bundle.

    Args:
        path: the file.
        table: what is in it.
        places: where its parts are.
    """

    def __init__(self, path: str, table: "Table", places: "Places") -> None:
        self._path = path
        self._table = table
        self._places = places
        self._parts: dict[int, memoryview] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Say where a module is; None leaves it to the ordinary finders."""
        entry = self._table.get(name)
        if entry is None or not _is_unchanged(entry[0]):
            return None
        (source, _, _), is_package, part, _ = entry
        if part == _EXTENSION:
            spec = ModuleSpec(name, ExtensionFileLoader(name, source), origin=source)
            spec.has_location = True
            return spec
        spec = ModuleSpec(name, self, origin=source)  # type: ignore[arg-type]  # a loader by its methods, not by its class
        if is_package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to the import system."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run a module's code."""
        (source, _, _), _, part, start = self._table[module.__name__]
        module.__file__ = source  # not by has_location, which would work out the .pyc's path too
        exec(marshal.loads(self._part(part)[start:]), module.__dict__)

    def _part(self, number: int) -> memoryview:
        found = self._parts.get(number)
        if found is None:
            distance, length = self._places[number]
            with open(self._path, "rb", buffering=0) as file:
                file.seek(-distance, 2)
                found = self._parts[number] = memoryview(file.read(length))
        return found


def _is_unchanged(source: "Source") -> bool:
    path, mtime_ns, size = source
    if mtime_ns == _UNWATCHED:
        return True
    try:
        now = posix.stat(path)
    except OSError:
        return False
    return now.st_mtime_ns == mtime_ns and now.st_size == size


def use(path: str, table: "Table", places: "Places") -> None:
    """Take modules from a bundle from now on: a launcher's first step.

    Args: as of BundleFinder.
    """
    if _is_unchanged(table[__name__][0]):  # who changes this module wants to see what it does
        sys.meta_path.insert(0, BundleFinder(path, table, places))


def write(path: str, groups: "Iterable[Iterable[str]]") -> None:
    """Write a bundle.

    Args:
        path: the file; replaced at once, so that a start meanwhile finds the old or the new one.
        groups: names of modules. Each group becomes a part, with all that its modules import and
            those of the groups before it do not.
    """
    table: Table = {}
    parts: list[bytes] = []
    for group in groups:
        for name in group:
            __import__(name)
        text = b""
        for name, module in sorted(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            if name in table or spec is None or not (spec.has_location and spec.loader):
                continue  # built into the interpreter, frozen, or a directory
            if name.startswith("encodings"):
                continue  # the interpreter has them before it runs anything
            is_package = spec.submodule_search_locations is not None
            compiled = _compiled(spec)
            part = len(parts) if compiled else _EXTENSION
            table[name] = (_source(spec.origin), is_package, part, len(text))
            text += compiled
        parts.append(text)
    own = _compiled(sys.modules[__name__].__spec__)
    head = marshal.dumps((sys.version, marshal.loads(own), table, _places(parts)))
    with open(path + ".new", "wb") as file:
        file.write(b"".join((len(head).to_bytes(4, "big"), head, *parts)))
    posix.rename(path + ".new", path)


def _compiled(spec: "Any") -> bytes:
    """Compile a module; b"" for an extension module.

    Anew, since this interpreter's flags (-OO) may not be those of a cached .pyc.
    """
    loader = spec.loader
    if not hasattr(loader, "source_to_code"):
        return b""
    return marshal.dumps(loader.source_to_code(loader.get_data(spec.origin), spec.origin))


def _source(path: str) -> "Source":
    import os  # here: only who writes needs it

    found = os.stat(path)
    watched = not path.startswith(os.path.dirname(os.__file__) + os.sep)
    return path, found.st_mtime_ns if watched else _UNWATCHED, found.st_size


def _places(parts: list[bytes]) -> "Places":
    lengths = list(map(len, parts))
    return tuple((sum(lengths[number:]), length) for number, length in enumerate(lengths))
