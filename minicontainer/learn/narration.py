"""What a step does and why, in the reader's language.

English is the docstring of the function that takes the step. Every other language has a catalog,
`languages/LANG.po`, in the format of gettext: `msgctxt` is the step's name, `msgid` the docstring
that was translated, `msgstr` the translation. When the docstring has changed since, the translation
is stale: then the reader gets the English text, which is true.

See: https://www.gnu.org/software/gettext/manual/ "The Format of PO Files".
"""

from __future__ import annotations

import inspect
import os
import re

from minicontainer import steps
from minicontainer.engine import bundles, exec_process, monitor, probes, spawner
from minicontainer.engine.engine import Engine
from minicontainer.engine.execs import Execs
from minicontainer.engine.networks import Networks
from minicontainer.engine.supervisor import Supervisor
from minicontainer.learn import words
from minicontainer.runtime.child import init
from minicontainer.runtime.container import execs, operations, updates
from minicontainer.runtime.parent import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Step = Callable[..., object]

_ENGINE: tuple[Step, ...] = (
    Engine.resolve_image,
    bundles.make_directory,
    bundles.write_bundle,
    Supervisor.fork_monitor,
    Execs.fork_exec_parent,
    spawner.fork_child,
    monitor.become_monitor,
    exec_process.become_exec_parent,
    Networks.connect_container,
    probes.look_for_leaks,
    probes.take_mounts_back,
    monitor.watch_memory,
    operations.kill,
    Networks.disconnect_container,
    bundles.discard_directory,
)
_RECIPES: tuple[Step, ...] = (
    *_ENGINE,
    *lifecycle.STEPS,
    *init.RECIPE,
    execs.open_host_null,
    execs.enter_namespaces,
    *execs.RECIPE,
    updates.change_limits,
)
_SECTION = re.compile(r"^(Args|Returns|Raises|Yields):")
_CATALOGS = os.path.join(os.path.dirname(__file__), "languages")


def all_steps() -> dict[str, Step]:
    """Give every step that a story can have, by its name."""
    return {steps.step_name(step): step for step in reversed(_RECIPES)}


_STEPS = all_steps()


def know(step: Step) -> None:
    """Add a step of the command line, which this package may not import."""
    _STEPS[steps.step_name(step)] = step


def known_steps() -> tuple[str, ...]:
    """Name the steps: all_steps(), and those that were added."""
    return tuple(_STEPS)


def languages() -> tuple[str, ...]:
    """List the languages that there are: English, and those with a catalog."""
    found = os.listdir(_CATALOGS) if os.path.isdir(_CATALOGS) else []
    return ("en", *sorted(name.removesuffix(".po") for name in found if name.endswith(".po")))


def language(environ: Mapping[str, str]) -> str:
    """Choose the reader's language by the locale; English where there is no catalog for it."""
    return words.language(environ)


def reason_of(name: str, lang: str = "en") -> list[str]:
    """Give the lines that say what a step does and why; [] for no step.

    Args:
        lang: the language; English where its catalog lacks the step, or has an older text of it.
    """
    step = _STEPS.get(name)
    if step is None:
        return []
    lines = (inspect.getdoc(step) or "").splitlines()
    end = next((i for i, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    text = "\n".join(lines[:end]).rstrip()
    return translated(name, text, lang).splitlines()


def translated(name: str, text: str, lang: str, catalogs: str = _CATALOGS) -> str:
    """Give the translation of a text; the text itself where the catalog has none of it.

    Args:
        name: of the text, in the catalog.
        catalogs: the directory of the catalogs.
    """
    if lang == "en":
        return text
    msgid, msgstr = words.catalog(lang, catalogs).get(name, ("", ""))
    return msgstr if msgid == text and msgstr else text


def summary_of(name: str, lang: str = "en") -> str:
    """Give the first sentences of what a step does: one paragraph, on one line."""
    lines = reason_of(name, lang)
    return " ".join(lines[: lines.index("")] if "" in lines else lines)


def in_all_languages(name: str) -> dict[str, str]:
    """Give what a step does and why, by language."""
    return {lang: "\n".join(reason_of(name, lang)) for lang in languages()}
