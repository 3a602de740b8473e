"""Bad input: one line says what is wrong, and nothing is left of the attempt."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .runtime import Runtime, Spec, assert_one_line

TEXTS = {
    "empty": "",
    "blank": " \n",
    "cut": '{"ociVersion": "1.0.2", "process": {"ar',
    "no JSON": "ociVersion: 1.0.2",
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "an empty object": "{}",
    "deep": "[" * 20000,
    "no UTF-8": "\udcff\udcfe",
}


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.ours("runc 1.1.5 panics")) if kind == "null" else kind
        for kind in TEXTS
    ],
)
def test_a_config_that_is_none(runtime: Runtime, kind: str, command: str) -> None:
    """Whatever stands in the file."""
    bundle = runtime.bundle()
    text = TEXTS[kind].encode(errors="surrogateescape")
    (bundle / "config.json").write_bytes(text)
    runtime.refused(command, "-b", str(bundle), runtime.name())


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_config_that_was_cut_off(runtime: Runtime, kept: float) -> None:
    """As a full disk leaves it."""
    bundle = runtime.bundle()
    text = (bundle / "config.json").read_text()
    (bundle / "config.json").write_text(text[: int(len(text) * kept)])
    runtime.refused("create", "-b", str(bundle), runtime.name())


def no_config(bundle: Path) -> None:
    """Take the file away."""
    (bundle / "config.json").unlink()


def config_is_a_directory(bundle: Path) -> None:
    """Put a directory in its place."""
    (bundle / "config.json").unlink()
    (bundle / "config.json").mkdir()


def no_bundle(bundle: Path) -> None:
    """Take all away."""
    (bundle / "config.json").unlink()
    bundle.rmdir()


def bundle_is_a_file(bundle: Path) -> None:
    """Put a file in its place."""
    no_bundle(bundle)
    bundle.write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_config, ("not found", "does not exist")),
        (config_is_a_directory, "is a directory"),
        (no_bundle, ("no such file", "does not exist")),
        (bundle_is_a_file, ("not a directory", "does not exist")),
    ],
)
def test_a_bundle_that_is_none(
    runtime: Runtime, spoil: Callable[[Path], None], says: str | tuple[str, ...]
) -> None:
    """Said by the path."""
    bundle = runtime.bundle()
    spoil(bundle)
    for command in ("create", "run"):
        runtime.refused(command, "-b", str(bundle), runtime.name(), says=says)


def root(path: object) -> Callable[[Spec], None]:
    """Change the root file system's path."""

    def change(config: Spec) -> None:
        config["root"]["path"] = path

    return change


def mount(**fields: object) -> Callable[[Spec], None]:
    """Add a mount."""

    def change(config: Spec) -> None:
        config["mounts"].append({"destination": "/tmp/x", **fields})

    return change


def without(name: str) -> Callable[[Spec], None]:
    """Take a part out."""

    def change(config: Spec) -> None:
        del config[name]

    return change


BAD = {
    "no root": without("root"),
    "no process": without("process"),
    "a root that is not there": root("/no/such/rootfs"),
    "a root that is a file": root("/etc/passwd"),
    "a root that is empty": root(""),
    "a source that is not there": mount(source="/no/such", type="bind", options=["bind"]),
    "a type that is not there": mount(source="none", type="nosuchfs"),
    "an option that is not there": mount(source="t", type="tmpfs", options=["nosuchoption"]),
    "a bad size": mount(source="t", type="tmpfs", options=["size=lots"]),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("command", ["create", "run"])
def test_a_config_that_cannot_work(runtime: Runtime, what: str, command: str) -> None:
    """Found before or in the middle: nothing is left either way."""
    bundle = str(runtime.bundle("true", BAD[what]))
    runtime.refused(command, "-b", bundle, runtime.name())


def test_namespaces_that_are_not_there(runtime: Runtime) -> None:
    """A path that leads nowhere, to something else, to a namespace of another kind."""
    for path in ("/no/such/ns", "/etc/passwd", "/proc/self/ns/uts"):

        def join(config: Spec, path: str = path) -> None:
            config["linux"]["namespaces"] = [
                {"type": "network", "path": path} if one["type"] == "network" else one
                for one in config["linux"]["namespaces"]
            ]

        runtime.refused("create", "-b", str(runtime.bundle("true", join)), runtime.name())


# ---- --root


@pytest.fixture
def tiny(runtime: Runtime) -> Iterator[Callable[[str], None]]:
    """A way to mount a small tmpfs over --root, with more options; it goes with the test."""
    mounted = []

    def mount_it(options: str) -> None:
        runtime.root.mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size=16k,{options}", "none", runtime.root], check=True
        )
        mounted.append(runtime.root)

    yield mount_it
    for place in mounted:
        subprocess.run(["umount", place], check=True)


def filled(runtime: Runtime, *, names: bool) -> None:
    """Use up --root's space, or its directory entries."""
    if names:
        for i in range(200):
            try:
                (runtime.root / f".filling{i}").touch()
            except OSError:
                return
        raise AssertionError("it is never full")
    with (runtime.root / ".filling").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096) == 4096:
                pass
        except OSError:
            return


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("names", [False, True], ids=["space", "names"])
def test_a_full_root(
    runtime: Runtime, tiny: Callable[[str], None], command: str, names: bool
) -> None:
    """Nothing can be kept, so nothing is made."""
    tiny("nr_inodes=20")
    filled(runtime, names=names)
    bundle = str(runtime.bundle(("true",)))
    done = runtime(command, "-b", bundle, runtime.name())
    assert done.status >= 1
    assert_one_line(done.errors)
    if runtime.is_ours:  # runc's init loses the reason on the way: %!w(<nil>)
        assert "no space left" in done.errors.lower()
    assert runtime.containers() == []


def test_a_root_that_fills_up_meanwhile(runtime: Runtime, tiny: Callable[[str], None]) -> None:
    """What exists can still be ended and deleted."""
    runtime.root.mkdir()
    tiny("nr_inodes=20")
    (runtime.root / ".reserve").write_bytes(b"")
    container = runtime.create()
    filled(runtime, names=False)
    container("start")
    container("kill", "KILL")
    runtime.ok("delete", "--force", container.id)
    assert runtime.containers() == []


def test_a_root_that_is_read_only(runtime: Runtime, tiny: Callable[[str], None]) -> None:
    """Said in a line; what only looks still works."""
    tiny("ro")
    bundle = str(runtime.bundle(("true",)))
    for command in ("create", "run"):
        runtime.refused(command, "-b", bundle, runtime.name(), says="read-only file system")
    assert runtime.ok("list", "--quiet") == ""
    runtime.refused("state", "unknown", says="does not exist")


def test_a_root_that_is_a_file(runtime: Runtime) -> None:
    """The same."""
    runtime.root.write_text("")
    try:
        done = runtime("create", "-b", str(runtime.bundle()), runtime.name())
        assert done.status >= 1
        assert_one_line(done.errors)
        runtime("list")
        runtime("state", "unknown")
    finally:
        os.unlink(runtime.root)


# ---- files of the state

_NOT_RUNC = "runc's delete --force needs a state.json that can be read"


@pytest.mark.ours(_NOT_RUNC)
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"id": 7}', "\udcff\0"], ids=repr)
def test_a_state_that_is_broken(runtime: Runtime, text: str) -> None:
    """Every command says so, none falls over it, and `delete --force` gets rid of everything."""
    container = runtime.start(("sleep", "600"))
    files = [path for path in (runtime.root / container.id).rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(text.encode(errors="surrogateescape"))
    for words in (
        ("state",), ("start",), ("kill", "USR1"), ("delete",), ("ps", "--format", "json"),
        ("pause",), ("resume",),
    ):  # fmt: skip
        done = runtime(words[0], container.id, *words[1:])
        assert done.status >= 1, words
        assert_one_line(done.errors)
    assert runtime("list", "--format", "json").status in (0, 1)
    runtime.ok("delete", "--force", container.id)
    assert runtime.containers() == []


@pytest.mark.ours(_NOT_RUNC)
@pytest.mark.parametrize("status", ["created", "running", "paused", "stopped"])
def test_any_one_file_of_the_state_is_gone(runtime: Runtime, status: str) -> None:
    """The same for one after the other, in every status."""
    probe = runtime.create()
    names = sorted(os.listdir(runtime.root / probe.id))
    assert "state.json" in names
    for name in names:
        container = runtime.create()
        if status != "created":
            container.start()
        if status == "paused":
            runtime.ok("pause", container.id)
        if status == "stopped":
            container.kill()
        victim = runtime.root / container.id / name
        if victim.exists():
            victim.unlink()
        for words in (("state",), ("kill", "USR1"), ("start",), ("ps",)):
            runtime(words[0], container.id, *words[1:])
        runtime.ok("delete", "--force", container.id)
        assert runtime.containers() == [probe.id]


@pytest.mark.ours(_NOT_RUNC)
@pytest.mark.parametrize("kept", [0, 0.5, 0.9])
def test_any_one_file_of_the_state_was_cut_off(runtime: Runtime, kept: float) -> None:
    """As after a crash of the machine, if --root survived it."""
    names = ["state.json", "config.json"]
    for name in names:
        container = runtime.start()
        file = runtime.root / container.id / name
        text = file.read_text()
        file.write_text(text[: int(len(text) * kept)])
        for words in (("state",), ("kill", "USR1"), ("start",), ("ps",)):
            runtime(words[0], container.id, *words[1:])
        runtime.ok("delete", "--force", container.id)
        assert runtime.containers() == []


def test_an_empty_directory_in_place_of_a_state(runtime: Runtime) -> None:
    """As a creation leaves it that was killed at once."""
    runtime.ok("run", "-b", str(runtime.bundle(("true",))), runtime.name())
    (runtime.root / "empty").mkdir()
    for command in ("state", "start", "kill", "ps", "pause"):
        runtime.refused(command, "empty")
    runtime.ok("delete", "--force", "empty")
    assert runtime.containers() == []


def test_values_of_a_state_of_the_wrong_kind(runtime: Runtime) -> None:
    """One after the other."""
    container = runtime.start()
    file = runtime.root / container.id / "state.json"
    good = json.loads(file.read_text())
    for name in good:
        wrong: tuple[object, ...] = (None, [], {}, "x", -1, 2**70, True)
        for value in wrong:
            file.write_text(json.dumps(good | {name: value}))
            for command in ("state", "list", "ps"):
                runtime(command, *([] if command == "list" else [container.id]))
    file.write_text(json.dumps(good))
    assert container.status == "running"
