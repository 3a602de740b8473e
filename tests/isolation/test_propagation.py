"""How mounts spread between the host and a container: mount_namespaces(7) "Shared subtrees".

Each container is started in a mount namespace that plays the host, with a tmpfs that is shared.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from minicontainer.runtime.config.spec_check import PROPAGATIONS

from .conftest import Bundles, Change, Spec, finished
from .test_mount_options import bind

_HOST = """
mount -t tmpfs host "$1"; mount --make-shared "$1"; mkdir "$1/vol" "$1/root"; cp -a "$2/." "$1/root"
grep " $1 " /proc/self/mountinfo | sed 's/.* shared:\\([0-9]*\\) .*/\\1/'
shift 2; exec "$@"
"""
_LOOK = "grep -E ' (/|/vol|/proc) ' /proc/self/mountinfo"


def _peers(bundles: Bundles, tmp_path: Path, change: Change) -> tuple[str, dict[str, set[str]]]:
    """Run a container on such a host; give the shared mount's group, and each mount's fields."""
    host = tmp_path / "host"
    host.mkdir()

    def whole(config: Spec) -> None:
        config["root"] = {"path": str(host / "root")}
        change(config)

    words = bundles.write(_LOOK, whole)
    unshared = ("unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", _HOST, "sh")
    result = finished([*unshared, str(host), str(bundles.rootfs), *words])
    group, *lines = result.output.splitlines()
    assert lines, result.errors
    fields = [line.partition(" - ")[0].split() for line in lines]
    return group, {field[4]: set(field[6:]) for field in fields}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), set()), (("rprivate",), set()), (("private",), set()),
        (("rslave",), {"master:N"}), (("slave",), {"master:N"}), (("rshared",), {"shared:N"}),
        (("shared",), {"shared:N"}), (("unbindable",), {"unbindable"}),
        (("rslave", "rshared"), {"master:N", "shared:other"}),
    ],
)  # fmt: skip
def test_a_bind(bundles: Bundles, tmp_path: Path, words: tuple[str, ...], shown: set[str]) -> None:
    """Private unless it asks; a slave of the host's; a peer of the host's; the words in order."""
    source = tmp_path / "host" / "vol"

    def change(config: Spec) -> None:
        config["mounts"].append(bind(source, "/vol", *words))

    group, peers = _peers(bundles, tmp_path, change)
    found = {field.replace(f":{group}", ":N") for field in peers["/vol"]}
    found = {field if field.endswith(":N") else field.replace(field.partition(":")[2], "other")
             if ":" in field else field for field in found}  # fmt: skip
    assert found == shown


@pytest.mark.parametrize("word", [None, *PROPAGATIONS])
@pytest.mark.oci("linux.rootfsPropagation")
def test_the_root(bundles: Bundles, tmp_path: Path, word: str | None) -> None:
    """rootfsPropagation: never a peer of the host's; a slave, or shared inside."""

    def change(config: Spec) -> None:
        if word:
            config["linux"]["rootfsPropagation"] = word

    group, peers = _peers(bundles, tmp_path, change)
    assert f"shared:{group}" not in peers["/"]
    kind = (word or "private").removeprefix("r") if word != "runbindable" else "unbindable"
    root = {field.partition(":")[0] for field in peers["/"]}
    assert root == {
        "private": set(), "slave": {"master"}, "shared": {"shared", "master"},
        "unbindable": {"unbindable"},
    }[kind]  # fmt: skip
    spread = word in ("rshared", "runbindable")
    assert bool(peers["/proc"]) == spread  # with an r, what is mounted in it too


@pytest.mark.oci("linux.rootfsPropagation")
def test_a_mount_of_the_host_reaches_a_slave_alone(bundles: Bundles, tmp_path: Path) -> None:
    """Made while the container runs: seen where it was asked for, and nowhere else."""
    host = tmp_path / "host"

    def change(config: Spec) -> None:
        config["root"] = {"path": str(host / "root")}
        config["mounts"] += [bind(host / "vol", "/srv", "rslave"), bind(host / "vol", "/mnt")]

    script = "echo ready; read line; ls /srv/late /mnt/late"
    words = bundles.write(script, change)
    later = _HOST.replace(
        'exec "$@"',
        """mkdir "$host/vol/late"; mkfifo "$host/go"; exec 9<>"$host/go"
        "$@" < "$host/go" | { read line; mount -t tmpfs x "$host/vol/late"; touch "$host/vol/late/f"
        echo go >&9; cat; }""",
    ).replace("shift 2;", 'host="$1"; shift 2;')
    unshared = ("unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", later, "sh")
    host.mkdir()
    result = finished([*unshared, str(host), str(bundles.rootfs), *words])
    assert result.output.splitlines()[1:] == ["/mnt/late:", "", "/srv/late:", "f"], result.errors
