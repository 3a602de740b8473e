"""The script that makes a machine ready, and what it leaves in .venv."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The launchers, with their bundles.
BUNDLES = {
    "minicontainer": ROOT / ".venv/libexec/minicontainer/client-modules",
    "minicontainer-oci": ROOT / ".venv/libexec/minicontainer/modules",
}
LAUNCHERS = tuple(BUNDLES)


def launcher(name: str) -> list[str]:
    """Read a launcher's lines; skip where scripts/setup made none."""
    path = ROOT / ".venv/bin" / name
    if not (ROOT / ".venv/libexec").exists():
        pytest.skip(".venv is not there: scripts/setup")
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("place", "complaint"),
    [("a place", "can't hold this path"), ("a" * 120, "characters are too many")],
)
def test_a_path_that_a_launcher_cannot_name_is_refused(
    tmp_path: Path, place: str, complaint: str
) -> None:
    """Said at once, and not by the kernel when the launcher is first started: execve(2)."""
    script = tmp_path / place / "scripts/setup"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup", script)
    told = subprocess.run([script], capture_output=True, text=True)
    assert told.returncode == 1
    assert complaint in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert list((tmp_path / place).iterdir()) == [script.parent]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_starts_in_an_interpreter_of_its_own(name: str) -> None:
    """A copy, which can be protected: CVE-2019-5736; with -I and -S, which start at once."""
    interpreter, flags = launcher(name)[0].removeprefix("#!").split()
    assert flags == "-IS"
    assert Path(interpreter).is_relative_to(ROOT / ".venv")
    assert not Path(interpreter).is_symlink()
    assert Path(interpreter).read_bytes() == Path("/usr/bin/python3").read_bytes()


def test_a_launcher_finds_the_project_and_what_it_needs() -> None:
    """Without `import site`, the launcher alone says where: the checkout first."""
    lines = launcher("minicontainer")
    paths = "; ".join(line for line in lines if line.startswith("sys.path"))
    look = f"import sys; {paths}; import minicontainer, prctl; print(minicontainer.__file__)"
    interpreter = lines[0].removeprefix("#!").split()[0]
    found = subprocess.run([interpreter, "-IS", "-c", look], capture_output=True, text=True)
    assert found.stdout.strip() == str(ROOT / "minicontainer/__init__.py"), found.stderr


def run_launcher(text: str, tmp_path: Path, *arguments: str) -> str:
    """Run a launcher of this text; give what it prints."""
    path = tmp_path / "launcher"
    path.write_text(text)
    path.chmod(0o755)
    done = subprocess.run([path, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("content", [None, b"", b"\0\0\0\5", b"\0\0\0\2N.", b"another version"])
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_does_without_a_bundle(tmp_path: Path, name: str, content: bytes | None) -> None:
    """One that is missing, cut off, or another interpreter's: the sources are there."""
    text = "\n".join(launcher(name))
    expected = run_launcher(text, tmp_path, "--version")
    bundle = tmp_path / "bundle"
    if content == b"another version":
        content = BUNDLES[name].read_bytes().replace(sys.version.encode(), b"4" * len(sys.version))
    if content is not None:
        bundle.write_bytes(content)
    text = text.replace(f'"{BUNDLES[name]}"', f'"{bundle}"')
    assert run_launcher(text, tmp_path, "--version") == expected
    text = text.replace("startup.end(", "print(sys.meta_path[0].__name__); (")
    assert run_launcher(text, tmp_path, "--version").startswith("BuiltinImporter")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("minicontainer-oci", ["--root", "{}/root", "list", "--quiet"]),
        *(("minicontainer", [word, "--help"]) for word in ("run", "exec", "ps", "logs", "rm")),
    ],
)
def test_a_launcher_takes_a_command_from_its_bundle(
    tmp_path: Path, name: str, arguments: list[str]
) -> None:
    """Whatever a command imports is in there, or is built in: no directory is looked into."""
    show = "print(*sys.path_importer_cache)"
    lines = launcher(name)
    bare = run_launcher(f"{lines[0]}\nimport sys; {show}", tmp_path)
    text = "\n".join(lines).replace("startup.end(main())", f"main(); {show}")
    used = run_launcher(text, tmp_path, *(word.format(tmp_path) for word in arguments))
    assert set(used.splitlines()[-1].split()) == set(bare.split())


@pytest.mark.parametrize(
    "name",
    [
        ".ci/run",
        "scripts/setup",
        "rootfs/busybox",
        "rootfs/debian",
        "rootfs/alpine",
        "rootfs/digest",
    ],
)
def test_a_command_can_be_executed(name: str) -> None:
    """An editor that replaces a file may lose its mode without a word."""
    assert os.access(ROOT / name, os.X_OK)
