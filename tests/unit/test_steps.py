"""Recipes and events: who is told of what, under which step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from minicontainer import jsontext, steps
from minicontainer.event import Event, Unsent, lines_of, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.event import Unwritten


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    """Listen during a test."""
    found: list[Event] = []
    steps.leave_steps()  # an earlier test may have seen one fail
    steps.listen(found.append, "client")
    yield found
    steps.listen(None, "")


def test_without_a_listener_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note costs one `if`: neither an event nor its line is made, which both ask for the step."""
    monkeypatch.setattr(steps, "_named", None)
    assert not steps.listening()
    steps.note("mount")
    for listen in (steps.listen, steps.pass_on):  # the control
        listen(print, "client")
        with pytest.raises(TypeError, match="NoneType"):
            steps.note("mount")
        steps.listen(None, "")


def calls(events: list[Event]) -> list[tuple[str, str]]:
    """List step and call, without the events that a step begins with."""
    return [(event.step, event.call) for event in events if event.call]


def test_a_note_is_an_event(heard: list[Event]) -> None:
    """With who, when, and what the caller says of it."""
    assert steps.listening()
    steps.note("mount", ("a", 1), -1, 13, object="mount:/x", before="", after="", shell="mount a")
    (event,) = heard
    assert (event.call, event.args, event.result, event.errno) == ("mount", ("a", 1), -1, 13)
    assert (event.actor, event.pid, event.step) == ("client", os.getpid(), "")
    assert event.t >= 0


def test_events_are_timed_in_order(heard: list[Event]) -> None:
    """And numbered from where the listener began."""
    for call in ("a", "b", "c"):
        steps.note(call)
    assert [(event.seq, event.call) for event in heard] == [(1, "a"), (2, "b"), (3, "c")]
    assert heard[0].t <= heard[1].t <= heard[2].t


def lines_of_child(actor: str, call: str) -> str:
    """Write an event as a child does that passes it on to its parent."""
    unsent = Unsent()
    steps.pass_on(unsent.add, actor, to_parent=True)
    steps.note(call, ("x\n", 1), -1, 2, object="o", before="\udcff", after="é", shell='"')
    steps.listen(None, "")
    return unsent.take()


OWN = os.getpid()


@pytest.mark.parametrize(
    ("way", "heard"),
    [
        ("listens", [(1, OWN, "a"), (2, 4711, "b"), (3, 0, "c"), (4, OWN, "d")]),
        ("passes on", [(1, OWN, "a"), (2, 4711, "b"), (3, 0, "c"), (4, OWN, "d")]),
        # who has a parent itself: that one gives the numbers, and the pid of its own child alone
        ("to its parent", [(None, None, "a"), (None, 0, "b"), (None, 0, "c"), (None, None, "d")]),
    ],
)
def test_a_childs_events_get_their_numbers(
    way: str, heard: list[tuple[int | None, int | None, str]]
) -> None:
    """Where they arrive; the program tells its parent that its pid means nothing there."""
    found: list[dict[str, object]] = []

    def take(event: Unwritten | str) -> None:
        found.extend(map(jsontext.parse, lines_of(event).splitlines()))

    child = lines_of_child("init", "b") + lines_of_child("program", "c")
    if way == "listens":
        steps.listen(lambda event: take(written(event)), "monitor")
    else:
        steps.pass_on(take, "monitor", to_parent=way == "to its parent")
    try:
        steps.note("a")
        steps.deliver(child, 4711)
        steps.note("d")
    finally:
        steps.listen(None, "")
    assert [(e.get("seq"), e.get("pid"), e["call"]) for e in found] == heard
    for event, line in zip(found[1:3], child.splitlines(), strict=True):
        given = {name: event[name] for name in ("seq", "pid") if name in event}
        assert event == {**jsontext.parse(line), **given}


@pytest.mark.parametrize(
    "event",
    [
        Event(),
        Event(
            seq=7, t=5, actor="init", pid=1, step="s", source="x.py:1", call="b",
            args=("x", 1, None, ("y",), {"z": True}), result=0, errno=2, object="o", after="é",
        ),
    ],
    ids=["empty", "full"],
)  # fmt: skip
def test_an_event_is_written_as_its_json(event: Event) -> None:
    """By other code, which is faster; it leaves out the same fields."""
    assert jsontext.parse(written(event)) == jsontext.parse(jsontext.dump(event.to_json()))


@pytest.mark.parametrize(
    ("actor", "to_parent", "without"),
    [("monitor", False, ()), ("init", True, ("seq", "pid")), ("program", True, ("seq",))],
)
def test_what_is_passed_on_is_what_a_listener_gets(
    actor: str, to_parent: bool, without: tuple[str, ...]
) -> None:
    """It is written without the event being made; the parent knows the number of its child."""

    def mount_all() -> None:
        steps.note(
            "mount", ("a\n", 1, None), 3, 0, object="o", before="\udcff", after="é", shell='"'
        )
        steps.note("umount2", (), -1, 22)
        steps.note("execve", ("/bin/sh",), None)

    events: list[Event] = []
    unsent = Unsent()
    try:
        steps.listen(events.append, actor)
        steps.take(mount_all)
        steps.pass_on(unsent.add, actor, to_parent=to_parent)
        steps.take(mount_all)
    finally:
        steps.listen(None, "")
    assert len(events) == 4
    for event, line in zip(events, unsent.take().splitlines(), strict=True):
        told = jsontext.parse(line)
        wanted = jsontext.parse(jsontext.dump(event.to_json()))
        assert told.pop("t") >= wanted.pop("t")
        if actor == "program":
            wanted["pid"] = 0
        assert told == {name: value for name, value in wanted.items() if name not in without}


def test_events_belong_to_the_step_that_is_taken(heard: list[Event]) -> None:
    """To the innermost; and afterwards to the one around it again."""

    def inner() -> int:
        steps.note("in")
        return 7

    def outer_step() -> int:
        steps.note("before")
        value = steps.take(inner)
        steps.note("after")
        return value

    assert steps.take(outer_step) == 7
    steps.note("outside")
    assert calls(heard) == [
        ("outer-step", "before"), ("inner", "in"), ("outer-step", "after"), ("", "outside"),
    ]  # fmt: skip
    source = f"test_steps.py:{outer_step.__code__.co_firstlineno}"
    assert next(event.source for event in heard if event.call == "before") == source


def test_a_step_that_fails_stays_the_current_one() -> None:
    """Whoever reports the error asks which it was."""

    def mount_proc() -> None:
        raise OSError("no")

    def next_one() -> None:
        pass

    with pytest.raises(OSError, match="no"):
        steps.take(mount_proc)
    assert steps.current_step() == "mount-proc"
    steps.listen(None, "")
    steps.take(next_one)


def recipe() -> tuple[tuple[Callable[[list[str]], None], ...], list[str]]:
    """Write a recipe of three steps, of which the second is for those who ask."""
    taken: list[str] = []

    def always(target: list[str]) -> None:
        target.append("always")

    @steps.needed_if(lambda spec: "x" in spec)
    def sometimes(target: list[str]) -> None:
        target.append("sometimes")

    def at_last(target: list[str]) -> None:
        target.append("at last")

    return (always, sometimes, at_last), taken


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("x", ["always", "sometimes", "at last"]), ("", ["always", "at last"])],
)
def test_a_recipe_is_what_the_specification_asks_for(spec: str, expected: list[str]) -> None:
    """In its order; what is not asked for is not in it."""
    steps_of, taken = recipe()
    steps.follow(steps_of, spec, taken)
    assert taken == expected
    assert [step.__name__ for step in steps.chosen(steps_of, spec)] == [
        word.replace(" ", "_") for word in expected
    ]


def test_a_mark_leaves_the_step_as_it_is() -> None:
    """It is the same function, with a note on it: so its source and its docstring are its own."""

    def step() -> None:
        """Do it."""

    assert steps.needed_if(bool)(step) is step
    assert steps.step_name(step) == "step"
