"""A Debian with a server in it, from its packages to a container that a client talks to.

Imported, pushed to a registry, removed here, and run: the run pulls it. Then other programs look at
the same image. It needs a Debian mirror, and some minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile

import pytest

from tests.conftest import command, wait_until
from tests.images.registry.debian_registry import PROGRAM, DebianRegistry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Call = Callable[..., str]

PROGRAMS = ("skopeo", "umoci", "podman")
NAME = "team/redis:7"


@pytest.fixture
def root_filesystem(redis_archive: Path) -> Path:
    """A Debian with redis, where the other programs are."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if PROGRAM is None or os.geteuid():
        pytest.skip("docker-registry is not installed, or this is not root")
    return redis_archive


@pytest.fixture
def minicontainer(tmp_path: Path) -> Iterator[Call]:
    """Start an engine, and give what calls the command."""
    with tempfile.TemporaryDirectory(prefix="engine-") as exec_root:  # a socket has a short name
        host = f"unix://{exec_root}/engine.sock"
        words = command("minicontainer")
        roots = ["--data-root", str(tmp_path / "data"), "--exec-root", exec_root]
        with (tmp_path / "log").open("wb") as log:
            daemon = subprocess.Popen([*words, "daemon", "--host", host, *roots], stderr=log)

        def call(*arguments: str) -> str:
            done = subprocess.run(
                [*words, "--host", host, *arguments], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout.strip()

        wait_until(lambda: os.path.exists(f"{exec_root}/engine.sock"), "the engine")
        yield call
        call("rm", "--force", "redis")
        daemon.terminate()
        daemon.wait(30)


def listed(tree: str) -> list[str]:
    """List a tree's files with modes, owners, times and link targets."""
    found = subprocess.run(
        ["find", ".", "!", "-type", "d", "-printf", "%p %m %U %G %s %T@ %l\\n"],
        cwd=tree, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sorted(found.stdout.splitlines())


@pytest.mark.timeout(900)
def test_a_server_from_its_packages_to_its_client(
    root_filesystem: Path, minicontainer: Call, tmp_path: Path
) -> None:
    """And skopeo, umoci and Podman find the same config and the same files."""
    registry = DebianRegistry(tmp_path / "registry")
    name = f"{registry.host}/{NAME}"
    changes = ['CMD ["redis-server", "--save", ""]', "WORKDIR /data", "EXPOSE 6379"]
    options = [word for change in changes for word in ("--change", change)]
    minicontainer("import", *options, str(root_filesystem), name)
    minicontainer("push", name)
    minicontainer("rmi", name)
    assert minicontainer("images", "--quiet") == ""

    minicontainer("run", "--detach", "--network", "none", "--name", "redis", name)
    wait_until(lambda: "Ready to accept" in minicontainer("logs", "redis"), "redis")
    assert minicontainer("exec", "redis", "redis-cli", "set", "key", "value") == "OK"
    assert minicontainer("exec", "redis", "redis-cli", "get", "key") == "value"

    archive = tmp_path / "redis.tar"
    minicontainer("save", "--output", str(archive), name)
    told = subprocess.run(
        ["skopeo", "inspect", "--config", "--tls-verify=false", f"docker://{name}"],
        capture_output=True, check=True,
    )  # fmt: skip
    config = json.loads(told.stdout)["config"]
    assert config["Cmd"] == ["redis-server", "--save", ""]
    assert (config["WorkingDir"], config["ExposedPorts"]) == ("/data", {"6379/tcp": {}})

    bundle = tmp_path / "bundle"
    layout = tmp_path / "data/images"
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:{name}", str(bundle)], check=True)
    (layer,) = (tmp_path / "data/layers").glob("*/diff")
    ours = listed(str(layer))
    assert len(ours) > 2000
    assert listed(str(bundle / "rootfs")) == ours
    registry.stop()

    look_with_podman(name, archive, ours, tmp_path / "podman")


def look_with_podman(name: str, archive: Path, ours: list[str], root: Path) -> None:
    """See that Podman shows the same files, and runs the image."""
    with tempfile.TemporaryDirectory(prefix="podman-") as run:
        podman = ["podman", "--storage-driver", "vfs", "--root", str(root),
                  "--runroot", run]  # fmt: skip
        subprocess.run([*podman, "load", "--input", archive], check=True, capture_output=True)
        mounted = subprocess.run(
            [*podman, "image", "mount", name], check=True, capture_output=True, text=True
        )
        assert listed(mounted.stdout.strip()) == ours
        subprocess.run([*podman, "image", "unmount", name], check=True, capture_output=True)
        limits = ("--ulimit", "nofile=1024:2048", "--ulimit", "nproc=1000:1000")
        ran = subprocess.run(
            [*podman, "--runtime", "runc", "run", "--rm", "--network", "none", *limits, name,
             "sh", "-c", "pwd; redis-server --version"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.stdout.startswith("/data\nRedis server v=")
