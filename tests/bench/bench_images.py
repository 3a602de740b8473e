"""How long the image store takes, with 500 images in it.

    .venv/bin/python tests/bench/bench_images.py

Medians of 20 after 2 for warmth, but for what is done once. The store is on the disk that TMPDIR
names. Beside the times stands what may be: a list of images that is slow is felt each day.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minicontainer.engine.images import Images
from minicontainer.images.builtin import NAME
from minicontainer.images.references import parse
from tests.conftest import command, wait_until
from tests.images.conftest import add_image, tar_of

IMAGES, RUNS, WARM_UP = 500, 20, 2
MEGABYTE = 1 << 20
LAYERS, LAYER_SIZE = 5, 20 * MEGABYTE


def median_ms(work: Callable[[], object]) -> float:
    """Do *work* again and again; give the median in milliseconds."""
    times = []
    for number in range(WARM_UP + RUNS):
        began = time.perf_counter()
        work()
        if number >= WARM_UP:
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def once_ms(work: Callable[[], object]) -> float:
    """Do *work* once; give the milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def fill(images: Images) -> None:
    """Put the images in: one base layer for all, and as many variables and labels as real ones."""
    base = tar_of({"base": b"base"})
    config = {
        "Env": [f"VARIABLE_{number}={'x' * 30}" for number in range(10)],
        "Labels": {f"org.example.label-{number}": "y" * 20 for number in range(10)},
    }
    for number in range(IMAGES):
        top = tar_of({str(number): b"x"})
        add_image(
            images.store, f"team{number % 20}/app{number}:v1", layers=(base, top), config=config
        )


def on_many(root: str) -> None:
    """Measure what is done with a store of many images."""
    images = Images(root)
    took = once_ms(lambda: fill(images))
    row("put an image in", took / IMAGES, 0)
    row("list of the store", median_ms(images.store.list), 0)
    row("GET /images/json", median_ms(lambda: json.dumps(images.list(False, {}))), 150)
    filters = {"reference": ["team3/*"], "dangling": ["false"]}
    row("the same with filters", median_ms(lambda: images.list(False, filters)), 150)
    row("GET /images/x/json", median_ms(lambda: images.inspect("team7/app7:v1")), 0)
    image = images.store.resolve("team7/app7:v1")
    row("POST /images/x/tag", median_ms(lambda: images.store.tag(image.id, parse("tagged"))), 0)
    row("remove a name", once_ms(lambda: images.remove("tagged")), 0)
    row("remove an image", once_ms(lambda: images.remove(image.id)), 0)
    row("open the store again", once_ms(lambda: Images(root).close()), 0)
    images.close()
    with tempfile.TemporaryDirectory(prefix="bench-") as exec_root:
        by_command(root, exec_root)


def by_command(root: str, exec_root: str) -> None:
    """Measure the whole command, from a shell to its output, with an engine that runs already."""
    program, socket = command("minicontainer"), os.path.join(exec_root, "engine.sock")
    host = f"unix://{socket}"
    words = [*program, "daemon", "--host", host, "--data-root", root, "--exec-root", exec_root]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as daemon:
        wait_until(lambda: os.path.exists(socket), "the engine")
        listing = [*program, "--host", host, "images"]
        row("minicontainer images", median_ms(lambda: call(listing)), 150)
        if shutil.which("docker"):
            row("docker images", median_ms(lambda: call(["docker", "--host", host, "images"])), 0)
        daemon.terminate()


def call(words: list[str]) -> None:
    """Run a command that lists the images."""
    listed = subprocess.run(words, capture_output=True, check=True).stdout
    assert listed.count(b"\n") >= IMAGES


def on_large(root: str) -> None:
    """Measure what is done with large images."""
    images = Images(root)
    row("make the embedded image", once_ms(lambda: images.resolve(NAME.familiar)), 2000)
    layers = tuple(tar_of({f"{n}": os.urandom(LAYER_SIZE)}) for n in range(LAYERS))
    add_image(images.store, "large", layers=layers)
    saved = io.BytesIO()
    row("save 100 MB", once_ms(lambda: [saved.write(part) for part in images.save(["large"])]), 0)
    images.remove("large")
    saved.seek(0)
    row("load 100 MB, unpacked", once_ms(lambda: list(images.load(saved))), 0)
    rootfs = io.BytesIO(tar_of({"file": os.urandom(LAYERS * LAYER_SIZE)}))
    row("import 100 MB", once_ms(lambda: list(images.import_(rootfs, "x", "", "", ()))), 0)
    images.close()


def row(what: str, took_ms: float, most_ms: float) -> None:
    """Print a line of the table."""
    limit = f"{most_ms:8.0f} ms at most" if most_ms else ""
    print(f"{what:28} {took_ms:9.2f} ms {limit}", flush=True)


def main() -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory(prefix="bench-images-") as root:
        print(f"{IMAGES} images")
        on_many(os.path.join(root, "many"))
        print("large images" if os.geteuid() == 0 else "large images: only root unpacks layers")
        if os.geteuid() == 0:
            on_large(os.path.join(root, "large"))


if __name__ == "__main__":
    main()
