"""Commands about the host and this program."""

from __future__ import annotations

import json
import sys

from minicontainer.cli.containers import Parser
from minicontainer.engine import host


def version(argv: list[str], environ: dict[str, str]) -> int:
    """Show the version."""
    from importlib import metadata  # here: its import costs more than this command does

    Parser(prog="minicontainer version").parse_args(argv)
    sys.stdout.write(f"minicontainer {metadata.version('minicontainer')}\n")
    return 0


def check(argv: list[str], environ: dict[str, str]) -> int:
    """Tell what this host offers to containers; fail when a container can't run."""
    parser = Parser(prog="minicontainer check", description=check.__doc__)
    parser.add_argument("--json", action="store_true", help="for programs")
    asked = parser.parse_args(argv)
    findings = host.examine()
    if asked.json:
        sys.stdout.write(json.dumps([finding.to_json() for finding in findings], indent=2) + "\n")
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark = "ok  " if finding.ok else ("FAIL" if finding.needed else "no  ")
            line = f"{mark} {finding.name:<{width}}  {finding.found}"
            sys.stdout.write(
                line + (f": {finding.fix}" if finding.fix and not finding.ok else "") + "\n"
            )
    return 0 if all(finding.ok for finding in findings if finding.needed) else 1
