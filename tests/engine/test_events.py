"""Events: what is kept, who gets which, and how a listener leaves."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from minicontainer.engine.events import KEPT, Events, Subscription
from minicontainer.errors import InvalidArgument

WEB = {"name": "web", "image": "team/nginx:1", "com.example.tier": "front"}


@pytest.fixture
def events() -> Events:
    """Give the events of an engine in which something has happened."""
    events = Events()
    events.publish("container", "create", "c0ffee", WEB)
    events.publish("container", "exec_create: sh -c true", "c0ffee", WEB)
    events.publish("image", "pull", "busybox:latest", {"name": "busybox"})
    events.publish("network", "connect", "beef", {"name": "bridge", "container": "c0ffee"})
    return events


def past(events: Events, **filters: list[str]) -> list[dict[str, Any]]:
    """List what has happened so far."""
    return list(events.subscribe(1, time.time_ns(), filters))


def test_an_event_has_its_old_and_new_fields(events: Events) -> None:
    """Clients read one or the other."""
    event = past(events)[0]
    assert event["Action"] == event["status"] == "create"
    assert event["Actor"]["ID"] == event["id"] == "c0ffee"
    assert (event["from"], event["Type"], event["scope"]) == ("team/nginx:1", "container", "local")
    assert event["time"] == event["timeNano"] // 10**9


@pytest.mark.parametrize(
    ("filters", "actions"),
    [
        ({"type": ["image"]}, ["pull"]),
        ({"type": ["image", "network"]}, ["pull", "connect"]),
        ({"container": ["web"]}, ["create", "exec_create: sh -c true"]),
        ({"container": ["c0f"], "event": ["create"]}, ["create"]),
        ({"event": ["exec_create"]}, ["exec_create: sh -c true"]),
        ({"image": ["team/nginx"]}, ["create", "exec_create: sh -c true"]),
        ({"image": ["busybox"]}, ["pull"]),
        ({"label": ["com.example.tier"], "event": ["create"]}, ["create"]),
        ({"label": ["com.example.tier=front"], "event": ["create"]}, ["create"]),
        ({"label": ["com.example.tier=back"]}, []),
        ({"network": ["bridge"]}, ["connect"]),
        ({"scope": ["swarm"]}, []),
        ({"event": []}, ["create", "exec_create: sh -c true", "pull", "connect"]),
    ],
)
def test_filters_choose(events: Events, filters: dict[str, list[str]], actions: list[str]) -> None:
    """One value of each filter must fit."""
    assert [event["Action"] for event in past(events, **filters)] == actions


def test_an_unknown_filter_is_refused(events: Events) -> None:
    """In Docker's words."""
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        events.subscribe(0, 0, {"colour": ["red"]})


def test_without_since_and_until_only_new_events_come(events: Events) -> None:
    """With an end alone, past ones come too, as from Docker. The end is that of the clock."""
    subscription = events.subscribe(0, 0)
    events.publish("container", "start", "c0ffee", WEB)
    assert next(subscription)["Action"] == "start"
    subscription.close()
    found = [event["Action"] for event in events.subscribe(0, time.time_ns() + 10**8)]
    assert (found[0], found[-1]) == ("create", "start")


def test_an_end_before_the_beginning_is_refused(events: Events) -> None:
    """In Docker's words."""
    now_ns = time.time_ns()
    with pytest.raises(InvalidArgument, match=r"`since` time .* cannot be after `until` time"):
        events.subscribe(now_ns, now_ns - 1)


def test_the_past_is_bounded(events: Events) -> None:
    """The newest are kept."""
    for number in range(KEPT + 10):
        events.publish("container", "start", str(number), {})
    found = past(events)
    assert (len(found), found[-1]["id"]) == (KEPT, str(KEPT + 9))


def test_a_listener_can_be_closed_while_it_waits(events: Events) -> None:
    """By another thread, which notices that the client has gone."""
    subscription = events.subscribe()
    thread = threading.Thread(target=list, args=(subscription,))
    thread.start()
    subscription.close()
    thread.join(10)
    assert not thread.is_alive()
    assert events.listeners == 0


def test_nothing_is_lost_and_nothing_comes_twice() -> None:
    """However publishing and subscribing meet."""
    events = Events()
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set() and number < 200:
            events.publish("container", "start", str(number), {})
            number += 1

    def read(subscription: Subscription, found: list[int]) -> None:
        found += [int(event["id"]) for event in subscription]

    publisher = threading.Thread(target=publish)
    publisher.start()
    readers = []
    for _ in range(5):
        subscription, found = events.subscribe(1), list[int]()
        thread = threading.Thread(target=read, args=(subscription, found))
        thread.start()
        readers.append((subscription, found, thread))
    publisher.join()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(len(found) < 200 for _, found, _ in readers):
        time.sleep(0.01)
    for subscription, found, thread in readers:
        subscription.close()
        thread.join()
        assert found == list(range(200))
