"""Logs: what is written, how it is rotated, and every way to read it."""

from __future__ import annotations

import gzip
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer.engine.options import LogOptions
from minicontainer.errors import Conflict, InvalidArgument
from tests.engine.conftest import PATIENCE_S, frames, payload

if TYPE_CHECKING:
    from tests.engine.conftest import Lab


def path_of(lab: Lab, made: str) -> Path:
    """Give the log file that `inspect` names."""
    return Path(lab.engine.containers.inspect(made)["LogPath"])


def log_config(driver: str = "json-file", **options: str) -> dict[str, Any]:
    """Choose a driver and its options."""
    config = {name.replace("_", "-"): value for name, value in options.items()}
    return {"LogConfig": {"Type": driver, "Config": config}}


def test_the_file_is_docker_s(lab: Lab) -> None:
    """One JSON object a line, so that other programs can read it."""
    made, _ = lab.run("sh", "-c", r'echo "say \"hi\""; printf "\303\244\n" >&2')
    entries = [json.loads(line) for line in path_of(lab, made).read_text().splitlines()]
    assert {(one["stream"], one["log"]) for one in entries} == {
        ("stdout", 'say "hi"\n'), ("stderr", "ä\n"),
    }  # fmt: skip
    assert all(one["time"].endswith("Z") and len(one["time"]) == 30 for one in entries)


def test_bytes_that_are_no_text_come_back(lab: Lab) -> None:
    """Every byte, also where it is not UTF-8."""
    made, _ = lab.run("sh", "-c", r"printf '\377\000\200a\303\n'")
    assert payload(lab.logs(made)) == b"\xff\x00\x80a\xc3\n"


def test_a_long_line_is_several_entries(lab: Lab) -> None:
    """Of 16 KiB, and together they are the line; a time stands at its beginning alone."""
    made, _ = lab.run("sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; printf end")
    entries = [json.loads(line)["log"] for line in path_of(lab, made).read_text().splitlines()]
    assert [len(one) for one in entries] == [16384, 16384, 40001 - 32768, 3]
    assert payload(lab.logs(made)) == b"x" * 40000 + b"\nend"
    stamped = payload(lab.logs(made, timestamps=True))
    assert [len(line.split(b" ")) for line in stamped.split(b"\n")] == [2, 2]
    assert payload(lab.logs(made, tail=2)) == b"x" * 40000 + b"\nend"


def test_tail_since_until_and_one_stream(lab: Lab) -> None:
    """Each by itself and together."""
    made, _ = lab.run("sh", "-c", "echo 1; sleep 0.3; echo 2; echo e >&2; sleep 0.3; echo 3")
    times = [
        part.split(b" ")[0] for _, part in frames(lab.logs(made, timestamps=True, stderr=False))
    ]
    assert times == sorted(times)
    assert payload(lab.logs(made, stderr=False)) == b"1\n2\n3\n"
    assert payload(lab.logs(made, stdout=False)) == b"e\n"
    assert payload(lab.logs(made, tail=1)) == b"3\n"
    assert payload(lab.logs(made, tail=2, stderr=False)) == b"2\n3\n"
    assert payload(lab.logs(made, tail=0)) == b""
    begun = lab.engine.containers.find(made).state.started_ns
    middle = begun + 15 * 10**7
    assert payload(lab.logs(made, until_ns=middle)) == b"1\n"
    assert payload(lab.logs(made, since_ns=middle, stderr=False)) == b"2\n3\n"


def test_rotation_keeps_so_many_files(lab: Lab) -> None:
    """The oldest lines go, no line is cut, and reading goes over all files."""
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"
    made, _ = lab.run("sh", "-c", script, host=log_config(max_size="20k", max_file="3"))
    path = path_of(lab, made)
    files = sorted(path.parent.glob(f"{path.name}*"))
    assert [file.name[len(path.name) :] for file in files] == ["", ".1", ".2"]
    assert all(file.stat().st_size <= 20 << 10 for file in files)
    lines = payload(lab.logs(made)).splitlines()
    last = int(lines[-1].split()[1])
    assert last == 2999
    assert lines == [b"line %d" % number for number in range(3000 - len(lines), 3000)]


def test_older_files_are_compressed(lab: Lab) -> None:
    """With gzip, which other programs read; reading goes over them like over the others."""
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    options = log_config(max_size="20k", max_file="20", compress="true")
    made, _ = lab.run("sh", "-c", script, host=options)
    path = path_of(lab, made)
    files = path.parent.glob(f"{path.name}.*.gz")
    oldest = max(files, key=lambda file: int(file.name.split(".")[-2]))
    assert json.loads(gzip.decompress(oldest.read_bytes()).splitlines()[0])["log"] == "line 0\n"
    assert {file.suffix for file in path.parent.glob(f"{path.name}.*")} == {".gz"}
    assert payload(lab.logs(made)) == b"".join(b"line %d\n" % number for number in range(2000))
    assert payload(lab.logs(made, tail=1500)).startswith(b"line 500\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"compress": "true"}, "compress cannot be true when max-file is less than 2"),
        ({"compress": "what"}, 'strconv.ParseBool: parsing "what": invalid syntax'),
        ({"max_size": "what"}, "invalid size: 'what'"),
        ({"max_file": "0", "max_size": "1m"}, "max-file cannot be less than 1"),
        ({"mode": "what"}, "logging mode not supported: what"),
    ],
)
def test_options_that_make_no_sense(lab: Lab, options: dict[str, str], says: str) -> None:
    """In Docker's words, before there is a container."""
    with pytest.raises(InvalidArgument, match=says):
        lab.create("true", host=log_config(**options))


def test_so_many_files_without_a_size_are_one(lab: Lab) -> None:
    """Nothing rotates, and nothing is refused, as with Docker."""
    made, _ = lab.run("seq", "3", host=log_config(max_file="3"))
    assert payload(lab.logs(made)) == b"1\n2\n3\n"


def test_following_ends_at_a_moment(lab: Lab) -> None:
    """Though the container runs on, and says nothing then."""
    made = lab.start("sh", "-c", "echo a; exec sleep 1000")
    until_ns = time.time_ns() + 10**9
    followed = lab.engine.containers.logs(
        made, LogOptions(stdout=True, follow=True, until_ns=until_ns)
    )
    assert payload(b"".join(followed)) == b"a\n"
    assert time.time_ns() >= until_ns
    assert lab.state(made)["Running"]


def test_following_goes_over_rotations(lab: Lab) -> None:
    """Every line, while the file is moved away again and again; then it ends."""
    script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.002; done"
    made = lab.create("sh", "-c", script, host=log_config(max_size="4k", max_file="2"))
    lab.engine.containers.start(made)
    followed = lab.engine.containers.logs(made, LogOptions(stdout=True, follow=True))
    assert payload(b"".join(followed)) == b"".join(b"line %d\n" % n for n in range(400))


def test_following_begins_before_the_start_of_a_line_and_ends_with_the_container(lab: Lab) -> None:
    """What was written before comes first."""
    made = lab.start("sh", "-c", "echo a; sleep 0.3; echo b; sleep 0.3; printf c")
    followed = lab.engine.containers.logs(made, LogOptions(stdout=True, follow=True))
    assert payload(b"".join(followed)) == b"a\nb\nc"


def test_a_reader_that_leaves_ends_the_stream(lab: Lab) -> None:
    """From another thread."""
    made = lab.start("sleep", "1000")
    followed: Any = lab.engine.containers.logs(made, LogOptions(stdout=True, follow=True))
    thread = threading.Thread(target=lambda: list(followed))
    thread.start()
    time.sleep(0.1)
    followed.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_other_drivers(lab: Lab) -> None:
    """`local` is read like json-file; `none` keeps nothing, and clients still see all."""
    made, _ = lab.run("echo", "kept", host=log_config("local"))
    assert payload(lab.logs(made)) == b"kept\n"
    none = lab.create("echo", "seen", host=log_config("none"))
    client = lab.attach(none)
    lab.engine.containers.start(none)
    assert payload(client.received()) == b"seen\n"
    with pytest.raises(Conflict, match="does not support reading"):
        lab.logs(none)
    with pytest.raises(InvalidArgument, match='plugin "paper" not found'):
        lab.create("true", host=log_config("paper"))
    with pytest.raises(InvalidArgument, match="unknown log opt 'color' for json-file log driver"):
        lab.create("true", host=log_config(color="red"))


def test_details_are_what_was_chosen(lab: Lab) -> None:
    """Labels and variables that --log-opt names."""
    host = log_config(labels="app,none", env="MODE")
    made, _ = lab.run("echo", "x", host=host, Labels={"app": "web", "b": "c"}, Env=["MODE=fast"])
    assert payload(lab.logs(made, details=True)) == b"MODE=fast,app=web x\n"


def test_much_output_is_all_there(lab: Lab) -> None:
    """Faster than it can be written: the program waits, and nothing is lost."""
    made, status = lab.run("sh", "-c", "yes 0123456789 | head -n 500000")
    assert status == 0
    assert payload(lab.logs(made)) == b"0123456789\n" * 500_000
