"""Pulls that are processes: killed, two at once, on a full disk, through a proxy."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import zlib

import pytest

from tests.conftest import CHECKOUT, PATIENCE_S, wait_until
from tests.images.registry.images import OCI, Made, tar_of
from tests.images.registry.strict_registry import serving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.images.registry.conftest import Host
    from tests.images.registry.strict_registry import StrictRegistry

PULL = """
import sys
sys.path.insert(0, sys.argv[1])
from minicontainer.errors import Error
from minicontainer.images.layers import LayerStore
from minicontainer.images.pull import pull
from minicontainer.images.registry import Patience, Settings
from minicontainer.images.store import ImageStore
layers = LayerStore(sys.argv[2])
settings = Settings(insecure=tuple(sys.argv[4:]), patience=Patience(stall_s=30, backoff_s=0.01))
try:
    pull(ImageStore(sys.argv[2], layers), layers, sys.argv[3], settings=settings)
except Error as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def command(root: Path, name: str, *insecure: str) -> list[str]:
    """Give the command that pulls *name* into *root*."""
    return [sys.executable, "-c", PULL, str(CHECKOUT), str(root), name, *insecure]


def test_a_pull_that_is_killed_is_gone_on_with(strict: StrictRegistry, host: Host) -> None:
    """By SIGKILL, in the middle of a layer: the next one asks for the rest."""
    image = Made(tar_of({"small": b"1"}), tar_of({"big": os.urandom(200_000)}))
    strict.put("x", "1", image)
    strict.faults.stall, strict.faults.cut_at = 1, 150_000
    name = f"{strict.host}/x:1"
    part = host.root / "images/ingest" / f"{image.layers[1]['digest'].replace(':', '-')}.part"
    with subprocess.Popen(command(host.root, name)) as process:
        wait_until(lambda: part.exists() and part.stat().st_size == 150_000, "half a layer")
        process.send_signal(signal.SIGKILL)
    assert host.store.list() == []
    pulled = host.pull(name)
    assert len(host.file(pulled, "big")) == 200_000
    ranges = [x.get("Range") for x in strict.seen("GET", image.layers[1]["digest"])]
    assert ranges == [None, "bytes=150000-"]


def test_two_processes_share_the_downloads(strict: StrictRegistry, host: Host) -> None:
    """Each layer comes once, and both pulls have the image."""
    image = Made(*(tar_of({f"f{i}": os.urandom(1 << 20)}) for i in range(4)))
    strict.put("x", "1", image)
    name = f"{strict.host}/x:1"
    processes = [subprocess.Popen(command(host.root, name)) for _ in range(2)]
    assert [process.wait(PATIENCE_S) for process in processes] == [0, 0]
    for layer in image.layers:
        assert len(strict.seen("GET", layer["digest"])) == 1
    assert len(host.file(host.store.resolve(name), "f3")) == 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize("megabytes", [4, 15], ids=["blob", "files"])
def test_a_full_disk_is_said_and_leaves_no_image(
    megabytes: int, strict: StrictRegistry, tmp_path: Path
) -> None:
    """While a blob is written, and while its files are; with more space, the next try works."""
    strict.put("x", "1", Made(tar_of({"big": os.urandom(8 << 20)})))
    name = f"{strict.host}/x:1"
    script = (
        'mount -t tmpfs -o size="$1"m none "$2" && shift 2 && "$@"; first=$?;'
        ' mount -o remount,size=64m "$DIR" && "$@" && exit $first'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(megabytes), str(tmp_path),
         *command(tmp_path, name)],
        capture_output=True, text=True, env={**os.environ, "DIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("KernelError: ")
    assert line.endswith("No space left on device")


def test_a_proxy_of_the_environment_is_used(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for this machine, and not where NO_PROXY says so."""
    image = Made(tar_of({"a": b"1"}))
    with serving() as proxy, serving() as local:
        proxy.proxied = "http://registry.invalid:5000"
        proxy.put("x", "1", image)
        local.put("x", "1", image)
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, f"http://{proxy.host}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        name = "registry.invalid:5000/x:1"
        assert host.pull(name, insecure=("registry.invalid:5000",)).names == (name,)
        seen = len(proxy.requests)
        assert host.pull(f"{local.host}/x:1").id == image.id
        assert len(proxy.requests) == seen


def test_who_waits_for_another_process_sees_how_far_it_is(
    strict: StrictRegistry, host: Host
) -> None:
    """And may stop waiting."""
    image = Made(tar_of({"big": os.urandom(200_000)}))
    strict.put("x", "1", image)
    strict.faults.stall, strict.faults.cut_at = 1, 150_000
    name = f"{strict.host}/x:1"
    part = host.root / "images/ingest" / f"{image.layers[0]['digest'].replace(':', '-')}.part"

    class Gone(Exception):
        pass

    def progress(message: dict[str, Any]) -> None:
        if message.get("progressDetail", {}).get("current") == 150_000:
            raise Gone

    with subprocess.Popen(command(host.root, name)) as process:
        wait_until(lambda: part.exists() and part.stat().st_size == 150_000, "half a layer")
        with pytest.raises(Gone):
            host.pull(name, progress=progress)
        process.kill()


def test_memory_does_not_grow_with_a_layer(strict: StrictRegistry, tmp_path: Path) -> None:
    """300 MB of files, whose blob is small; and a blob of 160 MB."""
    zeros = zlib.compressobj(1, zlib.DEFLATED, 31)
    archive = tar_of({"zeros": b""})
    header = bytearray(archive[:512])
    header[124:136] = b"%011o\0" % (300 << 20)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    hashed = hashlib.sha256()
    packed = b""
    for block in (bytes(header), *(bytes(1 << 20) for _ in range(300)), bytes(1024)):
        hashed.update(block)
        packed += zeros.compress(block)
    packed += zeros.flush()
    image = Made(tar_of({"noise": os.urandom(160 << 20)}), kind="oci-plain")
    image.add_layer(packed, f"sha256:{hashed.hexdigest()}", f"{OCI}.layer.v1.tar+gzip")
    strict.put("x", "1", image)
    child = os.posix_spawn(
        sys.executable, command(tmp_path, f"{strict.host}/x:1"), dict(os.environ)
    )
    peak = 0

    def ended() -> bool:
        nonlocal peak
        with open(f"/proc/{child}/status") as file:
            found = [line.split()[1] for line in file if line.startswith("VmHWM:")]
        peak = int(found[0]) * 1024 if found else peak
        return not found

    wait_until(ended, "the pull to end")
    assert os.waitpid(child, 0)[1] == 0
    assert 0 < peak < 150 << 20
