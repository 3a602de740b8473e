"""An engine under strace(1), and what strace saw of one command's work in it.

Everything that the engine starts is traced too: the spawner, the monitors, init, nft. strace
writes a file for each thread. An operation's part of these files lies between two looks at their
sizes, since nothing else works in the engine meanwhile.

The engine's threads count as one process, in the order of their calls: a request and the end of
a container are told by different threads.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

from minicontainer.engine import protocol
from minicontainer.event import Event
from tests.conftest import wait_until
from tests.isolation import strace
from tests.isolation.strace import Call
from tests.learn.conftest import Engine

# Plain files count nowhere but here: with them a container's directory comes and goes.
_CONTAINERS = re.compile(r'rename\("(.*/data/containers/[0-9a-f]{64})", "([^"]*)"\) = 0$')
_THREAD = re.compile(r"CLONE_THREAD.* = (\d+)$", re.MULTILINE)
_CHILD = re.compile(r"(?:clone3?|vfork)\(.*\) += (\d+)$")
_PIPE_WRITE = re.compile(r'write\(\d+<pipe:\[\d+\]>, ("(?:[^"\\]|\\.)*")')
_BECAME = re.compile(r"^\S+ execve\(.*\) += ", re.MULTILINE)
_NAMED = re.compile(r'PR_SET_NAME[^"]*"([^"]+)"')
_NFT = re.compile(r'^\S+ execve\("[^"]*/nft"', re.MULTILINE)
# Python asks it where libseccomp is, when a filter is compiled; it changes nothing.
_LDCONFIG = re.compile(r'\S+ execve\("[^"]*/ldconfig"')


class TracedEngine(Engine):
    """An engine that strace follows, with all that it starts.

    Args:
        daemon: the command whose first word is `daemon`; the installed one by default.
    """

    def __init__(self, daemon: tuple[str, ...] = ()) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="minicontainer-trace-"))
        calls = ",".join((*strace.TRACED, "vfork", *strace.ANSWERS))
        around = (
            "strace", "-ff", "-ttt", "-y", "-X", "verbose", "-s", "1000000",
            "-o", str(self._directory / "t"), "-e", f"trace={calls}", "-e", "signal=none",
        )  # fmt: skip
        super().__init__(around, daemon)

    @property
    def pid(self) -> int:
        """The engine's process: strace's child."""
        (child,) = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        return int(child)

    def texts(self) -> dict[int, str]:
        """Read what strace wrote until now, by thread; a line that is not whole yet left out."""
        files = {int(path.suffix[1:]): path for path in self._directory.glob("t.*")}
        whole = {tid: path.read_text() for tid, path in files.items()}
        return {tid: text[: text.rfind("\n") + 1] for tid, text in whole.items()}

    def close(self) -> None:
        """End the engine, and remove its traces."""
        super().close()
        for path in self._directory.iterdir():
            path.unlink()
        self._directory.rmdir()


class Operation:
    """What one command made the kernel do: as strace saw it, and as the events tell it.

    Args:
        engine: under strace.
        words: the command; `--json` is added after its first word.
        status: the exit status that it must have.
    """

    def __init__(self, engine: TracedEngine, *words: str, status: int = 0) -> None:
        before = engine.texts()
        verb, *others = words
        self.done = engine(verb, "--json", *others, status=status)
        lines = self.done.errors.splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        self.events = [Event.from_json(event) for event in told if event["actor"] != "client"]
        # execve(2) closes the channel to who waits for it before strace writes how it ended
        became = {event.pid for event in self.events if event.call == "execve" and event.pid}
        wait_until(
            lambda: all(_BECAME.search(engine.texts().get(pid, "")) for pid in became),
            "strace to write of each execve",
        )
        self._texts = engine.texts()
        # A monitor and its creator were forked ahead, and the story tells what they did since then.
        # Those that are forked now, for the next story, have no part in this one.
        ahead = {
            event.pid for event in self.events if event.t < 0 and event.actor in ("creator", "exec")
        }
        waiting = {
            tid for tid, text in self._texts.items() if _NAMED.findall(text) == [protocol.WAITING]
        }
        self._new = {
            tid: text if tid in ahead else text[len(before.get(tid, "")) :]
            for tid, text in self._texts.items()
            if tid not in waiting
        }
        self._actors = {event.pid for event in self.events} - {0}
        # Of those that forked them, an earlier fork counts, and nothing else that was earlier.
        forks = ("fork-child", "fork-creator")
        self._forkers = {e.pid for e in self.events if e.call == "fork" and e.step in forks}
        for pid in self._forkers:
            self._new[pid] = self._earlier_forks(pid, before) + self._new.get(pid, "")
        self._engine = engine.pid
        self._threads = self._threads_of(engine.pid)

    def _earlier_forks(self, pid: int, before: dict[int, str]) -> str:
        """Give the lines of the story's forks that strace wrote before the command began."""
        earlier = self._texts.get(pid, "")[: len(before.get(pid, ""))]
        return "".join(
            line
            for line in earlier.splitlines(keepends=True)
            if (child := _CHILD.search(line)) and int(child[1]) in self._actors
        )

    def _threads_of(self, pid: int) -> set[int]:
        found, waiting = {pid}, [pid]
        while waiting:
            made = {int(tid) for tid in _THREAD.findall(self._texts.get(waiting.pop(), ""))}
            waiting += made - found
            found |= made
        return found

    def seen(self) -> dict[int, list[Call]]:
        """Give what strace saw, by process."""
        found: dict[int, list[tuple[float, Call]]] = {}
        for tid, text in self._new.items():
            if not self._is_nft(tid) and not _LDCONFIG.match(self._texts[tid]):
                pid = self._engine if tid in self._threads else tid
                found.setdefault(pid, []).extend(self._calls(tid, pid, text.splitlines()))
        return {
            pid: [
                call
                for _, call in sorted(calls, key=lambda timed: timed[0])
                if not self._is_for_another(pid, call)
            ]
            for pid, calls in found.items()
            if calls
        }

    def _is_for_another(self, pid: int, call: Call) -> bool:
        """Say whether a process was forked for another story."""
        forks = pid in self._forkers and call.name == "fork"
        return forks and call.result not in self._actors

    def _is_nft(self, tid: int) -> bool:
        return bool(_NFT.search(self._texts.get(tid, "")))

    def _calls(self, tid: int, pid: int, lines: list[str]) -> Iterator[tuple[float, Call]]:
        times = [float(line.partition(" ")[0]) for line in lines]
        bare = [line.partition(" ")[2] for line in lines]
        last = len(bare)
        for number, call in strace.read_numbered(bare, pid, inside=self._is_inside(tid)):
            if call.name.startswith("RTM_"):
                yield times[number], call._replace(args=(bare[number],))
            elif call.name != "vfork":  # by subprocess: the program is looked at below
                yield times[number], call
            if call.name == "execve" and not call.errno:
                last = number  # what follows is the program's
                break
        for number, line in enumerate(bare[:last]):
            child = _CHILD.match(line)
            if child and self._is_nft(int(child[1])):
                written = filter(None, map(_PIPE_WRITE.match, bare[number:]))
                rules = ast.literal_eval(f"b{next(written)[1]}").decode()
                yield times[number], Call("nft", ("-f", "-", rules), 0, 0)
            elif found := _CONTAINERS.match(line):
                yield times[number], Call("rename", found.groups(), 0, 0)

    def _is_inside(self, tid: int) -> bool:
        """Say whether a process makes files in a container's root: init, and what it forks."""
        actors = {event.actor for event in self.events if event.pid == tid}
        return bool(actors & {"init", "joiner", "program", "hook"})

    def told(self) -> dict[int, list[Call]]:
        """Give what the events tell, by process."""
        found: dict[int, list[Call]] = {}
        # what the engine decided about an image is no system call
        calls = [e for e in self.events if e.call and not (e.object or "").startswith("image:")]
        for i, event in enumerate(calls):
            later = next((one for one in calls[i + 1 :] if one.pid == event.pid), None)
            if event.result is None and later is not None and later.call == event.call:
                continue  # it came back: the next event tells how
            call = strace.call_of(event)
            if event.call.startswith("RTM_"):
                call = call._replace(args=tuple(event.args))
            found.setdefault(event.pid, []).append(call)
        return found

    def check(self) -> None:
        """Compare the two, process by process: the same calls, in the same order."""
        seen, told = self.seen(), self.told()
        if 0 in told:  # only the container knows a number for it, so it is the one that is left
            (unnamed,) = seen.keys() - told.keys()
            told[unnamed] = told.pop(0)
        assert told.keys() == seen.keys()
        for pid, calls in seen.items():
            for i, (call, event) in enumerate(zip(calls, told[pid], strict=False)):
                if call.name == event.name and call.name.startswith("RTM_"):
                    assert [word for word in event.args if not _mentions(call.args[0], word)] == []
                    calls[i] = call._replace(args=event.args)
            assert told[pid] == calls


def _mentions(line: str, word: str) -> bool:
    """Say whether a netlink message, as strace wrote it, has a word of the event.

    strace knows the fields only of sockets in its own network namespace. Of others the addresses
    are looked for, among the bytes; links stand there by number. So does a link that is gone when
    strace looks for its name: the end of a container's namespace takes it along.
    """
    name, equals, value = word.rpartition("=")
    if name in ("kind", "gateway", "broadcast", "peer", "address") or not equals:
        try:
            address = IPv4Interface(value).ip
        except ValueError:
            is_verb = value in ("add", "set", "up", "default")
            is_far = "NLMSG_???" in line and re.fullmatch(r"eth\d+", value)
            is_gone = re.search(r"ifi_index=\d", line) and re.fullmatch(r"mc[0-9a-f]+", value)
            return bool(is_verb or is_far or is_gone or _has_bytes(line, value))
        return _has_bytes(line, address.packed)
    return True


def _has_bytes(line: str, value: str | bytes) -> bool:
    if isinstance(value, bytes):
        return "".join(f"\\x{byte:02x}" for byte in value) in line
    if re.fullmatch(r"(\w\w:){5}\w\w", value):
        return value in line or _has_bytes(line, bytes.fromhex(value.replace(":", "")))
    return f'"{value}"' in line or _has_bytes(line, value.encode())
