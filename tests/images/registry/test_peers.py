"""One image, from here to Debian's registry, and from there to skopeo, umoci, Podman and back."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from minicontainer.images.imports import import_image
from minicontainer.images.references import parse
from tests.conftest import CHECKOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.images.registry.conftest import Host
    from tests.images.registry.debian_registry import DebianRegistry

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="files get owners"),
    *(
        pytest.mark.skipif(shutil.which(peer) is None, reason=f"{peer} is not installed")
        for peer in ("skopeo", "umoci", "podman")
    ),
]


def root_file_system() -> bytes:
    """Make a tar with what layers have: owners, modes, links, a fifo, names of any bytes."""
    made = io.BytesIO()
    with tarfile.open(
        fileobj=made, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:

        def add(
            name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, **more: object
        ) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = kind, mode, 1_700_000_000
            content = more.pop("content", b"")
            assert isinstance(content, bytes)
            entry.size = len(content)
            for field, value in more.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(content))

        add("./", tarfile.DIRTYPE, 0o755)
        add("bin/", tarfile.DIRTYPE, 0o755)
        add("bin/su", mode=0o4755, content=b"#!/bin/sh\n")
        add("bin/again", tarfile.LNKTYPE, 0o4755, linkname="bin/su")
        add("bin/link", tarfile.SYMTYPE, 0o777, linkname="/bin/su")
        add("home/", tarfile.DIRTYPE, 0o2770, uid=1000, gid=1001)
        add("home/own", mode=0o600, uid=1000, gid=1001, content=os.urandom(100_000))
        add("home/fifo", tarfile.FIFOTYPE, 0o622)
        add("home/" + "long" * 60, content=b"1")
        add("tmp/", tarfile.DIRTYPE, 0o1777)
    return made.getvalue()


def digests(root: str | Path) -> dict[str, str]:
    """Give one number for each tree below *root*, whose own mode Podman 4.3 does not show."""
    return {
        path.name: subprocess.run(
            [CHECKOUT / "rootfs/digest", path], check=True, capture_output=True, text=True
        ).stdout
        for path in Path(root).iterdir()
    }


@pytest.fixture
def pushed(real: DebianRegistry, host: Host) -> str:
    """Give the name of an image that was imported and pushed, and that nobody here has now."""
    name = f"{real.host}/team/system:1"
    changes = ('CMD ["/bin/su"]', "ENV A=1", "USER 1000:1001", "LABEL x=y")
    import_image(host.store, host.layers, io.BytesIO(root_file_system()), parse(name), changes)
    host.push(name)
    host.store.remove(name)
    assert host.store.list() == []
    assert host.layers.chain_ids() == ()
    return name


@contextlib.contextmanager
def mounted_by_podman(name: str) -> Iterator[tuple[Path, dict[str, object]]]:
    """Have Podman pull an image; give the directory where it shows its files, and its config."""
    storage = Path(tempfile.mkdtemp(prefix="podman-"))  # Podman wants a short path
    podman = ["podman", f"--root={storage}/root", f"--runroot={storage}/run"]

    def run(*arguments: str) -> str:
        done = subprocess.run([*podman, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    try:
        run("pull", "--quiet", "--tls-verify=false", name)
        (inspected,) = json.loads(run("image", "inspect", name))
        yield Path(run("image", "mount", name)), inspected["Config"]
    finally:
        subprocess.run([*podman, "image", "umount", "--all"], check=False, capture_output=True)
        subprocess.run(["umount", f"{storage}/root/overlay"], check=False, capture_output=True)
        shutil.rmtree(storage)


def test_everybody_sees_the_same_files_and_config(pushed: str, host: Host, tmp_path: Path) -> None:
    """By the digest of the whole tree: owners, modes, times, links, contents."""
    pulled = host.pull(pushed)
    (directory,) = host.layers.lower_directories(pulled.chain_ids)
    ours = digests(directory)
    assert set(ours) == {"bin", "home", "tmp"}
    layout = f"{tmp_path}/layout:1"
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{pushed}",
         f"oci:{layout}"],
        check=True,
    )  # fmt: skip
    subprocess.run(
        ["umoci", "unpack", "--image", layout, str(tmp_path / "bundle")],
        check=True, capture_output=True,
    )  # fmt: skip
    assert digests(tmp_path / "bundle/rootfs") == ours
    bundle = json.loads((tmp_path / "bundle/config.json").read_text())
    assert bundle["process"]["args"] == list(pulled.config.cmd or ())
    assert "A=1" in bundle["process"]["env"]
    assert bundle["process"]["user"]["uid"] == 1000
    with mounted_by_podman(pushed) as (shown, config):
        assert digests(shown) == ours
        assert config["Cmd"] == ["/bin/su"]
        assert config["User"] == "1000:1001"
        assert config["Labels"] == {"x": "y"}
