"""What the host has mounted read-only or covered stays so for root of a user namespace.

See: mount_namespaces(7) "Restrictions on mount namespaces".
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Result
from tests.isolation.conftest import Bundles, Change, Spec, finished, in_user_namespace

_HOST = """
mount -t tmpfs host "$1"; mkdir "$1/below"; echo covered > "$1/below/secret"
mount -t tmpfs cover "$1/below"; chown 100000:100000 "$1" "$1/below"
mount -o remount,bind,ro,nosuid,nodev,noexec,noatime "$1"
shift; exec "$@"
"""
_ATTACK = """
mount -o remount,bind,rw /mnt; touch /mnt/new && echo written
umount /mnt/below; cat /mnt/below/secret
"""
_SHOW = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6"
HOST_HAS = {"ro", "nosuid", "nodev", "noexec", "noatime"}


def _run(
    bundles: Bundles, source: Path, script: str, words: tuple[str, ...], *changes: Change
) -> Result:
    """Run a container that may mount, on a host of its own with such a mount."""

    def change(config: Spec) -> None:
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind] += ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]
        mount = {"destination": "/mnt", "source": str(source), "options": [*words]}
        config["mounts"].append(mount)
        for act in changes:
            act(config)

    host = ("unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", _HOST, "sh")
    return finished([*host, str(source), *bundles.write(script, change)])


def test_root_of_a_user_namespace_can_not_undo_them(bundles: Bundles, volume: Path) -> None:
    """Neither write to it, nor see what a mount covers."""
    result = _run(bundles, volume, _ATTACK, ("rbind",), in_user_namespace)
    assert result.output == ""
    assert "Read-only file system" in result.errors  # the attack was tried


def test_root_of_the_host_can(bundles: Bundles, volume: Path) -> None:
    """The control: the same program without a user namespace of its own."""
    result = _run(bundles, volume, _ATTACK, ("rbind",))
    assert result.output == "written\ncovered\n", result.errors


def test_a_part_that_would_uncover_something_is_refused(bundles: Bundles, volume: Path) -> None:
    """Without the mount on it: the kernel's rule, told in a line; with it, no rule is needed."""
    result = _run(bundles, volume, "true", ("bind",), in_user_namespace)
    assert result.status == 1
    assert "a user namespace must not uncover what is under them: use rbind" in result.errors
    assert _run(bundles, volume, "true", ("bind",)).status == 0


@pytest.mark.parametrize("words", [(), ("ro",), ("nosuid",), ("symfollow",), ("diratime", "atime")])
@pytest.mark.oci("mounts[].options")
def test_what_no_word_names_stays(bundles: Bundles, volume: Path, words: tuple[str, ...]) -> None:
    """In a user namespace."""
    result = _run(bundles, volume, _SHOW, ("rbind", *words), in_user_namespace)
    assert set(result.output.strip().split(",")) >= HOST_HAS, result.errors


@pytest.mark.parametrize("word", ["rw", "suid", "dev", "exec", "relatime", "strictatime"])
@pytest.mark.oci("mounts[].options")
def test_a_word_that_asks_for_less_is_refused(bundles: Bundles, volume: Path, word: str) -> None:
    """In a user namespace: by the kernel, and told in a line."""
    result = _run(bundles, volume, _SHOW, ("rbind", word), in_user_namespace)
    assert result.status == 1
    assert f"times of access): rbind,{word} asks for it" in result.errors


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), HOST_HAS), (("rprivate",), HOST_HAS),
        (("ro",), {"ro", "noatime"}), (("rw",), {"rw", "noatime"}),
        (("suid",), {"rw", "noatime"}), (("ro", "exec"), {"ro", "noatime"}),
        (("nosuid", "nodev"), {"rw", "nosuid", "nodev", "noatime"}),
        (("atime",), {"rw", "noatime"}), (("relatime",), {"rw", "relatime"}),
        (("strictatime",), {"rw"}), (("nodiratime",), {"rw", "nodiratime", "relatime"}),
        (("nodiratime", "strictatime"), {"rw", "nodiratime"}),
    ],
)  # fmt: skip
@pytest.mark.oci("mounts[].options")
def test_without_a_user_namespace_a_bind_has_what_its_words_say(
    bundles: Bundles, volume: Path, words: tuple[str, ...], shown: set[str]
) -> None:
    """All that its source has when they say nothing, and else nothing that they don't; as runc."""
    result = _run(bundles, volume, _SHOW, ("rbind", *words))
    assert set(result.output.strip().split(",")) == shown, result.errors
