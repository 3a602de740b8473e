"""`--explain`, `--step` and `--record`: what a command makes the kernel do, told while it happens.

The command names a story in a header of its requests, and a thread reads the story's events from
the engine: those of the engine's processes and init's. The requests are told by this client.

See: `minicontainer.engine.traces` for the protocol; `minicontainer.learn` for the text.
"""

from __future__ import annotations

import _thread
import posix
import sys

from minicontainer import jsontext, steps
from minicontainer.cli.client import Client, EngineError
from minicontainer.cli.exits import EXIT_ENGINE, EXIT_FAILED, Exit, Lost
from minicontainer.cli.output import say, tell
from minicontainer.contexts import ExitStack, contextmanager, suppress
from minicontainer.errors import Error
from minicontainer.event import Event
from minicontainer.learn import narration
from minicontainer.learn.words import language, translated, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TextIO

    from minicontainer.cli.client import Response
    from minicontainer.cli.flags import Asked
    from minicontainer.cli.stepping import Stepper
    from minicontainer.learn.explain import Explainer
    from minicontainer.learn.recorder import Recorder

    Listener = Callable[[Event, str], None]  # the event, and its line of JSON or ""

HEADER = "Minicontainer-Trace"
_FILTERED_S = 1  # for a step that a system call filter may keep from telling of itself
_PATIENCE_S = 10  # for the last events, once the command is over
_WIDTH = 80


@contextmanager
def told(asked: Asked, name: str) -> Iterator[None]:
    """Tell, or record, what the requests of a command make the kernel do.

    Args:
        name: of the command, as it was typed.
    Raises:
        Exit: the engine is another one, and can't tell; or there is no narration in that language.
    """
    if asked.lang and asked.lang not in narration.languages():
        known = ", ".join(narration.languages())
        raise Exit(f"--lang {asked.lang}: there are {known}", EXIT_ENGINE, prefix=True)
    lang = asked.lang or language(asked.session.environ)
    with _errors_in(lang), ExitStack() as stack:
        session, stepped = asked.session, getattr(asked, "step", False)
        path = f"/minicontainer/traces/{posix.urandom(8).hex()}"
        client = Client(session.address, session.engine_starter)
        # The engine answers while the listeners are made; --step may be refused there.
        answer = None if stepped else client.begin("GET", path)
        listeners = list(_listeners(asked, name, lang, stack))
        stepper = _stepper_in(listeners) if stepped else None
        lock = _thread.allocate_lock()

        def hear(event: Event, line: str = "") -> None:
            with lock:
                for listener in listeners:
                    listener(event, line)

        # what a recorder does, where nobody else listens
        keep: Any = getattr(listeners[0], "keep", None) if len(listeners) == 1 else None
        answer = answer or client.begin("GET", path, {"step": True})
        reader = _Reader(client, path, answer, hear, keep, stepper)
        stack.callback(reader.finish)
        stack.callback(session.client.give_idle_to, reader.client)  # for the reader's last request
        steps.listen(hear, "client", reader.begun_ns)
        stack.callback(steps.listen, None, "client")
        session.client.headers[HEADER] = path.rpartition("/")[2]
        if getattr(asked, "without", None):  # the report comes before what the program prints
            session.started = lambda: reader.wait_for("start-program")
        if stepper is None:
            yield
            return
        session.started = lambda: reader.wait_for("run-program", _FILTERED_S)
        stepper.interruptible(stack)
        try:
            yield
        except (Error, OSError, KeyboardInterrupt):
            if stepper.aborted:
                raise stepper.farewell() from None
            raise


def _stepper_in(listeners: list[Listener]) -> Stepper:
    from minicontainer.cli.stepping import Stepper

    return next(one for one in listeners if isinstance(one, Stepper))


@contextmanager
def _errors_in(lang: str) -> Iterator[None]:
    """Translate what a command complains of; what has no translation stays English."""
    try:
        yield
    except Exit as end:
        raise type(end)(translated(end.args[0], lang), end.status, end.prefix) from None
    except EngineError as error:
        raise Exit(translated(str(error), lang), EXIT_FAILED) from None


def _listeners(asked: Asked, name: str, lang: str, stack: ExitStack) -> Iterator[Listener]:
    if sys.stderr.isatty() and (asked.explain or asked.json or getattr(asked, "without", None)):
        _end_lines("\r\n")
        stack.callback(_end_lines, "\n")
    if getattr(asked, "step", False):
        from minicontainer.cli import stepping  # it can do much: 40 ms

        stepping.check(asked, lang)
        out = stepping.out_of(stack)
        level = "full" if asked.explain == "full" else "calls"
        explainer = _explainer(out, level, lang, asked)
        stepper = stepping.Stepper(asked, explainer, out, lang)
        stack.callback(stepper.close)
        stack.callback(explainer.finish)
        yield stepper
    elif asked.json:
        yield _print_json
    elif asked.explain:
        explainer = _explainer(sys.stderr, asked.explain, lang, asked)
        stack.callback(explainer.finish)
        yield lambda event, _: explainer(event)
    if without := getattr(asked, "without", None):
        yield _LeakReport(without, lang)
    if asked.record:
        yield _recorder(asked.record, f"{name} {' '.join(asked.words)}", stack)


def _end_lines(end: str) -> None:
    """Choose how lines end: while a program with -it has the terminal, each needs a return."""
    errors: Any = sys.stderr
    errors.reconfigure(newline=end)


def _explainer(out: TextIO, level: str, lang: str, asked: Asked) -> Explainer:
    from minicontainer.learn import explain  # 10 ms, which a recording does without

    return explain.Explainer(out, level, lang, asked.plain)


class _LeakReport:
    """Prints what a container can reach because a part was left out: see `engine.probes`."""

    def __init__(self, without: list[str], lang: str) -> None:
        self._without = ", ".join(without)
        self._lang = lang
        self._warned = False

    def __call__(self, event: Event, line: str) -> None:
        """Print a finding, and how to see it oneself in the container; a warning before all."""
        if event.step not in ("look-for-leaks", "take-mounts-back"):
            return
        if not self._warned:  # a start that fails has only the second of these steps
            self._warned = True
            warning = "without {}: for learning only, not for use"
            say(word(warning, self._lang, self._without))
        part, _, what = (event.object or "").removeprefix("leak:").partition(": ")
        if not what:
            return
        import textwrap  # few stories have such a report

        found = translated(f"{what}: {event.after}", self._lang)
        for row in textwrap.wrap(f"{part}: {found}", 74, initial_indent="  ",
                                 subsequent_indent="    ", break_long_words=False):  # fmt: skip
            tell(row)
        how = "    " + word("look yourself: {}", self._lang, event.shell)
        if len(how) > _WIDTH:  # a command is typed as it stands, so it is not broken
            how = how.replace(": ", ":\n      ", 1)
        tell(how)


def _print_json(event: Event, line: str) -> None:
    sys.stderr.write(jsontext.dump(event.to_json()) + "\n")
    sys.stderr.flush()


def _recorder(path: str, command: str, stack: ExitStack) -> Recorder:
    """Make what keeps a recording; a failure on the way is told when the command is over."""
    from minicontainer.learn.recorder import Recorder

    def unkept(error: OSError) -> Exit:
        return Exit(f"--record {path}: {error.strerror or error}", EXIT_ENGINE, prefix=True)

    try:
        file = open(path, "wb")  # noqa: SIM115  # the recorder closes it
    except OSError as error:
        raise unkept(error) from None
    recorder = Recorder(file, command, narration.sources)

    def leave(kind: object, error: BaseException | None, trace: object) -> None:
        failed = recorder.finish()
        if failed and error is None:
            raise unkept(failed)
        if failed:  # what the command itself complains of comes last
            say(str(unkept(failed)))

    stack.push(leave)
    return recorder


class _Reader:
    """Reads a story's events in a thread of its own, until the engine ends it.

    Args:
        path: of the story;  answer: waits for the engine's answer to the request for it.
        hear: gets each event.
        keep: gets the text instead, where nobody needs to know what is in it.
        stepper: says which steps may begin.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        answer: Callable[[], Response],
        hear: Listener,
        keep: Callable[[bytes], None] | None,
        stepper: Stepper | None,
    ) -> None:
        self.client = Client(client.address)  # an engine that is gone is not started again
        self._path = path
        self._hear = hear
        self._keep = keep
        self._stepper = stepper
        try:
            response = answer()
        except EngineError:
            raise Exit(
                f"the engine at {client.address.url} can't tell what it does: it is not "
                "minicontainer's",
                EXIT_ENGINE, prefix=True,
            ) from None  # fmt: skip
        self._lock = _thread.allocate_lock()
        self._begun: set[str] = set()  # the steps
        self._awaited: dict[str, _thread.LockType] = {}  # by step: locked until it has begun
        self._over = _thread.allocate_lock()  # locked until the thread ends
        self._over.acquire()
        self.begun_ns = int(response.headers.get("minicontainer-begun-ns", "0"))
        _thread.start_new_thread(self._read, (response,))

    def _read(self, response: Response) -> None:
        try:
            with suppress(Lost, EngineError, OSError):  # the command itself says what happened
                if self._keep:
                    for block in response.chunks():
                        self._keep(block)
                    return
                for lines in response.lines():
                    for line in lines:
                        self._take(line)
        finally:
            with self._lock:
                self._over.release()
                for lock in self._awaited.values():
                    lock.release()

    def _take(self, line: str) -> None:
        message = jsontext.parse(line)
        container, waits = message.pop("container", ""), message.pop("waiting", False)
        event = Event.of(message)
        if self._stepper is not None and waits:
            begin = self._stepper.decide(event, container)
            self.client.post(f"{self._path}/continue", None, {"Abort": not begin})
            return
        self._hear(event, line)
        if not event.call:
            with self._lock:
                self._begun.add(event.step)
                if lock := self._awaited.pop(event.step, None):
                    lock.release()

    def wait_for(self, step: str, patience_s: float = _PATIENCE_S) -> None:
        """Wait until a step's begin has been told."""
        with self._lock:
            if step in self._begun or not self._over.locked():
                return
            lock = self._awaited[step] = _thread.allocate_lock()
            lock.acquire()
        lock.acquire(timeout=patience_s)

    def finish(self) -> None:
        """Wait for the events that are still on their way; no step waits any more."""
        if self._stepper is not None:
            self._stepper.wake()
        with suppress(EngineError, Lost, OSError):
            answer = self.client.begin("DELETE", self._path)
            if not self.client.address.path:  # TCP takes a request also after the other side's end:
                answer()  # only who waits for the answer sees that, and sends it again
        self._over.acquire(timeout=_PATIENCE_S)
