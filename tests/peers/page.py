"""A page of the documentation, as the commands that it tells a reader to type."""

from __future__ import annotations

import re

from tests.conftest import CHECKOUT, Result

from .machine import Machine

# The machine's root needs no sudo, and may have none.
_PRELUDE = """
set -eu -o pipefail
sudo() { "$@"; }
"""


def sections(name: str) -> dict[str, str]:
    """Give the commands of a page, by the headings that they stand under."""
    page = (CHECKOUT / "docs/how-to" / name).read_text()
    found = {}
    for section in page.split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        found[heading] = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    return found


def follow(machine: Machine, commands: str) -> Result:
    """Type commands, one after the other, until one fails."""
    return machine("bash", "-c", _PRELUDE + commands)
