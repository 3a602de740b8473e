"""The functions whose docstrings are the narration: the steps of the engine's processes and init's.

Only scripts and tests import this module: it brings the whole engine with it. `narration` reads the
copy that `scripts/narration.py` makes of the docstrings.
"""

from __future__ import annotations

import inspect
import re

from minicontainer import steps
from minicontainer.engine import (
    bundles,
    creator,
    exec_process,
    monitor,
    probes,
    shared_memory,
    spawner,
)
from minicontainer.engine.engine import Engine
from minicontainer.engine.execs import Execs
from minicontainer.engine.kept_group import KeptGroup
from minicontainer.engine.networks import Networks
from minicontainer.engine.supervisor import Supervisor
from minicontainer.images.pull import Pull
from minicontainer.runtime.child import init
from minicontainer.runtime.container import execs, operations, updates
from minicontainer.runtime.parent import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[..., object]

_ENGINE: tuple[Step, ...] = (
    Engine.resolve_image,
    Pull.compare_digest,
    Pull.find_manifest,
    Pull.fetch_config,
    Pull.fetch_layers,
    Pull.unpack_layer,
    Pull.add_image,
    bundles.make_directory,
    KeptGroup.keep_parent_cgroup,
    shared_memory.share_memory,
    bundles.write_bundle,
    Supervisor.hand_to_monitor,
    Execs.hand_to_exec_parent,
    spawner.fork_child,
    monitor.become_monitor,
    creator.fork_creator,
    creator.become_creator,
    creator.make_streams,
    creator.give_streams,
    monitor.take_container,
    exec_process.become_exec_parent,
    exec_process.take_program,
    Networks.connect_container,
    probes.look_for_leaks,
    probes.take_mounts_back,
    creator.watch_memory,
    operations.kill,
    shared_memory.unshare_memory,
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


def all_steps() -> dict[str, Step]:
    """Give every step that a story can have, by its name; but for the client's."""
    return {steps.step_name(step): step for step in reversed(_RECIPES)}


def reason_in(step: Step) -> str:
    """Give what a docstring says before its sections of arguments and errors."""
    lines = (inspect.getdoc(step) or "").splitlines()
    end = next((i for i, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    return "\n".join(lines[:end]).rstrip()
