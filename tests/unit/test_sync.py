"""What the parent and init say to each other, over real pipes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer import jsontext, steps
from minicontainer.errors import InitError, InvalidArgument
from minicontainer.event import Event, written
from minicontainer.record import Record
from minicontainer.runtime.sync import (
    Channel,
    Failed,
    Forked,
    Go,
    Happened,
    Leaving,
    Ready,
    Start,
    channel_pair,
    wait_for_program,
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
all_messages = st.one_of(
    st.sampled_from([Go(), Ready(), Start()]),
    st.builds(Forked, pid=st.integers(0, 2**22)),
    st.builds(Failed, message=texts, step=texts, call=texts, errno=st.integers(0, 133)),
)
all_events = st.builds(Event, call=texts, args=st.lists(st.integers() | texts).map(tuple))


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    """Both ends of a conversation."""
    ours, theirs = channel_pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@given(st.lists(all_messages, max_size=20))
def test_messages_arrive_whole_and_in_order(sent: list[Record]) -> None:
    """In both directions, whatever they hold: newlines too."""
    ours, theirs = channel_pair()
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        for message in sent:
            sender.send(message)
        assert [receiver.receive() for _ in sent] == sent
    ours.close()
    assert theirs.receive() is None
    theirs.close()


@given(st.lists(all_events | all_messages, max_size=20))
def test_events_arrive_as_they_were_written(sent: list[Record]) -> None:
    """Those that follow one another may come at once; each keeps its place among the messages."""
    ours, theirs = channel_pair()
    for one in sent:
        if isinstance(one, Event):
            theirs.put(written(one))
        else:
            theirs.send(one)
    theirs.close()
    arrived: list[Record] = []
    while (message := ours.receive()) is not None:
        if isinstance(message, Happened):
            lines = message.lines.splitlines()
            arrived += [Event.of(jsontext.parse(line)) for line in lines]
        else:
            arrived.append(message)
    ours.close()
    assert arrived == sent


def test_a_message_longer_than_the_pipe_is_sent_whole(pair: tuple[Channel, Channel]) -> None:
    """A pipe holds 64 KiB: the sender waits for the reader, and goes on where it was."""
    ours, theirs = pair
    long = Failed(message="x" * 1_000_000)
    sender = threading.Thread(target=theirs.send, args=(long,))
    sender.start()
    assert ours.receive() == long
    sender.join()


def test_a_message_in_pieces_is_put_together(pair: tuple[Channel, Channel]) -> None:
    """read(2) gives what is there, which may be half a line, or two."""
    ours, theirs = pair
    os.write(theirs.writes, b'["Go",')
    os.write(theirs.writes, b' {}]\n["Ready", {}]\n["Start"')
    assert (ours.receive(), ours.receive()) == (Go(), Ready())
    os.write(theirs.writes, b", {}]\n")
    assert ours.receive() == Start()


def test_the_end_of_the_other_side_is_seen(pair: tuple[Channel, Channel]) -> None:
    """Also in the middle of a message: what was not sent whole was not said."""
    ours, theirs = pair
    os.write(theirs.writes, b'["Rea')
    theirs.close()
    assert ours.receive() is None
    with pytest.raises(BrokenPipeError):
        ours.send(Go())


def test_closing_twice_is_closing_once(pair: tuple[Channel, Channel]) -> None:
    """A number that was closed may be somebody else's by then."""
    ours, _ = pair
    ours.close()
    assert (ours.reads, ours.writes) == (-1, -1)
    ours.close()


def test_the_ends_are_closed_by_execve(pair: tuple[Channel, Channel]) -> None:
    """That is how the parent learns that the program runs."""
    assert not any(os.get_inheritable(fd) for end in pair for fd in (end.reads, end.writes))


def test_a_failure_becomes_the_error_that_the_parent_raises() -> None:
    """With the step, the call and the number: nothing of it is lost on the way."""
    error = Failed(message="mount /proc: no", step="mount-proc", call="mount", errno=1).error()
    assert (str(error), error.step, error.call, error.errno) == (
        "mount /proc: no", "mount-proc", "mount", 1,
    )  # fmt: skip


def test_a_message_of_the_wrong_form_is_named(pair: tuple[Channel, Channel]) -> None:
    """It would be a fault of ours, and shall be found as one."""
    ours, theirs = pair
    os.write(theirs.writes, b'["Forked", {"pid": "x"}]\n')
    with pytest.raises(InvalidArgument, match=r"^Forked\.pid: expected a whole number"):
        ours.receive()


@pytest.mark.parametrize("listens", [True, False])
def test_what_is_told_behind_a_failure_is_heard(listens: bool) -> None:
    """With --init, the program fails while init still tells what it did."""
    heard: list[Event] = []
    if listens:
        steps.listen(heard.append, "monitor")
    ours, theirs = channel_pair()
    last = Event(actor="init", call="prctl")

    def tell() -> None:
        theirs.put(written(last))
        theirs.close()

    theirs.send(Leaving())
    theirs.send(Failed(message="no"))
    teller = threading.Timer(0.1, tell)
    teller.start()
    try:
        with pytest.raises(InitError, match="no"):
            wait_for_program(os.getpid(), ours)
    finally:
        steps.listen(None, "")
        teller.join()
        ours.close()
    assert [event.call for event in heard] == (["prctl"] if listens else [])
