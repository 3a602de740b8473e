"""The events of a bundle's start are what strace(1) saw: the same calls, in the same order.

What an engine starts is compared in tests/learn/test_truth.py. Each process is compared by itself:
in which order two of them run is the scheduler's choice.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minicontainer import steps
from minicontainer.errors import KernelError
from minicontainer.event import Event
from minicontainer.kernel import files, interfaces, namespaces, process
from tests.conftest import CHECKOUT, PATIENCE_S, command
from tests.isolation import strace
from tests.isolation.conftest import Bundles, Spec
from tests.isolation.strace import Call

TRUE = ("/bin/true",)
CAP_NET_RAW = "CAP_NET_RAW"

# Programs of the host that the client runs: for all that nft does one event stands, `nft`; of
# ldconfig it only asks where libseccomp is.
PROGRAMS = ("/nft", "/ldconfig")

# minicontainer-oci as it is, but with a listener that keeps every event. The two marks tell, in the
# trace too, where it begins and ends to listen.
LISTENER = """
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
from minicontainer import steps
from minicontainer.cli.main import exit_status_of
from minicontainer.errors import Error
from minicontainer.runtime.cli import main
from minicontainer.runtime.cli.command_line import Asked
from minicontainer.runtime.cli import create, processes
kept, command, *words = sys.argv[2:]
events = open(kept, "w")
steps.listen(lambda event: print(json.dumps(event.to_json()), file=events, flush=True), "client")
os.mkdir(kept + ".begin")
try:
    if command == "exec":
        root, *arguments = words
        session = main.Session(Asked({"root": [root]}, []), "exec", {})
        status = processes.execute(session, Asked({}, arguments))
    else:
        root, bundle, name = words
        session = main.Session(Asked({"root": [root]}, []), "run", {})
        status = create.run(session, Asked({"bundle": [bundle]}, [name]))
except Error as error:
    print(error, file=sys.stderr)
    status = exit_status_of(error)
os.mkdir(kept + ".end")
os._exit(status)
"""


class Comparison:
    """One start, as strace saw it and as the events tell it.

    Args:
        network: commands that set up a network namespace to start in; None to stay in this one.
    """

    def __init__(self, directory: Path, words: list[str], network: str | None = None) -> None:
        self.kept = directory / "events"
        trace = directory / "trace"
        in_network = ["unshare", "--net", "sh", "-ec", f'{network}\nexec "$@"', "sh"]
        prefix = [] if network is None else in_network
        self.done = subprocess.run(
            [*prefix, "strace", "-ff", "-y", "-X", "verbose", "-s", "1000000", "-o", str(trace),
             "-e", f"trace={','.join((*strace.TRACED, *strace.ANSWERS))}",
             sys.executable, "-B", "-c", LISTENER,
             json.dumps([str(CHECKOUT), *sys.path]), str(self.kept), *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        self.events = [
            Event.from_json(json.loads(line)) for line in self.kept.read_text().splitlines()
        ]
        self.traces = {int(path.suffix[1:]): path for path in directory.glob("trace.*")}
        self.client = next(
            pid for pid, path in self.traces.items() if f"{self.kept}.begin" in path.read_text()
        )

    def seen(self) -> dict[int, list[Call]]:
        """Give what strace saw, by process; of one that became a program, all up to then."""
        found = {}
        for pid, path in self.traces.items():
            text = path.read_text()
            program = re.match(r'execve\("([^"]*)"', text)
            if program and program[1].endswith(PROGRAMS):
                continue
            if pid == self.client:
                middle = text[text.index(f"{self.kept}.begin") : text.index(f"{self.kept}.end")]
                text = middle.partition("\n")[2].rpartition("\n")[0]
            calls = list(strace.read(text, pid, inside=pid != self.client))
            became = [i for i, call in enumerate(calls) if call.name == "execve" and not call.errno]
            found[pid] = calls[: became[0] + 1] if became else calls
        return {pid: calls for pid, calls in found.items() if calls}

    def told(self) -> dict[int, list[Call]]:
        """Give what the events tell, by process."""
        found: dict[int, list[Call]] = {}
        events = [event for event in self.events if event.call]
        for i, event in enumerate(events):
            later = events[i + 1 : i + 2]
            again = [(next_.call, next_.pid) for next_ in later]
            if event.result is None and again == [(event.call, event.pid)]:
                continue  # it came back after all: the next event tells how
            if event.call != "nft":
                found.setdefault(event.pid, []).append(strace.call_of(event))
        return found

    def check(self) -> None:
        """Compare the two, process by process."""
        seen, told = self.seen(), self.told()
        assert told, self.done.stderr
        if 0 in told:  # only the container knows a number for it, so it is the one that is left
            (unnamed,) = seen.keys() - told.keys()
            told[unnamed] = told.pop(0)
        assert told.keys() == seen.keys()
        for pid, calls in seen.items():
            assert told[pid] == calls


def compare_bundle(
    bundles: Bundles,
    change: Callable[[Spec], object],
    words: tuple[str, ...] = TRUE,
    network: str | None = None,
) -> Comparison:
    """Start a bundle under strace."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    _, root, _, _, bundle, name = bundles.write(words, change)[len(command("minicontainer-oci")) :]
    return Comparison(bundles.directory, ["oci", root, bundle, name], network)


def test_the_control(bundles: Bundles) -> None:
    """An event left out, invented, in another place or with another value does not pass."""
    comparison = compare_bundle(bundles, lambda _: None)
    calls = [i for i, event in enumerate(comparison.events) if event.call]
    for changed in (
        lambda events, i: events[:i] + events[i + 1 :],
        lambda events, i: events[: i + 1] + events[i:],
        lambda events, i: [*events[:i], events[i].replace(errno=1), *events[i + 1 :]],
        lambda events, i: [*events[:i], events[i].replace(args=(7,)), *events[i + 1 :]],
        lambda events, i: [events[i], *events[:i], *events[i + 1 :]],
    ):
        kept = comparison.events
        comparison.events = changed(kept, calls[len(calls) // 2])
        with pytest.raises(AssertionError):
            comparison.check()
        comparison.events = kept
    comparison.check()


def _time(spec: Spec) -> None:
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"monotonic": {"secs": 86400}, "boottime": {"secs": 5}}


def _everything(spec: Spec) -> None:
    process = spec["process"]
    for kind in ("bounding", "permitted", "effective", "inheritable", "ambient"):
        process["capabilities"][kind] = [CAP_NET_RAW, "CAP_KILL"]
    process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    process["oomScoreAdj"] = 100
    process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 5}
    spec["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    spec["linux"]["personality"] = {"domain": "LINUX32"}
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "4096"}
    process["user"] = {"uid": 5, "gid": 6, "additionalGids": [7, 8]}
    spec["domainname"] = "example"
    device = {"path": "/dev/owned", "type": "c", "major": 1, "minor": 3, "uid": 5, "gid": 6}
    spec["linux"]["devices"] = [device, {"path": "/dev/pipe", "type": "p"}]
    spec["linux"]["rootfsPropagation"] = "rslave"
    spec["mounts"] += [
        {"destination": "/fs", "type": "tmpfs", "source": "fs", "options": ["rshared", "sync"]},
        {"destination": "/tree", "source": "/usr/share", "options": ["rbind", "rro", "rslave"]},
    ]


def _hooks(*kinds: str) -> Callable[[Spec], object]:
    return lambda spec: spec.update(hooks={kind: [{"path": "/bin/true"}] for kind in kinds})


@pytest.mark.parametrize(
    "kinds",
    [
        ("prestart", "createRuntime", "createContainer", "poststart", "poststop"),
        ("startContainer",),  # by itself: like createContainer's, its number is known inside alone
    ],
)
def test_hooks(bundles: Bundles, kinds: tuple[str, ...]) -> None:
    """Whoever runs them, the runtime or init."""
    comparison = compare_bundle(bundles, _hooks(*kinds))
    assert comparison.done.returncode == 0, comparison.done.stderr
    assert {event.actor for event in comparison.events} == {"client", "init", "hook"}
    comparison.check()


def _mounts(spec: Spec) -> None:
    spec["mounts"] += [
        {"destination": "/etc", "type": "tmpfs",
         "options": ["tmpcopyup", "ro", "size=4096k,nr_inodes=99"]},
        {"destination": "/etc/deep/share", "source": "/usr/share", "options": ["bind", "ro"]},
        {"destination": "/etc", "options": ["remount", "nodev"]},
        {"destination": "/tmp", "type": "tmpfs", "options": ["sync"]},
        {"destination": "/tmp/link", "source": "/proc/self", "options": ["bind", "copy-symlink"]},
        {"destination": "/tmp/mapped", "source": "/usr/share", "options": ["bind"],
         "uidMappings": [{"containerID": 0, "hostID": 1, "size": 9}],
         "gidMappings": [{"containerID": 0, "hostID": 1, "size": 9}]},
    ]  # fmt: skip
    spec["linux"]["rootfsPropagation"] = "shared"
    spec["linux"]["maskedPaths"] += ["/etc/passwd", "/usr"]
    spec["process"]["user"] = {"uid": 5, "gid": 6}


def _own_dev(spec: Spec) -> None:
    """The image's /dev, in a user namespace, where devices are bound."""
    maps = [{"containerID": 0, "hostID": 0, "size": 65536}]
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"] |= {"uidMappings": maps, "gidMappings": maps}
    spec["mounts"] = [row for row in spec["mounts"] if "/dev" not in row["destination"]]


@pytest.mark.parametrize("change", [_time, _everything, _mounts, _own_dev])
def test_a_bundle(bundles: Bundles, change: Callable[[Spec], object]) -> None:
    """What a bundle can ask for, and the command can't."""
    comparison = compare_bundle(bundles, change)
    assert comparison.done.returncode == 0, comparison.done.stderr
    comparison.check()


@pytest.mark.parametrize("change", [lambda _: None, _everything], ids=["default", "everything"])
def test_exec(bundles: Bundles, change: Callable[[Spec], object]) -> None:
    """A joiner enters all namespaces at once, and the program takes its own steps."""
    running = bundles.start("echo ready; sleep 600", change)
    root, name = str(bundles.directory / "state"), str(running.state["id"])
    comparison = Comparison(bundles.directory, ["exec", root, name, *TRUE])
    assert comparison.done.returncode == 0, comparison.done.stderr
    assert {event.actor for event in comparison.events} == {"client", "joiner", "init"}
    comparison.check()


def test_an_interface_that_moves(bundles: Bundles) -> None:
    """Away from the host, its address given back to it; and what strace saw of netlink."""

    def change(spec: Spec) -> None:
        spec["linux"]["netDevices"] = {"dev0": {"name": "eth7"}}

    made = "ip link add dev0 type veth peer name far0; ip address add 10.9.8.7/24 dev dev0"
    comparison = compare_bundle(bundles, change, network=made)
    assert comparison.done.returncode == 0, comparison.done.stderr
    sent = [event.call for event in comparison.events if event.step == "move-net-devices"]
    assert [call for call in sent if call.startswith("RTM_")] == [
        "RTM_NEWLINK", "RTM_NEWADDR", "RTM_NEWLINK",
    ]  # fmt: skip
    comparison.check()


def test_another_clock(bundles: Bundles) -> None:
    """The times of events are on one scale, also of a process whose clock was shifted."""
    moments = [event.t for event in compare_bundle(bundles, _time).events]
    assert min(moments) >= 0
    assert max(moments) < PATIENCE_S * 10**9


def test_a_mount_option_that_is_refused(bundles: Bundles) -> None:
    """In the middle of a step: what the new file system already was, goes by itself."""

    def change(spec: Spec) -> None:
        spec["mounts"].append(
            {"destination": "/fs", "type": "tmpfs", "source": "fs", "options": ["nonsense=1"]}
        )

    comparison = compare_bundle(bundles, change)
    (refused,) = (event for event in comparison.events if event.call == "fsconfig" and event.errno)
    assert refused.args[2:4] == ("nonsense", "1")
    comparison.check()


def _rlimit(spec: Spec) -> None:
    limit = 3 * 10**9
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": limit, "hard": limit}]


def _no_processor(spec: Spec) -> None:
    spec["linux"]["resources"] = {"cpu": {"cpus": "4095"}}


def _below_a_file(spec: Spec) -> None:
    mount = {"destination": "/bin/busybox/below", "type": "tmpfs", "source": "x"}
    spec["mounts"].append(mount)


FAILURES: dict[str, tuple[Callable[[Spec], object], tuple[str, ...]]] = {
    "no such program": (lambda _: None, ("/bin/nonsense",)),
    "a limit too high": (_rlimit, TRUE),
    "no such processor": (_no_processor, TRUE),
    "mount over a file's child": (_below_a_file, TRUE),
}


@pytest.mark.parametrize(("change", "words"), FAILURES.values(), ids=FAILURES.keys())
def test_a_start_that_fails(
    bundles: Bundles, change: Callable[[Spec], object], words: tuple[str, ...]
) -> None:
    """What was done until then, the call that failed with its error, and what is taken back."""
    comparison = compare_bundle(bundles, change, words)
    assert comparison.done.returncode != 0
    comparison.check()


# -- what no start gets to -----------------------------------------------------------------------


@pytest.fixture
def events() -> Any:
    """The events of this process."""
    kept: list[Event] = []
    steps.listen(kept.append, "client")
    yield kept
    steps.listen(None, "client")


@pytest.mark.parametrize(
    ("act", "call", "error"),
    [
        (lambda: namespaces.clone3(0x200 | namespaces.CLONE_NEWNS), "clone3", errno.EINVAL),
        (lambda: process.set_rlimit("RLIMIT_CORE", 2, 1), "prlimit64", errno.EINVAL),
        (lambda: files.make_dir("/proc/nonsense"), "mkdir", errno.ENOENT),
    ],
)
def test_a_refused_call_is_told_with_its_error(
    events: list[Event], act: Callable[[], object], call: str, error: int
) -> None:
    """The event has the result, the error, and no value that the call did not set."""
    with pytest.raises(KernelError) as raised:
        act()
    (event,) = events
    assert (event.call, event.result, event.after) == (call, -1, None)
    assert event.errno == raised.value.errno == error


def test_what_was_not_called_is_not_told(events: list[Event]) -> None:
    """An interface that is not there is found missing by a question, which changes nothing."""
    with pytest.raises(KernelError):
        interfaces.set_up("nonsense0")
    assert events == []
