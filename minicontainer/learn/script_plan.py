"""The plan that a script is written from, and how its commands are put on lines.

See: `minicontainer.engine.plans`, whose answer is read here.
"""

from __future__ import annotations

import os
import shlex
import textwrap

from minicontainer import steps
from minicontainer.engine.plans import NetworkPlan
from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.learn import narration
from minicontainer.learn.script_words import say
from minicontainer.runtime.child import init
from minicontainer.runtime.config.spec import Mount, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Commands = Callable[["Plan"], Iterator[str]]

_WIDTH = 80
_INDENT = 4  # of the commands of a function


class Plan:
    """What the engine would make for a container.

    Args:
        answer: the engine's, of GET /minicontainer/plans/NAME.
        gone: directories of volumes that were made for the plan, and are removed with it.
        lang: the language of the comments.
    Attributes:
        left_out: the names of steps that `--without` leaves out.
        steps: the names of those that the first process takes.
        root: the mount that is the root;  roots: it, and the layers below it.
    Raises:
        Unsupported: no script can make this container.
    """

    def __init__(self, answer: dict[str, Any], gone: Iterable[str] = (), lang: str = "en") -> None:
        self.lang = lang
        self.spec = Spec.from_json(answer["Spec"])
        self.id = str(answer["Id"])[:12]
        self.directory = str(answer["Directory"])
        self.files: dict[str, str] = answer["Files"]
        self.networks = [NetworkPlan.from_json(one) for one in answer["Networks"]]
        self.gone = tuple(gone)
        self.left_out: tuple[str, ...] = tuple(answer["Without"])
        recipe = map(steps.step_name, steps.chosen(init.RECIPE, self.spec))
        self.steps = {name for name in recipe if name not in self.left_out}
        parent = (self.spec.linux.cgroups_path or "/minicontainer/x").rpartition("/")[0]
        self.group = f"{parent}/{self.id}"
        self.roots = [
            mount for mount in self.spec.mounts if os.path.normpath(mount.destination) == "/"
        ]
        if not self.roots or self.roots[-1].type != "overlay":
            raise Unsupported("this host has no overlay, and the script's root would be one")
        self.root: Mount = self.roots[-1]

    @property
    def is_mapped(self) -> bool:
        """Say whether the container has a user namespace of its own."""
        return self.spec.new_namespace("user")

    @property
    def first_ids(self) -> tuple[int, int]:
        """Give the user and the group of the host that are 0 in the container."""
        linux = self.spec.linux
        uids, gids = linux.uid_mappings, linux.gid_mappings
        return (uids[0].host_id, gids[0].host_id) if self.is_mapped else (0, 0)

    @property
    def own_parent(self) -> str:
        """Name the directory for the script's own files: overlay is known to work there."""
        return os.path.dirname(os.path.dirname(self.directory))


def quoted(text: str) -> str:
    """Quote a word for the shell.

    Raises:
        InvalidArgument: no line of a script can hold it.
    """
    if "\0" in text:
        raise InvalidArgument(f"{text!r} can't be written in a script")
    return shlex.quote(text)


def below(variable: str, text: str) -> str:
    """Write a path that begins with a variable: "$own"/upper."""
    return f'"${variable}"{quoted(text) if text else ""}'


def comment(text: str, indent: str = "") -> Iterator[str]:
    """Wrap a text as comment lines; an empty line stays between paragraphs.

    Args:
        indent: "" where the lines will be indented with the commands around them.
    """
    for number, part in enumerate(text.split("\n\n")):
        if number:
            yield f"{indent}#"
        lead = f"{indent}# "
        yield from textwrap.wrap(
            " ".join(part.split()), _WIDTH - (0 if indent else _INDENT),
            initial_indent=lead, subsequent_indent=lead,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def heading(step: str, lang: str, indent: str = "    ") -> Iterator[str]:
    """Write a step's name, and what it does and why, by the narration."""
    yield ""
    yield f"{indent}# {step} {'-' * (_WIDTH - len(indent) - len(step) - 3)}"
    yield from comment("\n".join(narration.reason_of(step, lang)), indent)


def cannot(key: str, lang: str, indent: str = "    ") -> Iterator[str]:
    """Say that a step is left out, and why."""
    yield f"{indent}#"
    yield from comment(f"{say('cannot', lang)} {say(key, lang)}", indent)


def taken(plan: Plan, name: str, commands: Commands) -> Iterator[str]:
    """Write a step: its name, its reason, and its commands, unless `--without` leaves them out."""
    yield from heading(name, plan.lang)
    if name in plan.left_out:
        yield from comment(f"{say('left-out', plan.lang)} {name}", "    ")
    else:
        yield from indented(commands(plan))


def indented(lines: Iterable[str]) -> Iterator[str]:
    """Put commands into a function; a comment has its place already."""
    return (f"    {line}" if line else "" for line in lines)
