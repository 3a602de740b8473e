"""`compare --with`: one bundle through two runtimes, and what differs in the kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer.learn import known_differences
from minicontainer.learn.differences import Difference
from tests.conftest import CHECKOUT, PATIENCE_S, Result, command

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIMES = ("runc", "crun")


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the busybox root file system."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    made = tmp_path_factory.mktemp("compare") / "rootfs"
    subprocess.run([CHECKOUT / "rootfs" / "busybox", made], check=True, capture_output=True)
    return made


@pytest.fixture
def bundle(tmp_path: Path, rootfs: Path) -> Iterator[Path]:
    """Give the default bundle; afterwards nothing of it may be left."""
    subprocess.run([*command("minicontainer-oci"), "spec"], cwd=tmp_path, check=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["root"]["path"] = str(rootfs)
    (tmp_path / "config.json").write_text(json.dumps(config))
    yield tmp_path
    words = ["find", "/sys/fs/cgroup", "-name", "compare-*"]
    assert subprocess.run(words, capture_output=True, text=True, check=False).stdout == ""
    assert str(rootfs) not in Path("/proc/self/mountinfo").read_text()


def compare(*words: str | Path, status: int = 0) -> Result:
    """Type the command."""
    done = subprocess.run(
        [*command("minicontainer"), "compare", *map(str, words)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return Result(done.returncode, done.stdout, done.stderr)


def changed(bundle: Path, **fields: Any) -> Path:
    """Change fields of the bundle's process."""
    file = bundle / "config.json"
    config = json.loads(file.read_text())
    config["process"].update(fields)
    file.write_text(json.dumps(config))
    return bundle


def required(name: str) -> str:
    """Skip where a program is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_default_bundle(bundle: Path, runtime: str) -> None:
    """Everything that differs is documented, and nearly all is the same."""
    lines = compare("--all", "--format", "json", "--with", required(runtime), bundle).output
    rows = [json.loads(line) for line in lines.splitlines()]
    different = [row for row in rows if row.get("left", "") != row.get("right", "")]
    assert [row for row in different if "documented" not in row] == []
    assert len(rows) > 100
    assert 3 < len(different) < 35
    assert {"capabilities", "process", "devices"} <= {row["table"] for row in rows}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_program_without_a_terminal(bundle: Path, runtime: str) -> None:
    """It has a pipe as its stdin, and waits there or anywhere else."""
    changed(bundle, terminal=False, args=["cat"], user={"uid": 5, "gid": 6})
    shown = compare("--with", required(runtime), bundle).output
    assert "of them documented\n" in shown
    assert "PROCESS" in shown


def test_a_difference_is_found(bundle: Path, tmp_path: Path) -> None:
    """The control: a runtime that gives the program another umask, and another host name."""
    runtime = tmp_path / "bin" / "runc"
    runtime.parent.mkdir()
    changes = 's/"minicontainer"/"somebody"/; s/"uid": *0,/"uid":0,"umask":63,/'
    runtime.write_text(
        "#!/bin/sh\n"
        'case "$*" in *create*) ;; *) exec /usr/sbin/runc "$@" ;; esac\n'
        f"mkdir -p {tmp_path}/other\n"
        f"sed '{changes}' {bundle}/config.json >{tmp_path}/other/config.json\n"
        f'[ "$4 $5" = "--bundle {bundle}" ] || exit 9\n'
        "root=$2; shift 5\n"
        f'exec {shutil.which(required("runc"))} --root "$root" create '
        f'--bundle {tmp_path}/other "$@"\n'
    )
    runtime.chmod(0o755)
    shown = compare("--format", "json", "--with", runtime, bundle, status=1).output
    rows = [json.loads(line) for line in shown.splitlines()]
    unknown = {row["name"]: row for row in rows if "documented" not in row}
    assert set(unknown) == {"umask", "kernel/hostname"}
    assert unknown["umask"]["right"] == "0077"
    assert unknown["kernel/hostname"]["left"] == "minicontainer"


def test_the_calls(bundle: Path) -> None:
    """One runtime mounts by mount(2), the other by move_mount(2); runc is written in Go."""
    required("strace")
    shown = compare("--calls", "--format", "json", "--with", required("runc"), bundle).output
    rows = {row["name"]: row for row in map(json.loads, shown.splitlines())}
    assert int(rows["mount"]["right"]) > 10
    assert rows["move_mount"].get("right", "") == ""
    assert int(rows["move_mount"]["left"]) > 10
    assert rows["mount"]["table"] == "calls"


def test_the_reference_lists_what_is_known() -> None:
    """docs/reference/learn.md has the same table."""
    page = (CHECKOUT / "docs" / "reference" / "learn.md").read_text()
    for known in known_differences.KNOWN:
        name = known.name.replace("*", r"\*")
        runtime = "both" if known.runtime == "*" else known.runtime
        assert f"| {runtime} | {known.table}: {name} | {known.why} |" in page


def test_what_is_known_is_narrow() -> None:
    """A masked path is one of the defaults, and a rule for one runtime is not another's."""
    mask = Difference(table="mounts", name="/proc/keys", left="a", right="b")
    assert known_differences.why(mask, "runc")
    assert not known_differences.why(mask, "crun")
    assert not known_differences.why(mask.replace(name="/proc/sys"), "runc")
    assert not known_differences.why(mask.replace(table="process"), "runc")


def test_what_is_refused(bundle: Path, tmp_path: Path) -> None:
    """One clear line each; nothing is left, see the fixture."""

    def refused(*words: str | Path) -> str:
        errors = compare(*words, status=125).errors
        assert errors.count("\n") == 1
        return errors

    required("runc")
    assert "no runtime nobody: install it" in refused("--with", "nobody", bundle)
    assert "/config.json does not exist" in refused(tmp_path / "none")
    assert "only json" in refused("--format", "table", bundle)
    changed(bundle, terminal=False, args=["true"])
    assert "ends at once" in refused(bundle)
    changed(bundle, args=["/no/such/program"])
    assert "no such file" in refused(bundle).lower()
    changed(bundle, cwd=7)
    assert "process.cwd" in refused(bundle)
    (bundle / "config.json").write_text("{")
    assert "can't be read as JSON" in refused(bundle)
