"""A blob of the registry that is shorter than the manifest says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from minicontainer.images import downloads
from minicontainer.images.registry_errors import Interrupted


def test_a_blob_that_is_too_short_ends_the_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry sends all that it has, then refuses the rest, and so on: without an end."""
    asked: list[int] = []

    def fetch(_registry: Any, _path: str, part: Any, *_: Any) -> None:
        asked.append(part.offset)
        assert len(asked) < 100
        part.offset = 0 if part.offset else 41
        raise Interrupted("cut off, or no such range")

    monkeypatch.setattr(downloads, "_fetch", fetch)
    registry: Any = SimpleNamespace(
        pause=lambda attempt: None, stopped=SimpleNamespace(is_set=lambda: False)
    )
    part: Any = SimpleNamespace(offset=0)
    with pytest.raises(Interrupted):
        downloads._complete(registry, "x", part, 1000, lambda done: None)
    assert len(asked) == downloads._ATTEMPTS
