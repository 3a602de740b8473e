"""Work that says how far it got, as a stream of messages.

The work runs in a thread of its own and calls a function for each message. The reader takes them
from a queue. A reader who leaves ends the work: the next message raises in it.
"""

from __future__ import annotations

import queue
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Message = dict[str, Any]
    Tell = Callable[[Message], None]

_MOST_WAITING = 1024
_SIGN_OF_LIFE_S = 1.0


class Left(BaseException):
    """Nobody reads the messages any more; raised in the work, which has no reason to catch it."""


class _Ended:
    """The last entry of the queue: the work is over."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def streamed(work: Callable[[Tell], object]) -> Iterator[Message]:
    """Do *work* and yield its messages as they come; raise what it raises.

    The work begins with the first message that is asked for. While there is none, an empty one
    comes now and then: whoever passes them on can look whether anybody still reads.
    """
    messages: queue.Queue[Message | _Ended] = queue.Queue(_MOST_WAITING)
    left = threading.Event()

    def tell(message: Message) -> None:
        while not left.is_set():
            try:
                messages.put(message, timeout=1)
                return
            except queue.Full:  # a slow reader slows the work down
                continue
        raise Left

    def run() -> None:
        error: BaseException | None = None
        try:
            work(tell)
        except BaseException as caught:  # the thread ends here
            error = caught
        while not left.is_set():
            try:
                messages.put(_Ended(error), timeout=1)
                return
            except queue.Full:
                continue

    worker = threading.Thread(target=run, name="images", daemon=True)
    worker.start()
    try:
        while not isinstance(message := _next(messages), _Ended):
            yield message
    finally:
        left.set()
    worker.join()
    if message.error is not None:
        raise message.error


def _next(messages: queue.Queue[Message | _Ended]) -> Message | _Ended:
    try:
        return messages.get(timeout=_SIGN_OF_LIFE_S)
    except queue.Empty:
        return {}
