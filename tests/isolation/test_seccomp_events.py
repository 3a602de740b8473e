"""The events of a filter's load, compared with what strace saw; see test_events.py."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .conftest import Bundles, Spec
from .test_events import compare_bundle


@pytest.mark.parametrize("last", [True, False])
def test_a_filter_with_a_listener(bundles: Bundles, tmp_path: Path, last: bool) -> None:
    """The runtime takes it meanwhile, whenever the filter is loaded."""
    path = tmp_path / "agent"

    def change(spec: Spec) -> None:
        spec["process"]["noNewPrivileges"] = last
        spec["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": str(path),
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        }

    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        comparison = compare_bundle(bundles, change)
    assert comparison.done.returncode == 0, comparison.done.stderr
    told = [event.step for event in comparison.events]
    assert told.index("send-listener") < told.index("run-program")
    comparison.check()
