"""What a monitor reads is what the engine wrote, whether its filter is the default one or not."""

from __future__ import annotations

import pytest

from minicontainer import jsontext
from minicontainer.engine import bundle_reader
from minicontainer.runtime.config.defaults import CAPABILITIES, default_spec
from minicontainer.runtime.config.seccomp_profile import default_profile
from minicontainer.runtime.config.spec import Spec


def _with_filter(*capabilities: str) -> Spec:
    spec = default_spec()
    profile = default_profile(capabilities) if capabilities else None
    return spec.replace(linux=spec.linux.replace(seccomp=profile))


@pytest.mark.parametrize(
    "capabilities", [(), CAPABILITIES, ("CAP_CHOWN",), (*CAPABILITIES, "CAP_SYS_ADMIN")]
)
def test_the_text_is_read_as_it_was_written(capabilities: tuple[str, ...]) -> None:
    """The short cut for the default filter changes nothing in the result."""
    written = _with_filter(*capabilities)
    text = jsontext.dump(written.to_json())
    assert bundle_reader.parse(text) == Spec.from_json(jsontext.parse(text)) == written


def test_the_default_filter_is_not_parsed_again() -> None:
    """All monitors share the one that the spawner made; another filter is read from the text."""
    one, other = (
        bundle_reader.parse(jsontext.dump(_with_filter(*capabilities).to_json())).linux.seccomp
        for capabilities in (CAPABILITIES, ("CAP_CHOWN",))
    )
    assert one is default_profile(CAPABILITIES)
    assert other == default_profile(("CAP_CHOWN",))
    assert other is not default_profile(("CAP_CHOWN",))


def test_text_that_looks_like_the_filter_stays_text() -> None:
    """A value of an annotation may hold anything: inside a string, quotes are escaped."""
    spec = _with_filter(*CAPABILITIES)
    tricky = jsontext.dump(spec.linux.to_json())
    spec = spec.replace(annotations={"x": tricky})
    assert bundle_reader.parse(jsontext.dump(spec.to_json())) == spec
