"""daemon: the engine and its API in the foreground."""

from __future__ import annotations

import argparse
import os
import signal
import threading

from minicontainer.startup import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def daemon(argv: list[str], environ: dict[str, str]) -> int:
    """Run the engine until SIGTERM or SIGINT; its containers run on."""
    parser = argparse.ArgumentParser(prog="minicontainer daemon", description=daemon.__doc__)
    parser.add_argument("--data-root", default="/var/lib/minicontainer", metavar="DIR")
    parser.add_argument("--exec-root", default="/run/minicontainer", metavar="DIR")
    parser.add_argument(
        "-H", "--host", action="append", metavar="ADDRESS", help="unix:///PATH or tcp://IP:PORT"
    )
    parser.add_argument(
        "--idle-timeout", type=int, default=0, metavar="SECONDS",
        help="end after so long without requests and running containers; 0: never",
    )  # fmt: skip
    parser.add_argument("--group", default="", help="group that may use the unix socket")
    parser.add_argument("--insecure-registry", action="append", default=[], metavar="REGISTRY")
    asked = parser.parse_args(argv)
    # Imported while the spawner starts, in a process of its own.
    from minicontainer.engine.engine import Engine, Options
    from minicontainer.images.registry import Settings

    registries = Settings(insecure=tuple(asked.insecure_registry))
    engine = Engine(asked.data_root, asked.exec_root, Options(registries=registries))
    from minicontainer.api import listeners
    from minicontainer.api.server import Server

    hosts = asked.host or [f"unix://{os.path.join(asked.exec_root, 'minicontainer.sock')}"]
    served: Any = engine  # not every operation is there yet
    server = Server(
        served, [one for host in hosts for one in listeners.listen(host, asked.group)], VERSION
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    while not ended.wait(1 if asked.idle_timeout else None):
        busy = any(one.state.is_running() for one in engine.containers.all())
        if not busy and server.idle_s() > asked.idle_timeout:
            break
    server.stop()
    engine.close()
    return 0
