"""How long a pull takes, and what memory it needs, beside Podman, and skopeo with tar.

    python tests/bench/bench_pull.py [DIRECTORY]

An image of 100 MB in five layers, made of files as a distribution has them and of noise, comes from
Debian's docker-registry on loopback into an empty store: whole commands, interleaved, so that all
meet the same machine. Medians of 5 after 1 for warmth, and the peak memory of the largest process.

- minicontainer: `images/pull.py` in a process of its own, unpacked;
- podman pull: the same, with the overlay driver, or vfs where that one can't be used;
- skopeo copy to an OCI layout, then `tar -x` of each layer: without a store.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conftest import CHECKOUT
from tests.images.registry.debian_registry import DebianRegistry
from tests.images.registry.images import Made, write_layout

RUNS, WARM_UP = 5, 1
LAYERS, LAYER_BYTES = 5, 20_000_000  # compressed
PULL = """
import sys
sys.path.insert(0, sys.argv[1])
from minicontainer.images.layers import LayerStore
from minicontainer.images.pull import pull
from minicontainer.images.store import ImageStore
layers = LayerStore(sys.argv[2])
pull(ImageStore(sys.argv[2], layers), layers, sys.argv[3])
"""


def make_layer(seed: int) -> bytes:
    """Make a tar that compresses to LAYER_BYTES: half of it noise, half of it this machine's files.

    As layers do it has the directories too, and everything in the order of its name.

    Args:
        seed: another number makes another layer.
    """
    noise = random.Random(seed)
    wanted = LAYER_BYTES * 3 // 2  # what half a layer is before it is compressed, about
    candidates = sorted(path for path in Path("/usr/share").rglob("*") if path.is_file())
    noise.shuffle(candidates)
    files: dict[str, bytes] = {}
    for path in candidates:
        if wanted <= 0:
            break
        if not path.is_symlink() and path.stat().st_size < 1_000_000:
            files[f"layer{seed}{path}"] = path.read_bytes()
            wanted -= path.stat().st_size
    for number in range(LAYER_BYTES // 500_000):
        files[f"layer{seed}/noise/{number}"] = noise.randbytes(250_000)
    directories = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted([*files, *directories]):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if name in directories else tarfile.REGTYPE
            entry.mode = 0o755 if name in directories else 0o644
            entry.size = len(files.get(name, b""))
            archive.addfile(entry, io.BytesIO(files.get(name, b"")))
    return made.getvalue()


def make_image(registry: str, directory: Path) -> None:
    """Put the image into a registry."""
    image = Made(*(make_layer(seed) for seed in range(LAYERS)))
    write_layout(image, directory, "1")
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--dest-tls-verify=false",
         f"oci:{directory}:1", f"docker://{registry}/bench:1"],
        check=True,
    )  # fmt: skip
    size = sum(layer["size"] for layer in image.layers)
    print(f"{size / 1e6:.0f} MB in {len(image.layers)} layers", flush=True)


def measured(argv: list[str]) -> tuple[float, int]:
    """Run a command; give its seconds, and the bytes of its largest process."""
    with tempfile.TemporaryFile() as errors:
        before = time.perf_counter()
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        taken = time.perf_counter() - before
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise SystemExit(f"{argv[0]}: {errors.read().decode()}")
    return taken, usage.ru_maxrss * 1024


def commands(name: str, scratch: Path) -> dict[str, list[str]]:
    """Give each way to pull *name* into *scratch*, which is empty."""
    found = {"minicontainer": [sys.executable, "-c", PULL, str(CHECKOUT), str(scratch), name]}
    if shutil.which("podman"):
        storage = ["--root", f"{scratch}/root", "--runroot", f"{scratch}/run"]
        for driver in ("overlay", "vfs"):
            podman = ["podman", *storage, "--storage-driver", driver]
            if subprocess.run([*podman, "info"], capture_output=True).returncode == 0:
                label = f"podman pull ({driver})"
                found[label] = [*podman, "pull", "--quiet", "--tls-verify=false", name]
                break
    unpack = (
        f"skopeo copy --quiet --src-tls-verify=false docker://{name} oci:{scratch}/layout:1 &&"
        f" mkdir {scratch}/tree && for blob in $(find {scratch}/layout/blobs -size +1M);"
        f" do tar -xzf $blob -C {scratch}/tree || exit 1; done"
    )
    found["skopeo copy, tar -x"] = ["sh", "-c", unpack]
    return found


def remove(scratch: Path) -> None:
    """Remove what the commands made, Podman's mounts too."""
    for kept in scratch.glob("*/root/overlay"):
        subprocess.run(["umount", "-q", str(kept)], check=False)
    shutil.rmtree(scratch)


def main() -> None:
    """Measure, and print the table."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(prefix="bench-pull-", dir=parent) as directory:
        place = Path(directory)
        registry = DebianRegistry(place / "registry")
        try:
            # In a process of its own: a command's peak memory is at least that of its parent.
            maker = multiprocessing.Process(
                target=make_image, args=(registry.host, place / "layout")
            )
            maker.start()
            maker.join()
            measure(f"{registry.host}/bench:1", place / "scratch")
        finally:
            registry.stop()


def measure(name: str, scratch: Path) -> None:
    """Run the commands one after the other, several times, and print what they took."""
    scratch.mkdir()
    labels = list(commands(name, scratch / "none"))
    times: dict[str, list[float]] = {label: [] for label in labels}
    peaks: dict[str, int] = dict.fromkeys(labels, 0)
    for turn in range(WARM_UP + RUNS):
        for number, label in enumerate(labels):
            # Each run has a directory of its own, and all go at the end: ext4 looks long for an
            # inode where many have just been deleted.
            place = scratch / f"{turn}-{number}"
            place.mkdir()
            argv = commands(name, place)[label]
            os.sync()
            taken, peak = measured(argv)
            if turn >= WARM_UP:
                times[label].append(taken)
            peaks[label] = max(peaks[label], peak)
    remove(scratch)
    ours = statistics.median(times["minicontainer"])
    for label in labels:
        median = statistics.median(times[label])
        print(
            f"{label:26} {median:6.2f} s  ({min(times[label]):.2f} … {max(times[label]):.2f})"
            f"  ours / this {ours / median:5.2f}  peak {peaks[label] / 1e6:4.0f} MB"
        )
    print(json.dumps({label: [round(x, 3) for x in times[label]] for label in labels}))


if __name__ == "__main__":
    main()
