"""The engine's configuration: options, the file, defaults, and what is refused."""

from __future__ import annotations

import configparser
import tomllib
from pathlib import Path

import pytest

from minicontainer.cli.daemon_options import SETTINGS, parse
from minicontainer.errors import InvalidArgument
from tests.conftest import CHECKOUT


def test_defaults_and_options() -> None:
    """The socket follows the exec root."""
    values = parse(["--exec-root", "/tmp/x", "--insecure-registry", "a:1", "--idle-timeout", "9"])
    assert values["host"] == ("unix:///tmp/x/minicontainer.sock",)
    assert (values["insecure_registry"], values["idle_timeout"]) == (["a:1"], 9)
    assert values["data_root"] == "/var/lib/minicontainer"


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    """And the file over the defaults."""
    file = tmp_path / "daemon.toml"
    file.write_text('log-level = "debug"\ndata-root = "/a"\nhost = ["unix:///x", "fd://"]\n')
    values = parse(["--config-file", str(file), "--data-root", "/b"])
    assert (values["log_level"], values["data_root"]) == ("debug", "/b")
    assert values["host"] == ("unix:///x", "fd://")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 1", "unknown key colour"),
        ("log-level = 1", "log-level: expected a string, got 1"),
        ('log-level = "loud"', "expected one of debug, info"),
        ('host = "unix:///x"', "host: expected a list of strings"),
        ("idle-timeout = -1", "idle-timeout: expected a whole number"),
        ("idle-timeout = true", "idle-timeout: expected a whole number"),
        ("data-root", "daemon.toml"),
        ('tlscert = "x"', "TLS needs all of"),
    ],
)
def test_a_bad_file_is_refused_by_its_key(tmp_path: Path, text: str, words: str) -> None:
    """Nothing is started with half a configuration."""
    file = tmp_path / "daemon.toml"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=words):
        parse(["--config-file", str(file)])


@pytest.mark.parametrize(
    "argv",
    [["--nonsense"], ["--log-level", "loud"], ["--idle-timeout", "-1"], ["--config-file", "/no"]],
)
def test_a_bad_option_is_refused(argv: list[str]) -> None:
    """In one line."""
    with pytest.raises(InvalidArgument):
        parse(argv)


def test_the_shipped_file_names_every_setting() -> None:
    """Its comments are a valid configuration."""
    text = (CHECKOUT / "packaging/daemon.toml").read_text()
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    assert set(tomllib.loads("\n".join(lines))) == {setting.name for setting in SETTINGS}


def test_the_shipped_units_fit_together() -> None:
    """The service takes the socket's descriptor, and containers outlive it."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # documented to be replaced
    unit.read(CHECKOUT / "packaging/systemd/minicontainer.service")
    assert unit["Service"]["ExecStart"].endswith("daemon --host fd://")
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["Type"] == "notify"
    unit.read(CHECKOUT / "packaging/systemd/minicontainer.socket")
    assert unit["Socket"]["SocketMode"] == "0660"
    assert unit["Socket"]["ListenStream"] == "/run/minicontainer/minicontainer.sock"
