"""/sys/fs/cgroup is read-only where it shows more than the container's own: CVE-2023-25809."""

from __future__ import annotations

import pytest

from tests.isolation.conftest import Bundles, Spec, mounts_of

MAPS = [{"containerID": 0, "hostID": 0, "size": 65_536}]  # root inside is root outside


def _writable(config: Spec, *, own: bool) -> None:
    """Ask for writable cgroups in a user namespace whose root is the host's, the worst case."""
    linux = config["linux"]
    linux["namespaces"] = [
        row for row in linux["namespaces"] if own or row["type"] != "cgroup"
    ] + [{"type": "user"}]  # fmt: skip
    linux |= {"uidMappings": MAPS, "gidMappings": MAPS}
    for row in config["mounts"]:
        if row["type"] == "cgroup":
            row["options"] = [word for word in row["options"] if word != "ro"]
    for kind in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][kind] += ["CAP_DAC_OVERRIDE"]


@pytest.mark.parametrize("own", [False, True])
def test_it_is_without_a_cgroup_namespace(bundles: Bundles, own: bool) -> None:
    """Every hierarchy; with a namespace of its own, the control, it is what was asked for."""
    container = bundles.start("echo ready; sleep 60", lambda config: _writable(config, own=own))
    found = {
        place: mount.options & {"ro", "rw"}
        for place, mount in mounts_of(container.pid).items()
        if place.startswith("/sys/fs/cgroup")
    }
    assert found
    assert set(map(tuple, found.values())) == {("rw",) if own else ("ro",)}


def test_nothing_can_be_written_or_made(bundles: Bundles) -> None:
    """With the capability that files ask for: the answer is the mount's, to every attempt.

    With a cgroup namespace of its own, the control, a group can be made in each hierarchy.
    """
    script = """
    for procs in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
        [ -e "$procs" ] || continue
        group=${procs%/*}
        mkdir "$group/made" && echo made && rmdir "$group/made"
        : > "$procs" && echo written
    done 2>&1
    """
    refused = bundles(script, lambda config: _writable(config, own=False)).output.splitlines()
    assert refused
    assert [line for line in refused if "Read-only file system" not in line] == []
    allowed = bundles(script, lambda config: _writable(config, own=True)).output.splitlines()
    assert allowed.count("made") >= 1
    assert not [line for line in allowed if "Read-only file system" in line]
