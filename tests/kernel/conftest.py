"""The default filter, compiled once for all tests of this directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from minicontainer.kernel.seccomp_compiler import compile_profile
from minicontainer.runtime.config.seccomp_profile import default_profile

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="module")
def default_program() -> bytes:
    """Compile the default profile for a container without capabilities."""
    return compile_profile(default_profile(()))
