"""Import what the child will need, before it is forked.

A start takes about 30 ms, and a module can cost 5 of them. So a module that few containers need is
imported late, by the function that uses it. In the child that stops working half way: when its
root has become the container's (`enter_rootfs`, and in `exec` from the start), sys.path leads into
the image, and `import socket` would run a file that the image brought along. `forbid_imports`
makes every later import fail instead. So the parent calls `preload` before it forks: the child
inherits the modules, and its own late import statements then only look them up.

A late import in `runtime/child/`, `runtime/mounts/` or `hooks` therefore needs a line in
`preload`; tests/unit/test_preload.py names the one that is missing.
"""

from __future__ import annotations

import sys

from minicontainer.kernel.seccomp import has_listener
from minicontainer.runtime.config.spec import Hooks
from minicontainer.runtime.config.spec_check import has_rare_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.config.spec import Spec


def preload(spec: Spec) -> None:
    """Import the modules that the steps of this specification import late."""
    if spec.process.terminal:
        from minicontainer.kernel import terminal  # noqa: F401
        from minicontainer.runtime.child import console  # noqa: F401
    if spec.hooks != Hooks():
        from minicontainer.runtime import hook_process  # noqa: F401
    if spec.linux.seccomp and has_listener(spec.linux.seccomp):
        from minicontainer.runtime.parent import listener  # noqa: F401
    if spec.linux.mount_label:
        from minicontainer.runtime.mounts import mount_labels  # noqa: F401
    if any(mount.type == "overlay" for mount in spec.mounts):
        from minicontainer.kernel import overlay  # noqa: F401
    if any("tmpcopyup" in mount.options for mount in spec.mounts):
        from minicontainer.runtime.mounts import copyup  # noqa: F401
    if has_rare_attributes(spec):
        from minicontainer.kernel import memory_policy, scheduling, sysctls  # noqa: F401
        from minicontainer.runtime.config import attribute_check  # noqa: F401


def forbid_imports() -> None:
    """Let every later import of a module that is not loaded fail."""
    sys.meta_path.clear()
