"""Streams: attached clients, standard input, terminals, detach keys, exec."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minicontainer.engine.options import AttachOptions
from minicontainer.errors import Conflict, Error, InvalidArgument
from tests.engine.conftest import PATIENCE_S, eventually, frames, payload, stream
from tests.engine.test_crashes import parent_of
from tests.engine.test_creator import children

if TYPE_CHECKING:
    from tests.engine.conftest import Lab, Stream


def test_a_client_that_attaches_before_the_start_misses_nothing(lab: Lab) -> None:
    """As `docker run` does it."""
    made = lab.create("sh", "-c", "echo out; echo err >&2")
    client = lab.attach(made)
    lab.engine.containers.start(made)
    data = client.received()
    assert (payload(data, 1), payload(data, 2)) == (b"out\n", b"err\n")


def test_every_client_gets_everything(lab: Lab) -> None:
    """Two that are attached, and the log."""
    made = lab.create("sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done")
    clients = [lab.attach(made) for _ in range(2)]
    lab.engine.containers.start(made)
    results = [client.received() for client in clients]
    expected = b"".join(b"line %d\n" % number for number in range(2000))
    assert [payload(data) for data in results] == [expected, expected]
    assert payload(lab.logs(made)) == expected


def test_the_log_and_what_follows_it_are_seamless(lab: Lab) -> None:
    """Nothing twice and nothing left out, however fast the program writes; nor a half line."""
    script = (
        "printf 'no end'; read x; echo; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done"
    )
    made = lab.start("sh", "-c", script, OpenStdin=True, StdinOnce=True)
    options = AttachOptions(stream=True, logs=True, stdout=True, stderr=True)

    def attach() -> Stream:
        client = stream()
        lab.engine.containers.attach(made, options, client)
        client.socket.close()
        return client

    first = attach()
    first.client.settimeout(PATIENCE_S)
    eventually(lambda: payload(first.client.recv(14, socket.MSG_PEEK)) == b"no end", "half a line")
    typing = lab.attach(made, stdin=True)
    typing.client.sendall(b"go on\n")
    clients = [first]
    while lab.state(made)["Running"]:
        clients.append(attach())
    assert len(clients) > 2
    expected = b"no end\n" + b"".join(b"%d\n" % number for number in range(3000))
    for client in clients[:-1]:  # the last one may have come after the end, and wait for a start
        assert payload(client.received()) == expected


def test_what_is_piped_in_ends(lab: Lab) -> None:
    """The program sees the end of its input, and its output still comes."""
    made = lab.create("sh", "-c", "cat; echo end", OpenStdin=True, StdinOnce=True)
    client = lab.attach(made, stdin=True, early=b"first\n")
    lab.engine.containers.start(made)
    client.client.sendall(b"second\n")
    client.client.shutdown(socket.SHUT_WR)
    assert payload(client.received()) == b"first\nsecond\nend\n"


def test_a_program_that_reads_less_than_is_sent(lab: Lab) -> None:
    """As `yes | docker run -i … head`: all output comes, then the end, and no reset."""
    made = lab.create("head", "-n", "1", OpenStdin=True, StdinOnce=True)
    client = lab.attach(made, stdin=True)

    def send_until_refused() -> None:
        with contextlib.suppress(BrokenPipeError):
            while True:
                client.client.sendall(b"yes\n" * 10000)

    sender = threading.Thread(target=send_until_refused)
    sender.start()
    lab.engine.containers.start(made)
    assert payload(client.received()) == b"yes\n"
    sender.join(PATIENCE_S)
    assert not sender.is_alive()


def test_input_for_a_program_that_is_missing_is_no_error(lab: Lab) -> None:
    """The start fails, and says why; the stream just ends."""
    made = lab.create("missing", OpenStdin=True, StdinOnce=True)
    client = lab.attach(made, stdin=True)
    client.client.sendall(b"unread")
    with pytest.raises(InvalidArgument, match="not found"):
        lab.engine.containers.start(made)
    assert client.received() == b""


def test_much_goes_through_and_back(lab: Lab) -> None:
    """More than all buffers hold, while the client writes and reads at the same time."""
    made = lab.create("cat", OpenStdin=True, StdinOnce=True)
    client = lab.attach(made, stdin=True)
    lab.engine.containers.start(made)
    data = os.urandom(3 << 20)

    def write() -> None:
        client.client.sendall(data)
        client.client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=write)
    thread.start()
    assert payload(client.received()) == data
    thread.join(PATIENCE_S)


def test_a_slow_client_slows_the_program(lab: Lab) -> None:
    """The program waits for it; when it reads on, nothing is missing."""
    script = "i=0; while [ $i -lt 200000 ]; do echo 0123456789abcdef; i=$((i+1)); done"
    made = lab.create("sh", "-c", script)
    client = lab.attach(made)
    lab.engine.containers.start(made)
    path = lab.engine.containers.find(made).log_path
    eventually(lambda: os.path.exists(path) and os.path.getsize(path) > 100_000, "some output")
    last = -1
    while last != (last := os.path.getsize(path)):  # until it stands still
        threading.Event().wait(0.3)
    assert lab.state(made)["Status"] == "running"
    assert payload(client.received()) == b"0123456789abcdef\n" * 200_000


@pytest.mark.parametrize("room", [0, 1])
def test_more_clients_than_a_monitor_can_have_end_no_program(lab: Lab, room: int) -> None:
    """One for whom no descriptor is left reads an end of file; so does one without the log."""
    script = "trap 'exit 5' TERM; echo line; while :; do sleep 0.01; done"
    made = lab.start("sh", "-c", script)
    eventually(lambda: payload(lab.logs(made)) == b"line\n", "the line")
    pid = lab.state(made)["Pid"]
    monitor = parent_of(pid)
    eventually(lambda: children(monitor) == [pid], "the creator to be waited for")
    numbers = {int(name) for name in os.listdir(f"/proc/{monitor}/fd")}
    most = max(numbers) + 2
    others = [lab.attach(made) for _ in range(most - len(numbers) - room)]  # in the gaps
    full = most - room
    eventually(lambda: len(os.listdir(f"/proc/{monitor}/fd")) == full, "them to be attached")
    limits = resource.prlimit(monitor, resource.RLIMIT_NOFILE)
    resource.prlimit(monitor, resource.RLIMIT_NOFILE, (most, limits[1]))
    client = stream()
    options = AttachOptions(stream=True, logs=True, stdout=True)
    lab.engine.containers.attach(made, options, client)
    client.socket.close()
    client.received()
    resource.prlimit(monitor, resource.RLIMIT_NOFILE, limits)
    lab.engine.containers.stop(made)
    assert lab.state(made)["ExitCode"] == 5
    assert [one.received() for one in others] == [b""] * len(others)


def test_hundreds_of_clients_wait_for_a_start(lab: Lab) -> None:
    """More than the kernel passes on in one message."""
    made = lab.create("echo", "line")
    clients = [lab.attach(made) for _ in range(300)]
    lab.engine.containers.start(made)
    assert [payload(client.received()) for client in clients] == [b"line\n"] * len(clients)


def test_a_client_that_leaves_stops_nobody(lab: Lab) -> None:
    """The program writes on, into the log."""
    made = lab.create("sh", "-c", "read x; i=0; while [ $i -lt 20000 ]; do echo more; "
                      "i=$((i+1)); done", OpenStdin=True)  # fmt: skip
    client = lab.attach(made, stdin=True)
    waiting = lab.engine.containers.wait(made, "next-exit")
    lab.engine.containers.start(made)
    client.client.sendall(b"go\n")
    client.client.close()
    assert waiting.result()["StatusCode"] == 0
    assert payload(lab.logs(made)) == b"more\n" * 20_000


def test_a_terminal(lab: Lab) -> None:
    """Raw output, a window size, and the detach keys, which end the connection alone."""
    made = lab.create("sh", "-c", "stty size; read x; stty size; sleep 1000", Tty=True,
                      OpenStdin=True, host={"ConsoleSize": [24, 80]})  # fmt: skip
    client = lab.attach(made, stdin=True)
    lab.engine.containers.start(made)
    client.client.settimeout(PATIENCE_S)
    assert client.client.recv(100).startswith(b"24 80")
    lab.engine.containers.resize(made, 30, 100)
    client.client.sendall(b"\n")
    seen = b""
    while b"30 100" not in seen:
        seen += client.client.recv(100)
    subscription = lab.engine.events.subscribe(0, 0, {"event": ["detach"]})
    client.client.sendall(b"\x10")
    client.client.sendall(b"\x11")
    client.received()
    assert next(iter(subscription))["Actor"]["ID"] == made
    subscription.close()
    assert lab.state(made)["Status"] == "running"


def test_other_detach_keys(lab: Lab) -> None:
    """A beginning of them that goes on differently is typed."""
    made = lab.create("cat", Tty=True, OpenStdin=True)
    other = stream()
    options = AttachOptions(stream=True, stdin=True, stdout=True, detach_keys="a,b")
    lab.engine.containers.attach(made, options, other)
    other.socket.close()
    lab.engine.containers.start(made)
    other.client.sendall(b"ax\n")
    other.client.settimeout(PATIENCE_S)
    seen = b""
    while b"ax\r\nax\r\n" not in seen:
        seen += other.client.recv(100)
    other.client.sendall(b"ab")
    other.received()
    with pytest.raises(InvalidArgument, match="Unknown character: 'ctrl-'"):
        lab.engine.containers.attach(made, options.replace(detach_keys="ctrl-"), stream())


def test_exec(lab: Lab) -> None:
    """With the container's namespaces, and its own environment, user and directory."""
    made = lab.start("sleep", "1000", Env=["A=1"])
    code, data = _exec(lab, made, "sh", "-c", "echo $A $B; id -u; pwd; cat; exit 7",
                       Env=["B=2"], User="5:6", WorkingDir="/tmp", AttachStdin=True,
                       stdin=b"typed\n")  # fmt: skip
    assert code == 7
    assert payload(data, 1) == b"1 2\n5\n/tmp\ntyped\n"
    assert lab.engine.containers.inspect(made)["ExecIDs"] is None


def test_an_exec_is_framed_as_its_start_asks(lab: Lab) -> None:
    """Not as its creation did: docker-py's exec_start reads frames, whatever exec_create was told.

    So does the message of a program that is missing.
    """
    made = lab.start("sleep", "1000")
    for tty, framed in ((True, True), (True, False), (False, False)):
        start = {"Tty": not framed}
        _, data = _exec(lab, made, "echo", "a", Tty=tty, start=start)
        line = b"a\r\n" if tty else b"a\n"
        assert (frames(data) if framed else data) == ([(1, line)] if framed else line)
        _, data = _exec(lab, made, "nosuch", Tty=tty, start=start)
        assert (payload(data, 1) if framed else data).startswith(b"OCI runtime exec failed")


def test_exec_with_a_large_environment(lab: Lab) -> None:
    """Half a MiB, in one message."""
    made = lab.start("sleep", "1000")
    variables = [f"V{number}={'x' * 20_000}" for number in range(25)]
    code, data = _exec(lab, made, "sh", "-c", "echo ${#V24}", Env=variables)
    assert (code, payload(data)) == (0, b"20000\n")


@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/etc", 126)])
def test_exec_of_what_cannot_run(lab: Lab, program: str, code: int) -> None:
    """The reason comes in the stream, since the status has been sent."""
    made = lab.start("sleep", "1000")
    status, data = _exec(lab, made, program)
    assert status == code
    assert f'exec: "{program}"'.encode() in payload(data)


def test_exec_needs_a_container_that_runs(lab: Lab) -> None:
    """Docker's words."""
    made = lab.create("sleep", "1000")
    with pytest.raises(Conflict, match=f"container {made} is not running"):
        lab.engine.execs.create(made, {"Cmd": ["true"]})
    lab.engine.containers.start(made)
    lab.engine.containers.pause(made)
    with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
        lab.engine.execs.create(made, {"Cmd": ["true"]})


def test_exec_with_a_broken_configuration_says_so(lab: Lab) -> None:
    """It is the runtime's copy, which only root can write to."""
    made = lab.start("sleep", "1000")
    path = f"{lab.engine.supervisor.state_store.directory(made)}/config.json"
    Path(path).write_text("{")
    one = lab.engine.execs.create(made, {"Cmd": ["true"]})["Id"]
    with pytest.raises(Error, match=r"config\.json can't be read"):
        lab.engine.execs.start(one, {}, None)


def test_exec_ends_with_its_container(lab: Lab) -> None:
    """Also where it is being stopped."""
    made = lab.start("sleep", "1000")
    running = lab.engine.execs.create(made, {"Cmd": ["sleep", "1000"], "AttachStdout": True})["Id"]
    client = stream()
    lab.engine.execs.start(running, {}, client)
    client.socket.close()
    assert lab.engine.execs.inspect(running)["Running"] is True
    lab.engine.containers.stop(made, 0)
    client.received()
    eventually(lambda: lab.engine.execs.inspect(running)["ExitCode"] == 137, "the exec to end")


def _exec(
    lab: Lab,
    made: str,
    *program: str,
    stdin: bytes = b"",
    start: dict[str, bool] | None = None,
    **asked: object,
) -> tuple[int, bytes]:
    body = {"Cmd": list(program), "AttachStdout": True, "AttachStderr": True, **asked}
    identifier = lab.engine.execs.create(made, body)["Id"]
    client = stream()
    lab.engine.execs.start(identifier, start or {}, client)
    client.socket.close()
    if stdin:
        client.client.sendall(stdin)
    client.client.shutdown(socket.SHUT_WR)
    data = client.received()
    eventually(lambda: not lab.engine.execs.inspect(identifier)["Running"], "the exec to end")
    return lab.engine.execs.inspect(identifier)["ExitCode"], data


def test_a_frame_is_a_line(lab: Lab) -> None:
    """Clients that stream expect each line as a frame of its own."""
    made, _ = lab.run("sh", "-c", "echo a; echo b")
    assert frames(lab.logs(made)) == [(1, b"a\n"), (1, b"b\n")]
