"""What the pages say about order and options is what the code has."""

from __future__ import annotations

import re

from minicontainer import steps
from minicontainer.cgroups.control_files import LIMITS
from minicontainer.cgroups.limits import Resources
from minicontainer.cli.create_options import CREATE_OPTIONS, OPTIONS, RUN_FLAGS
from minicontainer.cli.flags import ROOT_FLAGS, STEP_FLAGS, STORY_FLAGS
from minicontainer.engine import bundles
from minicontainer.engine.networks import Networks
from minicontainer.engine.supervisor import Supervisor
from minicontainer.kernel import mount_options
from minicontainer.runtime.child import init
from minicontainer.runtime.container import execs
from minicontainer.runtime.parent import lifecycle
from scripts import cli_reference, step_tables
from tests.conftest import CHECKOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroups.control_files import File

PACKAGE = CHECKOUT / "minicontainer"
ARCHITECTURE = (CHECKOUT / "docs/explanation/architecture.md").read_text()


def test_the_tables_of_steps_are_the_codes() -> None:
    """Every step in its order, with the reason that stands beside it in the code."""
    assert step_tables.written(ARCHITECTURE) == ARCHITECTURE, "run: python -m scripts.step_tables"


def test_every_step_has_a_reason() -> None:
    """In `exec`, a step without one is a step of the first program, for the same reason."""
    assert [step for step, why in (lifecycle.STEPS | init.RECIPE).items() if not why] == []
    assert {step for step, why in execs.RECIPE.items() if not why} <= set(init.RECIPE)


def test_the_page_names_the_steps_of_run() -> None:
    """The engine's steps stand around the runtime's."""
    told = set(re.findall(r"`([a-z-]+)`", ARCHITECTURE))
    around = (
        bundles.make_directory, bundles.write_bundle, Supervisor.hand_to_monitor,
        Networks.connect_container,
    )  # fmt: skip
    assert {steps.step_name(step) for step in around} <= told


def test_the_reference_names_every_option_of_our_own() -> None:
    """And no option that does not exist."""
    page = (CHECKOUT / "docs/reference/run.md").read_text()
    own = {option.flag.name for option in CREATE_OPTIONS if option not in OPTIONS}
    flags = (*RUN_FLAGS, *ROOT_FLAGS, *STORY_FLAGS, *STEP_FLAGS)
    known = {name for flag in flags for name in (flag.name, *flag.aliases)}
    table = page.partition("## Options that Docker does not have")[2].partition("\n## ")[0]
    assert own | {"data-root", "exec-root", "explain", "step"} <= set(
        re.findall(r"`--([a-z-]+)", table)
    )
    assert set(re.findall(r"`--([a-z-]+)", page)) <= known | {"force"}


def test_the_reference_of_commands_is_what_the_tables_say() -> None:
    """Written anew, it would be the same: `.venv/bin/python -m scripts.cli_reference`."""
    assert cli_reference.PAGE.read_text() == cli_reference.page()


def test_the_reference_names_every_mount_option() -> None:
    """The table of words is the code's."""
    page = (CHECKOUT / "docs/reference/mounts.md").read_text()
    cells = re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE)
    named = [word for cell in cells for word in re.findall(r"`([a-z-]+)`", cell)]
    known = (*mount_options.OPTIONS, *mount_options.RECURSIVE_OPTIONS)
    assert sorted(named) == sorted(known)


def test_the_reference_has_the_table_of_limits() -> None:
    """Field, file on v1, file on v2, in the code's order."""
    page = (CHECKOUT / "docs/reference/limits.md").read_text()
    told = re.findall(
        r"^\| `([\w.]+)` \| ([`—][^|]*) \| ([`—][^|]*) \| [^|]*\|$", page, flags=re.MULTILINE
    )

    def cell(files: list[File]) -> str:
        return ", else ".join(f"`{name}`" for name, _ in files) or "—"

    assert told == [
        (
            Resources.json_path(row.field).removeprefix("linux.resources."),
            cell(row.v1),
            cell(row.v2),
        )
        for row in LIMITS
    ]


def test_every_file_a_page_points_to_exists() -> None:
    """Links and paths of the documentation lead somewhere."""
    for page in (
        CHECKOUT / "README.md",
        CHECKOUT / "CONTRIBUTING.md",
        *(CHECKOUT / "docs").rglob("*.md"),
    ):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_page_names_every_file_of_the_runtime() -> None:
    """Once, by what it is about; and none that is gone."""
    table = ARCHITECTURE.partition("\n## The files of `runtime/`\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\|.*\|(.*)\|$", table, flags=re.MULTILINE)
    named = re.findall(r"`([a-z_]+)`", " ".join(cells))
    modules = [path.stem for path in (PACKAGE / "runtime").rglob("[a-z]*.py")]
    assert sorted(named) == sorted(modules)


def test_the_tables_where_a_change_goes_are_there() -> None:
    """Every file and folder that the page names, and every name that it says is in one."""
    page = (CHECKOUT / "docs/how-to/extend.md").read_text()
    lines = re.findall(r"^- .*$", page, flags=re.MULTILINE)
    paths = re.findall(r"`([\w-]+(?:/[\w-]+)*(?:/|/[\w-]+\.\w+))`", "\n".join(lines))
    assert len(paths) > 90
    assert [
        path for path in paths if not any((up / path).exists() for up in (PACKAGE, CHECKOUT))
    ] == []
    named = re.findall(r"`(\w+)`(?: or `(\w+)`)?,? (?:in|of) `([\w/]+\.py)`", page)
    assert len(named) > 20
    for *names, path in named:
        text = next(up / path for up in (PACKAGE, CHECKOUT) if (up / path).exists()).read_text()
        for name in filter(None, names):
            assert re.search(rf"^(?:    )?(?:def |class |){name}\b", text, re.M), (name, path)
