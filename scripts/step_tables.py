"""Write the tables of steps in docs/explanation/architecture.md: each step, and why it is there.

    .venv/bin/python -m scripts.step_tables           write them
    .venv/bin/python -m scripts.step_tables --check   fail if they are not what would be written

The steps and their reasons come from the recipes that the code follows, and from the parent's
table of steps. On the page, a table stands between `<!-- steps: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from minicontainer import steps
from minicontainer.runtime.child import init
from minicontainer.runtime.container import execs
from minicontainer.runtime.parent import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs/explanation/architecture.md"
TABLES: dict[str, Mapping[Any, str]] = {
    "parent": lifecycle.STEPS,
    "init": init.RECIPE,
    # those that the container's first program does not take
    "exec": {step: why for step, why in execs.RECIPE.items() if step not in init.RECIPE},
}


def table(recipe: Mapping[Any, str]) -> str:
    """Write a table of steps and reasons."""
    rows = "".join(f"| `{steps.step_name(step)}` | {why} |\n" for step, why in recipe.items())
    return f"| Step | Why here |\n| --- | --- |\n{rows}"


def written(text: str) -> str:
    """Give the page with its tables made anew."""
    for name, recipe in TABLES.items():
        begin, end = f"<!-- steps: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        if not found:
            raise SystemExit(f"{PAGE}: {begin.strip()} is missing")
        text = before + begin + table(recipe) + end + rest.partition(end)[2]
    return text


def main() -> int:
    """Write the page, or check it."""
    text = PAGE.read_text()
    if sys.argv[1:] == ["--check"]:
        return int(text != written(text))
    PAGE.write_text(written(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
