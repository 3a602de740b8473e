"""A container's start, told while it happens.

Nothing here knows what a start does: it prints the events that the code noted where it acted, and
explains a step by the docstring of the function that takes it.
"""

from __future__ import annotations

import inspect

from minicontainer import steps
from minicontainer.engine import containers
from minicontainer.kernel import mounts, namespaces
from minicontainer.runtime import init, lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from minicontainer.steps import Event

_RECIPES = (*containers.STEPS, *lifecycle.STEPS, *init.RECIPE)
_SHOWN = 100  # characters of an argument; a mount's options or a program's text can be long

# Which argument of a call is a set of flags, and how their names begin.
_FLAGS = {
    ("mount", 3): (mounts, "MS_"),
    ("umount2", 1): (mounts, "MNT_"),
    ("unshare", 0): (namespaces, "CLONE_"),
    ("setns", 1): (namespaces, "CLONE_"),
    ("move_mount", 4): (mounts, "MOVE_MOUNT_"),
    ("fsconfig", 1): (mounts, "FSCONFIG_"),
    ("fsmount", 2): (mounts, "MOUNT_ATTR_"),
}


class Explainer:
    """A listener that prints steps and calls.

    Args:
        out: where the text goes.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._step = ""
        self._count = 0
        self._pending: Event | None = None

    def __call__(self, event: Event) -> None:
        """Print an event; a new step's heading first."""
        self._settle()
        if event.step != self._step:
            self._step = event.step
            self._count += 1
            self._print_heading(event)
        if event.result is None:
            self._pending = event  # execve: whether it succeeded shows in what comes next
        else:
            self._print_call(event)

    def close(self) -> None:
        """Print what is still held back."""
        self._settle()
        self._out.flush()

    def _settle(self) -> None:
        if self._pending is not None:
            event, self._pending = self._pending, None
            self._print_call(event)

    def _print_heading(self, event: Event) -> None:
        name = event.step or "outside of the recipe"
        self._out.write(f"\n{self._count}. {name}   [{event.actor}, {event.source}]\n")
        for line in reason_of(event.step):
            self._out.write(f"   {line}\n")

    def _print_call(self, event: Event) -> None:
        told = ", ".join(_argument(event, i) for i in range(len(event.args)))
        self._out.write(f"   > {event.call}({told}) = {_result(event)}\n")
        if event.object:
            self._out.write(f"     {event.object}{_change(event)}\n")
        if event.shell:
            self._out.write(f"     $ {event.shell}\n")
        self._out.flush()


def reason_of(name: str) -> list[str]:
    """Give the lines that say what a step does and why: its docstring, without the arguments."""
    for step in _RECIPES:
        if steps.step_name(step) == name:
            text = inspect.getdoc(step) or ""
            return text.partition("\nArgs:")[0].strip().splitlines()
    return []


def _argument(event: Event, place: int) -> str:
    value = event.args[place]
    home = _FLAGS.get((event.call, place))
    if home is not None and isinstance(value, int):
        return flag_names(value, *home)
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def flag_names(value: int, module: object, prefix: str) -> str:
    """Spell a set of flags by the names of a module's constants."""
    names = []
    for name, bit in vars(module).items():
        if (
            name.startswith(prefix)
            and isinstance(bit, int)
            and (bit == value or bit & value == bit > 0)
        ):
            names.append(name)
            if prefix == "FSCONFIG_" and bit == value:
                return name  # commands, not bits
    return "|".join(names) or str(value)


def _result(event: Event) -> str:
    if event.result is None:
        return "the program runs now"
    if event.errno:
        import errno

        return f"-1 {errno.errorcode.get(event.errno, event.errno)}"
    return str(event.result)


def _change(event: Event) -> str:
    if event.before and event.after:
        return f": {event.before}  →  {event.after}"
    return f": {event.after}" if event.after else ""
