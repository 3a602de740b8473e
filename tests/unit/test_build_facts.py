"""What `version` tells of a checkout, of a worktree, and of neither."""

from __future__ import annotations

import subprocess
from pathlib import Path

from minicontainer.engine import build_facts
from minicontainer.startup import VERSION


def git(directory: Path, *words: str) -> str:
    """Call git; give what it says."""
    who = ("-c", "user.name=x", "-c", "user.email=x")
    done = subprocess.run(["git", *who, *words], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_commit_is_gits(tmp_path: Path) -> None:
    """On a branch, with packed references, without a branch, and in a worktree."""
    (tmp_path / "main").mkdir()
    git(tmp_path / "main", "init", "-q")
    git(tmp_path / "main", "commit", "-q", "--allow-empty", "-m", "first")
    wanted = git(tmp_path / "main", "rev-parse", "HEAD")[:7]
    assert build_facts.commit(str(tmp_path / "main")) == wanted
    git(tmp_path / "main", "worktree", "add", "-q", "-b", "other", "../tree")
    git(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "second")
    assert build_facts.commit(str(tmp_path / "tree")) == git(tmp_path / "tree", "rev-parse",
                                                             "HEAD")[:7]  # fmt: skip
    git(tmp_path / "main", "pack-refs", "--all")
    git(tmp_path / "main", "checkout", "-q", "--detach")
    assert build_facts.commit(str(tmp_path / "main")) == wanted


def test_without_a_checkout_it_is_the_version(tmp_path: Path) -> None:
    """As it is installed from a package."""
    assert build_facts.commit(str(tmp_path)) == VERSION
