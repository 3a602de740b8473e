"""minicontainer-oci: a bundle that makes no sense is refused by its path, and leaves nothing."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import InvalidArgument
from minicontainer.runtime.config.spec import read_bundle
from tests.conftest import Result, command

from .conftest import Bundle, assert_one_line

_MAP = [{"containerID": 0, "hostID": 100_000, "size": 1}]


def refused(bundle: Bundle, says: str) -> None:
    """See that the bundle does not run, that one line says why, and that nothing is left."""
    done = bundle.run()
    assert_one_line(done.errors, says)
    assert (done.status, done.output, bundle.left()) == (1, "", [])


def places(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """List every place in a document, and what stands there."""
    found = [(path, value)] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            found += places(inner, f"{path}[{i}]")
    return found


def put(document: Any, path: str, new: Any) -> Any:
    """Give a copy with another value at *path*; what is missing on the way is made."""
    changed = copy.deepcopy(document)
    at = changed
    *before, last = path.replace("[", ".[").split(".")
    for step in before:
        at = at[int(step[1:-1])] if step.startswith("[") else at.setdefault(step, {})
    at[int(last[1:-1]) if last.startswith("[") else last] = new
    return changed


def test_the_bundle_of_these_tests_runs(bundle: Bundle) -> None:
    """The control."""
    assert bundle.run() == Result(0, "", "")
    assert bundle.left() == []


def test_every_value_of_the_wrong_type_is_named(bundle: Bundle) -> None:
    """One place of the document after the other; a list where an object should be, and so on."""
    document = bundle.read()
    everywhere = places(document)
    assert len(everywhere) > 100
    for path, value in everywhere:
        wrong = {"no": 1} if not isinstance(value, dict) else [1]
        bundle.write(put(document, path, wrong))
        with pytest.raises(InvalidArgument) as caught:
            read_bundle(str(bundle.path))
        assert str(caught.value).startswith(f"{path}: expected ")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("ociVersion", "2.0.0", "ociVersion: expected a version of 1.x.y, got '2.0.0'"),
        ("ociVersion", "1", "ociVersion: expected a version of 1.x.y, got '1'"),
        ("process", None, "process: expected an object, got null"),
        ("process.args", [], "process.args: must name a program"),
        ("process.args", "true", 'process.args: expected a list, got "true"'),
        ("process.args[0]", "a\0b", "process.args[0]: holds a character"),
        ("process.env", ["A=\ud800"], "process.env[0]: holds a character"),
        ("process.cwd", "rel", "process.cwd: must be an absolute path, got 'rel'"),
        ("process.user.uid", -1, "process.user.uid: expected 0 to 4294967294, got -1"),
        ("process.user.gid", 2**32, "process.user.gid: expected 0 to"),
        ("process.user.additionalGids", [2**70], "process.user.additionalGids[0]: expected 0 to"),
        ("process.user.umask", 0o1000, "process.user.umask: expected 0 to 511"),
        ("process.oomScoreAdj", 1001, "process.oomScoreAdj: expected -1000 to 1000, got 1001"),
        ("process.rlimits", [{"type": "x", "soft": 1, "hard": 1}], "rlimits[0].type: expected one"),
        (
            "process.rlimits",
            [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64}],
            "process.rlimits[0].hard: expected 0 to",
        ),
        ("root.path", "nosuch", "root.path: "),
        ("root.path", "config.json", "root.path: "),
        ("hostname", "h" * 65, "hostname: at most 64 bytes"),
        ("mounts", [{"destination": ""}], "mounts[0].destination: must be a path"),
        (
            "mounts",
            [{"destination": "/x", "type": "nosuch", "source": "x"}],
            "mount /x: fsopen(nosuch",
        ),
        (
            "mounts",
            [{"destination": "/x", "source": "/nosuch", "options": ["bind"]}],
            "mount /x: bind /nosuch: No such file",
        ),
        (
            "mounts",
            [{"destination": "/x", "type": "tmpfs", "source": "x", "options": ["what=1"]}],
            "mount /x: ",
        ),
        (
            "mounts",
            [{"destination": "/x", "type": "tmpfs", "source": "x", "options": ["a" * 70_000]}],
            "/x: the mount options are longer than the 4095 bytes that the kernel takes",
        ),
        ("linux.namespaces", [], "linux.namespaces: a mount namespace is needed"),
        (
            "linux.namespaces",
            [{"type": "mount"}, {"type": "what"}],
            "linux.namespaces[1].type: expected one of",
        ),
        (
            "linux.namespaces",
            [{"type": "mount"}, {"type": "mount"}],
            "linux.namespaces[1].type: mount is listed twice",
        ),
        (
            "linux.namespaces",
            [{"type": "mount"}, {"type": "uts", "path": "rel"}],
            "linux.namespaces[1].path: must be absolute, got 'rel'",
        ),
        ("linux.namespaces", [{"type": "mount"}], "hostname: needs a uts namespace"),
        ("linux.timeOffsets", {"monotonic": {"secs": 1}}, "linux.timeOffsets: needs a new time"),
        ("linux.cgroupsPath", "../../outside", "../../outside"),
        ("linux.cgroupsPath", "/a/../../outside", "/a/../../outside"),
        ("linux.rootfsPropagation", "what", "linux.rootfsPropagation: expected one of private"),
        ("linux.resources.memory.limit", "1g", "linux.resources.memory.limit: expected a whole"),
        ("linux.resources.cpu.cpus", "999", "linux.resources.cpu.cpus: '999'"),
        (
            "mounts",
            [{"destination": "d" * 70_000, "type": "tmpfs", "source": "x"}],
            "d… (70000 characters): openat2(",
        ),
        (
            "mounts",
            [{"destination": "/x", "source": "/usr", "options": ["bind", "idmap"]}],
            "mounts[0].options: idmap needs uidMappings and gidMappings",
        ),
        (
            "mounts",
            [{"destination": "/x", "type": "tmpfs", "uidMappings": _MAP, "gidMappings": _MAP}],
            "mounts[0]: only a bind mount can show other owners",
        ),
        (
            "mounts",
            [{"destination": "/x", "type": "bind", "source": "/usr", "uidMappings": _MAP}],
            "mounts[0].uidMappings, gidMappings: a mount with one needs both",
        ),
        (
            "mounts",
            [{"destination": "/x", "type": "bind", "options": ["ro"]}],
            "mounts[0].source: a bind mount needs one",
        ),
        (
            "mounts",
            [{"destination": "/nowhere", "options": ["remount", "ro"]}],
            "mount /nowhere: openat2(/nowhere): No such file",
        ),
        (
            "mounts",
            [{"destination": "/bin", "options": ["remount", "ro"]}],
            "/bin: there is no mount that a remount could change",
        ),
        (
            "mounts",
            [{"destination": "/", "options": ["remount", "size=1m"]}],
            "/: a remount can't change 'size=1m'",
        ),
        (
            "linux.devices",
            [{"path": "/dev/x", "type": "c", "major": 2**40}],
            "linux.devices[0].major: expected 0 to 4095",
        ),
        (
            "linux.devices",
            [{"path": "/dev/x", "type": "z"}],
            "linux.devices[0].type: expected one of",
        ),
        ("linux.seccomp", {"defaultAction": "what"}, "linux.seccomp.defaultAction"),
        ("process.args[0]", "nosuch", "exec: 'nosuch': executable file not found in $PATH"),
    ],
)
def test_a_specification_that_makes_no_sense(
    bundle: Bundle, path: str, value: object, says: str
) -> None:
    """What is well-formed, and still can't be done."""
    bundle.write(put(bundle.read(), path, value))
    refused(bundle, says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "config.json can't be read as JSON: expected a value at line 1, column 1"),
        (b"{", "can't be read as JSON"),
        (b"not JSON", "can't be read as JSON"),
        (b"[]", "the document: expected an object, got a list"),
        (b"null", "the document: expected an object, got null"),
        (b'{"ociVersion": NaN}', "can't be read as JSON: NaN is not JSON"),
        (b"[" * 100_000, "can't be read as JSON"),
        (b'{"a":' * 100_000, "can't be read as JSON"),
        (b'{"a": "\xff"}', "can't be read as JSON"),
        (b"\xff\xfe{\0}\0", "can't be read as JSON"),
        (b"\0" * 1000, "can't be read as JSON"),
        (b"1" * 5000, "can't be read as JSON"),
        (b"{}", "ociVersion: is required"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
def test_a_file_that_is_no_specification(bundle: Bundle, content: bytes, says: str) -> None:
    """Broken, of another encoding, or nested so deeply that a parser's stack would end."""
    (bundle.path / "config.json").write_bytes(content)
    refused(bundle, says)


def test_a_truncated_file(bundle: Bundle) -> None:
    """Cut off anywhere: a disk was full, or somebody reads while it is written."""
    whole = (bundle.path / "config.json").read_bytes()
    for part in range(1, 8):
        (bundle.path / "config.json").write_bytes(whole[: len(whole.rstrip()) * part // 8])
        refused(bundle, "config.json can't be read as JSON")


def test_a_very_large_file(bundle: Bundle) -> None:
    """Five megabytes of mounts, all of one place; the last one fails."""
    document = bundle.read()
    document["annotations"] = {f"key{i}": "x" * 1000 for i in range(5000)}
    document["process"]["args"] = ["/nosuch"]
    bundle.write(document)
    refused(bundle, "exec: '/nosuch': no such file or directory")


def test_a_file_that_is_too_large(bundle: Bundle) -> None:
    """Nobody writes one; it would only fill the memory."""
    with (bundle.path / "config.json").open("r+") as file:
        file.seek(16 << 20)
        file.write(" ")
    refused(bundle, "config.json is longer than 16 MiB")


def test_unknown_fields_are_passed_over(bundle: Bundle) -> None:
    """At every level: the specification grows. See: runtime-spec config.md "Extensibility"."""
    named = ("annotations", "linux.timeOffsets", "linux.sysctl", "linux.netDevices")
    document = bundle.read()
    for path, value in places(document):
        if isinstance(value, dict) and path not in named:
            document = put(document, f"{path}.unknown", {"deep": [1, None]})
    bundle.write({**document, "unknown": "x"})
    assert bundle.run() == Result(0, "", "")


def test_a_bundle_that_is_not_there(bundle: Bundle) -> None:
    """Or that is a file, or has no config.json, or one that is a directory."""
    config = bundle.path / "config.json"
    config.unlink()
    refused(bundle, f"{config} does not exist: make one with `minicontainer-oci spec`")
    config.mkdir()
    refused(bundle, f"{config} can't be read as JSON")
    shutil.rmtree(bundle.path)
    refused(bundle, f"{config} does not exist")
    bundle.path.touch()
    refused(bundle, f"{config} does not exist")


@pytest.mark.parametrize("target", ["/proc/self/fd/7", "/proc/self/fd/7/../..", "/proc/1/root"])
def test_a_working_directory_outside(bundle: Bundle, target: str) -> None:
    """A descriptor of ours as the working directory leads nowhere else: CVE-2024-21626."""
    document = put(bundle.read(), "process.cwd", target)
    document["process"]["args"] = ["/bin/sh", "-c", "cd ../../../../../../../..; ls"]
    bundle.write(document)
    done = bundle.run()
    if done.status == 0:
        assert sorted(done.output.split()) == sorted(os.listdir(bundle.path / "rootfs"))
    else:
        assert_one_line(done.errors, target)
    assert bundle.left() == []


def test_mounts_behind_links_stay_inside(bundle: Bundle, tmp_path: Path) -> None:
    """As with the engine, for every kind of mount."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (bundle.path / "rootfs" / "link").symlink_to(canary)
    (bundle.path / "rootfs" / "up").symlink_to(f"../../../../../../../../..{canary}")
    document = bundle.read()
    document["mounts"] += [
        {"destination": "/link/tmpfs", "type": "tmpfs", "source": "x"},
        {"destination": "/up/bind", "type": "bind", "source": "/etc", "options": ["bind"]},
    ]
    document["linux"]["devices"] = [{"path": "/up/null", "type": "c", "major": 1, "minor": 3}]
    document["process"]["args"] = ["/bin/ls", str(canary)]
    bundle.write(document)
    done = bundle.run()
    assert done.errors == ""
    assert done.output.split() == ["bind", "null", "tmpfs"]
    assert os.listdir(canary) == []


@pytest.mark.parametrize("place", ["/proc", "/proc/self/attr", "/link", "/link/sys"])
def test_nothing_covers_proc(bundle: Bundle, place: str) -> None:
    """By its name or through a link: CVE-2019-16884, CVE-2025-52881."""
    (bundle.path / "rootfs" / "link").symlink_to("proc")
    document = bundle.read()
    document["mounts"].append(
        {"destination": place, "type": "bind", "source": "/etc", "options": ["bind"]}
    )
    bundle.write(document)
    refused(bundle, f"can't mount /etc on {place}: what is in /proc must be the kernel's")


def test_a_name_that_is_in_use(bundle: Bundle) -> None:
    """A directory in the state's is a container's, whoever made it."""
    (bundle.state / "box").mkdir(parents=True)
    done = bundle.run()
    assert_one_line(done.errors, "container box exists already: choose another name")
    assert done.status == 1
    assert os.listdir(bundle.state) == ["box"]


def test_spec_does_not_overwrite(bundle: Bundle) -> None:
    """What somebody wrote stays."""
    before = (bundle.path / "config.json").read_text()
    done = subprocess.run(
        [*command("minicontainer-oci"), "spec", "--bundle", str(bundle.path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_one_line(done.stderr, "config.json exists already: remove it first")
    assert done.returncode == 1
    assert (bundle.path / "config.json").read_text() == before
    assert json.loads(before)["ociVersion"]
