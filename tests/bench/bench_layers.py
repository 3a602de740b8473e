"""How fast layers are unpacked and mounted, and changes found, beside tar.

    sudo .venv/bin/python tests/bench/bench_layers.py [ROOTFS.tar]

Medians. The archive is a root file system; without one, a tree of 8000 files is made up. Every
unpacking ends with the files on the disk: ours by syncfs(2), tar's by sync(1) after it.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from minicontainer.images import changes
from minicontainer.images.layers import LayerStore
from minicontainer.kernel import mounts, namespaces, overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 5


def made_up() -> bytes:
    """Write an archive of 8000 files in 800 directories, 160 MB."""
    rng = random.Random(1)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for number in range(800):
            directory = tarfile.TarInfo(f"usr/{number % 20}/{number}")
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
            for file in range(10):
                entry = tarfile.TarInfo(f"{directory.name}/{file}")
                entry.size = rng.choice([100, 2000, 10_000, 68_000])
                archive.addfile(entry, io.BytesIO(rng.randbytes(entry.size)))
    return made.getvalue()


def median_ms(act: Callable[[str], object], before: Callable[[str], object]) -> float:
    """Measure what takes place in an empty directory, RUNS times."""
    times = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            before(directory)
            subprocess.run(["sync"], check=True)
            begun = time.perf_counter()
            act(directory)
            times.append((time.perf_counter() - begun) * 1e3)
    return sorted(times)[RUNS // 2]


def tar_unpacks(path: str) -> Callable[[str], object]:
    """Unpack as tar does, and have it on the disk."""

    def act(directory: str) -> None:
        subprocess.run(["tar", "-C", directory, "-xpf", path], check=True)
        subprocess.run(["sync", "--file-system", directory], check=True)

    return act


def we_unpack(archive: bytes) -> Callable[[str], object]:
    """Unpack into a store."""
    digest = f"sha256:{hashlib.sha256(archive).hexdigest()}"

    def act(directory: str) -> None:
        LayerStore(directory).unpack(digest, "", digest, io.BytesIO(archive))

    return act


def mount_ms(base: str, number: int) -> float:
    """Measure an overlay of a number of layers, its directories opened and all."""
    lowers = []
    for layer in range(number):
        lowers.append(f"{base}/{hashlib.sha256(b'%d' % layer).hexdigest()}")
        os.makedirs(lowers[-1], exist_ok=True)
    times = []
    for _ in range(RUNS * 4):
        for name in ("upper", "work", "merged"):
            os.makedirs(f"{base}/{name}", exist_ok=True)
        asked = overlay.Overlay(lowers=tuple(lowers), upper=f"{base}/upper", work=f"{base}/work")
        place = os.open(f"{base}/merged", os.O_PATH)
        begun = time.perf_counter()
        made = overlay.mount(asked, place, where=f"{base}/merged")
        times.append((time.perf_counter() - begun) * 1e3)
        os.close(made)
        os.close(place)
        mounts.umount2(f"{base}/merged", mounts.MNT_DETACH)
        for name in ("upper", "work", "merged"):
            shutil.rmtree(f"{base}/{name}")
    return sorted(times)[RUNS * 2]


def changes_ms(lower: str, base: str) -> tuple[float, float]:
    """Measure the list of ten changes, and their layer."""
    upper = f"{base}/changed"
    os.mkdir(upper)
    for number in range(10):
        with open(f"{upper}/{number}", "w") as file:
            file.write("changed")
    begun = time.perf_counter()
    assert len(list(changes.changes(upper, (lower,)))) == 10
    listed = time.perf_counter()
    changes.write_changeset(upper, (lower,), io.BytesIO())
    return (listed - begun) * 1e3, (time.perf_counter() - listed) * 1e3


def main() -> None:
    """Measure, and print."""
    archive = open(sys.argv[1], "rb").read() if sys.argv[1:] else made_up()  # noqa: SIM115  # at once
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as kept:
        kept.write(archive)
        kept.flush()
        theirs = median_ms(tar_unpacks(kept.name), lambda directory: None)
    ours = median_ms(we_unpack(archive), lambda directory: None)
    with tarfile.open(fileobj=io.BytesIO(archive)) as read:
        count = sum(1 for _ in read)
    print(f"an archive of {count} entries, {len(archive) >> 20} MiB")
    print(f"  tar -x, then sync               {theirs:8.0f} ms")
    print(f"  unpack, digest checked, synced  {ours:8.0f} ms   {ours / theirs:.2f} of tar's")
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
        for number in (1, 5, 20, 128):
            print(f"  mount of {number:3} layers             {mount_ms(base, number):8.2f} ms")
        store = LayerStore(base)
        digest = f"sha256:{hashlib.sha256(archive).hexdigest()}"
        store.unpack(digest, "", digest, io.BytesIO(archive))
        listed, packed = changes_ms(store.directory(digest), base)
        print(f"  ten changes listed              {listed:8.2f} ms")
        print(f"  ten changes as a layer          {packed:8.2f} ms")


if __name__ == "__main__":
    main()
