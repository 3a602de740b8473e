"""What the child imports late is loaded before the fork."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIME = CHECKOUT / "minicontainer/runtime"
IN_THE_CHILD = [*RUNTIME.glob("child/*.py"), *RUNTIME.glob("mounts/*.py"), RUNTIME / "hooks.py"]

# A specification that asks for everything that some step imports late.
ALL = """
from minicontainer.kernel.seccomp import Seccomp
from minicontainer.runtime.config import defaults
from minicontainer.runtime.config.spec import Hook, Hooks, Mount
from minicontainer.runtime.config.spec_process import Scheduler
import sys
import minicontainer.runtime.child.init, minicontainer.runtime.container.execs
from minicontainer.runtime.preload import preload
spec = defaults.default_spec()
spec = spec.replace(process=spec.process.replace(terminal=False))
if len(sys.argv) > 1:
    seccomp = Seccomp(default_action="SCMP_ACT_NOTIFY", listener_path="/agent")
    spec = spec.replace(
        process=spec.process.replace(terminal=True, scheduler=Scheduler(policy="SCHED_BATCH")),
        hooks=Hooks(poststop=(Hook(path="/bin/true"),)),
        linux=spec.linux.replace(seccomp=seccomp, mount_label="label"),
        mounts=(
            *spec.mounts,
            Mount(destination="/tmp", type="tmpfs", options=("tmpcopyup",)),
            Mount(destination="/", type="overlay"),
        ),
    )
preload(spec)
print(*sys.modules)
"""


def late_imports() -> Iterator[tuple[str, str]]:
    """Yield each import inside a function of code that the child runs: place, and module."""
    for path in IN_THE_CHILD:
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        yield f"{path.name}: {function.name}", f"{node.module}.{alias.name}"


def loaded(*arguments: str) -> set[str]:
    """List what is loaded after `preload`."""
    told = subprocess.run(
        [sys.executable, "-c", ALL, *arguments], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return set(told.stdout.split())


def test_what_the_child_imports_late_is_loaded_before_the_fork() -> None:
    """In the container's root it could not be found, or the image's file would be run."""
    wanted = list(late_imports())
    assert len(wanted) > 8
    here = loaded("everything")
    assert [(place, name) for place, name in wanted if name not in here] == []


@pytest.mark.parametrize("name", sorted({name for _, name in late_imports()}))
def test_and_only_where_the_specification_asks_for_it(name: str) -> None:
    """The control: a plain container loads none of them."""
    assert name not in loaded()
