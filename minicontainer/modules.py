"""The modules of a command, read from one file: the bundle.

To find and read eighty modules one by one costs `minicontainer-oci create` 8 ms: the import system
lists every directory of sys.path, and opens, checks and reads each file. So the installation writes
the compiled code of all modules into one file, with the places of extension modules; each launcher
has one. A command takes a module from there if its source is still the one that was compiled;
otherwise it is imported in the ordinary way.

The file has parts, of modules that are imported together. A request for one module runs its whole
part, in the order in which the modules need one another. That avoids the import system's own work,
another millisecond. A launcher reads the head of the file: its length in four bytes; then,
marshalled, `sys.version`, this module's own code, and the arguments of `use`.

See: importlib's "meta path finders"; marshal.
"""
# No `from __future__ import annotations`: even that is an import, and this module comes before all.

import marshal
import posix  # os is one of the modules to find
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery has both too, for 2 ms
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType, ModuleType
    from typing import Any

    # a file: its path, time of change in ns, size in bytes
    Source = tuple[str, int, int]
    # by module name: the number of its part; for an extension module, its file
    Index = dict[str, int | Source]
    # each part: how far from the file's end it begins, and its length, in bytes
    Places = tuple[tuple[int, int], ...]
    # by module name, in the order in which they run: its file, whether it is a package, whether it
    # runs only on its own request, its code
    Part = dict[str, tuple[Source, bool, bool, CodeType]]

_UNWATCHED = -1  # no time: it belongs to the interpreter, and changes with it


class BundleFinder:
    """Finds and runs the modules of a bundle.

    Args:
        path: the file.
        index: the modules in it.
        places: the places of its parts.
    """

    def __init__(self, path: str, index: "Index", places: "Places") -> None:
        self._path = path
        self._index = index
        self._places = places
        self._waiting: dict[int, Part] = {}  # the modules of each part read that have not run

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find a module; None leaves it to the ordinary finders."""
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
        # one that runs on request, or is needed earlier in its part
        self._run(self._waiting[place], name)
        module = sys.modules.get(name)
        return module.__spec__ if module else None  # None: its source was changed

    def create_module(self, spec: ModuleSpec) -> "ModuleType":
        """Return the module, which has run by now."""
        return sys.modules[spec.name]

    def exec_module(self, module: "ModuleType") -> None:
        """Do nothing more."""

    def _read(self, number: int) -> "Part":
        distance, length = self._places[number]
        fd = posix.open(self._path, posix.O_RDONLY | posix.O_CLOEXEC)  # a third of open()'s calls
        try:
            posix.lseek(fd, -distance, 2)  # 2: from the end
            part: Part = marshal.loads(posix.read(fd, length))
        finally:
            posix.close(fd)
        return part

    def _run(self, part: "Part", name: str) -> None:
        """Run a module's code, unless it has run, or its source was changed."""
        above = name.rpartition(".")[0]
        if above and above not in sys.modules:
            __import__(above)  # it may import this module itself
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
        own: this module's file: if it was changed, the bundle's code of it is not used.
        path, index, places: as for BundleFinder.
    """
    if _is_unchanged(own):
        sys.meta_path.insert(0, BundleFinder(path, index, places))


def write(path: str, groups: "Iterable[Iterable[str]]", apart: str = "") -> None:
    """Write a bundle.

    Args:
        path: the file; it is replaced at once, so that a start reads the old or the new one.
        groups: names of modules. Each group becomes a part, with all modules that it imports and
            that are in no earlier part.
        apart: a package whose modules run only on their own request.
    """
    index: Index = {}
    parts: list[bytes] = []
    # find all modules before compiling one: the compiler's own imports do not belong to a start
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
    """Import each group's modules; yield the specs of all modules that came with them.

    Each list has the order in which the modules were complete.
    """
    known = {__name__}
    for group in groups:
        for name in group:
            __import__(name)
        specs = [getattr(module, "__spec__", None) for module in sys.modules.values()]
        # A module without a location is built into the interpreter, or frozen. The encodings are
        # loaded before the interpreter runs anything.
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
    """Compile a module; return None for an extension module.

    A cached .pyc may come from other flags than this interpreter's (-OO). Annotations of functions
    are left out: they are a tenth of the code, and nothing reads them. (Those of a class are its
    fields: `record`.)
    """
    loader = spec.loader
    if not hasattr(loader, "source_to_code"):
        return None
    import ast  # only needed to write

    tree = ast.parse(loader.get_data(spec.origin))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    code: CodeType = loader.source_to_code(tree, spec.origin)
    return code


def _source(path: str) -> "Source":
    import os  # only needed to write

    found = os.stat(path)
    watched = not path.startswith(os.path.dirname(os.__file__) + os.sep)
    return path, found.st_mtime_ns if watched else _UNWATCHED, found.st_size


def _places(parts: list[bytes]) -> "Places":
    lengths = list(map(len, parts))
    return tuple((sum(lengths[number:]), length) for number, length in enumerate(lengths))
