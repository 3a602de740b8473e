"""Values on the command line, as Docker writes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer import quantities
from minicontainer.cli import mount_values, ports, run_values
from minicontainer.cli.create_body import directory
from minicontainer.cli.environment import environment
from minicontainer.errors import InvalidArgument

UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
HIGHEST = 2**63 - 1


@given(st.integers(0, 2**22), st.sampled_from(sorted(UNITS)), st.sampled_from(["", "b", "ib"]))
def test_a_size_is_its_number_in_its_unit(number: int, unit: str, ending: str) -> None:
    """In either case, with or without the b that means bytes."""
    text = f"{number}{unit}{ending if unit not in ('', 'b') else ''}"
    assert quantities.size(text) == quantities.size(text.upper()) == number << UNITS[unit]


@given(st.decimals(0, 1000, places=3), st.sampled_from(sorted(UNITS)))
def test_a_size_may_have_a_point(number: Any, unit: str) -> None:
    """What is left of a byte is cut off; nothing is rounded on the way."""
    assert quantities.size(f"{number}{unit}") == int(number * 2 ** UNITS[unit])


@given(st.integers(HIGHEST + 1))
def test_a_size_that_the_kernel_can_not_count_is_refused(number: int) -> None:
    """It would be cut to 64 bits without a word."""
    with pytest.raises(InvalidArgument, match="more than the kernel can count"):
        quantities.size(str(number))
    assert quantities.size(str(HIGHEST)) == HIGHEST


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1h2m3s4ms", 3723.004),
    ],
)
def test_a_time_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    """As Go's time.ParseDuration reads them, which engines write for."""
    assert quantities.duration_s(text) == pytest.approx(seconds)


REFUSED: list[tuple[Callable[[str], object], str, list[str]]] = [
    (
        quantities.size,
        "invalid size",
        ["", " ", "x", "ib", "12x", "-1", "1.5.5", ".5", "k", "1kk", "1e3", "0x10", "+1", "1 m",
         "\u0661", "1_0"],
    ),
    (quantities.size_or_unlimited, "invalid size", ["-2", "--1", ""]),
    (quantities.natural_number, "invalid number", ["-1", "x", "1.0"]),
    (
        quantities.duration_s,
        "invalid time",
        ["", "5", "s", "0s", "-5s", "5 s", "5x", "1.2.3s", ".s", "5s5", "ms5", "\u0661s"],
    ),
    (quantities.whole_number, "invalid number", ["", "-", "1.0", "x", "+1", " 1", "\u0663", "--1"]),
    (
        run_values.nano_cpus,
        "failed to parse",
        ["", ".", "-1", "abc", "1e3", "0.1234567891", "\u0661"],
    ),
    (
        run_values.ulimit,
        "ulimit|invalid number",
        ["", "nofile", "nofile=", "nofile=x", "nofile=1:2:3", "nofile=1.5", "nofile=2:1"],
    ),
    (
        run_values.device,
        "invalid device specification",
        ["", "/dev/null::rwm", "/dev/a:/dev/b:r:w", "/dev/a:/dev/b:q"],
    ),
    (
        mount_values.mount,
        ".",
        [
            "", "x", "type=bind", "type=bind,src=/a", "type=bind,src=/a,dst=/b,what=1",
            "type=bind,src,dst=/b", "type=bind,src=/a,dst=/b,ro=maybe",
            "type=tmpfs,dst=/b,tmpfs-size=x", "type=tmpfs,dst=/b,tmpfs-mode=9",
            "type=bind,src=/a,dst=/b,tmpfs-mode=700", "type=tmpfs,dst=/b,bind-propagation=slave",
            "type=volume,dst=/b,bind-propagation=slave", "type=bind,dst=/b,bind-recursive=x",
        ],
    ),
    (run_values.restart_policy, "invalid restart policy format", [":1", "always:x", "no:-1"]),
    (run_values.stream, "valid streams are", ["", "out", "0"]),
    (run_values.extra_host, "bad format|invalid IP", ["", "a", ":1.2.3.4", "a:b", "a=1.2.3"]),
    (run_values.address, "is not an ip address", ["", "1.2.3", "1.2.3.4.5", "::g", "a"]),
    (run_values.link, "bad format for links", ["", ":a", "a:b:c"]),
    (run_values.device_weight, "bad format|invalid", ["", "/a:1", "/dev/a", "/dev/a:x"]),
    (run_values.device_bytes, "bad format|invalid", ["/dev/a:", "/dev/a:x", "/dev/a:-1"]),
    (run_values.device_operations, "bad format|invalid", ["/dev/a:", "/dev/a:1k", "/dev/a:-1"]),
    (run_values.device_rule, "invalid device", ["", "c 1:3", "d 1:3 r", "c 1:x r", "a *:* q"]),
    (run_values.gpus, "unexpected key|invalid number", ["x", "count=x", "a=b"]),
    (ports.publish, ".", ["", "a", "1:2:3:4", "70000", "1-2:1-3", "80/what"]),
    (ports.expose, ".", ["", "a", "70000", "2-1"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("read", "says", "text"), [(read, says, text) for read, says, all_ in REFUSED for text in all_]
)
def test_nonsense_is_refused(read: Callable[[str], object], says: str, text: str) -> None:
    """In one line; `flags.parse` names the option and the text before it."""
    with pytest.raises(InvalidArgument, match=says) as caught:
        read(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """And nothing else happens: no other exception comes out of a reader."""
    for read, _, _ in REFUSED:
        with contextlib.suppress(InvalidArgument):
            read(text)


@given(st.integers(-(2**70), 2**70))
def test_a_whole_number_is_itself(number: int) -> None:
    """Negative too: -1 is no limit."""
    assert quantities.whole_number(str(number)) == number


@given(st.integers(0, 10**12))
def test_a_number_of_cpus_is_read_in_billionths(nano: int) -> None:
    """Exactly: as text, never as a float."""
    assert run_values.nano_cpus(f"{nano // 10**9}.{nano % 10**9:09}") == nano


@pytest.mark.parametrize(("text", "nano"), [("2", 2 * 10**9), (".5", 5 * 10**8), ("1.", 10**9)])
def test_either_side_of_the_point_may_be_missing(text: str, nano: int) -> None:
    """As in Docker."""
    assert run_values.nano_cpus(text) == nano


@given(
    st.sampled_from(["nofile", "core"]), st.integers(0, HIGHEST - 9), st.none() | st.integers(-1, 9)
)
def test_a_ulimit_is_one_number_or_two(name: str, soft: int, more: int | None) -> None:
    """One stands for both."""
    hard = soft if more is None else more if more == -1 else soft + more
    text = f"{name}={soft}" if more is None else f"{name}={soft}:{hard}"
    assert run_values.ulimit(text) == {"Name": name, "Soft": soft, "Hard": hard}


@pytest.mark.parametrize(
    ("text", "inside", "permissions"),
    [
        ("/dev/a", "/dev/a", "rwm"),
        ("/dev/a:/dev/b", "/dev/b", "rwm"),
        ("/dev/a:r", "/dev/a", "r"),
        ("/dev/a:/dev/b:rm", "/dev/b", "rm"),
    ],
)
def test_a_device_has_up_to_three_parts(text: str, inside: str, permissions: str) -> None:
    """Its place inside and its permissions may be left out, each."""
    assert run_values.device(text) == {
        "PathOnHost": "/dev/a", "PathInContainer": inside, "CgroupPermissions": permissions,
    }  # fmt: skip


def test_a_tmpfs_is_a_path_and_options() -> None:
    """Which may be left out."""
    assert run_values.tmpfs("/a") == ("/a", "")
    assert run_values.tmpfs("/a:size=1m,mode=700") == ("/a", "size=1m,mode=700")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", ["A=1"]),
        ("A=", ["A="]),
        ("A=b=c", ["A=b=c"]),
        ("HERE", ["HERE=x y"]),
        ("NOT_HERE", ["NOT_HERE"]),  # the engine takes the image's away
    ],
)
def test_a_variable_without_a_value_is_the_callers(text: str, expected: list[str]) -> None:
    """Where the caller has one."""
    assert environment([text], [], {"HERE": "x y"}) == expected


@pytest.mark.parametrize("text", ["", "=x"])
def test_a_variable_has_a_name(text: str) -> None:
    """execve(2) would take it, and no program find it."""
    with pytest.raises(InvalidArgument, match="invalid environment variable"):
        environment([text], [], {})


def test_a_file_of_variables(tmp_path: Path) -> None:
    """A line each; blank lines and comments are passed over, values are taken as they are."""
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1\n  B= two words # no comment \nHERE\nNOT_HERE\nC='q'\n")
    assert environment([], [str(file)], {"HERE": "x"}) == [
        "A=1", "B= two words # no comment ", "HERE=x", "C='q'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"A B=1\n", "line 1: the variable's name contains whitespaces"),
        (b"#\nA =1\n", "line 2: the variable's name contains whitespaces"),
        (b"=1\n", "line 1: no variable name"),
        (b"A=\xff\n", "is not UTF-8 text"),
    ],
)
def test_a_file_of_variables_that_is_broken(tmp_path: Path, content: bytes, says: str) -> None:
    """Named by the file and the line's number; never by its text, which may be a secret."""
    file = tmp_path / "env"
    file.write_bytes(content)
    with pytest.raises(InvalidArgument, match=says):
        environment([], [str(file)], {})


def test_a_file_of_variables_that_can_not_be_read(tmp_path: Path) -> None:
    """Missing, or a directory."""
    with pytest.raises(InvalidArgument, match=r"open .*nosuch: no such file"):
        environment([], [str(tmp_path / "nosuch")], {})
    with pytest.raises(InvalidArgument, match="is a directory"):
        environment([], [str(tmp_path)], {})


def test_a_root_file_system_is_a_path_or_a_built_ones_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine works in another directory: what is one from here, it must find from there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").mkdir()
    assert directory("tree") == f"{tmp_path}/tree"
    assert directory("./nosuch") == f"{tmp_path}/nosuch"
    assert directory("/a/../b") == "/b"
    assert directory("busybox") == "busybox"
    with pytest.raises(InvalidArgument, match="--rootfs: name a directory"):
        directory("")
