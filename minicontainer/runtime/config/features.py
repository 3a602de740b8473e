"""What this runtime can do, for engines that ask first: `minicontainer-oci features`.

It is made from the tables that the code works by. It describes this program, not the host; for
that there is `minicontainer check`.

See: runtime-spec features.md, features-linux.md.
"""

from __future__ import annotations

from minicontainer.cgroups import systemd_properties
from minicontainer.kernel import capabilities, mount_options, seccomp, seccomp_compiler
from minicontainer.kernel.namespaces import NAMESPACES
from minicontainer.runtime.config.spec import Hooks
from minicontainer.runtime.container.state import OCI_VERSION
from minicontainer.runtime.inputs import WANTS_REAPER
from minicontainer.startup import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OLDEST_VERSION = "1.0.0"


def features() -> dict[str, Any]:
    """Describe the runtime, in the specification's form."""
    return {
        "ociVersionMin": _OLDEST_VERSION,
        "ociVersionMax": OCI_VERSION,
        "hooks": list(Hooks.json_names().values()),
        "mountOptions": sorted((*mount_options.OPTIONS, *mount_options.RECURSIVE_OPTIONS)),
        "linux": _linux(),
        "annotations": {"minicontainer.version": VERSION},
        "potentiallyUnsafeConfigAnnotations": [WANTS_REAPER, systemd_properties.ANNOTATION],
    }


def _linux() -> dict[str, Any]:
    return {
        "namespaces": sorted(namespace.type for namespace in NAMESPACES),
        "capabilities": list(capabilities.NAMES),
        "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": True},
        "seccomp": {
            "enabled": True,
            "actions": sorted(seccomp_compiler.ACTIONS),
            "operators": sorted(seccomp_compiler.OPERATORS),
            "archs": sorted(seccomp_compiler.ARCHITECTURES),
            "knownFlags": sorted(seccomp.FLAGS),
            "supportedFlags": sorted(seccomp.FLAGS),
        },
        "apparmor": {"enabled": True},
        "selinux": {"enabled": True},
        "intelRdt": {"enabled": False},
        "mountExtensions": {"idmap": {"enabled": True}},
        "netDevices": {"enabled": True},
    }
