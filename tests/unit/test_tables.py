"""A new row of a table is all that a new thing of its kind takes: everything else follows.

Each test adds a made-up row to the source of the table's module, in a process of its own.
The table of limits has such a test in test_limits.py.
"""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import CHECKOUT

ADD = """
import importlib.util, sys
spec = importlib.util.find_spec({module!r})
text = spec.loader.get_source({module!r})
assert text.count({above!r}) == 1, "the place of the new row has gone"
module = importlib.util.module_from_spec(spec)
sys.modules[{module!r}] = module
exec(compile(text.replace({above!r}, {above!r} + {row!r}), spec.origin, "exec"), module.__dict__)
"""


def look(module: str, above: str, row: str, code: str) -> list[str]:
    """Run *code* with a new row below the line *above* of a module; give the words it prints."""
    text = ADD.format(module=module, above=above, row=row) + code
    told = subprocess.run(
        [sys.executable, "-c", text], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.split()


MOUNT_OPTION = """
from minicontainer.kernel import mount_options
from minicontainer.runtime.config.features import features

own = mount_options.parse_options(("nofuture",))
tree = mount_options.parse_options(("rnofuture",))
print(own.attributes.set, tree.recursive.set, mount_options.ATTRIBUTES & 1 << 30)
print(*{"nofuture", "rnofuture"} & {*features()["mountOptions"]})
"""


def test_a_mount_option_is_one_row() -> None:
    """Its word for a whole tree, its place in `features`, and what a bind's other options clear."""
    words = look(
        "minicontainer.kernel.mount_options",
        "_ATTRIBUTES = {\n",
        '    "nofuture": Option(set=1 << 30),\n',
        MOUNT_OPTION,
    )
    assert sorted(words) == sorted([str(1 << 30)] * 3 + ["nofuture", "rnofuture"])


NAMESPACE = """
from minicontainer.kernel import namespaces
from minicontainer.runtime.config import defaults, seccomp_profile, spec_check
from minicontainer.runtime.config.features import features
from minicontainer.runtime.config.spec_linux import NamespaceSpec
from minicontainer.runtime.parent import spawn

print("mask" if seccomp_profile.CLONE_NAMESPACES & 1 << 31 else "")
print("features" if "future" in features()["linux"]["namespaces"] else "")
spec = defaults.default_spec()
asked = (*spec.linux.namespaces, NamespaceSpec(type="future"))
spec = spec.replace(linux=spec.linux.replace(namespaces=asked))
spec_check.check(spec)
given = []

def clone3(flags, *, cgroup_fd=None):
    given.append(flags)
    return 1, 2

class Cgroup:
    def fd(self):
        return None

class Child:
    class options:
        for_parent = False

child = Child()
child.spec = spec
namespaces.clone3 = clone3
spawn.fork_init(child, None, Cgroup())
print("clone3" if given[0] & 1 << 31 else "")
print(namespaces._unshare_command(1 << 31).removeprefix("unshare --"))
"""


def test_a_namespace_is_one_row() -> None:
    """It can be asked for, is made with the others, is listed, and is not the program's to make."""
    words = look(
        "minicontainer.kernel.namespaces",
        "NAMESPACES = (\n",
        '    Namespace(type="future", flag=1 << 31, link="future"),\n',
        NAMESPACE,
    )
    assert words == ["mask", "features", "clone3", "future"]
