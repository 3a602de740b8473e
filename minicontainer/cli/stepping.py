"""`--step`: the reader of a story lets each step begin, at a prompt on the terminal.

    engine ── a step waits ──► its heading and reason, commands to look with, the prompt
           ◄── continue ────── Enter; a step's name, or c: those before it are let go at once
           ◄── abort ───────── q, Ctrl-C, Ctrl-D: the engine undoes everything

A thread reads the story, and asks; the command's own request waits meanwhile in the main thread.

See: `minicontainer.engine.holds` for the other side; `minicontainer.learn.predictions`.
"""

from __future__ import annotations

import difflib
import os
import select
import time

from minicontainer.cli.exits import EXIT_ENGINE, Exit
from minicontainer.contexts import suppress
from minicontainer.kernel import signals, terminal
from minicontainer.learn import looks, narration, predictions
from minicontainer.learn.words import word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack
    from typing import TextIO

    from minicontainer.cli.flags import Asked
    from minicontainer.event import Event
    from minicontainer.learn.explain import Explainer
    from minicontainer.learn.predictions import State

EXIT_ABORTED = 130  # as if Ctrl-C had ended it
_LAST = "run-program"
_INTERRUPT = b"\x03"
_SAME_KEY = {"й": "q", "\u0441": "c", ",": "?"}  # on a keyboard that is switched to Russian
_EXEC_S = 2.0  # for execve(2), once it was noted


class Aborted(Exception):
    """The user gave the start up."""


class Over(Exception):
    """The command has ended while a step waited: the engine is gone, or was told by others."""


def check(asked: Asked, lang: str) -> None:
    """Refuse what can't be stepped through.

    Raises:
        Exit: no terminal, an unknown step, or options that exclude each other.
    """
    if not os.isatty(0):
        raise _refused("--step needs a terminal, and standard input is none: use --explain")
    if asked.json:
        raise _refused("--step and --json exclude each other: use --record to keep the events")
    if (name := asked.until) and name not in narration.known_steps():
        raise _refused(f"--until {name}: {_no_such_step(name, lang)}")
    if asked.predict:
        if not asked.session.address.path:
            raise _refused("--predict reads /proc of the engine's host: use an engine on this host")
        if os.geteuid() != 0:
            raise _refused("--predict reads /proc of root's processes: use sudo")


def _refused(message: str) -> Exit:
    return Exit(message, EXIT_ENGINE, prefix=True)


def _no_such_step(name: str, lang: str) -> str:
    near = difflib.get_close_matches(name, narration.known_steps(), 1, 0.4)
    if near:
        return word("there is no step {}: did you mean {}?", lang, name, near[0])
    return word("there is no step {}: --explain=steps lists those of a start", lang, name)


def out_of(stack: ExitStack) -> TextIO:
    """Open where the prompt appears: standard error, or the terminal if that leads elsewhere."""
    fd = os.dup(2) if os.isatty(2) else os.open(os.ttyname(0), os.O_WRONLY | os.O_CLOEXEC)
    # With returns: the last words come when a program with a terminal (-it) may run.
    return stack.enter_context(open(fd, "w", encoding="utf-8", newline="\r\n"))


class Stepper:
    """The reader at the prompt.

    Args:
        asked: the command line.
        explainer: tells the story.
        out: the terminal;  lang: the language of the words around the steps.

    Attributes:
        aborted: whether the user gave the start up.
    """

    def __init__(self, asked: Asked, explainer: Explainer, out: TextIO, lang: str) -> None:
        self._explainer = explainer
        explainer.thorough = True
        self._client = asked.session.invocation
        self._out = out
        self._lang = lang
        self._level = explainer.level
        self._until = asked.until  # the step to run to
        self._to_the_end = False
        self._predicts = asked.predict
        self._asked_about: tuple[set[str], State] | None = None
        self._seen: list[str] = []
        self._init = 0  # the container's first process
        self._helped = False
        self._interrupted, self._interrupt = os.pipe2(os.O_CLOEXEC)
        self._over = False
        self._asking = False  # at the prompt
        self._waiting = ""  # the step that the user was asked about
        self._status = EXIT_ABORTED
        self.aborted = False

    def __call__(self, event: Event, line: str = "") -> None:
        """Tell of an event."""
        if (
            event.step == "fork-init"
            and event.call == "clone3"
            and event.result
            and event.result > 0
        ):
            self._init = event.result
        self._explainer(event)
        if event.step == _LAST and event.call == "execve":
            self._await_program()

    def decide(self, event: Event, container: str) -> bool:
        """Show a step that waits, and ask; say whether it may begin.

        Args:
            container: the container's ID; "" before it has one.
        """
        self._waiting = event.step
        if self.aborted:
            return False
        self._explainer.finish()
        self._judge()
        passing = self._to_the_end or self._until not in ("", event.step)
        self._explainer.level = "steps" if passing else self._level
        self._explainer(event)
        if not passing:
            self._until = ""
            self._asking = True
            try:
                self._ask(event, container)
            except (Aborted, Over, OSError) as end:  # OSError: the terminal has hung up
                self.aborted = self.aborted or not isinstance(end, Over)
                self._explainer.level = "steps"  # of the undo
                return False
            finally:
                self._asking = False
        self._seen.append(event.step)
        self._over = event.step == _LAST
        return True

    def _ask(self, event: Event, container: str) -> None:
        step = event.step
        seen = self._seen[-1:] if self._seen[-1:] == ["fork-init"] else []  # no pid until now
        told = (looks.commands(s, self._init, container, self._client) for s in (*seen, step))
        self._show_commands(dict.fromkeys(command for some in told for command in some))
        with terminal.line_mode(0):
            if self._predicts:
                self._predict()
            if not self._helped:
                self._help()
            while (typed := self._read(f"{step}> ").strip()) != "":
                typed = _SAME_KEY.get(typed, typed)
                if typed == "q":
                    raise Aborted
                if typed == "?":
                    self._help()
                    self._show_commands(looks.commands("", self._init, container, self._client))
                elif typed == "c":
                    self._to_the_end = True
                    return
                elif typed in self._seen:
                    behind = "{} is behind: what was done is undone by q alone"
                    self._write(word(behind, self._lang, typed))
                elif typed == step or typed not in narration.known_steps():
                    self._write(_no_such_step(typed, self._lang) if typed != step else "")
                else:
                    self._until = typed
                    return

    def _help(self) -> None:
        self._helped = True
        lang = self._lang
        self._write(
            "   " + word("Enter takes this step; the name of a step runs to it", lang),
            "   " + word("c runs to the end; q or Ctrl-C undoes everything and leaves", lang),
            "   " + word("? shows this, and the commands to look with of all steps", lang),
        )

    def _show_commands(self, commands: Iterable[str]) -> None:
        lines = [f"     # {command}" for command in commands]
        if lines:
            self._write("   " + word("Look from another terminal:", self._lang), *lines)

    def _write(self, *lines: str) -> None:
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()

    def _read(self, prompt: str) -> str:
        """Read a line from the terminal.

        Raises:
            Aborted: Ctrl-C or Ctrl-D;  Over: the command has ended.
        """
        self._out.write(prompt)
        self._out.flush()
        line = b""
        while not line.endswith(b"\n"):
            poll = select.poll()
            poll.register(0, select.POLLIN)
            poll.register(self._interrupted, select.POLLIN)
            if self._interrupted in dict(poll.poll()):
                self._write("")
                raise Over
            block = os.read(0, 4096)
            if not block or _INTERRUPT in block:
                self._write("")
                raise Aborted
            line += block
        return line.decode("utf-8", "replace")

    # --- predictions ------------------------------------------------------------------------

    def _predict(self) -> None:
        """Ask what the step will change, if there is a process to be changed."""
        state = predictions.look(self._init) if self._init else None
        if state is None:
            return
        self._write(*(f"   {line}" for line in predictions.choices(state, self._lang)))
        while (said := predictions.answer(self._read("? ").strip(), state)) is None:
            self._write(f"   {predictions.refusal(state, self._lang)}")
        self._asked_about = said, state

    def _judge(self) -> None:
        """Show what the step changed that was asked about."""
        if self._asked_about is None:
            return
        (said, before), self._asked_about = self._asked_about, None
        after = predictions.look(self._init)
        if after is None:
            ended = "the process has ended: nothing is left to look at"
            self._write("   " + word(ended, self._lang))
            return
        found = predictions.changes(before, after)
        self._write(*(f"   {line}" for line in predictions.verdict(said, found, self._lang)))

    def _await_program(self) -> None:
        """Wait until execve(2), which was noted before it was called, has happened."""
        if self._asked_about is None:
            return
        self._explainer.finish()
        before = self._asked_about[1]["program"]["program"]
        deadline = time.monotonic() + _EXEC_S
        with suppress(OSError):  # it has ended
            while time.monotonic() < deadline:
                if os.readlink(f"/proc/{self._init}/exe") != before:
                    break
                time.sleep(0.001)
        self._judge()

    # --- the end ----------------------------------------------------------------------------

    def interruptible(self, stack: ExitStack) -> None:
        """Have Ctrl-C, where no prompt reads it, give the start up; the program has its own."""

        def interrupt(number: int, _: object) -> None:
            if not self._over:
                self.aborted, self._status = True, 128 + number
            self.wake()
            if not self._asking:  # otherwise the engine hears of it, and answers when all is undone
                raise KeyboardInterrupt

        for number in (signals.SIGINT, signals.SIGTERM):
            stack.callback(signals.handle, number, signals.handle(number, interrupt))

    def wake(self) -> None:
        """End the wait at the prompt: the command is over."""
        os.write(self._interrupt, b"x")

    def close(self) -> None:
        """Say what did not come, and close the pipe: nobody waits any more."""
        if self._until and not self.aborted and self._over:
            never = "no step {} came: this container has none"
            self._write(word(never, self._lang, self._until))
        os.close(self._interrupted)
        os.close(self._interrupt)

    def farewell(self) -> Exit:
        """Give the last word of a command that was given up."""
        if self._waiting:
            told = f"aborted before {self._waiting}: everything was undone"
        else:
            told = "aborted: everything was undone"
        return Exit(told, self._status, prefix=True)
