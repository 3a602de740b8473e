"""Random broken configurations, made from good ones: refused in a line, or run; nothing is left.

The examples are the same every time. `MINICONTAINER_EXAMPLES=5000` asks for that many, chosen anew
each time.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.conftest import PATIENCE_S

from .runtime import Runtime, assert_one_line

pytestmark = pytest.mark.ours("whether another one breaks is not what these are to find out")

_ASKED = os.environ.get("MINICONTAINER_EXAMPLES")
BOUNDS = settings(
    max_examples=int(_ASKED or 150),
    derandomize=_ASKED is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
Path = tuple[str | int, ...]

# These would make the host itself the container's root, or take its whole cgroup for the
# container's own: a configuration may say so, but a test may not.
NOT_THESE = re.compile(r"root\.path|linux\.cgroupsPath|hooks\.|mounts\.\d+\.source")

# What a field may hold that it should not, or only just.
ANYTHING: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 7, 0.5, 1e400, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**30,
        "", " ", "x", ".", "..", "/", "/nowhere", "relative/path", "a" * 300, "a/" * 2500, "\0",
        "a\nb", "\ud800", "é", "%s", "-1", "0x10", "1.0.0", "9.9.9", "/proc/self/fd/3",
        "/proc/1/ns/net", "../../../etc", "bind", "tmpfs", "proc", "CAP_SYS_ADMIN", "SCMP_ACT_KILL",
        [], [[]], [None], [""], ["x"], [0], {}, {"": 0}, {"type": "pid"}, {"path": "/nowhere"},
        [{}] * 3, ["CAP_NOT_THERE"], ["ro", "rw", "bind"], {"uid": -1}, [{"type": "user"}],
    ]
)  # fmt: skip


def good_config(runtime: Runtime) -> Any:
    """Use as many parts of a configuration as work anywhere."""
    config = copy.deepcopy(runtime.config)
    config["process"] |= {"args": ["true"], "oomScoreAdj": 500}
    config["process"]["user"] |= {"additionalGids": [7, 8], "umask": 0o27}
    config["domainname"] = "example.org"
    config["annotations"] = {"key": "value"}
    config["mounts"].append(
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "size=64k", "mode=1777", "rprivate"]}
    )  # fmt: skip
    config["linux"]["devices"] = [
        {"path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0}
    ]
    config["linux"]["rootfsPropagation"] = "private"
    config["linux"]["resources"] |= {
        "memory": {"limit": 1 << 28, "reservation": 1 << 27},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 100},
    }
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["add_key", "personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
             "args": [{"index": 0, "value": 3, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}
        ],
    }  # fmt: skip
    return config


def places(value: Any, path: Path = ()) -> list[Path]:
    """List every place in a configuration that a test may change."""
    found: list[Path] = [] if NOT_THESE.match(".".join(map(str, path))) or not path else [path]
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    for name, part in inner:
        found += places(part, (*path, name))
    return found


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[float, str, Any]]:
    """Choose one change or a few: where (from the first place to the last), what kind, what."""
    kinds = st.sampled_from(["replace", "replace", "remove", "double", "rename", "add"])
    where = st.floats(min_value=0, max_value=1, exclude_max=True)
    return draw(st.lists(st.tuples(where, kinds, ANYTHING), min_size=1, max_size=3))


def change(config: Any, where: float, kind: str, new: Any) -> None:
    """Change one place of a configuration."""
    everywhere = places(config)
    *above, last = everywhere[int(where * len(everywhere))]
    at = config
    for step in above:
        at = at[step]
    note(f"{kind} {'.'.join(map(str, above))}.{last}: {new!r:.60}")
    if kind == "replace":
        at[last] = new
    elif kind == "remove":
        del at[last]
    elif kind == "double" and isinstance(at, list):
        at.append(at[int(last)])
    elif kind == "rename" and isinstance(at, dict):
        at[f"{last}x"] = at.pop(last)
    elif kind == "add" and isinstance(at[last], list):
        at[last].append(new)
    elif kind == "add" and isinstance(at[last], dict):
        at[last]["added"] = new


def check(runtime: Runtime, text: str, command: str) -> None:
    """Run a configuration: no traceback, no more than a line, nothing left, an end."""
    bundle = runtime.base / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    before = runtime.traces()
    name = runtime.name()
    call = runtime.begin(runtime.words(command, "-b", str(bundle), name))
    try:
        done = call.wait(PATIENCE_S / 3)
    finally:
        call.stdout.unlink()
        call.stderr.unlink()
    assert "Traceback" not in done.errors
    if done.status == 0 and command == "create":
        runtime.ok("delete", "--force", name)
    elif done.status == 1 and done.output == "":
        assert_one_line(done.errors)
    runtime.expect_nothing_new(before)


def test_the_good_one_runs(runtime: Runtime) -> None:
    """The control."""
    bundle = runtime.base / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(good_config(runtime)))
    assert runtime.ok("run", "-b", str(bundle), runtime.name()) == ""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", ["run", "create"])
def test_changed_values(runtime: Runtime, command: str) -> None:
    """Values replaced, taken out, doubled, renamed, added."""

    @BOUNDS
    @given(changes())
    def example(chosen: list[tuple[float, str, Any]]) -> None:
        config = good_config(runtime)
        for where, kind, new in chosen:
            with contextlib.suppress(KeyError, IndexError):
                change(config, where, kind, copy.deepcopy(new))
        check(runtime, json.dumps(config, ensure_ascii=True), command)

    example()


@pytest.mark.timeout(3600)
def test_changed_text(runtime: Runtime) -> None:
    """Characters replaced, taken out and put in, anywhere: mostly no JSON any more."""
    good = json.dumps(good_config(runtime))
    root = re.search(r'"root": {.*?}', good)
    assert root
    edit = st.tuples(
        st.integers(0, len(good) - 1), st.integers(0, 3), st.text('{}[]",:0\\x\0é', max_size=3)
    )

    @BOUNDS
    @given(st.lists(edit, min_size=1, max_size=4))
    def example(edits: list[tuple[int, int, str]]) -> None:
        text = good
        for at, gone, new in edits:
            # the path of the root must not become another one of the host's
            if not root.start() - 10 < at < root.end() + 10:
                text = text[:at] + new + text[at + gone :]
        if text != good:
            check(runtime, text, "run")

    example()
