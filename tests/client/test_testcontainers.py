"""testcontainers: services for the tests of Python programs.

The program runs on the engine's machine, where the published ports are. The reaper is off: its
image comes from a registry, which is not here.
"""

from __future__ import annotations

import sys

from tests.engines import IMAGE, Clients

PROGRAM = """
import urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

served = "echo $WORD > /tmp/index.html; echo serving; exec httpd -f -p 80 -h /tmp"
with Network() as network:
    service = (
        DockerContainer(IMAGE).with_command(["sh", "-c", served]).with_exposed_ports(80)
        .with_env("WORD", "hello").with_network(network).with_network_aliases("web")
        .with_kwargs(stop_signal="KILL").waiting_for(LogMessageWaitStrategy("serving"))
    )
    with service, DockerContainer(IMAGE).with_command("sleep 99").with_network(network) as other:
        place = f"{service.get_container_host_ip()}:{service.get_exposed_port(80)}"
        print(urllib.request.urlopen(f"http://{place}/").read().decode().strip())
        print(service.exec("hostname").exit_code, service.get_logs()[0].decode().strip())
        print(other.exec(["wget", "-qO-", "http://web/"]).output.decode().strip())
"""


def test_a_service_with_a_port_and_a_network(clients: Clients) -> None:
    """Waited for by its log, reached by its port and by its name; nothing is left of it."""
    said = clients.machine(
        "env", f"DOCKER_HOST=unix://{clients.path}", "TESTCONTAINERS_RYUK_DISABLED=true",
        sys.executable, "-c", f"IMAGE = {IMAGE!r}\n{PROGRAM}",
    )  # fmt: skip
    assert said.output.splitlines() == ["hello", "0 serving", "hello"], said.errors
    assert clients.must("ps", "-aq") == ""
    assert "testcontainers" not in clients.must("network", "ls")
