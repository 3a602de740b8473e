"""What a start made is gone when it fails, at whatever mount: tables of mounts, files, processes.

The fixture `nothing_left` looks at the host after each test; here the container gets far enough to
have something to leave.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.isolation.conftest import Bundles, Spec

from .conftest import bind, rooted

BAD: dict[str, Spec] = {
    "no such filesystem": {"destination": "/x", "type": "nonsense"},
    "an option nobody knows": {"destination": "/x", "type": "tmpfs", "options": ["nonsense=1"]},
    "an option of 70 kB": {"destination": "/x", "type": "tmpfs", "options": ["a" * 70_000]},
    "no source": bind("/nonsense", "/x"),
    "a file over a directory": bind("/etc/passwd", "/bin"),
    "below a file": bind("/etc", "/bin/busybox/x"),
    "a name too long": bind("/etc", "/" + "x" * 256),
    "a path too long": bind("/etc", "/x" * 4096),
    "over /proc": bind("/etc", "/proc"),
    "no mount to change": {"destination": "/bin", "options": ["remount", "ro"]},
    "owners that can't be shown": {
        **bind("/proc", "/x", "idmap"),
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
    },
}


def _table() -> list[str]:
    """List this namespace's mounts, with their numbers: one that came and went would shift none."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "libexec/minicontainer" not in line]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_mount_that_fails_leaves_nothing(
    bundles: Bundles, tree: Path, volume: Path, bad: Spec
) -> None:
    """After others that did not: one line says which, and why."""
    before = _table()
    wide = bind(volume, "/wide", "rshared")
    result = bundles("true", rooted(tree, wide, bind(volume, "/data"), bad))
    assert (result.status, result.output) == (1, "")
    assert len(result.errors.splitlines()) == 1
    assert len(result.errors) < 1000
    assert _table() == before
    state = bundles.directory / "state"
    assert [path.name for path in state.iterdir() if not path.name.startswith(".")] == []
    assert bundles("true", rooted(tree, wide)).status == 0  # the control


def test_a_mount_table_of_five_mebibytes(bundles: Bundles, volume: Path) -> None:
    """Its last mount is wrong; until there every one was made."""
    mounts = [
        bind(volume / "file", f"/tmp/{i}", "ro", "x-comment=" + "c" * 2000) for i in range(2500)
    ]

    def change(config: Spec) -> None:
        config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "x"})
        config["mounts"] += [*mounts, bind("/nonsense", "/tmp/last")]

    before = _table()
    result = bundles("true", change)
    said = "mount /tmp/last: bind /nonsense: No such file or directory"
    assert (result.status, result.errors) == (1, f"minicontainer-oci: {said}\n")
    assert _table() == before
