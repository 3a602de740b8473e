"""The spawner does ahead what each of its forks would do again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What a start imports late, for a container like that of `run` and for one with more.
_LATE = """
import sys
from minicontainer.engine import bundle_reader, spawner
from minicontainer.runtime.config.defaults import default_spec
from minicontainer.runtime.config.spec import Mount
from minicontainer.runtime.preload import preload

{warm_up}
before = set(sys.modules)
spec = default_spec()
more = Mount(destination="/x", type="tmpfs", options=("tmpcopyup",))
over = Mount(destination="/y", type="overlay", options=("lowerdir=/",))
spec = spec.replace(
    process=spec.process.replace(terminal=True),
    linux=spec.linux.replace(sysctl={{"net.ipv4.ip_forward": "1"}}, mount_label="x"),
    mounts=(*spec.mounts, more, over),
)
preload(spec)
print(*sorted(set(sys.modules) - before))
"""


def _imported_late(warm_up: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LATE.format(warm_up=warm_up)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_a_monitor_imports_nothing_before_it_forks_init() -> None:
    """An import takes each start up to 5 ms; the spawner has it before the first one."""
    assert _imported_late("spawner.warm_up()") == []


def test_without_the_warm_up_it_would() -> None:
    """The control: the same start, in an interpreter that has only imported the spawner."""
    assert "minicontainer.kernel.sysctls" in _imported_late("")
