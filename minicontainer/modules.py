"""A start's modules from one file, the bundle.

To find and read eighty modules one by one costs a start 8 ms: the import system lists every
directory of sys.path, and opens, checks and reads a file each. Installation writes what all of them
compiled to into one file, and where the extension modules are. Each is taken from there as long as
its source is the one that was compiled, and in the ordinary way otherwise.

The file is made of parts: modules that are imported together. Who asks for one of them gets all of
a part run, in the order in which they need one another; that spares the import system's own work, a
millisecond more. What the file begins with, a launcher reads: a length in four bytes; then,
marshalled, `sys.version`, this module's own code, and what `use` is to be told.

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
    from collections.abc import Iterable, Iterator
    from types import CodeType, ModuleType
    from typing import Any

    # of a file: its path, time of change in ns, size in bytes
    Source = tuple[str, int, int]
    # by module name: the number of its part; for an extension module, its file
    Index = dict[str, int | Source]
    # of each part: how far from the file's end it begins, and its length, in bytes
    Places = tuple[tuple[int, int], ...]
    # by module name, in the order in which they run: its file, whether it is a package, whether it
    # runs only when it is asked for itself, its code
    Part = dict[str, tuple[Source, bool, bool, CodeType]]

_UNWATCHED = -1  # no time: it belongs to the interpreter, and changes with that


class BundleFinder:
    """Finds and runs the modules of a bundle.

    Args:
        path: the file.
        index: which modules are in it.
        places: where its parts are.
    """

    def __init__(self, path: str, index: "Index", places: "Places") -> None:
        self._path = path
        self._index = index
        self._places = places
        self._waiting: dict[int, Part] = {}  # what of each part that was read has not run

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Say where a module is; None leaves it to the ordinary finders."""
        place = self._index.get(name)
        if place is None:
            return None
        if isinstance(place, tuple):
            return _extension(name, place) if _is_unchanged(place) else None
        if place not in self._waiting:
            self._waiting[place] = part = self._read(place)
            for each, (_, _, apart, _) in list(part.items()):
                if not apart:
                    self._run(part, each)
        self._run(self._waiting[place], name)  # apart, or asked for by one that runs before it
        module = sys.modules.get(name)
        return module.__spec__ if module else None  # its source was changed

    def create_module(self, spec: ModuleSpec) -> "ModuleType":
        """Give the module, which has run by now."""
        return sys.modules[spec.name]

    def exec_module(self, module: "ModuleType") -> None:
        """Do nothing more."""

    def _read(self, number: int) -> "Part":
        distance, length = self._places[number]
        with open(self._path, "rb", buffering=0) as file:
            file.seek(-distance, 2)
            part: Part = marshal.loads(file.read(length))
        return part

    def _run(self, part: "Part", name: str) -> None:
        """Run a module's code, unless it has run, or was changed."""
        above = name.rpartition(".")[0]
        if above and above not in sys.modules:
            __import__(above)  # it may import this one on its way
        if name in sys.modules or name not in part:
            return
        source, is_package, _, code = part.pop(name)
        if not _is_unchanged(source):
            return
        module = sys.modules[name] = self._new_module(name, source[0], is_package)
        whole = False
        try:
            exec(code, module.__dict__)
            whole = True
        finally:
            if not whole:
                del sys.modules[name]
        if above:
            setattr(sys.modules[above], name[len(above) + 1 :], module)

    def _new_module(self, name: str, path: str, is_package: bool) -> "ModuleType":
        spec = ModuleSpec(name, self, origin=path)  # type: ignore[arg-type]  # a loader by its methods, not by its class
        module = type(sys)(name)
        module.__spec__, module.__file__ = spec, path
        module.__loader__ = spec.loader
        if is_package:
            spec.submodule_search_locations = module.__path__ = [path.rpartition("/")[0]]
        module.__package__ = spec.parent
        return module


def _extension(name: str, source: "Source") -> ModuleSpec:
    path = source[0]
    spec = ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)
    spec.has_location = True
    return spec


def _is_unchanged(source: "Source") -> bool:
    path, mtime_ns, size = source
    if mtime_ns == _UNWATCHED:
        return True
    try:
        now = posix.stat(path)
    except OSError:
        return False
    return now.st_mtime_ns == mtime_ns and now.st_size == size


def use(path: str, own: "Source", index: "Index", places: "Places") -> None:
    """Take modules from a bundle from now on: a launcher's first step.

    Args:
        own: this module's file: who changes that wants to see what it does.
        path, index, places: as of BundleFinder.
    """
    if _is_unchanged(own):
        sys.meta_path.insert(0, BundleFinder(path, index, places))


def write(path: str, groups: "Iterable[Iterable[str]]", apart: str = "") -> None:
    """Write a bundle.

    Args:
        path: the file; replaced at once, so that a start meanwhile finds the old or the new one.
        groups: names of modules. Each group becomes a part, with all that its modules import and
            those of the groups before it do not.
        apart: a package whose modules run when they are asked for, and not with their part.
    """
    index: Index = {}
    parts: list[bytes] = []
    # all of them found before the first is compiled: what that imports, no start needs
    for number, specs in enumerate(list(_found(groups))):
        part: Part = {}
        for spec in specs:
            source, code = _source(spec.origin), _compiled(spec)
            index[spec.name] = number if code else source
            if code:
                is_package = spec.submodule_search_locations is not None
                alone = spec.name.partition(".")[0] == apart
                part[spec.name] = (source, is_package, alone, code)
        parts.append(marshal.dumps(part))
    own: Any = sys.modules[__name__].__spec__
    used = _source(own.origin), index, _places(parts)
    head = marshal.dumps((sys.version, _compiled(own), *used))
    with open(path + ".new", "wb") as file:
        file.write(b"".join((len(head).to_bytes(4, "big"), head, *parts)))
    posix.rename(path + ".new", path)


def _found(groups: "Iterable[Iterable[str]]") -> "Iterator[list[Any]]":
    """Import each group's modules; yield what to know of all that came with them, in their order.

    The order is that in which they were complete.
    """
    known = {__name__}
    for group in groups:
        for name in group:
            __import__(name)
        specs = [getattr(module, "__spec__", None) for module in sys.modules.values()]
        # Without a location it is built into the interpreter, or frozen; and the encodings are
        # there before it runs anything.
        new = [
            spec
            for spec in specs
            if spec
            and spec.has_location
            and not spec.name.startswith("encodings")
            and spec.name not in known
        ]
        known.update(spec.name for spec in new)
        yield new


def _compiled(spec: "Any") -> "CodeType | None":
    """Compile a module; None for an extension module.

    Anew, since this interpreter's flags (-OO) may not be those of a cached .pyc; and without the
    annotations of functions, which are a tenth of the code, and which nothing looks at. (Those of
    a class are its fields: `record`.)
    """
    loader = spec.loader
    if not hasattr(loader, "source_to_code"):
        return None
    import ast  # here: only who writes needs it

    tree = ast.parse(loader.get_data(spec.origin))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    code: CodeType = loader.source_to_code(tree, spec.origin)
    return code


def _source(path: str) -> "Source":
    import os  # here: only who writes needs it

    found = os.stat(path)
    watched = not path.startswith(os.path.dirname(os.__file__) + os.sep)
    return path, found.st_mtime_ns if watched else _UNWATCHED, found.st_size


def _places(parts: list[bytes]) -> "Places":
    lengths = list(map(len, parts))
    return tuple((sum(lengths[number:]), length) for number, length in enumerate(lengths))
