"""`run --rootfs`, which needs no engine, beside an engine in the same place."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Run


def test_run_takes_nothing_of_an_engines_containers(run: Run) -> None:
    """It removes what killed commands of its own kind left; the containers of an engine stay."""
    kept = run.data_root / "containers" / ("a1" * 32) / "upper"
    kept.mkdir(parents=True)
    (kept / "data").write_text("of a container that is stopped")
    state = run.exec_root / "containers" / ("a1" * 32)
    state.mkdir(parents=True)
    assert run("echo ran").output == "ran\n"
    assert (kept / "data").exists()
    assert state.exists()
    left: Path = run.data_root / "sandboxes" / ("b2" * 32)
    left.mkdir()
    assert run("echo ran").output == "ran\n"
    assert not left.exists()  # the control: of its own kind it does
