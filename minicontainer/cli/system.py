"""Commands about the host and this program."""

from __future__ import annotations

import json
import os
import sys

from minicontainer.cli.flags import Asked, command, toggle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.host_probes import Finding

_ROOTFS = "busybox"  # what the embedded image is made of, where it was built


@command("", toggle("json", "", "for programs: a list of objects"), most=0)
def check(asked: Asked) -> int:
    """Tell what this host offers to containers; fail when a container can't run."""
    from minicontainer.cli.daemon_options import DATA_ROOT
    from minicontainer.engine import host  # here: it brings all that can be tried

    environ = asked.session.environ
    # Rootless containers would be those of whoever called sudo.
    told = environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    uid = int(told) if told.isdecimal() else os.getuid()
    data_root = asked.session.options.get("data_root") or DATA_ROOT
    findings = host.examine(os.path.abspath(data_root), _ROOTFS, uid)
    if asked.json:
        sys.stdout.write(json.dumps([finding.to_json() for finding in findings], indent=2) + "\n")
    else:
        sys.stdout.write(_as_lines(findings))
    return 0 if all(finding.ok for finding in findings if finding.needed) else 1


def _as_lines(findings: list[Finding]) -> str:
    """Write one line each: ok, FAIL (a container needs it) or no; what; found; the way to it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        mark = "ok" if finding.ok else "FAIL" if finding.needed else "no"
        way_out = f"; to fix it: {finding.fix}" if finding.fix else ""
        lines.append(f"{mark:<4} {finding.name:<{width}}  {finding.found}{way_out}\n")
    return "".join(lines)
