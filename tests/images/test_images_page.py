"""docs/reference/images.md says what the code has."""

from __future__ import annotations

import re

from minicontainer.images import filters, instructions
from minicontainer.images.references import parse
from tests.conftest import CHECKOUT

PAGE = (CHECKOUT / "docs/reference/images.md").read_text()


def section(title: str) -> str:
    """Give the text below a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Read the lines of a table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_each_filter_has_its_line() -> None:
    """And the line says where it can be used."""
    of_lists, of_pruning = set(), set()
    for names, _, in_lists, in_pruning in rows(section("Filters")):
        name = re.sub(r"=.*", "", names.strip("` ")).replace("`", "")
        name = "label!" if "label!" in names else name
        of_lists |= {name} if in_lists else set()
        of_pruning |= {name} if "yes" in in_pruning else set()
    assert of_lists == set(filters.FOR_LISTS)
    assert of_pruning == set(filters.FOR_PRUNING)


def test_each_instruction_has_its_line() -> None:
    """And its examples are ones that are taken."""
    named: set[str] = set()
    for names, examples in rows("| instruction" + section("Archives").split("| instruction")[1]):
        named |= set(re.findall(r"`([A-Z]+)`", names))
        for example in re.findall(r"`([^`]+)`", examples):
            assert instructions.apply({}, [example])
    assert named == set(instructions._CHANGES)


def test_the_examples_of_references_are_right() -> None:
    """Each line of the table that gives the full name."""
    compared = 0
    for short, meaning in rows(section("References")):
        full = re.match(r"`([^`…]+)`", meaning)
        if full and "…" not in short:
            assert parse(short.strip("`")).canonical == full[1]
            compared += 1
    assert compared >= 4
