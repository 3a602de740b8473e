"""The names of constants that a client reads calls with are those of the kernel modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

from minicontainer.learn.calls import short_ids
from scripts import constants

PLACE = str(constants.COPY.parents[2])
ID = "0123456789ab" + "c" * 52


def test_the_copy_is_up_to_date() -> None:
    """After a change of a constant: python -m scripts.constants."""
    assert constants.COPY.read_text() == constants.text()


def test_reading_calls_does_without_slow_modules() -> None:
    """A recording reads hundreds of calls while its command runs."""
    code = (
        "import sys, minicontainer.learn.calls, minicontainer.learn.recorder; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {PLACE!r}); {code}"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert not {"ctypes", "re", "json", "threading", "contextlib"} & set(loaded)
    assert not [name for name in loaded if name.startswith("minicontainer.kernel.m")]


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (f"/run/{ID}/x", "/run/0123456789ab…/x"),
        (ID, "0123456789ab…"),
        (f"{ID} {ID}", "0123456789ab… 0123456789ab…"),
        (f"lowerdir={ID},é{ID}", f"lowerdir=0123456789ab…,é{ID}"),
        (f"sha256:{ID}", "sha256:0123456789ab…"),
        (f"x{ID}", f"x{ID}"),
        (f"{ID}_", f"{ID}_"),
        (f"{ID[:-1]}g", f"{ID[:-1]}g"),
        ("short", "short"),
    ],
)
def test_long_ids_are_shortened(text: str, short: str) -> None:
    """Whole words alone, whatever stands between them."""
    assert short_ids(text) == short
