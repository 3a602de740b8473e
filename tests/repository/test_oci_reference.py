"""The page of every field and command is what the code, the tests and the schema say."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from minicontainer.runtime.cli import command_line
from scripts import oci_reference
from tests.conftest import CHECKOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def test_the_page_is_up_to_date() -> None:
    """Written anew, it would be the same: `.venv/bin/python -m scripts.oci_reference`."""
    assert oci_reference.PAGE.read_text() == oci_reference.page()


def test_every_test_it_names_exists() -> None:
    """As pytest names them, below tests/."""
    named = set(re.findall(r"`([\w/]+\.py)::(\w+)`", oci_reference.PAGE.read_text()))
    assert len(named) > 50
    for file, test in named:
        assert f"def {test}(" in (CHECKOUT / "tests" / file).read_text(), (file, test)


def test_it_has_every_command_and_option() -> None:
    """In the words of `--help`."""
    page = oci_reference.PAGE.read_text()
    for text in (command_line.GLOBAL, *command_line.COMMANDS.values()):
        assert f"\n{text}```\n" in page


MARKED = """\
import pytest

@pytest.mark.oci("{0}")
def test_one() -> None:
    pass

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.oci("{1}"))])
def test_other(x: int) -> None:
    pass
"""


def write(directory: Path, part: str, text: str) -> None:
    """Write a file of tests."""
    (directory / part).mkdir()
    (directory / part / "test_it.py").write_text(text)


def test_marks_are_found(tmp_path: Path) -> None:
    """Above a test, and at a value of it; a mark on a part of the document is one on all below."""
    write(tmp_path, "oci", MARKED.format("process", "root"))
    known = ["process.user.uid", "root.path"]
    assert oci_reference.tests_by_field(known, tmp_path) == {
        "process.user.uid": ["oci/test_it.py::test_one"],
        "root.path": ["oci/test_it.py::test_other"],
    }


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ("process", "process", "no test is marked with root.path"),
        ("process", "rootfs", "oci/test_it.py::test_other: there is no field rootfs"),
    ],
)
def test_a_field_without_a_test_stops_it(tmp_path: Path, one: str, other: str, says: str) -> None:
    """The control: and so does a mark that names nothing."""
    write(tmp_path, "oci", MARKED.format(one, other))
    with pytest.raises(SystemExit, match=re.escape(says)):
        oci_reference.tests_by_field(["process.user.uid", "root.path"], tmp_path)


def test_a_field_that_is_only_seen_to_be_read_stops_it(tmp_path: Path) -> None:
    """What is read may still be ignored; a test of a container beside it is the control."""
    write(tmp_path, "unit", MARKED.format("root", "root"))
    with pytest.raises(SystemExit, match=r"only tests of its reading are marked with root\.path"):
        oci_reference.tests_by_field(["root.path"], tmp_path)
    write(tmp_path, "oci", MARKED.format("root", "root"))
    assert len(oci_reference.tests_by_field(["root.path"], tmp_path)["root.path"]) == 4


def test_a_mark_that_is_above_no_test_stops_it(tmp_path: Path) -> None:
    """In a list that tests share, it would not be seen."""
    write(tmp_path, "oci", 'ALL = [pytest.mark.oci("root")]\n')
    with pytest.raises(
        SystemExit, match=r"^oci/test_it\.py:1: pytest\.mark\.oci\('root'\) is above"
    ):
        oci_reference.tests_by_field(["root.path"], tmp_path)


# ---- the schema


class Schema:
    """The published schema: files of JSON that point into each other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, Any] = {}

    def load(self, file: str) -> Any:
        """Read one of the files, once."""
        if file not in self.files:
            self.files[file] = json.loads((self.directory / file).read_text())
        return self.files[file]

    def leaves(self, node: Any, file: str, path: str = "") -> Iterator[str]:
        """Yield the paths of all values that have no parts.

        Args:
            node: a part of the schema;  file: where it stands.
        """
        if path in oci_reference.OTHER_KINDS:
            return
        if "$ref" in node:
            there, _, place = node["$ref"].partition("#")
            file = there or file
            node = self.load(file)
            for name in place.strip("/").split("/"):
                node = node[name] if name else node
            yield from self.leaves(node, file, path)
            return
        parts = list(self.parts(node, path))
        for part, below in parts:
            yield from self.leaves(part, file, below)
        if not parts:
            yield path

    def parts(self, node: Any, path: str) -> Iterator[tuple[Any, str]]:
        """Yield what a part of the schema is made of, and the path of each."""
        for kind in ("allOf", "anyOf", "oneOf"):
            yield from ((part, path) for part in node.get(kind, ()))
        for name, part in node.get("properties", {}).items():
            yield part, f"{path}.{name}" if path else name
        if "items" in node:
            yield node["items"], f"{path}[]"
        every = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
        for part in (part for part in every if isinstance(part, dict)):
            yield part, f"{path}.*"


@pytest.fixture(scope="module")
def published() -> set[str]:
    """Every path of the published schema of config.json."""
    specs = os.environ.get("MINICONTAINER_SPECS")
    if not specs:
        pytest.skip("MINICONTAINER_SPECS does not name the directory of the published schemas")
    schema = Schema(Path(specs, "runtime-spec"))
    top = "config-schema.json"
    return set(schema.leaves(schema.load(top), top))


def generalised(path: str) -> str:
    """Write a path with `*` for the names of the clocks, which the schema lists."""
    return re.sub(r"(linux\.timeOffsets)\.\w+", r"\1.*", path)


def test_every_field_of_the_schema_is_one_of_ours(published: set[str]) -> None:
    """Or one of a few that are passed over, each with its reason."""
    ours = set(oci_reference.fields())
    assert {generalised(path) for path in published} - ours == set(oci_reference.PASSED_OVER)


def test_no_field_of_ours_is_our_own(published: set[str]) -> None:
    """And the other way round: config.json has no dialect here."""
    assert set(oci_reference.fields()) <= {generalised(path) for path in published}
