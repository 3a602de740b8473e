"""Id-mapped mounts: files show other owners, and nothing on disk changes. mount_setattr(2)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import Bundles, Change, Spec, finished
from .test_mount_options import bind

LOOK = "stat -c '%u %g' /tmp/* /tmp/below/* 2>/dev/null; touch /tmp/new; stat -c '%u %g' /tmp/new"


def _maps(inside: int, outside: int, size: int = 1) -> list[Spec]:
    return [{"containerID": inside, "hostID": outside, "size": size}]


def _user_namespace(config: Spec) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {
        "uidMappings": _maps(0, 100_000, 65_536), "gidMappings": _maps(0, 200_000, 65_536),
    }  # fmt: skip


@pytest.fixture
def owned(volume: Path) -> Path:
    """A directory of user 7 and group 8, with a file."""
    for path in (volume, volume / "file"):
        os.chown(path, 7, 8)
    return volume


def _changed(*changes: Change) -> Change:
    def change(config: Spec) -> None:
        for act in changes:
            act(config)

    return change


def _mounted(mount: Spec) -> Change:
    return lambda config: config["mounts"].append(mount)


@pytest.mark.oci("mounts[].uidMappings", "mounts[].gidMappings")
def test_by_its_own_maps(bundles: Bundles, owned: Path) -> None:
    """User 7 on disk is 1000 inside, and what 1000 makes is user 7's on disk."""
    mount = bind(owned, "/tmp", uidMappings=_maps(7, 1000), gidMappings=_maps(8, 1001))

    def as_user(config: Spec) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1001}

    result = bundles(LOOK, _changed(_mounted(mount), as_user))
    assert result.output == "1000 1001\n1000 1001\n", result.errors
    made = (owned / "new").stat()
    assert (made.st_uid, made.st_gid) == (7, 8)


def test_without_maps_it_is_not(bundles: Bundles, owned: Path) -> None:
    """The control: the same look shows who owns them on disk."""
    assert bundles(LOOK, _mounted(bind(owned, "/tmp"))).output == "7 8\n"


@pytest.mark.parametrize("word", ["idmap", "ridmap"])
@pytest.mark.parametrize("relative", [False, True])
def test_by_the_containers_maps(bundles: Bundles, owned: Path, word: str, relative: bool) -> None:
    """In a user namespace whose ids start at 100000, files are as on disk."""
    source = os.path.relpath(owned, bundles.directory / "any") if relative else owned
    result = bundles(LOOK, _changed(_user_namespace, _mounted(bind(source, "/tmp", word))))
    assert result.output.startswith("7 8\n"), result.errors


def test_without_the_word_they_are_nobodys(bundles: Bundles, owned: Path) -> None:
    """The control: the namespace knows neither 7 nor 8 of the host."""
    result = bundles(LOOK, _changed(_user_namespace, _mounted(bind(owned, "/tmp"))))
    assert result.output.startswith("65534 65534\n"), result.errors


@pytest.mark.oci("mounts[].options")
def test_by_the_maps_of_a_namespace_that_is_joined(bundles: Bundles, owned: Path) -> None:
    """idmap without maps takes those of the namespace at the path."""
    holder = subprocess.Popen(
        ["unshare", "--user", "sh", "-c", "echo ready; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{holder.pid}/{name}").write_text("0 100000 65536")

    def join(config: Spec) -> None:
        space = {"type": "user", "path": f"/proc/{holder.pid}/ns/user"}
        config["linux"]["namespaces"].append(space)

    result = bundles(LOOK, _changed(join, _mounted(bind(owned, "/tmp", "idmap"))))
    holder.communicate()
    assert result.output.startswith("7 8\n"), result.errors


@pytest.mark.parametrize(("word", "below"), [("idmap", "65534 65534"), ("ridmap", "7 8")])
def test_an_r_is_for_the_whole_tree(bundles: Bundles, owned: Path, word: str, below: str) -> None:
    """What is mounted below the source shows other owners with ridmap alone."""
    (owned / "below").mkdir()
    os.chown(owned / "below", 7, 8)
    change = _changed(_user_namespace, _mounted(bind(owned, "/tmp", "rbind", word)))
    words = bundles.write("stat -c '%u %g' /tmp/file /tmp/below/file", change)
    script = 'mount -t tmpfs x "$1"; touch "$1/file"; chown 7:8 "$1/file"; shift; exec "$@"'
    unshared = ("unshare", "--mount", "sh", "-e", "-c", script, "sh", str(owned / "below"))
    result = finished([*unshared, *words])
    assert result.output == f"7 8\n{below}\n", result.errors
