"""`run --rootfs DIR` in this very process, without an engine."""

from __future__ import annotations

import os
import sys

from minicontainer import steps
from minicontainer.cli.output import say
from minicontainer.cli.run_options import config_from, run_parser
from minicontainer.contexts import contextmanager
from minicontainer.engine.sandbox import Sandbox
from minicontainer.runtime.parent.foreground import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_EXIT_NO_TERMINAL = 1  # as Docker's client


def _window_size() -> tuple[int, ...]:
    from minicontainer.kernel import terminal  # 4 ms that only a terminal costs

    return terminal.window_size(0) if os.isatty(0) else ()


@contextmanager
def _explaining(level: str) -> Iterator[None]:
    """Print the steps of a start meanwhile, if the user asked for it."""
    if not level:
        yield
        return
    from minicontainer.learn.explain import Explainer  # only who asks for it pays for it

    explainer = Explainer(sys.stderr, level)
    steps.listen(explainer, "client")
    try:
        yield
    finally:
        explainer.finish()


def run(argv: list[str], environ: dict[str, str]) -> int:
    """Run a command in a new container, in the foreground."""
    asked = run_parser().parse_args(argv)
    if asked.tty and asked.open_stdin and not os.isatty(0):
        say("the input device is not a TTY: leave -t out, or run this in a terminal")
        return _EXIT_NO_TERMINAL
    config = config_from(asked, environ, _window_size() if asked.tty else ())
    steps.tell_warnings_to(say)
    try:
        with _explaining(asked.explain):
            outcome = Sandbox(asked.data_root, asked.exec_root).run(config, say)
    except Interrupted as interrupt:
        say("interrupted before the container ran: nothing was left behind")
        return 128 + interrupt.number
    if outcome.reason:
        say(outcome.reason)
    return outcome.status
