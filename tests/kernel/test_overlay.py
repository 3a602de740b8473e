"""Overlays: many layers, and names that mean something to mount(2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import KernelError
from minicontainer.kernel import mounts, namespaces, overlay, trial

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")

paths = st.text(st.sampled_from("ab/,:\\ "), min_size=1, max_size=12)


@given(st.lists(paths, min_size=1, max_size=4), paths, paths)
def test_options_read_back_as_they_were_written(lowers: list[str], upper: str, work: str) -> None:
    """Whatever the names of the directories."""
    written = overlay.Overlay(lowers=tuple(lowers), upper=upper, work=work, words=("index=off",))
    assert overlay.parse(written.options()) == written


def test_layers_of_data_alone_are_left_to_the_kernel() -> None:
    """`lowerdir=a::b` is more than a list."""
    assert overlay.parse(("lowerdir=/a::/b",)) is None


def _mounted(base: Path, number: int, **change: Any) -> str:
    """Mount an overlay of *number* layers below *base*, and say what a look at it finds."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    for name, value in change.items():
        setattr(overlay, name, value)
    lowers = []
    for layer in range(number):
        directory = base / f"{'x' * 60}{layer}"
        directory.mkdir()
        (directory / f"of-{layer}").touch()
        (directory / "all").write_text(str(layer))
        lowers.append(str(directory))
    upper, work, merged = (base / name for name in ("upper", "work", "merged"))
    for directory in (upper, work, merged):
        directory.mkdir()
    asked = overlay.Overlay(lowers=tuple(lowers), upper=str(upper), work=str(work))
    place = os.open(merged, os.O_PATH | os.O_DIRECTORY)
    os.close(overlay.mount(asked, place, where=str(merged)))
    (merged / "new").touch()
    assert os.listdir(upper) == ["new"]
    return f"{len(os.listdir(merged))} {(merged / 'all').read_text()}"


@needs_root
@pytest.mark.parametrize("name", ["plain", "a,b", "a:b", "a\\b", "a\\,:b\\"])
def test_layers_may_have_any_name(tmp_path: Path, name: str) -> None:
    """mount(2) would take a comma for the next option, and a colon for the next layer."""
    base = tmp_path / name
    base.mkdir()
    assert trial.in_child(lambda: _mounted(base, 3)) == "5 0"


@needs_root
@pytest.mark.parametrize("name", ["plain", "a,b", "a:b", "a\\b", "a\\,:b\\"])
def test_layers_may_have_any_name_on_an_older_kernel(tmp_path: Path, name: str) -> None:
    """One that takes no directories by descriptors."""
    base = tmp_path / name
    base.mkdir()
    old: dict[str, Any] = {"_by_descriptors": lambda *_: -1}
    assert trial.in_child(lambda: _mounted(base, 3, **old)) == "5 0"


@needs_root
def test_an_image_may_have_128_layers(tmp_path: Path) -> None:
    """As many as Docker's: their names alone are three times as long as mount(2) takes."""
    assert trial.in_child(lambda: _mounted(tmp_path, 128)) == "130 0"


@needs_root
def test_an_image_may_have_128_layers_on_an_older_kernel(tmp_path: Path) -> None:
    """By links to descriptors, which are short."""
    old: dict[str, Any] = {"_by_descriptors": lambda *_: -1}
    assert trial.in_child(lambda: _mounted(tmp_path, 128, **old)) == "130 0"


@needs_root
def test_a_layer_that_is_missing_is_named(tmp_path: Path) -> None:
    """And nothing is mounted."""
    asked = overlay.Overlay(lowers=(f"{tmp_path}/nowhere",))
    place = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(KernelError, match="nowhere"):
        overlay.mount(asked, place, where=str(tmp_path))
    os.close(place)
