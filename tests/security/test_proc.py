"""What is trusted as /proc stays the kernel's: CVE-2019-16884, CVE-2019-19921, CVE-2025-52881."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.isolation.conftest import Bundles, Spec

from .conftest import bind, naively, replace, rooted


def _tmpfs(destination: str) -> Spec:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": []}


@pytest.mark.parametrize(
    "destination",
    [
        "/proc", "/proc/self/attr", "/proc/sys", "/proc/1", "/proc/sys/kernel/../net", "proc/sys",
        "/etc/../proc/self", "/link", "/link/kernel", "//proc//.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_nothing_covers_it(
    bundles: Bundles, tree: Path, volume: Path, destination: str, kind: str
) -> None:
    """By whatever name or link the place is reached."""
    replace(tree / "link", "/proc/sys")
    mount = bind(volume, destination) if kind == "bind" else _tmpfs(destination)
    result = bundles("true", rooted(tree, mount))
    assert (result.status, result.output) == (1, "")
    assert "what is in /proc must be the kernel's" in result.errors


def test_nor_does_it_before_proc_is_mounted(bundles: Bundles, tree: Path, volume: Path) -> None:
    """First in the list: what is mounted later, below, would be the image's to choose."""

    def change(config: Spec) -> None:
        rooted(tree)(config)
        config["mounts"].insert(0, bind(volume, "/proc"))

    assert "what is in /proc must be the kernel's" in bundles("true", change).errors


@pytest.mark.parametrize("file", ["attr/exec", "sys"])
def test_a_file_of_it_is_not_covered(bundles: Bundles, volume: Path, file: str) -> None:
    """A label written to such a file would be lost: CVE-2019-16884."""
    where = f"/proc/self/{file}" if file != "sys" else "/proc/sys/kernel/domainname"

    def change(config: Spec) -> None:
        config["mounts"].append(bind(volume / "file", where))

    assert "what is in /proc must be the kernel's" in bundles("true", change).errors


@pytest.mark.parametrize("file", ["meminfo", "uptime", "sys/kernel/ns_last_pid"])
def test_files_that_inform_may_be_covered(bundles: Bundles, volume: Path, file: str) -> None:
    """The control: lxcfs shows a container its own memory by such mounts."""
    if not Path("/proc", file).exists():
        pytest.skip(f"this kernel has no /proc/{file}")
    result = bundles(
        f"cat /proc/{file}",
        lambda config: config["mounts"].append(bind(volume / "file", f"/proc/{file}")),
    )
    assert result.output == "the host's\n", result.errors


def test_a_runtime_that_compares_names_lets_it_be_covered(tree: Path, volume: Path) -> None:
    """The control: by a link of the image, the same mount succeeds where paths are trusted."""
    replace(tree / "link", str(tree / "proc"))
    script = """
    mount -t proc proc "$1/proc"
    mount --bind "$2" "$1/link/self/attr"
    cat "$1/proc/self/attr/file"
    """
    # /proc/self is another process's by the time that cat(1) looks: name the shell's
    script = script.replace("link/self", "link/$$").replace("proc/self", "proc/$$")
    assert naively(script, tree, volume) == "the host's\n"
