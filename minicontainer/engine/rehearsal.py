"""A rehearsal of a start: what each start does first, done before there is a container.

The spawner rehearses once: a Record learns to read JSON at its first use, and the forks of the
spawner inherit what it has learned. A creator or an exec process that waits rehearses again, for
the sake of its memory. It shares its pages with the spawner, and the kernel copies each one at the
first write. A rehearsal writes to the same pages as a start, while nobody waits for the copies.
"""

from __future__ import annotations

from minicontainer import jsontext
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.engine import bundle_reader
from minicontainer.engine.protocol import MESSAGES
from minicontainer.runtime.config.defaults import default_spec
from minicontainer.runtime.config.seccomp_profile import default_profile
from minicontainer.runtime.config.spec import Spec
from minicontainer.runtime.config.spec_check import check
from minicontainer.runtime.container.state import State
from minicontainer.runtime.preload import preload


def rehearse() -> None:
    """Do once what every start does first."""
    spec = default_spec()
    caps = spec.process.capabilities
    profile = default_profile(caps.bounding if caps else ())
    spec = spec.replace(linux=spec.linux.replace(seccomp=profile))
    text = jsontext.dump(spec.to_json())
    check(Spec.from_json(jsontext.parse(text)))
    preload(bundle_reader.parse(text))
    state = State(id="x", bundle="/", cgroup=open_cgroup("/minicontainer").path)
    State.from_json(jsontext.parse(jsontext.dump(state.to_json())))
    for kind in MESSAGES:
        kind.json_names()
