"""No value of an environment variable is ever shown: not in an error, a log, or an explanation.

People pass passwords in variables. A value that was mistyped, `SECRET` where `PASSWORD=SECRET` was
meant, would otherwise stand in a terminal's history, a log, or a bug report.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, Run, command

SECRET = "hunter2"
Spec = dict[str, Any]


def oci(*words: str, directory: Path) -> str:
    """Call minicontainer-oci; give all that it said, also to its log."""
    log = directory / "log"
    overall = ("--root", str(directory / "state"), "--log", str(log), "--log-format", "json")
    with tempfile.TemporaryFile("w+") as said:  # no pipe: a detached container would keep it open
        subprocess.run(
            [*command("minicontainer-oci"), *overall, *words],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=PATIENCE_S, cwd=directory,
            check=False,
        )  # fmt: skip
        said.seek(0)
        return said.read() + (log.read_text() if log.exists() else "")


@pytest.fixture
def bundle(tmp_path: Path, busybox: Path, nothing_left: None) -> Path:
    """A bundle whose program ends at once."""
    oci("spec", directory=tmp_path)
    spec = read(tmp_path)
    spec["process"] |= {"args": ["true"], "terminal": False}
    spec["root"] = {"path": str(busybox), "readonly": True}
    write(tmp_path, spec)
    return tmp_path


def read(bundle: Path) -> Spec:
    """Read the bundle's specification."""
    spec: Spec = json.loads((bundle / "config.json").read_text())
    return spec


def write(bundle: Path, spec: Spec) -> None:
    """Write it."""
    (bundle / "config.json").write_text(json.dumps(spec))


HOOK = {"path": "/bin/false"}
BAD = [
    {"process": {"env": [SECRET]}},
    {"process": {"env": [f"={SECRET}"]}},
    {"process": {"env": [f"A=\0{SECRET}"]}},
    {"process": {"env": SECRET}},
    {"process": {"env": {"A": SECRET}}},
    {"process": {"env": [[f"A={SECRET}"]]}},
    {"process": [{"env": [f"A={SECRET}"]}]},
    {"hooks": {"poststart": [HOOK | {"env": SECRET}]}},
    {"hooks": {"poststart": [HOOK | {"env": [f"A=\0{SECRET}"]}]}},
    {"hooks": {"createRuntime": [HOOK | {"env": [f"A={SECRET}", SECRET, f"={SECRET}"]}]}},
]


@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_a_bad_specification_is_refused_without_its_secrets(bundle: Path, wrong: Spec) -> None:
    """The place is named, and what was expected there."""
    spec = read(bundle)
    for part, value in wrong.items():
        spec[part] = spec[part] | value if isinstance(value, dict) and part in spec else value
    write(bundle, spec)
    said = oci("run", "secrets", directory=bundle)
    assert "process" in said or "hooks." in said, said
    assert SECRET not in said


def test_exec_refuses_a_variable_without_showing_it(bundle: Path) -> None:
    """Both as an option and in the file of --process."""
    spec = read(bundle)
    spec["process"]["args"] = ["sleep", "60"]
    write(bundle, spec)
    try:
        assert oci("run", "--detach", "secrets", directory=bundle) == ""
        said = oci("exec", "--env", SECRET, "secrets", "true", directory=bundle)
        assert "expected NAME=VALUE" in said
        wrong = spec["process"] | {"args": ["true"], "env": [SECRET]}
        (bundle / "process.json").write_text(json.dumps(wrong))
        said += oci("exec", "--process", "process.json", "secrets", directory=bundle)
        assert said.count("expected NAME=VALUE") >= 2
        assert SECRET not in said
    finally:
        oci("delete", "--force", "secrets", directory=bundle)


@pytest.mark.parametrize("text", [f"={SECRET}", f"A={SECRET}\nB C={SECRET}", f"A B {SECRET}"])
def test_an_options_or_a_files_bad_variable_is_not_shown(
    run: Run, tmp_path: Path, text: str
) -> None:
    """A file is named with its line."""
    file = tmp_path / "variables"
    file.write_text(text)
    refused = run("true", "--env-file", str(file))
    assert refused.status == 125
    assert f"invalid env file ({file}): line " in refused.errors
    assert SECRET not in refused.errors
    refused = run("true", "-e", f"={SECRET}")
    assert refused.status == 125
    assert SECRET not in refused.errors


def test_an_explanation_shows_no_value(run: Run) -> None:
    """The control: the program has the variable."""
    explained = run('echo "$PASSWORD"', "--explain", "-e", f"PASSWORD={SECRET}")
    assert explained.output == f"{SECRET}\n"
    assert SECRET not in explained.errors
    assert "execve" in explained.errors
