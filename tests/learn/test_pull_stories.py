"""Stories of pulls: what the engine asks a registry for, and what it makes of the answers."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minicontainer.learn import narration
from tests.conftest import wait_until
from tests.images.registry.debian_registry import PROGRAM
from tests.learn.test_stories import begun, events_of
from tests.terminal import Terminal

if TYPE_CHECKING:
    from tests.learn.conftest import Engine

NAME = "127.0.0.1:5000/story:1"
STEPS = ["find-manifest", "fetch-config", "fetch-layers", "unpack-layer", "add-image"]


@pytest.fixture
def pushed(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """Give the name of an image that only a registry has; it is on the engine's own loopback."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    config = tmp_path / "registry.yml"
    config.write_text(
        f"{{version: 0.1, storage: {{filesystem: {{rootdirectory: {tmp_path}/storage}}}},"
        " http: {addr: '127.0.0.1:5000'}, log: {level: error, accesslog: {disabled: true}}}"
    )
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"hi\n"))
    engine("import", str(archive), NAME)
    inside = ["nsenter", "--net", f"--target={engine.pid}"]
    registry = subprocess.Popen([*inside, PROGRAM, "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        probe = [*inside, "sh", "-c", "ss -ltn | grep -q 127.0.0.1:5000"]
        wait_until(lambda: subprocess.run(probe).returncode == 0, "the registry to listen")
        engine("push", "-q", NAME)
        engine("rmi", NAME)
        yield NAME
    finally:
        registry.terminate()
        registry.wait()
        if engine("images", "-q", NAME).output:
            engine("rmi", NAME)


def test_a_pull_tells_what_it_asks_for(engine: Engine, pushed: str) -> None:
    """Manifest, config, layers; then the name again, and nothing is asked for but the digest."""
    told = events_of(engine("pull", "-q", "--json", pushed).errors)
    assert begun(told, "engine") == STEPS
    assert all(narration.reason_of(name) for name in STEPS)
    calls = {event["object"]: event for event in told if event.get("object")}
    where = "http://127.0.0.1:5000/v2/story"
    asked = [event["call"] for event in told if event.get("call", "").startswith("GET ")]
    assert asked[0] == f"GET {where}/manifests/1"
    assert all(call.startswith(f"GET {where}/blobs/sha256:") for call in asked[1:])
    assert len(asked) == 3
    image_id = engine("image", "inspect", "--format", "{{.Id}}", pushed).output.strip()
    assert calls[f"image:{pushed}"]["after"] == image_id
    (unpacked,) = (event for event in told if event.get("call", "").startswith("unpack "))
    directory = Path(unpacked["shell"].split()[-1])
    assert (directory / "hello").read_text() == "hi\n"
    again = events_of(engine("pull", "-q", "--json", pushed).errors)
    assert begun(again, "engine") == ["compare-digest"]
    assert [e["call"] for e in again if e["actor"] == "engine" and e.get("call")] == [
        f"HEAD {where}/manifests/1"
    ]


def test_a_run_that_pulls_is_one_story(engine: Engine, pushed: str) -> None:
    """From the missing image to the start, in either language; the lines fit the screen."""
    result = engine(
        "run", "--rm", "--net", "none", "--explain", "--lang", "ru", pushed, "/no", status=127
    )
    order = [result.errors.index(f". {name} ") for name in ("resolve-image", *STEPS)]
    assert order == sorted(order)
    assert order[-1] < result.errors.index(". fork-init ")
    assert "нужно спросить реестр" in result.errors
    told = [line for line in result.errors.splitlines() if line.startswith("   ")]
    assert max(map(len, told)) <= 80


def test_the_steps_of_a_pull_wait_too(engine: Engine, pushed: str) -> None:
    """And are given up by q: the image is not there."""
    words = ("run", "--net", "none", "--until", "fetch-layers", pushed, "/no")
    terminal = Terminal(engine.words(*words))
    terminal.expect("fetch-layers> ")
    terminal.type("q\r")
    assert terminal.end() == 130
    assert not terminal.close()
    assert engine("images", "-q", pushed).output == ""
    assert engine("ps", "-aq").output == ""
