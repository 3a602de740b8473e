"""Stories: the kernel events of requests, as they happen, for whoever listens.

A client names a story in a header of its requests, `Minicontainer-Trace: NAME`, and reads the
story's events from `GET /minicontainer/traces/NAME`. Each event is one JSON object a line:

    client                                            engine
      │ GET /minicontainer/traces/NAME ─────────────►   │
      │ ◄───────────────────────────── 200, at once ─   │
      │ POST /containers/create [Minicontainer-Trace]   │  this request's thread tells its steps
      │ ◄─────────────────────────────── Event … ────   │
      │ POST /containers/ID/start [Minicontainer-Trace] │  and so do monitor, creator, init
      │ ◄─────────────────────────────── Event … ────   │
      │ DELETE /minicontainer/traces/NAME ──────────►   │  waits for containers that are ending
      │ ◄───────────────────── the end of the answer    │

A reader that asks for it (`?step=1`) also lets each step begin: see `holds`.

The story named `all` has the events of every container from when somebody listens to it.

See: `minicontainer.steps` for the events.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager, suppress

from minicontainer import steps
from minicontainer.engine.holds import Hold
from minicontainer.errors import Conflict, InvalidArgument, NotFound
from minicontainer.event import lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


ALL = "all"
_MOST = 10_000  # packets of events that wait for a slow reader; then it is let go
_GATHER_S = 0.001  # a packet for each event would slow the start down
_LIFE_S = 1.0  # between the empty parts by which the server notices a reader that left


class Story:
    """What a reader of a story gets: an iterator over its text, which any thread may close.

    Attributes:
        hold: where the steps wait for this reader, if they do.
    """

    def __init__(self, traces: Traces, name: str) -> None:
        self.hold: Hold | None = None
        self._traces = traces
        self._name = name
        self._events: queue.Queue[str | None] = queue.Queue(_MOST)
        self._closed = False
        self._ending = threading.Event()

    def put(self, lines: str) -> None:
        """Add events, each a line of JSON."""
        try:
            self._events.put_nowait(lines)
        except queue.Full:
            self.close()

    def __iter__(self) -> Iterator[str]:
        """Yield events as they come, several at a time, and no event as a sign of life."""
        try:
            while not self._closed:
                try:
                    event = self._events.get(timeout=_LIFE_S)
                except queue.Empty:
                    yield ""
                    continue
                found = []
                self._ending.wait(_GATHER_S)  # meanwhile the start goes on, and more come
                while event is not None:
                    found.append(event)
                    if self._events.empty():
                        break
                    event = self._events.get()
                yield "".join(found)
                if event is None:
                    return
        finally:
            self._traces.leave(self._name, self)

    def finish(self) -> None:
        """End the story for this reader when it has read what is there."""
        try:
            self._events.put_nowait(None)
        except queue.Full:
            self.close()
        self._ending.set()

    def close(self) -> None:
        """End the story for this reader."""
        self._closed = True
        self._traces.leave(self._name, self)
        with suppress(queue.Full):  # the reader looks before it takes the next one
            self._events.put_nowait(None)
        self._ending.set()


class Traces:
    """The stories that somebody listens to."""

    def __init__(self) -> None:
        self._readers: dict[str, list[Story]] = {}
        self._begun: dict[str, int] = {}
        self._holds: dict[str, Hold] = {}
        self._lock = threading.Lock()
        self._here = threading.local()

    def read(self, name: str, step: bool = False) -> Story:
        """Begin to listen to a story.

        Args:
            step: each of its steps waits for `proceed`.
        Raises:
            InvalidArgument: the story is everybody's.
            Conflict: its steps wait for another reader.
        """
        if step and name == ALL:
            raise InvalidArgument(f"the story {ALL} is everybody's: its steps wait for nobody")
        story = Story(self, name)
        with self._lock:
            if step:
                if name in self._holds:
                    raise Conflict(f"the steps of the story {name} wait for another reader")
                self._holds[name] = story.hold = Hold(story.put)
            self._readers.setdefault(name, []).append(story)
            self._begun.setdefault(name, time.time_ns())
        return story

    def leave(self, name: str, story: Story) -> None:
        """Stop listening; with its last reader a story ends.

        Where its steps wait for this reader, they wait for nobody now: it is given up.
        """
        with self._lock:
            readers = self._readers.get(name, [])
            if story in readers:
                readers.remove(story)
            if not readers:
                self._readers.pop(name, None)
                self._begun.pop(name, None)
            if story.hold and self._holds.get(name) is story.hold:
                self._holds.pop(name).abort()

    def hold_of(self, name: str) -> Hold | None:
        """Give the hold of a story; None where its steps do not wait."""
        return self._holds.get(name)

    def proceed(self, name: str, abort: bool) -> None:
        """Let the step of a story begin that waits; or give the story up.

        Raises:
            NotFound: no such story waits for its reader;  Conflict: none of its steps waits.
        """
        hold = self._holds.get(name)
        if hold is None:
            raise NotFound(f"no story {name} whose steps wait")
        if abort:
            hold.abort()
        else:
            hold.proceed()

    def end(self, name: str) -> None:
        """End a story for all its readers, behind the events that they have not read yet."""
        with self._lock:
            readers = tuple(self._readers.get(name, ()))
        for story in readers:
            story.finish()

    @contextmanager
    def telling(self, name: str, container_id: str = "") -> Iterator[None]:
        """Let what this thread does be part of a story.

        Args:
            container_id: the container that it is about, if that is known already: see `concern`.
        """
        if not (begun := self._begun.get(name) or self._begun.get(ALL, 0)):
            yield
            return
        here = self._here
        here.name, here.container = name, container_id
        steps.leave_steps()
        steps.pass_on(
            lambda event: self.pass_on(name, lines_of(event), here.container), "engine", begun
        )
        if hold := self._holds.get(name):
            steps.hold(lambda event: hold.wait(event, here.container))
        try:
            yield
        finally:
            steps.hold(None)
            steps.listen(None, "engine")
            self._here.name = ""

    def concern(self, container_id: str) -> None:
        """Let what this thread tells from now on be about a container."""
        self._here.container = container_id

    @property
    def current(self) -> str:
        """The story that this thread's request belongs to, or ""."""
        return getattr(self._here, "name", "")

    def is_read(self, name: str) -> bool:
        """Report whether somebody listens to a story."""
        return name in self._readers

    def begun_ns(self, name: str = "") -> int:
        """Say when a story began, by the wall clock; 0 if nobody listens.

        Args:
            name: "" for the one that this thread's request belongs to.
        """
        return self._begun.get(name or self.current, 0) or self._begun.get(ALL, 0)

    def pass_on(self, name: str, lines: str, container_id: str = "") -> None:
        """Hand events, each a line, to the readers of their story, and to those of all."""
        with self._lock:
            readers = [*self._readers.get(name, ()), *self._readers.get(ALL, ())]
        if readers and container_id:
            lines = lines.replace("}\n", f',"container":"{container_id}"}}\n')
        for story in readers:
            story.put(lines)
