"""Labels of security modules: the program is under the one that was asked for, or is not started.

See: runtime-spec config.md "Linux Process"; apparmor(7), selinux(8).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.kernel import security
from minicontainer.runtime.config.spec import Mount
from minicontainer.runtime.mounts.mount_labels import label_queues, with_label
from tests.isolation.conftest import Bundles, Spec, mounts_of

needs_apparmor = pytest.mark.skipif(
    not security.has_apparmor(), reason="needs a kernel with AppArmor in charge"
)
needs_selinux = pytest.mark.skipif(
    not security.has_selinux(), reason="needs a kernel with SELinux in charge"
)
# Contexts of the policy in force, of a process and a mount; else our own, which every policy has.
_OWN = Path("/proc/self/attr/current").read_text().strip("\0\n") if security.has_selinux() else "x"
LABEL, MOUNT_LABEL = os.environ.get("MINICONTAINER_SELINUX_LABELS", f"{_OWN} {_OWN}").split()


@needs_apparmor
@pytest.mark.oci("process.apparmorProfile")
def test_the_apparmor_profile(bundles: Bundles) -> None:
    """The one that every kernel has: that the write arrives, the next test shows."""
    asked = bundles.start(
        "echo ready; sleep 60", lambda spec: spec["process"].update(apparmorProfile="unconfined")
    )
    assert Path(f"/proc/{asked.pid}/attr/apparmor/current").read_text().strip() == "unconfined"


@needs_apparmor
def test_an_apparmor_profile_that_is_not_loaded(bundles: Bundles) -> None:
    """The program would run unconfined: it does not run."""
    done = bundles("true", lambda spec: spec["process"].update(apparmorProfile="no-such-profile"))
    assert done.status == 1
    assert "process.apparmorProfile: no-such-profile: the kernel knows no such" in done.errors


@pytest.mark.skipif(security.has_apparmor(), reason="needs a kernel without AppArmor")
@pytest.mark.oci("process.apparmorProfile")
def test_without_apparmor_a_profile_is_refused(bundles: Bundles) -> None:
    """In one line, and before anything is made."""
    done = bundles("true", lambda spec: spec["process"].update(apparmorProfile="some"))
    assert done.status == 1
    assert "process.apparmorProfile: can't apply 'some': AppArmor is not supported" in done.errors


def label(spec: Spec) -> None:
    """Ask for both labels of SELinux."""
    spec["process"]["selinuxLabel"] = LABEL
    spec["linux"]["mountLabel"] = MOUNT_LABEL


@needs_selinux
@pytest.mark.oci("process.selinuxLabel", "linux.mountLabel")
def test_the_selinux_labels(bundles: Bundles) -> None:
    """Of the process, and of the filesystems that are its own; proc keeps the policy's."""
    running = bundles.start("echo ready; sleep 60", label)
    assert Path(f"/proc/{running.pid}/attr/current").read_text().strip("\0\n") == LABEL
    found = mounts_of(running.pid)
    assert f"context={MOUNT_LABEL}" in found["/dev"].super_options
    queues = os.getxattr(f"/proc/{running.pid}/root/dev/mqueue", "security.selinux")
    assert queues.decode().rstrip("\0") == MOUNT_LABEL
    assert not any("context=" in word for word in found["/proc"].super_options)


@pytest.mark.skipif(security.has_selinux(), reason="needs a kernel without SELinux")
@pytest.mark.oci("process.selinuxLabel", "linux.mountLabel")
def test_without_selinux_a_label_is_refused(bundles: Bundles) -> None:
    """In one line, and before anything is made."""
    done = bundles("true", label)
    assert done.status == 1
    assert f"process.selinuxLabel: can't apply {LABEL!r}: SELinux is not supported" in done.errors


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        (Mount(destination="/a", type="tmpfs"), ("context=u:r:t:s0",)),
        (Mount(destination="/a", type="devpts", options=("ro",)), ("ro", "context=u:r:t:s0")),
        (Mount(destination="/a", type="proc"), ()),
        (Mount(destination="/a", type="mqueue"), ()),
        (Mount(destination="/a", type="tmpfs", options=("bind",)), ("bind",)),
        (Mount(destination="/a", source="/b", options=("rbind",)), ("rbind",)),
    ],
)
def test_which_mounts_get_the_label(mount: Mount, expected: tuple[str, ...]) -> None:
    """New filesystems that keep none themselves."""
    assert with_label(mount, "u:r:t:s0").options == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_SYS_ADMIN: for the namespace security.*")
@pytest.mark.parametrize(
    ("mount", "labelled"),
    [
        (Mount(destination="/queues", type="mqueue"), True),
        (Mount(destination="/queues", type="mqueue", options=("rbind",)), False),
        (Mount(destination="/queues", type="tmpfs"), False),
    ],
)
def test_the_label_of_message_queues_is_their_roots(
    tmp_path: Path, mount: Mount, labelled: bool
) -> None:
    """As the kernel keeps it: here on a directory, which has room for one without SELinux too."""
    (tmp_path / "queues").mkdir()
    root_fd = os.open(tmp_path, os.O_PATH)
    label_queues(root_fd, mount, "u:r:t:s0:c1,c2")
    os.close(root_fd)
    names = os.listxattr(tmp_path / "queues")
    assert ("security.selinux" in names) == labelled
    if labelled:
        assert os.getxattr(tmp_path / "queues", "security.selinux") == b"u:r:t:s0:c1,c2\0"


def test_a_label_with_categories_is_quoted() -> None:
    """Their comma would end the option."""
    labelled = with_label(Mount(destination="/a", type="tmpfs"), "u:r:t:s0:c1,c2")
    assert labelled.options == ('context="u:r:t:s0:c1,c2"',)
