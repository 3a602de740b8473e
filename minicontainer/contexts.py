"""The part of contextlib that a start needs, without the modules that contextlib imports.

contextlib imports collections, functools and operator: three thousand lines, 1.3 ms of every
command. The names here work as they do there; a test runs both.

See: contextlib in Python's library reference.
"""

from __future__ import annotations

__all__ = ("ExitStack", "contextmanager", "suppress")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import ExitStack, contextmanager, suppress  # type checkers see the originals
    from types import TracebackType
    from typing import Any

    Exit = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], Any]
else:

    class suppress:  # noqa: N801  # the original's name
        """If the block raises one of these errors, continue after it.

        Args:
            kinds: exception classes.
        """

        def __init__(self, *kinds: type[BaseException]) -> None:
            self._kinds = kinds

        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: type | None, error: object, trace: object) -> bool:
            return kind is not None and issubclass(kind, self._kinds)

    class _Around:
        """Run a generator around a block: up to its yield before the block, the rest after it."""

        def __init__(self, generator: Generator[Any, None, None]) -> None:
            self._generator = generator

        def __enter__(self) -> Any:
            return next(self._generator)

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            try:
                if error is None:
                    next(self._generator)
                else:
                    self._generator.throw(error)  # at its yield; it may let the error pass
            except StopIteration:
                return True  # it caught the error, if there was one
            raise RuntimeError("the context manager yields twice")

    def contextmanager(function: Callable[..., Any]) -> Callable[..., _Around]:
        """Make a context manager from a generator function: the block runs at its yield."""

        def made(*args: object, **kwargs: object) -> _Around:
            return _Around(function(*args, **kwargs))

        made.__doc__ = function.__doc__
        return made

    class ExitStack:
        """Calls to make when a block is left, the last one first, as if blocks were nested."""

        def __init__(self) -> None:
            self._exits: list[Exit] = []

        def __enter__(self) -> ExitStack:
            return self

        def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> bool:
            if not self._exits:
                return False
            leave = self._exits.pop()
            with self:  # the remaining calls, which see this one's exception
                if not leave(kind, error, trace) and error is not None:
                    raise error
            return True

        def callback(self, function: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
            """Register a function to call."""
            self._exits.append(lambda *_: function(*args, **kwargs) and None)
            return function

        def push(self, leave: Exit) -> Exit:
            """Register a function that gets the block's exception, as __exit__ does."""
            self._exits.append(leave)
            return leave

        def enter_context(self, manager: Any) -> Any:
            """Enter another context manager, leave it with the block, and return its value."""
            entered = manager.__enter__()
            self._exits.append(manager.__exit__)
            return entered

        def pop_all(self) -> ExitStack:
            """Move the calls to another stack: leaving this block then makes none."""
            other = ExitStack()
            other._exits, self._exits = self._exits, other._exits
            return other

        def close(self) -> None:
            """Make the calls now."""
            self.__exit__(None, None, None)
