"""What events cost: a start that nobody listens to, and one that is recorded; and `run --record`.

    make bench

Two engines start containers in turn: of a copy of this checkout, and of another copy whose source
has no `steps.note` call any more. For the third row the start is part of a story, whose events are
written to a file meanwhile. The second table has the whole command as it is installed, which also
writes the reasons of the steps, for a replay. What else this machine does hits all rows alike:
the order changes each round, and the lower quartile counts.

The aims: without a listener at most 2 % slower than without notes, recorded at most 15 % slower.
Last measured: 0 to 1 %, the start 10 %, the command 13 %. The client also reads the story over a
connection of its own, from two requests more. In the start the larger part is init's, which makes
240 events while nobody can go on without it.
"""

from __future__ import annotations

import ast
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("MINICONTAINER_BENCH_ROUNDS", "150"))
WARM_UP = 5
LAUNCHER = CHECKOUT / ".venv/bin/minicontainer"
COMMAND = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from minicontainer.cli.main import main; "
    "sys.exit(main())"
)


class _WithoutNotes(ast.NodeTransformer):
    """Takes the calls of steps.note out of a module; what they would have told is not made."""

    removed = 0

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        """Leave `pass` where a note stood."""
        name = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
        if name in ("steps.note", "note"):
            self.removed += 1
            return ast.copy_location(ast.Pass(), node)
        return node


def copy_package(place: Path, *, without_notes: bool) -> int:
    """Copy the package and its root file systems; say how many notes were taken out."""
    shutil.copytree(CHECKOUT / "rootfs", place / "rootfs")
    shutil.copytree(
        CHECKOUT / "minicontainer", place / "minicontainer",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    transformer = _WithoutNotes()
    for path in (place / "minicontainer").rglob("*.py"):
        tree = ast.parse(path.read_text())
        path.write_text(ast.unparse(transformer.visit(tree) if without_notes else tree))
    return transformer.removed


class Engine:
    """An engine of a tree of sources, with a data root of its own.

    Args:
        tree: the directory that has the package.
        base: where its data goes.
    """

    def __init__(self, tree: Path, base: Path) -> None:
        base.mkdir()
        self._base = base
        self._path = f"{base}/sock"
        self._options = [
            "--data-root", f"{base}/data", "--exec-root", f"{base}/run",
            "--host", f"unix://{self._path}",
        ]  # fmt: skip
        words = [
            sys.executable, "-c", COMMAND, str(tree), "daemon", *self._options,
            "--cgroup-parent", f"/{base.parent.name}",
        ]  # fmt: skip
        self._log = (base / "log").open("w")
        self._process = subprocess.Popen(words, stdout=self._log, stderr=self._log)
        while not os.path.exists(self._path):
            assert self._process.poll() is None, (base / "log").read_text()
            time.sleep(0.05)
        self.run("busybox", "true")  # makes the image

    def run(self, *words: str) -> float:
        """Type `run`, as it is installed; give the milliseconds that it took."""
        started = time.perf_counter()
        subprocess.run(
            [LAUNCHER, "--host", f"unix://{self._path}", "run", "--rm", "--net", "none", *words],
            check=True, capture_output=True,
        )  # fmt: skip
        return (time.perf_counter() - started) * 1000

    def recorded(self, kept: str) -> float:
        """Start a container as part of a story, whose events go into a file meanwhile."""
        story = os.urandom(8).hex()
        connection = self._connected()
        connection.request("GET", f"/minicontainer/traces/{story}")
        answer = connection.getresponse()
        with open(kept, "wb") as stream:
            reader = threading.Thread(target=shutil.copyfileobj, args=(answer, stream))
            reader.start()
            took = self.start({"Minicontainer-Trace": story})
            self._ask("DELETE", f"/minicontainer/traces/{story}")
            reader.join()
        connection.close()
        assert os.path.getsize(kept) > 10_000, "the events were not recorded"
        return took

    def start(self, headers: dict[str, str] | None = None) -> float:
        """Start a container by the API; give the milliseconds from request to answer."""
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
        made = self._ask("POST", "/containers/create", body)["Id"]
        started = time.perf_counter()
        self._ask("POST", f"/containers/{made}/start", None, headers)
        took = (time.perf_counter() - started) * 1000
        self._ask("POST", f"/containers/{made}/wait")
        self._ask("DELETE", f"/containers/{made}")
        return took

    def _connected(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._path)
        return connection

    def _ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> dict[str, str]:
        connection = self._connected()
        sent = None if body is None else json.dumps(body)
        about = {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, sent, about)
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer) if answer else {}

    def close(self) -> None:
        """End the engine."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        self._log.close()


def quartile(times: list[float]) -> float:
    """Give the lower quartile: what it takes when nobody else disturbs."""
    return sorted(times)[len(times) // 4]


def compare(rows: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Call each in turn, in another order each round; give the lower quartiles."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(WARM_UP + rounds):
        order = list(rows) if number % 2 else list(rows)[::-1]
        for name in order:
            took = rows[name]()
            if number >= WARM_UP:
                times[name].append(took)
    return {name: quartile(values) for name, values in times.items()}


def main() -> None:
    """Measure, and print."""
    base = Path(tempfile.mkdtemp(prefix="minicontainer-notes-"))
    engines = []
    try:
        removed = copy_package(base / "bare", without_notes=True)
        copy_package(base / "whole", without_notes=False)
        bare = Engine(base / "bare", base / "bare-data")
        engines.append(bare)
        whole = Engine(base / "whole", base / "whole-data")
        engines.append(whole)
        kept = f"{base}/kept"
        rows = {
            "without notes": bare.start,
            "nobody listens": whole.start,
            "recorded": lambda: whole.recorded(kept),
        }
        print(f"a start by the API, {ROUNDS} rounds, lower quartiles ({removed} notes taken out)")
        _print(compare(rows, ROUNDS), "nobody listens")
        commands = {
            "run": lambda: whole.run("busybox", "true"),
            "run --record": lambda: whole.run("--record", kept, "busybox", "true"),
        }
        print("the command")
        _print(compare(commands, ROUNDS), "run")
    finally:
        for engine in engines:
            engine.close()
        shutil.rmtree(base)


def _print(found: dict[str, float], base: str) -> None:
    for name, took in found.items():
        print(f"  {name:<16} {took:7.2f} ms  {took / found[base] * 100 - 100:+5.1f} %")


if __name__ == "__main__":
    main()
