"""A way to be refused, and a bundle for the runtime's own command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, Result, Run, command

ONE_LINE = re.compile(r"minicontainer(-oci)?: [^\n]+[^.\n]\n")
# What stands before the engine's words, as Docker's client writes it.
DAEMON = "Error response from daemon: "


AS_NOBODY = (
    # it may read the interpreter and the checkout, wherever these are
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip


def containers_in(*roots: Path) -> list[str]:
    """List what containers left in the directories that hold them."""
    return [
        str(path)
        for root in roots
        for path in (root / "containers").glob("*")
        if not path.name.startswith(".")
    ]


def assert_one_line(errors: str, says: str = "") -> None:
    """See that the user gets one line, and that it says what it should."""
    assert ONE_LINE.fullmatch(errors), errors
    assert says in errors


def plain(*arguments: str) -> Result:
    """Run a command that is no container."""
    done = subprocess.run(
        arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass
class Refused:
    """Asks for a container and expects not to get it: `refused(says, *options)`."""

    run: Run

    def __call__(
        self,
        says: str,
        *options: str,
        program: tuple[str, ...] = ("/bin/true",),
        status: int = 125,
        before: tuple[str, ...] = (),
    ) -> None:
        """Run a container that can't be.

        Args:
            says: what the one line must hold.
            options: of `minicontainer run`.
            program: what it should run.
            status: the command's exit status.
            before: a command that runs ours, such as setpriv(1).
        """
        done = subprocess.run(
            [*before, *self.run.arguments(program, options)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        assert_one_line(done.stderr, says)
        assert (done.returncode, done.stdout) == (status, "")
        assert containers_in(self.run.data_root, self.run.exec_root) == []


@pytest.fixture
def refused(run: Run) -> Refused:
    """A way to be refused; what a start leaves on the host is looked for after the test."""
    return Refused(run)


@dataclass
class Bundle:
    """A bundle, and the state directory of the runtime that runs it."""

    path: Path
    state: Path

    def read(self) -> Any:
        """Give its config.json."""
        return json.loads((self.path / "config.json").read_text())

    def write(self, document: Any) -> None:
        """Write its config.json."""
        (self.path / "config.json").write_text(json.dumps(document))

    def arguments(self) -> list[str]:
        """Write the command line that runs it."""
        return [
            *command("minicontainer-oci"), "--root", str(self.state),
            "run", "--bundle", str(self.path), "box",
        ]  # fmt: skip

    def run(self) -> Result:
        """Run it to its end."""
        done = subprocess.run(
            self.arguments(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def left(self) -> list[str]:
        """List what containers left in the state directory."""
        there = os.listdir(self.state) if self.state.exists() else []
        return [name for name in there if not name.startswith(".")]


@pytest.fixture
def bundle(
    busybox: Path, tmp_path_factory: pytest.TempPathFactory, nothing_left: None
) -> Iterator[Bundle]:
    """A bundle whose program is `true`, as `minicontainer-oci spec` writes it otherwise."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    base = tmp_path_factory.mktemp("bundle")
    made = Bundle(base / "bundle", base / "state")
    made.path.mkdir()
    shutil.copytree(busybox, made.path / "rootfs", symlinks=True)
    spec = [*command("minicontainer-oci"), "spec", "--bundle", str(made.path)]
    subprocess.run(spec, check=True)
    document = made.read()
    document["process"].update(terminal=False, args=["/bin/true"])
    made.write(document)
    yield made
    shutil.rmtree(base)


@pytest.fixture
def rootfs(busybox: Path, tmp_path: Path) -> Path:
    """A copy of the busybox root file system, to be spoiled."""
    return Path(shutil.copytree(busybox, tmp_path / "rootfs", symlinks=True))


Spoil = Callable[[Path], None]
