"""Context managers of our own: the same as the standard library's."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer import contexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

both = pytest.mark.parametrize("library", [contexts, contextlib], ids=["ours", "python's"])
# What one of a stack's calls does: it may pass, raise, or be a manager that catches.
KINDS = ("pass", "raise", "catch", "catch and raise")


@both
def test_errors_of_the_kinds_named_are_suppressed(library: Any) -> None:
    """Subclasses are of their kind; others pass."""
    with library.suppress(OSError, ValueError):
        raise FileNotFoundError
    with library.suppress(OSError):
        pass
    with pytest.raises(KeyError), library.suppress(OSError, ValueError):
        raise KeyError


def outcome(act: Callable[[list[str]], object]) -> tuple[list[str], str]:
    """Run something that keeps a log; give that, and what it raised."""
    log: list[str] = []
    try:
        act(log)
    except Exception as error:
        return log, repr(error)
    return log, ""


def use_manager(library: Any, inside: str, log: list[str]) -> None:
    """Enter a manager made from a generator, whose block raises, or not."""

    @library.contextmanager  # type: ignore[untyped-decorator]  # of either library
    def manager(name: str, *, catches: bool) -> Iterator[str]:
        log.append("enter")
        try:
            yield name
        except ValueError:
            log.append("caught")
            if not catches:
                raise
        finally:
            log.append("leave")

    for catches in (True, False):
        with manager("x", catches=catches) as name:
            log.append(name)
            if inside:
                raise {"value": ValueError, "key": KeyError}[inside]
        log.append("behind")


@pytest.mark.parametrize("inside", ["", "value", "key"])
def test_a_generator_is_a_context_manager(inside: str) -> None:
    """It sees the block's error where it yielded, and catches it or lets it pass."""
    ours = outcome(lambda log: use_manager(contexts, inside, log))
    theirs = outcome(lambda log: use_manager(contextlib, inside, log))
    assert ours == theirs
    assert "leave" in ours[0]


@both
def test_a_generator_that_yields_twice_is_an_error(library: Any) -> None:
    """Whatever the block did."""

    @library.contextmanager  # type: ignore[untyped-decorator]  # of either library
    def twice() -> Iterator[None]:
        with contextlib.suppress(ValueError):
            yield
        yield

    with pytest.raises(RuntimeError), twice():
        pass
    with pytest.raises(RuntimeError), twice():
        raise ValueError


@both
def test_a_method_may_be_one(library: Any) -> None:
    """Its first argument is the object; its docstring stays."""

    class Thing:
        @library.contextmanager  # type: ignore[untyped-decorator]  # of either library
        def held(self) -> Iterator[Thing]:
            """Hold it."""
            yield self

    thing = Thing()
    assert Thing.held.__doc__ == "Hold it."
    with thing.held() as held:
        assert held is thing


def use_stack(library: Any, kinds: tuple[str, ...], log: list[str], *, inside: bool) -> None:
    """Leave a stack of calls that do what *kinds* says; the block itself may raise."""

    class Catching:
        def __init__(self, name: str, *, raises: bool) -> None:
            self.name, self.raises = name, raises

        def __enter__(self) -> str:
            return self.name

        def __exit__(self, kind: type | None, error: object, trace: object) -> bool:
            log.append(f"{self.name} {kind and kind.__name__} {error!r}")
            if self.raises:
                raise KeyError(self.name)
            return True

    def call(name: str, *, raises: bool) -> bool:
        log.append(name)
        if raises:
            raise ValueError(name)
        return True  # a callback's result means nothing

    with library.ExitStack() as stack:
        for number, kind in enumerate(kinds):
            if kind.startswith("catch"):
                manager = Catching(f"{number}", raises=kind != "catch")
                assert stack.enter_context(manager) == f"{number}"
            else:
                stack.callback(call, f"{number}", raises=kind == "raise")
        if inside:
            raise RuntimeError("inside")
    log.append("behind")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kinds", [*itertools.chain(
    itertools.product(KINDS, repeat=1), itertools.product(KINDS, repeat=3)
)])  # fmt: skip
def test_a_stack_is_left_like_nested_blocks(kinds: tuple[str, ...], inside: bool) -> None:
    """The last first; each sees what came of those inside; all are called, whatever happens."""
    ours = outcome(lambda log: use_stack(contexts, kinds, log, inside=inside))
    theirs = outcome(lambda log: use_stack(contextlib, kinds, log, inside=inside))
    assert ours == theirs


@both
def test_what_a_stack_holds_can_be_moved_and_called_early(library: Any) -> None:
    """As for something half made: taken back, unless it is whole."""
    log: list[str] = []
    with library.ExitStack() as stack:
        stack.callback(log.append, "first")
        kept = stack.pop_all()
        stack.callback(log.append, "second")
    assert log == ["second"]
    kept.close()
    assert log == ["second", "first"]
    kept.close()
    assert log == ["second", "first"]


@both
def test_what_is_pushed_is_told_of_the_exception(library: Any) -> None:
    """And of none, when the stack is closed; where it says so, the exception is caught."""
    told: list[type | None] = []
    with library.ExitStack() as stack:
        stack.push(lambda *_: True)
        stack.push(lambda kind, *_: told.append(kind))
        raise ValueError
    with library.ExitStack() as stack:
        stack.push(lambda kind, *_: told.append(kind))
    assert told == [ValueError, None]
