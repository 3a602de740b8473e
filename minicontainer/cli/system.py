"""Commands about the host and this program."""

from __future__ import annotations

import json
import os
import sys

from minicontainer.cli.run_options import Parser, run_parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.host_probes import Finding


def version(argv: list[str], environ: dict[str, str]) -> int:
    """Show the version."""
    Parser(prog="minicontainer version", description=version.__doc__).parse_args(argv)
    from importlib import metadata  # here: its import costs more than this command does

    try:
        sys.stdout.write(f"minicontainer {metadata.version('minicontainer')}\n")
    except metadata.PackageNotFoundError:
        sys.stdout.write("minicontainer, from a checkout that is not installed: see `make setup`\n")
    return 0


def check(argv: list[str], environ: dict[str, str]) -> int:
    """Tell what this host offers to containers; fail when a container can't run."""
    from minicontainer.engine import host  # here: it brings all that can be tried

    defaults = run_parser()
    parser = Parser(prog="minicontainer check", description=check.__doc__)
    parser.add_argument("--json", action="store_true", help="for programs: a list of objects")
    data_root = defaults.get_default("data_root")
    parser.add_argument("--data-root", default=data_root, metavar="DIR", help=f"({data_root})")
    asked = parser.parse_args(argv)
    # Rootless containers would be those of whoever called sudo.
    told = environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    uid = int(told) if told.isdecimal() else os.getuid()
    findings = host.examine(asked.data_root, defaults.get_default("rootfs"), uid)
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
