"""exec --cap: which sets a capability is added to."""

from __future__ import annotations

import pytest

from tests.isolation.conftest import parse_status

from .runtime import WAITS, Container, Runtime, Spec


@pytest.fixture
def container(runtime: Runtime) -> Container:
    """A container that runs."""
    return runtime.start()


def held(container: Container, *options: str) -> dict[str, set[int]]:
    """List the capabilities that a program of exec has, by set."""
    status = parse_status(container.sh("cat /proc/self/status", *options))
    return {
        name: {bit for bit in range(64) if int(status[name], 16) >> bit & 1}
        for name in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")
    }


@pytest.mark.parametrize("option", ["--cap", "-c"])
def test_capabilities(container: Container, option: str) -> None:
    """Added to what the container has; never to the inheritable ones: CVE-2022-29162."""
    before, after = (
        held(container),
        held(container, option, "CAP_NET_ADMIN", option, "CAP_SYS_TIME"),
    )
    for name in ("CapBnd", "CapEff", "CapPrm"):
        assert after[name] == before[name] | {12, 25}, name
    assert after["CapInh"] == after["CapAmb"] == set()


def test_an_inheritable_capability_is_added_as_ambient(runtime: Runtime) -> None:
    """Then another user than root has it as well; one that isn't inheritable, he has not."""

    def change(config: Spec) -> None:
        config["process"]["capabilities"] = {
            "bounding": ["CAP_KILL", "CAP_SYSLOG"], "inheritable": ["CAP_SYSLOG"],
        }  # fmt: skip

    container = runtime.start(WAITS, change)
    user = ("--user", "33:33")
    assert held(container, *user)["CapEff"] == set()  # the control
    after = held(container, *user, "--cap", "CAP_SYSLOG", "--cap", "CAP_KILL")
    assert after["CapAmb"] == after["CapEff"] == after["CapInh"] == {34}
