"""The start path's modules from one file.

To find and read sixty modules one by one costs a start 5 ms: the import system looks into every
directory of sys.path, and opens, checks and reads a file each. Installation writes what all of
them compiled to into one file; each module is taken from there as long as its source is the one
that was compiled, and in the ordinary way otherwise.

See: importlib's "meta path finders"; marshal.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for it
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery has it too, for 2 ms

VERSION = "0.1.0"  # as in pyproject.toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, ModuleType
    from typing import NoReturn

    # by module name: source, its mtime in ns and size in bytes, whether it is a package, code
    Modules = dict[str, tuple[str, int, int, bool, CodeType]]


class BundleFinder:
    """Finds and loads the modules of a bundle.

    Args:
        modules: what the bundle holds.
    """

    def __init__(self, modules: Modules) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Say where a module is; None leaves it to the ordinary finders."""
        entry = self._modules.get(name)
        if entry is None:
            return None
        source, mtime_ns, size, is_package, _ = entry
        try:
            now = os.stat(source)
        except OSError:
            return None
        if (now.st_mtime_ns, now.st_size) != (mtime_ns, size):
            return None
        spec = ModuleSpec(name, self, origin=source, is_package=is_package)  # type: ignore[arg-type]  # a loader by its methods, not by its class
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        exec(self._modules[module.__name__][4], module.__dict__)


def begin(bundle: str = "") -> None:
    """Begin a command: catch nothing yet, and take modules from a bundle.

    Args:
        bundle: the file; passed over if it is missing, or another interpreter wrote it.
    """
    # Until somebody catches it, Ctrl-C shall end this process without a traceback.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _open_standard_files()
    try:
        with open(bundle, "rb") as file:
            version, modules = marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        return
    if version == sys.version:  # compiled code is good for the very interpreter alone
        sys.meta_path.insert(0, BundleFinder(modules))


def _open_standard_files() -> None:
    """Put /dev/null where the caller has closed its input, output or errors.

    The next file to be opened would take that number, and every program started would inherit it.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)  # the lowest number: fd
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 until the process ends


def end(status: int) -> NoReturn:
    """End the process at once: taking the interpreter apart costs 2 ms and does nothing for us."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        status = status or 1
    except OSError as error:
        os.write(2, f"minicontainer: can't write the output: {error.strerror}\n".encode())
        status = status or 1
    os._exit(status)


def write(bundle: str, names: Iterable[str]) -> None:
    """Write a bundle of these modules and all that they import.

    Args:
        bundle: the file; replaced at once, so that a start meanwhile finds the old or the new one.
        names: modules to import.
    """
    for name in names:
        __import__(name)
    modules: Modules = {}
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        loader = getattr(spec, "loader", None)
        source = spec.origin if spec else None
        if spec is None or loader is None or not source or not hasattr(loader, "source_to_code"):
            continue
        found = os.stat(source)
        # compiled anew: this interpreter's flags (-OO) may not be those of the cached one
        code = loader.source_to_code(loader.get_data(source), source)
        is_package = spec.submodule_search_locations is not None
        modules[name] = (source, found.st_mtime_ns, found.st_size, is_package, code)
    with open(bundle + ".new", "wb") as file:
        marshal.dump((sys.version, modules), file)
    os.replace(bundle + ".new", bundle)
