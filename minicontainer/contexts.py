"""What a start needs of contextlib, without what that imports.

contextlib brings collections, functools and operator with it: three thousand lines, 1.3 ms of every
command. What is here works as it does there; a test runs both.

See: contextlib in Python's library reference.
"""

from __future__ import annotations

__all__ = ("ExitStack", "contextmanager", "suppress")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import ExitStack, contextmanager, suppress  # as these the types are checked
    from types import TracebackType
    from typing import Any

    Exit = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], Any]
else:

    class suppress:  # noqa: N801  # the original's name
        """Where the block raises one of these errors, go on behind it.

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
        """The code of a generator, around a block's: until it yields before, the rest behind."""

        def __init__(self, generator: Generator[Any, None, None]) -> None:
            self._generator = generator

        def __enter__(self) -> Any:
            return next(self._generator)

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            try:
                if error is None:
                    next(self._generator)
                else:
                    self._generator.throw(error)  # where it yielded; it may let the error pass
            except StopIteration:
                return True  # the error, if there was one, was caught
            raise RuntimeError("the context manager yields twice")

    def contextmanager(function: Callable[..., Any]) -> Callable[..., _Around]:
        """Make a context manager of a generator function: the block runs where it yields."""

        def made(*args: object, **kwargs: object) -> _Around:
            return _Around(function(*args, **kwargs))

        made.__doc__ = function.__doc__
        return made

    class ExitStack:
        """Calls to be made when a block is left, the last one first, as if blocks were nested."""

        def __init__(self) -> None:
            self._exits: list[Exit] = []

        def __enter__(self) -> ExitStack:
            return self

        def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> bool:
            if not self._exits:
                return False
            leave = self._exits.pop()
            with self:  # the others: they see what comes of this one
                if not leave(kind, error, trace) and error is not None:
                    raise error
            return True

        def callback(self, function: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
            """Have a function called."""
            self._exits.append(lambda *_: function(*args, **kwargs) and None)
            return function

        def push(self, leave: Exit) -> Exit:
            """Have a function called that is told of the block's exception, as __exit__ is."""
            self._exits.append(leave)
            return leave

        def enter_context(self, manager: Any) -> Any:
            """Enter another context manager, to be left with the block; give what it gives."""
            entered = manager.__enter__()
            self._exits.append(manager.__exit__)
            return entered

        def pop_all(self) -> ExitStack:
            """Move the calls to another stack: leaving this block makes none."""
            other = ExitStack()
            other._exits, self._exits = self._exits, other._exits
            return other

        def close(self) -> None:
            """Make the calls now."""
            self.__exit__(None, None, None)
